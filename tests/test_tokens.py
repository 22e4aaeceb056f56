"""A model's own vocabulary counts as the daemon does: recordings, an independent tokenizer, other makes, a real daemon."""

from __future__ import annotations

import json
import random
import time
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtimes import run
from test_template import PROMPTS, known, subject

from orchestra.model import vocabulary
from orchestra.model.messages import Message
from orchestra.model.pretokenizers import TABLE
from orchestra.model.rendering import rendered
from orchestra.model.tokens import most_tokens
from orchestra.model.vocabulary import Unsuitable, Vocabulary, parts_of
from orchestra.model.vocabulary_file import load, read, save, written
from orchestra.model.wire import neutral, storable
from orchestra.standin.vocabulary import load as standin_vocabulary

HERE = Path(__file__).parent
ENGLISH = "It was a bright cold day in April and the clocks were striking thirteen as he slipped in "
CHINESE = "四月间天气寒冷晴朗钟敲了十三下他紧缩着脖子快步走进大楼的玻璃门却没有来得及关上"
COUNTED = [case for case in PROMPTS if "counted" in case]
# prompts that the daemon has cut; one of them because it was told to take a window of 0 tokens
CUT = {case["case"] for case in COUNTED if case["case"].startswith(("overflow-default-", "overflow-shift-false-"))} - {
    "overflow-default-0", "overflow-shift-false-0"
} | {"overflow-generate-default", "overflow-generate-raw-default", "overflow-one-big-default", "opt-num_ctx-zero"}  # fmt: skip


@cache
def verbose() -> dict[str, Any]:
    """The vocabulary of the recorded models."""
    recorded = json.loads((HERE / "wire" / "show-llama3-verbose.json").read_text("utf-8"))
    info: dict[str, Any] = json.loads(recorded["response"]["body"])["model_info"]
    return info


@cache
def llama3() -> Vocabulary:
    return Vocabulary(parts_of(verbose()))


def number(case: dict[str, Any]) -> int:
    return llama3().count(asked_with(case)) + llama3().around


def asked_with(case: dict[str, Any]) -> str:
    """The text that the model got; a `context` are the tokens of what was before it."""
    before = b"".join(llama3().data[each] for each in case.get("context", ())).decode()
    return before + (case["prompt"] if case.get("raw") else rendered(known(case), subject(case)))


# --- recordings


@pytest.mark.parametrize("case", COUNTED, ids=lambda case: case["case"])
def test_a_recorded_prompt_has_as_many_tokens_as_the_daemon_counted(case: dict[str, Any]) -> None:
    if case["case"] in CUT:
        assert number(case) > case["counted"], "the daemon has cut it, and that is seen"
        assert number(case) >= case["num_ctx"]
    else:
        assert number(case) == case["counted"]


def test_there_are_enough_recordings_of_both_models() -> None:
    exact = [case for case in COUNTED if case["case"] not in CUT]
    assert len(exact) >= 100
    assert {case["model"] for case in exact} == {"llama3", "llama3:text"}
    assert len(CUT) == 12


@pytest.mark.parametrize(
    "broken",
    [
        {"tokenizer.ggml.add_bos_token": False},
        {"tokenizer.ggml.pre": "qwen2"},
        {"tokenizer.ggml.merges": verbose()["tokenizer.ggml.merges"][::-1]},
        {"tokenizer.ggml.token_type": [1] * 512},
    ],
    ids=["no begin-of-text", "digits one by one", "merges in another order", "no control tokens"],
)
def test_red_a_vocabulary_that_is_read_wrongly_miscounts(broken: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary, "ENDS", frozenset())
    wrong = Vocabulary(parts_of({**verbose(), **broken}))
    texts = [asked_with(case) for case in COUNTED if case["case"] not in CUT]
    texts += ["It was 1984 or 2024, 20 2 024."]
    right = [llama3().count(text) + llama3().around for text in texts]
    assert [wrong.count(text) + wrong.around for text in texts] != right


# --- the stand-in's tokenizer, which was written apart from this one

ODD = ["<|eot_id|>", "<|begin_of_text|>", "<|eot_id|", "'LL", "'s", "  ", "\n", "\r\n", "\t", "123456", "中文。", "é", "e\u0301", "😀", "\u3000", "\x1c"]
TEXTS = st.lists(st.one_of(st.text(max_size=12), st.sampled_from(ODD)), max_size=12).map("".join)


@given(TEXTS)
def test_any_text_is_cut_as_the_stand_in_cuts_it(text: str) -> None:
    numbers = llama3().encode(text)
    assert numbers == standin_vocabulary_once().encode(text)
    assert llama3().count(text) == len(numbers) <= most_tokens(text)
    assert b"".join(llama3().data[each] for each in numbers) == text.encode()


@cache
def standin_vocabulary_once() -> Any:
    return standin_vocabulary()


# --- vocabularies of other makes


def made(tokens: list[str], merges: list[str], *, specials: tuple[str, ...] = (), pre: str = "gpt-2", **more: Any) -> dict[str, Any]:
    """A verbose `model_info`: the bytes, these tokens, these merges."""
    whole = [*vocabulary._letters(), *tokens, *specials]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": whole,
        "tokenizer.ggml.token_type": [1] * (len(whole) - len(specials)) + [3] * len(specials),
        "tokenizer.ggml.merges": merges,
        **{f"tokenizer.ggml.{name}": value for name, value in more.items()},
    }


def pieces(info: dict[str, Any], text: str) -> list[str]:
    found = Vocabulary(parts_of(info))
    return [found.data[each].decode("utf-8", "backslashreplace") for each in found.encode(text)]


def test_the_order_of_the_merges_counts_not_that_of_the_ids() -> None:
    assert pieces(made(["ab", "bc"], ["b c", "a b"]), "abc") == ["a", "bc"]
    assert pieces(made(["bc", "ab"], ["a b", "b c"]), "abc") == ["ab", "c"]


def test_a_token_that_no_merge_makes_is_found_only_where_words_are_looked_up_whole() -> None:
    # `abc` is a token, but `a b` comes first and nothing joins `ab` and `c`
    tokens, merges = ["ab", "bc", "abc"], ["a b", "b c", "a bc"]
    assert pieces(made(tokens, merges, pre="gpt-2"), "abc abc") == ["ab", "c", " ", "ab", "c"]
    assert pieces(made(tokens, merges, pre="llama-bpe"), "abc abcd") == ["abc", " ", "ab", "c", "d"]


def test_a_rule_that_takes_tokens_for_merges_would_be_noticed() -> None:
    parts = parts_of(made(["ab", "bc", "abc"], ["a b", "b c", "a bc"]))
    parts.ranks[258] = 5
    wrong = Vocabulary(parts)
    assert len(wrong.encode("abc")) == 1, "this is what tiktoken alone would do"


def naive(info: dict[str, Any], word: str) -> list[str]:
    """The merges by the book: the earliest of the list, the leftmost of equals, again and again."""
    order = {tuple(merge.split(" ")): rank for rank, merge in reversed(list(enumerate(info["tokenizer.ggml.merges"])))}
    parts = list(word)
    while pairs := [(order[pair], place) for place, pair in enumerate(pairwise(parts)) if pair in order]:
        _, place = min(pairs)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


MERGES = st.lists(st.tuples(st.text("abc", min_size=1, max_size=3), st.text("abc", min_size=1, max_size=3)), unique=True, max_size=14)


@settings(max_examples=60)
@given(MERGES, st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=4), st.sampled_from(["gpt-2", "llama-bpe"]))
def test_any_list_of_merges_is_followed(merges: list[tuple[str, str]], words: list[str], pre: str) -> None:
    tokens = sorted({left + right for left, right in merges} | {part for pair in merges for part in pair if len(part) > 1}, reverse=True)
    info = made(tokens, [" ".join(pair) for pair in merges], pre=pre)
    for word in words:
        whole = pre == "llama-bpe" and word in tokens
        assert pieces(info, word) == ([word] if whole else naive(info, word))


def test_families_cut_words_by_their_own_rules() -> None:
    tokens, merges = ["20", "24", "202", "2024"], ["2 0", "2 4", "20 2", "20 24"]
    cuts = {pre: "|".join(pieces(made(tokens, merges, pre=pre), "2024.")) for pre in ("gpt-2", "llama-bpe", "qwen2", "starcoder", "deepseek-v3")}
    assert cuts == {
        "gpt-2": "2024|.", "llama-bpe": "202|4|.", "qwen2": "2|0|2|4|.", "starcoder": "2|0|2|4|.", "deepseek-v3": "202|4|."
    }  # fmt: skip


@pytest.mark.parametrize("pre", ["llama-bpe", "qwen2", "gpt-2", "starcoder", "deepseek-v3"])
@settings(max_examples=40)
@given(text=TEXTS)
def test_no_family_loses_a_byte(pre: str, text: str) -> None:
    assert "".join(vocabulary._cut(TABLE[pre].patterns, text)) == text


def test_cutting_and_merging_apart_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "a" + " " * 300 + "b\n" + "\n" * 250 + " the end"
    with monkeypatch.context() as patch:
        patch.setattr(vocabulary, "_blank", lambda text: False)
        whole = llama3().encode(long)
    assert llama3().encode(long) == whole == standin_vocabulary_once().encode(long)
    monkeypatch.setattr(vocabulary, "_blank", lambda text: True)
    assert all(llama3().encode(text) == standin_vocabulary_once().encode(text) for text in ODD)


@pytest.mark.parametrize("text", [" " * 400_000 + "x", ("\n" + " " * 5000 + "x") * 40, "a" * 400_000, "中文" * 100_000, "\u3000" * 300_000])
def test_texts_that_are_all_alike_are_counted_in_time(text: str) -> None:
    started = time.perf_counter()
    assert llama3().count(text) > 1000
    assert time.perf_counter() - started < 5.0


def test_longer_names_of_control_tokens_come_first() -> None:
    info = made([], [], specials=("<|a|>", "<|a|><|b|>", "<|b|>"))
    assert pieces(info, "<|a|><|b|>x<|b|><|a|>") == ["<|a|><|b|>", "x", "<|b|>", "<|a|>"]


def test_an_end_of_turn_is_a_control_token_whatever_its_file_says() -> None:
    assert pieces(made(["<|im_end|>"], []), "a<|im_end|>") == ["a", "<|im_end|>"]


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer.ggml.pre": "of-another-kind"},
        {"tokenizer.ggml.pre": None},
        {"tokenizer.ggml.model": "llama"},
        {"tokenizer.ggml.model": "bert"},
        {"tokenizer.ggml.merges": None},
        {"tokenizer.ggml.tokens": ["a"]},
        {"tokenizer.ggml.tokens": ["a"], "tokenizer.ggml.token_type": [1]},
    ],
    ids=str,
)
def test_what_cannot_be_rebuilt_is_said_so(change: dict[str, Any]) -> None:
    with pytest.raises(Unsuitable):
        parts_of({**verbose(), **change})


# --- on disk


def test_a_kept_vocabulary_is_the_same(tmp_path: Path) -> None:
    parts = parts_of(verbose())
    save(tmp_path / "deep" / "file", written(parts))
    assert load(tmp_path / "deep" / "file") == parts
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file"]


@pytest.mark.parametrize("place", [0, 5, 30, 70, 200, 3000, -1])
def test_a_damaged_file_is_no_file(place: int, tmp_path: Path) -> None:
    raw = bytearray(written(parts_of(verbose())))
    raw[place] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        read(bytes(raw))
    (tmp_path / "file").write_bytes(raw[: len(raw) // 2])
    assert load(tmp_path / "file") is None
    assert load(tmp_path / "none") is None


def test_a_disk_that_takes_nothing_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    save(tmp_path / "file" / "deeper", b"x")
    assert load(tmp_path / "file" / "deeper") is None


# --- how fast


def test_loading_and_counting_are_quick() -> None:
    text = ENGLISH * 60 + CHINESE * 20
    started = time.perf_counter()
    found = Vocabulary(parts_of(verbose()))
    tokens = found.count(text)
    assert time.perf_counter() - started < 0.3
    assert tokens > 4000
    best = min(_seconds(found, text) for _ in range(5))
    assert best < 0.010


def _seconds(found: Vocabulary, text: str) -> float:
    started = time.perf_counter()
    found.count(text)
    return time.perf_counter() - started


def large(size: int = 128_000) -> dict[str, Any]:
    """A vocabulary as large as llama3's: each token is made of two that came before it."""
    draw = random.Random(3)
    letters = vocabulary._letters()
    tokens, merges, seen = list(letters), list[str](), set(letters)
    while len(tokens) < size:
        left, right = draw.choice(tokens[: 2000 + len(tokens) // 8]), draw.choice(tokens[:600])
        if left + right not in seen and len(left + right) <= 16:
            seen.add(left + right)
            tokens.append(left + right)
            merges.append(f"{left} {right}")
    return made(tokens[256:], merges, specials=("<|eot_id|>",), pre="llama-bpe")


@pytest.mark.slow
def test_a_vocabulary_of_128_000_tokens_is_made_once_and_read_quickly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    info = large()
    started = time.perf_counter()
    parts = parts_of(info)
    building = time.perf_counter() - started
    save(tmp_path / "file", written(parts))
    started = time.perf_counter()
    kept = load(tmp_path / "file")
    assert kept is not None
    found = Vocabulary(kept)
    loading = time.perf_counter() - started
    with capsys.disabled():
        print(f"\n128,000 tokens: made in {building:.2f} s, read in {loading:.2f} s, {(tmp_path / 'file').stat().st_size / 1e6:.1f} MB")
    assert found.count(ENGLISH) > 0
    assert (building, loading) < (60.0, 3.0)


# --- a real daemon


def random_text(draw: random.Random) -> str:
    """Scripts, code, digits, emoji, look-alikes of control tokens, odd blanks, any character."""
    sources = [
        lambda: "".join(draw.choices(CHINESE, k=draw.randint(1, 20))),
        lambda: " ".join(draw.choices([*ENGLISH.split(), "I'm", "YOU'LL", "naïve", "U.S.A."], k=draw.randint(1, 10))),
        lambda: draw.choice(["def f(x):\n    return x**2\n", "\t\tif (a<b) {\r\n}", "<div class=\"x\">&nbsp;</div>", "x = [1, 2.5e-7]"]),
        lambda: str(draw.randrange(10 ** draw.randint(1, 14))),
        lambda: "".join(draw.choices("😀👩‍👩‍👧🇨🇳❤️½²Ⅳ①٣४", k=draw.randint(1, 6))),
        lambda: draw.choice(["<|eot_id|>", "<|begin_of_text|>", "<|eot_id|", "<| eot_id |>", "<|im_end|>", "[INST]", "</s>"]),
        lambda: draw.choice([" ", "  ", "\n\n", " \n", "\t", "\u3000", "\u00a0\u200b\u0085", "\x1c"]) * draw.randint(1, 4),
        lambda: chr(draw.choice([draw.randrange(32, 0xD800), draw.randrange(0xE000, 0x30000)])),
    ]
    return "".join(draw.choice(sources)() + draw.choice(["", " "]) for _ in range(draw.randint(1, 20)))


def test_a_real_daemon_counts_the_same(real_daemon: str, real_model: str) -> None:
    draw = random.Random(11)
    found = run("blocking", lambda client: client.counter(real_model), host=real_daemon)
    assert found.exact, f"the vocabulary or the template of {real_model} is not known"
    words = found.vocabulary
    assert words is not None
    short = {"stream": False, "truncate": False, "options": {"num_predict": 1}}
    with httpx.Client(base_url=real_daemon, timeout=120, trust_env=False) as daemon:
        for _ in range(30):
            said = [Message(draw.choice(["system", "user", "assistant"]), random_text(draw)) for _ in range(draw.randint(1, 4))]
            body = {"model": real_model, "messages": [{"role": m.role, "content": neutral(storable(m.content))} for m in said], **short}
            assert daemon.post("/api/chat", json=body).json()["prompt_eval_count"] == found.rendered(said), said
            text = random_text(draw) + "."
            body = {"model": real_model, "prompt": text, "raw": True, **short}
            assert daemon.post("/api/generate", json=body).json()["prompt_eval_count"] == words.count(text) + words.around, text
