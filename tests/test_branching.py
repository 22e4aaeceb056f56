"""Dialogues that are sent whole each time: what of them is stored, and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from orchestra.model.messages import FinishReason, Message
from orchestra.sessions.branching import Begun, Place, continued
from orchestra.sessions.store import Store

CHAT = Place(prefix="@anna/", name="@anna/c1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path) as store:
        yield store


def said(*texts: str) -> list[Message]:
    return [Message("assistant" if place % 2 else "user", text) for place, text in enumerate(texts)]


def turn(store: Store, before: Sequence[str], question: str, answer: str = "", place: Place = CHAT, status: str = "done") -> Begun:
    begun = continued(store, place, said(*before), question)
    assert begun.journal is not None
    begun.journal.append(answer)
    if status == "done":
        begun.journal.finish(finish_reason=FinishReason.STOP)
    else:
        begun.journal.finish(status="interrupted", finish_reason=FinishReason.CANCELLED)
    return begun


def shown(store: Store, name: str = "@anna/c1") -> list[tuple[str, str]]:
    return [(each.question, each.answer) for each in store.history(name)]


def stored(store: Store) -> int:
    return int(store.database.read(lambda connection: connection.execute("SELECT count(*) FROM turn").fetchone()[0]))


def test_what_is_sent_again_is_stored_once(store: Store) -> None:
    turn(store, [], "q1", "a1")
    turn(store, ["q1", "a1"], "q2", "a2")
    turn(store, ["q1", "a1", "q2", "a2"], "q3", "a3")
    assert shown(store) == [("q1", "a1"), ("q2", "a2"), ("q3", "a3")]
    assert stored(store) == 3


def test_an_answer_made_again_stands_beside_the_first_and_one_may_go_back_to_it(store: Store) -> None:
    turn(store, [], "q1", "a1")
    turn(store, ["q1", "a1"], "q2", "first")
    turn(store, ["q1", "a1"], "q2", "second")
    assert shown(store) == [("q1", "a1"), ("q2", "second")]
    turn(store, ["q1", "a1", "q2", "first"], "q3", "a3")
    assert shown(store) == [("q1", "a1"), ("q2", "first"), ("q3", "a3")]
    assert stored(store) == 4


def test_an_edit_is_a_branch_from_the_last_turn_that_both_have(store: Store) -> None:
    turn(store, [], "q1", "a1")
    turn(store, ["q1", "a1"], "q2", "a2")
    turn(store, ["q1", "a1", "q2", "a2, edited"], "q3", "a3")
    assert shown(store) == [("q1", "a1"), ("q2", "a2, edited"), ("q3", "a3")]
    assert stored(store) == 4
    turn(store, [], "q1, edited", "b1")
    assert shown(store) == [("q1, edited", "b1")]
    assert len(store.sessions()) == 1


def test_a_history_that_was_never_seen_is_taken_over_once(store: Store) -> None:
    turn(store, ["q1", "a1", "q2", "a2"], "q3", "a3")
    turn(store, ["q1", "a1", "q2", "a2", "q3", "a3"], "q4", "a4")
    assert [question for question, _ in shown(store)] == ["q1", "q2", "q3", "q4"]
    assert stored(store) == 4


def test_a_client_that_leaves_out_the_oldest_goes_on_at_the_end(store: Store) -> None:
    turn(store, ["q1", "a1", "q2", "a2"], "q3", "a3")
    turn(store, ["q2", "a2", "q3", "a3"], "q4", "a4")
    assert [question for question, _ in shown(store)] == ["q1", "q2", "q3", "q4"]


@pytest.mark.parametrize("told", ["half a", "half an ans", "half an ans\n\n> error: it broke off", ""])
def test_an_answer_that_was_cut_is_recognised_by_what_came(store: Store, told: str) -> None:
    turn(store, [], "q1", "half an ans", status="interrupted")
    turn(store, ["q1", told] if told else ["q1", " "], "q2", "a2")
    assert shown(store) == [("q1", "half an ans"), ("q2", "a2")]


def test_of_a_loop_its_reader_has_seen_more_than_is_kept(store: Store) -> None:
    begun = continued(store, CHAT, [], "q1")
    assert begun.journal is not None
    begun.journal.append("Well. And so. And so. And so.")
    begun.journal.finish(keep=13, finish_reason=FinishReason.REPETITION)
    turn(store, ["q1", "Well. And so. And so. And so."], "q2", "a2")
    assert shown(store) == [("q1", "Well. And so."), ("q2", "a2")]


def test_an_answer_is_recognised_with_what_was_shown_around_it(store: Store) -> None:
    turn(store, [], "q1", "It is Paris [1].\n\nSurely.")
    told = "(Nobody was asked.)\n\nIt is Paris [1].\n\nSurely.\n\n[1] [Paris](http://a.example/)\n[2] Notes"
    turn(store, ["q1", told], "q2", "a2")
    assert stored(store) == 2
    turn(store, ["q1", "It is Paris [1].\n\nSurely not."], "q2", "a2")
    assert stored(store) == 4, "another text is another answer"


def test_a_dialogue_without_a_name_is_recognised_at_its_end_and_forked_elsewhere(store: Store) -> None:
    nameless = Place(prefix="@/")
    first = turn(store, [], "hello", "hi", nameless)
    again = turn(store, ["hello", "hi"], "q2", "a2", nameless)
    assert again.record.id == first.record.id
    other = turn(store, ["hello", "hi"], "another", "a", nameless)
    assert other.record.id != first.record.id
    assert shown(store, other.record.name) == [("hello", "hi"), ("another", "a")]
    assert shown(store, first.record.name) == [("hello", "hi"), ("q2", "a2")]
    assert stored(store) == 3, "what both have is shared"
    assert first.record.name.startswith("@/2")
    assert turn(store, [], "hello", "hi", nameless).record.id not in (first.record.id, other.record.id)


def test_nobody_goes_on_with_the_turns_of_another_caller(store: Store) -> None:
    turn(store, [], "hello", "hi", Place(prefix="@anna/"))
    other = turn(store, ["hello", "hi"], "q2", "a2", Place(prefix="@bert/"))
    assert other.record.name.startswith("@bert/")
    assert stored(store) == 3, "his copy is his own"
    copied = turn(store, ["hello", "hi"], "q2", "a2", Place(prefix="@anna/", name="@anna/copy"))
    assert shown(store, copied.record.name) == [("hello", "hi"), ("q2", "a2")]
    assert stored(store) == 4, "her own is shared"


def test_a_turn_of_the_same_name_is_given_back_and_one_that_broke_off_is_asked_anew(store: Store) -> None:
    def asked(question: str) -> Begun:
        return continued(store, CHAT, [], question, turn_id="m1")

    first = asked("q1")
    assert first.journal is not None
    first.journal.finish(status="interrupted", finish_reason=FinishReason.CANCELLED)
    second = asked("q1")
    assert second.journal is not None
    assert second.journal.new, "no answer was given"
    second.journal.finish()
    with_id = continued(store, CHAT, [], "q2", turn_id="m2")
    assert with_id.journal is not None
    with_id.journal.append("a2")
    with_id.journal.finish()
    again = continued(store, CHAT, [], "q2", turn_id="m2")
    assert again.journal is not None
    assert (again.journal.new, again.journal.turn.answer) == (False, "a2")
    other = continued(store, CHAT, [], "another question", turn_id="m2")
    assert other.journal is not None
    assert other.journal.new


def test_two_at_once_are_two_branches(store: Store) -> None:
    turn(store, [], "q1", "a1")
    left, right = (continued(store, CHAT, said("q1", "a1"), "q2") for _ in range(2))
    assert left.journal is not None
    assert right.journal is not None
    assert left.journal.turn.parent == right.journal.turn.parent
    left.journal.append("left")
    left.journal.finish()
    right.journal.append("right")
    right.journal.finish()
    turn(store, ["q1", "a1", "q2", "left"], "q3", "a3")
    assert shown(store) == [("q1", "a1"), ("q2", "left"), ("q3", "a3")]
