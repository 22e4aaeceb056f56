"""Sessions and turns: what is stored, shared, found in its order and given back as it was."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from orchestra.errors import SessionBusy, SessionExists, SessionMissing, UsageError
from orchestra.model.messages import FinishReason, Message, Receipt, Usage
from orchestra.sessions import database, turns
from orchestra.sessions.journal import Journal
from orchestra.sessions.records import Turn
from orchestra.sessions.store import Store, recognised

ODD = "NUL \x00, lone \ud800 and \udfff, pair \ud83d\ude00, lines \u2028\u0085\r\n, 快递, 🚚"
KEPT = "NUL \x00, lone \ufffd and \ufffd, pair \U0001f600, lines \u2028\u0085\r\n, 快递, 🚚"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture(autouse=True)
def _closed(store: Store) -> object:
    yield
    store.close()


def said(store: Store, session: str, question: str, answer: str = "", *, turn_id: str | None = None) -> Turn:
    with store.begin(session, question, turn_id=turn_id) as journal:
        journal.append(answer)
        return journal.finish(finish_reason=FinishReason.STOP)


def words(history: list[Turn]) -> list[tuple[str, str]]:
    return [(turn.question, turn.answer) for turn in history]


def test_nothing_is_opened_before_the_first_use(store: Store) -> None:
    assert not store.path.parent.exists()
    assert store.sessions() == []
    assert store.path.exists()


def test_a_session_is_what_was_given(store: Store) -> None:
    made = store.create("order-12345", persona="support", model="llama3", language="en", speakers=("Customer", "Support"))
    assert made == store.session("order-12345") == store.session(made.id) == store.find("order-12345")
    assert (made.persona, made.mode, made.speakers, made.turns) == ("support", "chat", ("Customer", "Support"), 0)
    assert len(made.id) == 32
    changed = store.update("order-12345", title="A delivery", persona=None)
    assert (changed.title, changed.persona, changed.model) == ("A delivery", None, "llama3")


def test_sessions_without_a_name_get_readable_different_ones(store: Store) -> None:
    names = {store.create().name for _ in range(20)}
    assert len(names) == 20
    assert all(name.startswith(time.strftime("%Y-")) and len(name) < 20 for name in names)


def test_a_finished_turn_is_all_there(store: Store) -> None:
    store.create("s")
    journal = store.begin("s", "why?")
    assert journal.turn.status == "open"
    journal.append("because", kind="thinking")
    for text in ("it is so", " so", " so"):
        journal.append(text)
    usage, receipt = Usage(prompt_tokens=7), Receipt(used=9, window=4096, notes=("dropped",))
    turn = journal.finish(keep=8, finish_reason=FinishReason.REPETITION, model="llama3", usage=usage, receipt=receipt)
    assert [turn] == store.history("s")
    assert (turn.answer, turn.thinking, turn.status, turn.model) == ("it is so", "because", "done", "llama3")
    assert turn.finish_reason is FinishReason.REPETITION
    assert turn.usage is not None
    assert turn.receipt is not None
    assert (turn.usage["prompt_tokens"], turn.receipt["window"]) == (7, 4096)
    assert journal.finish() == turn
    assert store.session("s").turns == 1
    assert store.session("s").first == "why?"


def test_any_text_can_be_stored(store: Store) -> None:
    store.create(ODD, title=ODD, persona=ODD)
    big = "长 text " * 50_000
    said(store, ODD, ODD, ODD, turn_id=ODD)
    said(store, ODD, big, big)
    assert words(store.history(ODD)) == [(KEPT, KEPT), (big, big)]
    record = store.session(ODD)
    assert (record.name, record.title, record.persona) == (KEPT, KEPT, KEPT)
    with store.begin(ODD, "?", turn_id=ODD) as again:
        assert not again.new


def test_a_history_becomes_finished_turns(store: Store) -> None:
    history = [
        Message("assistant", "Welcome"),
        Message("user", "Where is my order?"),
        Message("assistant", "On its way"),
        Message("user", "Really?"),
    ]
    made = store.create("lesson", history=history, mode="transcript")
    past = store.history("lesson")
    assert [message for turn in past for message in turn.messages()] == history
    assert {turn.status for turn in past} == {"done"}
    assert (made.turns, made.mode) == (3, "transcript")
    with pytest.raises(UsageError):
        store.create("system", history=[Message("system", "You are a pirate")])
    assert store.find("system") is None


def test_a_taken_name_a_missing_one_and_an_impossible_one(store: Store) -> None:
    store.create("order-12345")
    with pytest.raises(SessionExists):
        store.create("order-12345")
    with pytest.raises(SessionMissing) as caught:
        store.history("order-12346")
    assert "order-12345" in caught.value.message()
    for name in ("", "  \n", "x" * 301):
        with pytest.raises(UsageError):
            store.create(name)
    store.create("other")
    with pytest.raises(SessionExists):
        store.rename("other", "order-12345")
    assert store.rename("other", "mine").name == "mine"
    assert store.rename("mine", "mine").name == "mine"
    assert {record.name for record in store.sessions()} == {"order-12345", "mine"}


def test_the_session_with_the_newest_turn_comes_first_whatever_the_clock_says(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, moment in enumerate((2e9, 1e9, 0.0)):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        store.create(f"s{number}")
    said(store, "s1", "now")
    assert [record.name for record in store.sessions()] == ["s1", "s2", "s0"]
    monkeypatch.setattr(time, "time", lambda: 5e8)
    said(store, "s1", "later")
    assert words(store.history("s1")) == [("now", ""), ("later", "")]


def test_a_retry_adds_nothing_and_ids_are_a_session_s_own(store: Store) -> None:
    store.create("s")
    store.create("t")
    first = said(store, "s", "once", "yes", turn_id="key")
    again = store.begin("s", "once", turn_id="key")
    again.append("ignored")
    assert not again.new
    assert again.turn == first == again.finish(status="failed")
    assert store.history("s") == [first]
    assert store.begin("t", "another", turn_id="key").new


def test_a_turn_waits_for_the_one_before_it(store: Store) -> None:
    store.create("s")
    running = store.begin("s", "first")
    begun = time.monotonic()
    with pytest.raises(SessionBusy):
        store.begin("s", "second", wait=0.1)
    assert 0.1 <= time.monotonic() - begun < 1.0

    def finish() -> None:
        time.sleep(0.1)
        running.finish()

    thread = threading.Thread(target=finish)
    thread.start()
    with store.begin("s", "second", wait=10) as journal:
        thread.join()
        journal.finish()
    assert [turn.question for turn in store.history("s")] == ["first", "second"]


def test_a_branch_begins_beside_the_turn_that_is_open(store: Store) -> None:
    store.create("s", history=[Message("user", "past"), Message("assistant", "yes")])
    running = store.begin("s", "one")
    branch = store.begin("s", "another", branch=True)
    assert branch.turn.parent == running.turn.parent == store.history("s")[0].id
    running.append("1")
    branch.append("2")
    branch.finish()
    running.finish()
    assert words(store.history("s")) == [("past", "yes"), ("another", "2")]
    assert words(store.history("s", at=running.turn.id)) == [("past", "yes"), ("one", "1")]
    assert words(store.history(store.fork("s", at=running.turn.id).name)) == [("past", "yes"), ("one", "1")]


@pytest.mark.parametrize("leave", ["error", "dropped"])
def test_a_turn_that_is_left_is_interrupted_and_keeps_what_came(store: Store, leave: str) -> None:
    store.create("s")

    def begin() -> Journal:
        journal = store.begin("s", "?")
        journal.append("half an ans")
        return journal

    if leave == "error":
        with pytest.raises(ZeroDivisionError), begin():
            raise ZeroDivisionError
    else:
        begin()
        gc.collect()
    with store.begin("s", "next", wait=5) as journal:
        journal.finish()
    turn = store.history("s")[0]
    assert (turn.answer, turn.status, turn.finish_reason) == ("half an ans", "interrupted", FinishReason.CANCELLED)


def seen(other: Store, answer: str, within: float) -> bool:
    """Whether another store reads that answer of the open turn in so many seconds."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        (turn,) = other.history("s")
        if turn.answer == answer:
            return turn.status == "open"
        time.sleep(0.01)
    return False


def test_32_pieces_are_written_at_once_and_fewer_within_half_a_second(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("s")
    with Store(store.path.parent) as other:
        journal = store.begin("s", "?")
        assert seen(other, "", 1)
        journal.append("x")
        assert seen(other, "x", 0.6)
        monkeypatch.setattr(database, "FLUSH_EVERY", 30.0)
        time.sleep(0.4)  # the last short interval ends
        for _ in range(31):
            journal.append("y")
        assert not seen(other, "x" + "y" * 31, 0.2)
        journal.append("y")
        assert seen(other, "x" + "y" * 32, 5)
        journal.finish()


def test_what_is_appended_while_others_are_being_written_is_not_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create("s")
    with Store(store.path.parent) as other, store.begin("s", "?") as journal:
        grow = turns.grow

        def grow_meanwhile(*arguments: Any) -> None:
            monkeypatch.setattr(turns, "grow", grow)
            journal.append("second")
            grow(*arguments)

        monkeypatch.setattr(turns, "grow", grow_meanwhile)
        journal.append("first ")
        assert seen(other, "first second", 2)
        assert journal.finish().answer == "first second"


def test_what_comes_after_the_end_is_not_added(store: Store) -> None:
    store.create("s")
    turn = said(store, "s", "?", "the end")
    store.database.write(lambda c: turns.grow(c, 1, "text", "more"))
    assert store.history("s") == [turn]
    assert store.database.read(lambda c: c.execute("SELECT count(*) FROM growth").fetchone()) == (0,)


def test_appending_costs_the_caller_next_to_nothing(store: Store) -> None:
    store.create("s")
    journal = store.begin("s", "?")
    best = 1.0
    for _ in range(5):
        begun = time.thread_time()
        for _ in range(2000):
            journal.append("piece ")
        best = min(best, (time.thread_time() - begun) / 2000)
    assert journal.finish().answer == "piece " * 10_000
    assert best < 2e-6


def test_forks_share_their_past_and_deletion_leaves_what_others_hold(store: Store) -> None:
    store.create("s", persona="lawyer")
    past = [said(store, "s", f"question {name}", f"answer {name}") for name in ("one", "two", "three")]
    fork = store.fork("s", at=2)
    assert (fork.name, fork.persona, fork.turns) == ("s-2", "lawyer", 2)
    assert store.fork("s", "early", at=past[0].id).turns == 1
    assert store.fork("s", "empty", at=0).turns == 0
    assert store.history("s-2") == past[:2]
    said(store, "s-2", "question four", "answer four")
    assert words(store.history("s"))[2] == ("question three", "answer three")

    store.delete("s")
    assert words(store.history("s-2"))[:2] == [("question one", "answer one"), ("question two", "answer two")]
    assert store.search("three") == []
    assert {hit.session for hit in store.search("two")} == {"s-2"}
    store.delete("s-2")
    assert store.search("two") == store.search("four") == []
    assert words(store.history("early")) == [("question one", "answer one")]
    store.delete("early")
    store.delete("empty")
    left = store.database.read(lambda c: [c.execute("SELECT count(*) FROM turn").fetchone(), store.search("question")])
    assert left == [(0,), []]
    indexed = "SELECT count(*) FROM words WHERE words MATCH 'question OR answer OR one OR four'"
    assert store.database.read(lambda c: c.execute(indexed).fetchone()) == (0,)


def test_a_shared_turn_passes_to_a_session_that_knows_its_id_for_another(store: Store) -> None:
    store.create("s")
    said(store, "s", "shared", turn_id="key")
    store.fork("s", "t")
    mine = said(store, "t", "mine", turn_id="key")
    store.delete("s")
    assert [turn.question for turn in store.history("t")] == ["shared", "mine"]
    assert store.begin("t", "mine", turn_id="key").turn == mine


@pytest.mark.parametrize("at", [4, -1, "no such turn"])
def test_a_fork_at_a_turn_that_is_not_there_is_refused(store: Store, at: str | int) -> None:
    store.create("s")
    said(store, "s", "q")
    with pytest.raises(UsageError):
        store.fork("s", at=at)
    store.create("foreign")
    with pytest.raises(UsageError):
        store.fork("s", at=said(store, "foreign", "q").id)


def test_a_session_that_is_deleted_while_it_answers(store: Store) -> None:
    store.create("s")
    journal = store.begin("s", "?")
    store.delete("s")
    journal.append("nobody hears this")
    with pytest.raises(SessionMissing):
        journal.finish()
    assert store.sessions() == []


def test_a_dialogue_that_is_sent_again_is_recognised(store: Store) -> None:
    store.create("a")
    store.create("b")
    past = [said(store, "a", question, answer) for question, answer in (("hi", "hello"), ("and?", "and"), ("so?", "so"))]
    said(store, "b", "hi", "hello you")
    resent = [message for turn in past[:2] for message in turn.messages()]
    assert recognised(store, [*resent, Message("user", "new")]) == (past[1], 4)
    assert recognised(store, resent[:2]) == (past[0], 2)
    assert recognised(store, [Message("user", "hi"), Message("assistant", "changed")]) is None
    assert recognised(store, []) is None


def test_threads_may_share_a_store(store: Store) -> None:
    names = [f"s{number}" for number in range(4)]

    def talk(name: str) -> None:
        store.create(name)
        for number in range(10):
            said(store, name, f"{name} {number}")

    threads = [threading.Thread(target=talk, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        assert [turn.question for turn in store.history(name)] == [f"{name} {number}" for number in range(10)]


def test_a_closed_store_opens_again(store: Store) -> None:
    store.create("s")
    store.close()
    store.close()
    assert store.session("s").turns == 0
