"""Search finds words in any script, wherever they stand, and takes any text for what it is: text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.model.messages import Message
from orchestra.sessions import cutting, search
from orchestra.sessions.store import Store

DIALOGUE = [
    ("我的快递什么时候到？", "您好，您的包裹明天送达。"),
    ("Can you please expedite the delivery?", "Certainly - the naïve café route is ＦＡＳＴ."),
    ("重跑gen-itgc后再说", "東京タワーは高い"),
    ("배송은 언제 와요?", "हिन्दी में जवाब"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("search")) as store:
        for number, pair in enumerate(DIALOGUE):
            store.create(f"s{number}", history=[Message("user", pair[0]), Message("assistant", pair[1])])
        yield store


@pytest.mark.parametrize(
    ("words", "session", "role"),
    [
        ("快", "s0", "user"), ("递", "s0", "user"), ("到", "s0", "user"), ("快递", "s0", "user"), ("递什么", "s0", "user"),
        ("我的快递什么时候到", "s0", "user"), ("包裹 明天", "s0", "assistant"), ("达", "s0", "assistant"),
        ("expedite", "s1", "user"), ("deliv", "s1", "user"), ("DELIVERY", "s1", "user"), ("please can", "s1", "user"),
        ("cafe", "s1", "assistant"), ("NAÏVE", "s1", "assistant"), ("fast", "s1", "assistant"),
        ("重跑", "s2", "user"), ("gen", "s2", "user"), ("itgc", "s2", "user"), ("itgc后", "s2", "user"),
        ("タワー", "s2", "assistant"), ("東京", "s2", "assistant"), ("高", "s2", "assistant"),
        ("언제", "s3", "user"), ("배", "s3", "user"), ("जवाब", "s3", "assistant"), ("हिन्द", "s3", "assistant"),
    ],
)  # fmt: skip
def test_words_are_found(store: Store, words: str, session: str, role: str) -> None:
    (hit,) = store.search(words)
    assert (hit.session, hit.role) == (session, role)
    assert hit.text


@pytest.mark.parametrize("words", ["", "?", "。，", '"', "*", "递快", "elivery", "飞机", "AND", "NOT x", "\x00", "\ud800"])
def test_what_was_not_said_is_not_found(store: Store, words: str) -> None:
    assert store.search(words) == []


def test_all_words_before_some(store: Store) -> None:
    assert [hit.session for hit in store.search("gen expedite")] in (["s1", "s2"], ["s2", "s1"])
    assert [hit.session for hit in store.search("please expedite")] == ["s1"]
    # nobody said the whole of it, but somebody said much of it
    assert store.search("请问快递什么时间到")[0].session == "s0"
    assert len(store.search("gen expedite", limit=1)) == 1


def test_a_snippet_shows_the_word_in_one_line() -> None:
    text = "line\n" * 100 + "the needle is here " + "and more\n" * 100
    shown = search.snippet(text, "needle")
    assert "the needle is here" in shown
    assert "\n" not in shown
    assert len(shown) <= search.SNIPPET + 2
    assert search.snippet("short", "x") == "short"


@given(st.text(st.characters()), st.text(st.characters()))
def test_every_part_of_a_text_finds_it(before: str, after: str) -> None:
    """The red control of the tokenizer: what is entered and what is asked must be cut in the same way."""
    entered = list(search.entries(before + " 快递什么 delivery " + after))
    for query in ("快", "递", "快递", "递什么", "deliv"):
        (term,) = search.terms(query)
        count = len(term.entries)
        starts = [entered[at : at + count] for at in range(len(entered))]
        wanted = list(term.entries)
        assert any(found == wanted or (term.prefix and found and found[0].startswith(wanted[0])) for found in starts)


def slowly(text: str) -> list[str]:
    """What `entries` gives, without its shortcuts."""
    found: list[str] = []
    for run, word in cutting._RUN.findall(cutting.folded(text)):
        found += [*map("".join, pairwise(run)), run[-1]] if run else [word[: cutting.LONGEST_WORD]]
    return found


def test_the_shortcuts_of_cutting_change_nothing() -> None:
    steady = [c for c in map(chr, range(0x10000)) if cutting._STEADY.fullmatch(c)]
    assert len(steady) > 20_000
    for character in steady:
        for text in (character, f"a{character}b", f"中{character}文"):
            assert cutting.entries(text) == slowly(text), hex(ord(character))


@given(st.text(st.characters(max_codepoint=127)) | st.text(st.sampled_from("aZ_1'. 中文字，。（）“”—…ＡéИ")))
def test_texts_are_cut_as_without_shortcuts(text: str) -> None:
    assert cutting.entries(text) == slowly(text)


def any_text_is_only_text(store: Store, text: str) -> None:
    store.search(text)
    assert store.find(text) is None or text in {f"s{number}" for number in range(len(DIALOGUE))}


@settings(max_examples=600)
@given(st.text(st.characters()) | st.text("\"'*()^:-+{} ANDORT快a\x00"))
def test_no_text_is_an_operator(store: Store, text: str) -> None:
    any_text_is_only_text(store, text)


@pytest.mark.slow
@pytest.mark.timeout(300)
@settings(max_examples=10_000)
@given(st.text(st.characters()) | st.text("\"'*()^:-+{} ANDORT快a\x00"))
def test_no_text_is_an_operator_10_000_times(store: Store, text: str) -> None:
    any_text_is_only_text(store, text)


def built(source: str) -> list[int]:
    """The lines where a statement is put together from anything but constants."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.startswith("execute"):
            parts = [part for part in ast.walk(node.args[0]) if not isinstance(part, ast.operator | ast.expr_context)]
            allowed = ast.BinOp | ast.Constant | ast.Name
            names = [part.id for part in parts if isinstance(part, ast.Name)]
            if not all(isinstance(part, allowed) for part in parts) or not all(name in CONSTANT for name in names):
                lines.append(node.lineno)
    return lines


CONSTANT = {"_SESSION", "_TURN", "_CHAIN", "_LAST", "_NUMBER", "_READ", "_ROWS", "_OF_SESSION", "_CANDIDATES", "_OF_DIGEST", "condition",
            "pragma"}  # texts of the source itself


def test_no_statement_is_built_from_texts() -> None:
    folder = Path(__file__).parent.parent / "orchestra/sessions"
    assert {file.name: lines for file in folder.glob("*.py") if (lines := built(file.read_text("utf-8")))} == {}
    for red in ('c.execute(f"SELECT {x}")', 'c.execute("SELECT " + x)', 'c.execute("SELECT %s" % x)', "c.execute(sql())"):
        assert built(red) == [1]
