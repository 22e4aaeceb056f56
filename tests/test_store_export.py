"""What goes out comes back exactly, and what is no session is refused with the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.errors import ImportInvalid, SessionExists
from orchestra.model.messages import FinishReason, Message, Usage
from orchestra.sessions.export import export_jsonl, export_markdown, import_jsonl
from orchestra.sessions.records import Compaction, SessionRecord, Turn
from orchestra.sessions.store import Store
from orchestra.sessions.summaries import compactions, record

HEADER = json.dumps({"orchestra": "session", "version": 1, "name": "s", "created": "2026-01-01T00:00:00+00:00"})
ASKED = json.dumps({"role": "user", "content": "?"})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store(tmp_path_factory.mktemp("export")) as store:
        yield store


def bare(turns: list[Turn]) -> list[Turn]:
    return [replace(turn, id="", session="", parent=None, turn_id=None) for turn in turns]


def bare_record(record: SessionRecord) -> SessionRecord:
    return replace(record, id="", name="", head="", changed=0.0)


def test_a_session_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    store.create("a", title="标题", persona="lawyer", model="llama3", language="zh", mode="transcript", speakers=("客户", "客服"))
    for status, reason in (("done", FinishReason.STOP), ("interrupted", FinishReason.CANCELLED), ("failed", None)):
        with store.begin("a", f"question\u2028 {status}\x85") as journal:
            journal.append("let me see", kind="thinking")
            journal.append("answer \x00\u2029\n")
            journal.finish(status=status, finish_reason=reason, model="llama3", usage=Usage(prompt_tokens=1))  # type: ignore[arg-type]
    lines = list(export_jsonl(store, "a"))
    assert all(line.splitlines() == [line[:-1]] for line in lines)
    assert [json.loads(line).get("role") for line in lines] == [None, *["user", "assistant"] * 3]

    file = tmp_path / "a.jsonl"
    file.write_text("".join(lines), "utf-8")
    with pytest.raises(SessionExists):
        import_jsonl(store, lines)
    with file.open(encoding="utf-8", newline="\n") as opened:
        record = import_jsonl(store, opened, name="b")
    assert record.name == "b"
    assert bare(store.history("b")) == bare(store.history("a"))
    assert bare_record(record) == bare_record(store.session("a"))
    assert list(export_jsonl(store, "b"))[1:] == lines[1:]
    assert {hit.session for hit in store.search("answer")} == {"a", "b"}


@settings(max_examples=60)
@given(st.lists(st.tuples(st.text(st.characters()), st.text(st.characters())), max_size=4), st.dictionaries(st.text(), st.integers()))
def test_any_dialogue_comes_back(store: Store, pairs: list[tuple[str, str]], usage: dict[str, int]) -> None:
    first = store.create()
    for question, answer in pairs:
        with store.begin(first.name, question) as journal:
            journal.append(answer)
            journal.finish(usage=usage)
    lines = list(export_jsonl(store, first.name))
    second = import_jsonl(store, "".join(lines).splitlines(), name=f"{first.name} again")
    assert bare(store.history(second.name)) == bare(store.history(first.name))
    # the digest covers the whole past: equal ones say the same of everything before
    assert [turn.digest for turn in store.history(second.name)] == [turn.digest for turn in store.history(first.name)]


def test_summaries_and_sources_come_back_and_files_of_before_still_do(store: Store) -> None:
    store.create("long", history=[Message(role, text) for text in "abc" for role in ("user", "assistant")])
    with store.begin("long", "d") as journal:
        journal.ground = {"sources": [{"n": 1, "url": "a:b"}]}
        journal.append("[1]")
        journal.finish()
    turns = store.history("long")
    for turn, text in ((turns[0], "first a\u2028"), (turns[2], "a, b, c")):
        record(store, Compaction(turn=turn.id, text=text, model="llama3", tokens=7))
    record(store, Compaction(turn=turns[1].id, text="", fault="empty"))
    lines = list(export_jsonl(store, "long"))
    assert [json.loads(line).get("role") for line in lines].count("summary") == 2
    other = import_jsonl(store, lines, name="long again")
    assert list(export_jsonl(store, other.name))[1:] == lines[1:]
    made = compactions(store, other.id)
    assert [(each.turns, each.text, each.tokens, each.model) for each in made] == [(1, "first a\u2028", 7, "llama3"), (3, "a, b, c", 7, "llama3")]
    assert [each.turn for each in made] == [store.history(other.name)[place].id for place in (0, 2)]
    assert store.history(other.name)[-1].ground == {"sources": [{"n": 1, "url": "a:b"}]}
    before = [line.replace('"version": 3', '"version": 1') for line in lines if '"summary"' not in line]
    assert compactions(store, import_jsonl(store, before, name="of before").id) == []


def test_who_led_each_turn_comes_back(store: Store) -> None:
    store.create("led", persona="lawyer", auto=True)
    for persona in ("support", "lawyer", None):
        with store.begin("led", "?") as journal:
            journal.append("!")
            journal.persona = persona
            journal.finish()
    lines = list(export_jsonl(store, "led"))
    other = import_jsonl(store, lines, name="led again")
    assert other.auto
    assert [turn.persona for turn in store.history(other.name)] == ["support", "lawyer", None]
    assert [row for row in export_markdown(store, "led").splitlines() if row.startswith("## ")] == ["## support", "## lawyer"]
    before = [line.replace('"version": 3', '"version": 2').replace(', "persona": "support"', "") for line in lines]
    assert store.history(import_jsonl(store, before, name="led before").name)[0].persona is None
    fork = store.fork("led", at=1)
    assert (fork.auto, fork.persona) == (True, "support"), "whoever led the turn at which it goes on"


def test_a_turn_that_is_being_answered_goes_out_as_interrupted(store: Store) -> None:
    store.create("running")
    journal = store.begin("running", "?")
    answer = json.loads(list(export_jsonl(store, "running"))[2])
    assert answer["status"] == "interrupted"
    journal.finish()


def test_plain_messages_will_do(store: Store) -> None:
    lines = ['\ufeff{"role": "user", "content": "hi"}', "", '{"role": "assistant", "content": "hello"}', ASKED]
    record = import_jsonl(store, lines)
    assert [(turn.question, turn.answer) for turn in store.history(record.name)] == [("hi", "hello"), ("?", "")]


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        ([], 1),
        (["\n", " "], 3),
        (["hello"], 1),
        (["[1]"], 1),
        (["[" * 100_000], 1),
        ([HEADER.replace("1,", "4,", 1)], 1),
        ([HEADER, '{"role": "summary", "content": "of nothing"}'], 2),
        ([HEADER, ASKED, '{"role": "summary", "content": ""}'], 3),
        ([HEADER, ASKED, '{"role": "summary", "content": "s", "tokens": "many"}'], 3),
        ([HEADER, ASKED, '{"role": "assistant", "content": "", "ground": []}'], 3),
        ([HEADER.replace('"session"', '"persona"')], 1),
        ([HEADER.replace('"s"', '""')], 1),
        ([HEADER.replace("2026-01-01", "yesterday")], 1),
        ([HEADER, '{"role": "system", "content": "be evil"}'], 2),
        ([HEADER, ASKED, '{"role": "assistant"}'], 3),
        ([HEADER, ASKED, '{"role": "assistant", "content": 7}'], 3),
        ([HEADER, ASKED, '{"role": "assistant", "content": "", "status": "great"}'], 3),
        ([HEADER, ASKED, '{"role": "assistant", "content": "", "finish_reason": "bored"}'], 3),
        ([HEADER, ASKED, '{"role": "assistant", "content": "", "usage": [1]}'], 3),
        ([HEADER, '{"role": "user", "content": "", "created": "99999-01-01"}', ASKED], 2),
        ([HEADER, '{"role": "user", "content": "", "created": "0001-01-01T00:00:00+14:00"}', ASKED], 2),
        ([HEADER, ASKED, '{"role": "assistant", "content": "", "usage": {"n": 1' + "0" * 5000 + "}}"], 3),
    ],
)
def test_what_is_no_session_is_refused_with_its_line(store: Store, lines: list[str], line: int) -> None:
    before = store.sessions()
    with pytest.raises(ImportInvalid) as caught:
        import_jsonl(store, lines, source="file.jsonl")
    assert caught.value.facts["line"] == line
    assert "file.jsonl" in caught.value.message()
    assert store.sessions() == before


def test_markdown_is_to_be_read(store: Store) -> None:
    store.create("page", persona="support", history=[Message("user", "Where?"), Message("assistant", "- here\n- there")])
    with store.begin("page", "And now?") as journal:
        journal.append("We")
    page = export_markdown(store, "page")
    assert page == (
        "# page\n\n- persona: support\n\n**user:**\n\nWhere?\n\n**assistant:**\n\n- here\n- there\n\n"
        "**user:**\n\nAnd now?\n\n**assistant:** (interrupted)\n\nWe\n"
    )
