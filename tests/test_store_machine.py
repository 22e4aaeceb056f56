"""The store beside a model of it that is a dictionary: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from orchestra.errors import SessionExists, SessionMissing
from orchestra.sessions.export import export_jsonl, import_jsonl
from orchestra.sessions.journal import Journal
from orchestra.sessions.records import Status, storable
from orchestra.sessions.store import Store

TEXTS = st.text(st.characters(), max_size=30) | st.sampled_from(["\x00", "快递\u2028", "x"]) | st.just("long ").map(lambda word: word * 400)
NAMES = st.sampled_from(["a", "b", "c", "会话", "'; DROP TABLE turn; --", "\x00\ud800"])

Said = tuple[str, str, Status]  # question, answer, status
Running = tuple[str, Journal]  # of which session


class Dialogues(RuleBasedStateMachine):
    """The model: names with what was said. Nothing in it is shared, so what the store shares must never show."""

    running: Bundle[Running] = Bundle("running")

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store(self.folder)
        self.said: dict[str, list[Said]] = {}
        self.busy: set[str] = set()
        self.keys: dict[tuple[str, str], str] = {}

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.folder)

    def missing(self, name: str) -> bool:
        """Whether there is no such session, which the store then has to say too."""
        if name in self.said:
            return False
        with pytest.raises(SessionMissing):
            self.store.session(name)
        return True

    def new(self, name: str) -> str:
        return storable(name)

    @rule(name=NAMES)
    def create(self, name: str) -> None:
        if self.new(name) in self.said:
            with pytest.raises(SessionExists):
                self.store.create(name)
        else:
            self.store.create(name)
            self.said[self.new(name)] = []

    @rule(name=NAMES, question=TEXTS, pieces=st.lists(TEXTS, max_size=3), keep=st.none() | st.integers(0, 20))
    def turn(self, name: str, question: str, pieces: list[str], keep: int | None) -> None:
        name = self.new(name)
        if self.missing(name) or name in self.busy:
            return
        journal = self.store.begin(name, question)
        for piece in pieces:
            journal.append(piece)
        turn = journal.finish(keep=keep)
        self.said[name].append((storable(question), storable("".join(pieces))[:keep], "done"))
        assert turn.parent == (self.store.history(name)[-2].id if len(self.said[name]) > 1 else None)

    @rule(name=NAMES, key=st.sampled_from("12"))
    def retry(self, name: str, key: str) -> None:
        name = self.new(name)
        if self.missing(name) or name in self.busy:
            return
        journal = self.store.begin(name, "again", turn_id=key)
        known = self.keys.setdefault((self.store.session(name).id, key), journal.turn.id)
        assert known == journal.turn.id
        if journal.new:
            journal.finish(status="failed")
            self.said[name].append(("again", "", "failed"))

    @rule(target=running, name=NAMES, question=TEXTS)
    def begin(self, name: str, question: str) -> Running | MultipleResults[Running]:
        name = self.new(name)
        if self.missing(name) or name in self.busy:
            return multiple()
        self.busy.add(name)
        self.said[name].append((storable(question), "", "open"))
        return self.store.session(name).id, self.store.begin(name, question)

    @rule(turn=consumes(running), pieces=st.lists(TEXTS, max_size=3), done=st.booleans())
    def finish(self, turn: Running, pieces: list[str], done: bool) -> None:
        session, journal = turn
        record = self.store.find(session)
        if record is None:
            with pytest.raises(SessionMissing):
                journal.finish()
            return
        for piece in pieces:
            journal.append(piece)
        status: Status = "done" if done else "interrupted"
        journal.finish(status=status)
        self.busy.discard(record.name)
        question, _, _ = self.said[record.name][-1]
        self.said[record.name][-1] = (question, storable("".join(pieces)), status)

    @rule(name=NAMES, new=NAMES, at=st.none() | st.integers(0, 3))
    def fork(self, name: str, new: str, at: int | None) -> None:
        name, new = self.new(name), self.new(new)
        if self.missing(name) or name in self.busy or new in self.said or (at or 0) > len(self.said[name]):
            return
        assert self.store.fork(name, new, at=at).turns == len(self.said[name][:at])
        self.said[new] = self.said[name][:at]

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        name = self.new(name)
        if not self.missing(name):
            self.store.delete(name)
            del self.said[name]
            self.busy.discard(name)

    @rule(name=NAMES, new=NAMES)
    def rename(self, name: str, new: str) -> None:
        name, new = self.new(name), self.new(new)
        if self.missing(name) or name == new:
            return
        if new in self.said:
            with pytest.raises(SessionExists):
                self.store.rename(name, new)
            return
        self.store.rename(name, new)
        self.said[new] = self.said.pop(name)
        if name in self.busy:
            self.busy.remove(name)
            self.busy.add(new)

    @rule(name=NAMES, new=NAMES)
    def copy(self, name: str, new: str) -> None:
        name, new = self.new(name), self.new(new)
        if self.missing(name) or name in self.busy or new in self.said:
            return
        import_jsonl(self.store, list(export_jsonl(self.store, name)), name=new)
        self.said[new] = list(self.said[name])

    @precondition(lambda self: not self.busy)
    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = Store(self.folder)

    @rule(word=st.sampled_from(["again", "快递", "long", "nobody"]))
    def search(self, word: str) -> None:
        hits = self.store.search(word, limit=1000)
        assert {hit.session for hit in hits} <= set(self.said)
        everything = [text for turns in self.said.values() for turn in turns for text in turn[:2]]
        assert bool(hits) == any(word in text.split() or word in text for text in everything)

    @invariant()
    def both_say_the_same(self) -> None:
        """Also in sum: every stored turn belongs to some session's past, deletion leaves nothing behind."""
        histories = {record.name: self.store.history(record.name) for record in self.store.sessions()}
        found = {name: [(turn.question, turn.answer, turn.status) for turn in turns] for name, turns in histories.items()}
        assert found == self.said
        stored = self.store.database.read(lambda c: {id_ for (id_,) in c.execute("SELECT id FROM turn")})
        assert stored == {turn.id for turns in histories.values() for turn in turns}


TestDialogues = Dialogues.TestCase
TestDialogues.settings = settings(max_examples=50, stateful_step_count=20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
class TestDialoguesAtLength(Dialogues.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(max_examples=2000, stateful_step_count=50)
