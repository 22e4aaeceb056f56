"""What was done for an answer: the draft, the queries, who was asked, what was kept and dropped and why, times, calls.

A `Book` is a ledger while it is being written; each entry is told as it happens, so that who waits can follow it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from orchestra.model.messages import Receipt, Usage
from orchestra.model.stages import summed
from orchestra.retrieval.passages import Attempt, Passage
from orchestra.retrieval.ranking import Dropped

Strategy = Literal["auto", "direct", "draft"]
What = Literal["no search", "rewritten", "draft", "keywords", "searching", "attempt", "kept", "dropped", "again"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage that was kept (`why` is empty) or dropped; `score` is the fused one."""

    title: str
    url: str
    place: str = ""
    origin: str = ""
    score: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What was looked up for an answer; times in seconds, `calls` counts requests to the model.

    `rewritten` is a follow-up as a question of its own, `refined` says that a draft stood before the answer,
    `rounds` counts the times that it was looked up: 0, 1 or 2.
    """

    strategy: Strategy = "direct"
    rewritten: str = ""
    draft: str = ""
    keywords: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    kept: tuple[Hit, ...] = ()
    dropped: tuple[Hit, ...] = ()
    refined: bool = False
    rounds: int = 0
    times: dict[str, float] = field(default_factory=dict)
    calls: int = 0
    notes: tuple[str, ...] = ()


class Event(NamedTuple):
    """One entry as it is made: `text` is the query, the draft, the words or the reason; an attempt or a hit is given whole."""

    what: What
    text: str = ""
    attempt: Attempt | None = None
    hit: Hit | None = None


Trace = Callable[[Event], object]


class Book:
    """A ledger that is being written. `trace` is told each entry."""

    def __init__(self, strategy: Strategy, trace: Trace | None = None) -> None:
        self.ledger = Ledger(strategy=strategy)
        self.receipt = Receipt(calls=0)  # what the calls before the answer took,
        self.usage = Usage()  # ... in tokens and times as the daemon counted them
        self._trace = trace or (lambda event: None)

    def rewritten(self, question: str) -> None:
        """The question as it stands for itself."""
        self.ledger = replace(self.ledger, rewritten=question)
        self._trace(Event("rewritten", question))

    def drafted(self, draft: str) -> None:
        """What the model would say without sources."""
        self.ledger = replace(self.ledger, draft=draft)
        self._trace(Event("draft", draft))

    def keyed(self, keywords: Sequence[str]) -> None:
        """The words to look for beside the question."""
        self.ledger = replace(self.ledger, keywords=tuple(keywords))
        self._trace(Event("keywords", ", ".join(keywords)))

    def searching(self, queries: Sequence[str]) -> None:
        """Another round begins with these queries."""
        known = dict.fromkeys((*self.ledger.queries, *queries))
        self.ledger = replace(self.ledger, queries=tuple(known), rounds=self.ledger.rounds + 1)
        for query in queries:
            self._trace(Event("searching", query))

    def attempted(self, attempts: Sequence[Attempt]) -> None:
        """Who was asked, and what came of it."""
        self.ledger = replace(self.ledger, attempts=(*self.ledger.attempts, *attempts))
        for attempt in attempts:
            self._trace(Event("attempt", attempt.query, attempt))

    def chose(self, kept: Sequence[Passage], dropped: Sequence[Dropped]) -> None:
        """What the prompt holds; what an earlier round kept or dropped is judged anew with the rest."""
        self.ledger = replace(
            self.ledger,
            kept=tuple(_hit(passage) for passage in kept),
            dropped=tuple(_hit(passage, why) for passage, why in dropped),
        )
        for hit in self.ledger.kept:
            self._trace(Event("kept", hit.title, hit=hit))
        for hit in self.ledger.dropped:
            self._trace(Event("dropped", hit.title, hit=hit))

    def again(self, why: str) -> None:
        """The evidence is not enough: it is looked up once more."""
        self.ledger = replace(self.ledger, notes=(*self.ledger.notes, f"second round: {why}"))
        self._trace(Event("again", why))

    def noted(self, note: str) -> None:
        """Something that whoever reads the answer has to know."""
        if note not in self.ledger.notes:
            self.ledger = replace(self.ledger, notes=(*self.ledger.notes, note))

    def unsearched(self) -> None:
        """Nothing is looked up: the question does not ask for it."""
        self.ledger = replace(self.ledger, notes=(*self.ledger.notes, NOT_SEARCHED))
        self._trace(Event("no search"))

    def refines(self) -> None:
        """The answer is made out of a draft and the sources."""
        self.ledger = replace(self.ledger, refined=True)

    def called(self, receipt: Receipt, usage: Usage | None = None) -> None:
        """What a request to the model beside the answer took."""
        self.usage = summed([self.usage, usage]) if usage else self.usage
        mine = self.receipt
        self.receipt = replace(
            mine,
            calls=mine.calls + receipt.calls,
            loads=mine.loads + receipt.loads,
            reloads=mine.reloads + receipt.reloads,
            retries=mine.retries + receipt.retries,
            seconds=round((mine.seconds or 0) + (receipt.seconds or 0), 6),
        )
        self.ledger = replace(self.ledger, calls=self.receipt.calls)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds what the block takes to the time of that name."""
        started = time.monotonic()
        try:
            yield
        finally:
            times = self.ledger.times
            spent = times.get(name, 0.0) + time.monotonic() - started
            self.ledger = replace(self.ledger, times={**times, name: round(spent, 6)})


NO_SOURCES = "no sources"
NOT_SEARCHED = "not searched"


def _hit(passage: Passage, why: str = "") -> Hit:
    return Hit(
        title=passage.title, url=passage.url, place=passage.place, origin=passage.origin, score=passage.score, why=why
    )
