"""From a question to the passages that its answer may use: the first half of a pipeline, before the answer.

question and dialogue -> does it need a search -> a question of its own -> queries -> places to look, all at once ->
merged, ranked, cut to their share of the window. The command line, Python and a session's turns all go this way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import NamedTuple, Protocol

from orchestra.errors import OrchestraError
from orchestra.model.budget import PASSAGES_PART
from orchestra.model.client import Client
from orchestra.model.language import language_of, wanted
from orchestra.model.messages import Language, Message, Options, Receipt
from orchestra.model.tokens import most_tokens
from orchestra.model.window import Loaded
from orchestra.retrieval.ledger import Book, Strategy, Trace
from orchestra.retrieval.need import brief, hangs_on_today, leans_on_dialogue, needs_search
from orchestra.retrieval.passages import Attempt, Findings, Passage, Retriever
from orchestra.retrieval.prompt import Asked, heading
from orchestra.retrieval.queries import Asker, with_keywords, with_last_words
from orchestra.retrieval.ranking import chosen, fitted, merged

MOST_PAGES = 3
AHEAD = 2  # so many times the wanted passages are asked for: some will say the same
ENTRY_TOKENS = 24  # a passage's number, and the blank lines around it


class Reader(Protocol):
    """What reads the pages of the best hits: passages of their text in place of what a search said of them."""

    async def __call__(self, passages: Sequence[Passage], *, query: str) -> tuple[Sequence[Passage], Sequence[Attempt]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """How a question is looked up: where, in which way, for how many sources; `trace` is told each step.

    `pages` reads the pages of the best hits; `today` is the day that a question may hang on.
    """

    places: tuple[Retriever, ...] = ()
    strategy: Strategy = "auto"
    results: int = 3
    pages: Reader | None = None
    trace: Trace | None = None
    today: Callable[[], date] = date.today


class Room(NamedTuple):
    """What passages may take of the window, in tokens, and what counts them, rather too high than too low."""

    tokens: int
    count: Callable[[str], int]


@dataclass(slots=True, kw_only=True)
class Prepared:
    """What is known before an answer: the question as it is asked, its passages (the best first), what it took so far.

    `before` is the conversation of draft and keywords where there was one. `found` are the lists that the passages
    were chosen from, to be merged with those of a further round.
    """

    asked: Asked
    query: str
    book: Book
    passages: tuple[Passage, ...] = ()
    searched: bool = True
    before: tuple[Message, ...] = ()
    found: list[Sequence[Passage]] = field(default_factory=list)


class Looking:
    """One question being looked up; `said` is the dialogue before it."""

    def __init__(self, client: Client, model: str, lookup: Lookup, options: Options, *, room: Room | None = None) -> None:
        self.book = Book(lookup.strategy, lookup.trace)
        self.asker = Asker(client, model, options, self.book)
        self._client = client
        self._model = model
        self._lookup = lookup
        self._options = options
        self._room = room
        self._loaded: Loaded | None = None
        self._best: set[tuple[str, str, str]] = set()  # what the last round chose, before it was cut to its room
        self._pages: dict[str, list[Passage]] = {}  # what was read, by address: no page is read twice

    async def prepared(self, question: str, said: Sequence[Message] = ()) -> Prepared:
        """The passages for `question`. In `draft` the model is asked twice before; else only a follow-up asks it, once."""
        language = self._options.language or language_of(question)
        asked = Asked(
            question=question,
            language=language,
            line=wanted(question, self._options.language),
            said=tuple(message for message in said if message.role != "system"),
            today=self._lookup.today() if hangs_on_today(question) else None,
        )
        made = Prepared(asked=asked, query=question.strip(), book=self.book)
        if self._lookup.strategy == "auto" and not needs_search(question):
            made.searched = False
            self.book.unsearched()
            return made
        also: tuple[str, ...] = ()
        if asked.said and leans_on_dialogue(question):
            made.query = await self.asker.standalone(asked)
        elif asked.said and brief(question):  # what it may leave out is looked for as well; that costs no request
            also = (with_last_words(made.query, asked.said),)
        queries = await self._drafted(made) if self._lookup.strategy == "draft" else (made.query,)
        await self.round(made, tuple(dict.fromkeys((*queries, *also))))
        return made

    async def _drafted(self, made: Prepared) -> tuple[str, ...]:
        """The queries after a draft and its keywords; the conversation about them goes on with the answer."""
        draft = await self.asker.draft(made.asked)
        words = await self.asker.keywords(made.asked, made.query, draft)
        made.before = self.asker.conversation if draft else ()
        return with_keywords(made.query, words)

    async def round(self, made: Prepared, queries: Sequence[str]) -> bool:
        """Looks the queries up everywhere at once, and chooses anew among all that was found; whether that is more than before."""
        book, before = self.book, self._best
        book.searching(queries)
        with book.timed("retrieve"):
            findings = await self._found(queries, made.asked)
        book.attempted([attempt for finding in findings for attempt in finding.attempts])
        made.found += [finding.passages for finding in findings]
        with book.timed("rank"):
            made.passages = await self._chosen(made)
        return not before.issuperset(self._best)

    async def _found(self, queries: Sequence[str], asked: Asked) -> list[Findings]:
        wanted_hits = AHEAD * self._lookup.results
        jobs = [
            partial(_retrieved, place, together, results=wanted_hits, language=asked.language)
            for place in self._lookup.places
            for together in ([queries] if getattr(place, "joint", False) else [[query] for query in queries])
        ]
        return await self._client.runtime.together([*jobs, self._warmed])

    async def _warmed(self) -> Findings:
        """Finds nothing, but has the model loaded meanwhile: whatever is found, it answers."""
        if self._room is None and self._loaded is None:
            self._loaded = loaded = await self._client.ready(self._model, self._options)
            self.book.called(Receipt(calls=0, loads=loaded.loads, reloads=loaded.reloads))
        return Findings()

    async def _chosen(self, made: Prepared) -> tuple[Passage, ...]:
        """The best of all that was found, read in full where pages are wanted, within their room in the window."""
        ranked = merged(made.found)
        if self._lookup.pages is not None and ranked:
            ranked = await self._read(ranked, made.query)
        best = chosen(ranked, most=self._lookup.results)
        self._best = {(passage.url, passage.place, passage.text) for passage in best.kept}
        room = self._room or await self._own_room(best.kept, self._loaded.window if self._loaded else 0)
        around = sum(room.count(heading(passage)) + ENTRY_TOKENS for passage in best.kept)
        fit = fitted(best.kept, made.query, budget=max(0, room.tokens - around), count=room.count)
        self.book.chose(fit.kept, (*fit.dropped, *best.dropped))
        return fit.kept

    async def _read(self, ranked: Sequence[Passage], query: str) -> list[Passage]:
        """The best hits as parts of their pages: the first part of each in its place, the second ones after all."""
        web = [passage for passage in ranked[:MOST_PAGES] if passage.url.lower().startswith(("http://", "https://"))]
        unread = [passage for passage in web if passage.url not in self._pages]
        if unread and self._lookup.pages is not None:
            with self.book.timed("pages"):
                parts, attempts = await self._lookup.pages(unread, query=query)
            self.book.attempted(attempts)
            for passage in unread:
                self._pages[passage.url] = [part for part in parts if part.url == passage.url]
        read = [[replace(part, score=each.score) for part in self._pages.get(each.url, [each])] for each in ranked]
        return [part for parts in read for part in parts[:1]] + [part for parts in read for part in parts[1:]]

    async def _own_room(self, passages: Sequence[Passage], window: int) -> Room:
        """A quarter of the loaded window; the tokenizer is only loaded where the bound in bytes does not fit."""
        tokens = window // PASSAGES_PART
        if sum(most_tokens(passage.text) + most_tokens(heading(passage)) + ENTRY_TOKENS for passage in passages) <= tokens:
            return Room(tokens, most_tokens)
        return Room(tokens, (await self._client.counter(self._model)).count)


async def _retrieved(place: Retriever, queries: Sequence[str], *, results: int, language: Language) -> Findings:
    """What one place gives for some queries; one that fails against its promise is an attempt that failed."""
    started = time.monotonic()
    try:
        return await place.retrieve(queries, results=results, language=language)
    except OrchestraError as fault:
        seconds = round(time.monotonic() - started, 6)
        return Findings(attempts=(Attempt(name=place.name, query=queries[0], outcome="failed", seconds=seconds, error=fault.message()),))
