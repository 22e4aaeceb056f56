"""The stand-in's vocabulary: text is counted as the recorded daemon counted it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.standin import vocabulary
from orchestra.standin.engine import engine
from orchestra.standin.vocabulary import CONTROL, END_OF_TURN, Vocabulary

RECORDED = json.loads((Path(__file__).parent / "data/standin_counts.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", RECORDED, ids=[case["case"] for case in RECORDED])
def test_prompts_are_counted_as_the_recorded_daemon_counted_them(case: dict[str, Any]) -> None:
    encode = engine().vocabulary.encode
    numbers = encode(case["prompt"])
    assert len(numbers) + 1 == case["prompt_eval_count"]
    if "context" in case:
        assert encode(case["prompt"] + case["response"]) == case["context"]


def test_the_recordings_would_notice_another_vocabulary_and_other_control_tokens() -> None:
    ours = engine().vocabulary
    fewer = Vocabulary(ours.tokens, ours.merges[:100], ours.kinds)
    counts = [case["prompt_eval_count"] for case in RECORDED]
    assert [len(fewer.encode(case["prompt"])) + 1 for case in RECORDED] != counts
    assert [len(ours.encode(case["prompt"], special=False)) + 1 for case in RECORDED] != counts


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("2024", ["202", "4"]),
        ("12024", ["1", "20", "2", "4"]),  # three digits at a time: 120, 24
        ("a\n\nb", ["a", "ĊĊ", "b"]),
        ("a \n b", ["a", "Ġ", "Ċ", "Ġb"]),
        ("a   b", ["a", "Ġ", "Ġ", "Ġb"]),
        ("in.\nIt", ["in", ".Ċ", "I", "t"]),  # punctuation takes the line end; "It" is no merge
        ("don't", ["d", "on", "'", "t"]),
        ("_an _an", ["_", "an", "Ġ", "_", "an"]),  # one character before the letters, a space as well as another
        ("天空，早", ["å¤©ç©º", "ï¼Įæ", "Ĺ", "©"]),  # the comma joins the word after it, and so the merges cross characters
        ("天空。我", ["å¤©ç©º", "ãĢĤ", "æĪĳ"]),
        ("½2", ["Â", "½", "2"]),
    ],
)
def test_text_is_split_before_it_is_merged(text: str, pieces: list[str]) -> None:
    ours = engine().vocabulary
    assert [ours.tokens[number] for number in ours.encode(text)] == pieces


@given(st.text())
def test_no_text_is_lost(text: str) -> None:
    ours = engine().vocabulary
    text = text.encode("utf-8", "replace").decode()
    assert ours.text(ours.encode(text, special=False)) == text


@given(st.text(alphabet=st.sampled_from("天空我 ，。答案it's the answer12024\n _"), max_size=40))
def test_cutting_before_merging_changes_nothing(text: str) -> None:
    """The oracle: all merges in their order over each whole word."""
    ours = engine().vocabulary
    slow = Vocabulary(ours.tokens, ours.merges, ours.kinds)
    # Every pair may join, so nothing is cut before the merges.
    slow.__dict__["_joined"] = _Everything()
    assert ours.encode(text) == slow.encode(text)


class _Everything(set[Any]):
    def __contains__(self, _: object) -> bool:
        return True


def test_a_word_that_is_a_token_is_taken_whole_though_no_merge_makes_it() -> None:
    small = Vocabulary(["<|end|>", "a", "b", "c", "abc"], [], [CONTROL, 1, 1, 1, 1])
    assert small.encode("abc<|end|>abca") == [4, 0, 1, 2, 3, 1]


def test_control_tokens_are_parsed_only_where_asked() -> None:
    ours = engine().vocabulary
    assert ours.encode("a<|eot_id|>b")[1] == END_OF_TURN
    plain = ours.encode("a<|eot_id|>b", special=False)
    assert END_OF_TURN not in plain
    assert ours.text(plain) == "a<|eot_id|>b"
    assert END_OF_TURN not in ours.encode("a<| eot_id |>b")
    assert ours.data(END_OF_TURN) == b""
    assert ours.ends == {1, 4}


def test_a_lone_surrogate_becomes_the_replacement_character() -> None:
    ours = engine().vocabulary
    assert ours.text(ours.encode("a\ud800b\ud83d\ude00")) == "a\ufffdb😀"


def test_encoding_is_quick_even_where_nothing_can_be_remembered() -> None:
    ours = vocabulary.load()
    for text in ("天空很蓝，她带上了水和书。" * 260, "l" * 10_000, "天" * 3_400, " " * 10_000, "hello " * 1_700):
        begun = time.process_time()
        ours.encode(text)
        assert time.process_time() - begun < 0.5
