"""The values of looking things up: what was found, where it came from, and what an answer made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from orchestra.model.messages import Language

Found = Literal["yes", "weak", "no"]
Outcome = Literal["found", "nothing", "rate_limited", "unreachable", "key_refused", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Text that was retrieved for a question; `score` orders the passages of one search, the best first."""

    text: str
    title: str
    url: str
    score: float = 0.0
    origin: str = ""  # the provider or knowledge base that gave it
    published: str = ""  # a date as YYYY-MM-DD, where one is known
    place: str = ""  # where in the source: lines, a page, a part
    stale: bool = False  # kept from an earlier search, because the service did not answer now


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a part of an answer may come from; `[n]` in the answer refers to it, `cited` says that it does."""

    n: int
    title: str
    url: str
    snippet: str
    cited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A sentence of an answer that names source `n`, and whether it was found in that source."""

    n: int
    sentence: str
    found: Found


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One question put to one search service or knowledge base; `seconds` is what it took, `error` why it gave nothing."""

    name: str
    query: str
    outcome: Outcome
    hits: int = 0
    seconds: float = 0.0
    error: str = ""
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found for some queries, the best first, and what was tried for it."""

    passages: tuple[Passage, ...] = ()
    attempts: tuple[Attempt, ...] = ()


class Retriever(Protocol):
    """Where the pipeline looks: the web through several services, or a knowledge base. It fails into its attempts, not into errors.

    One with a true `joint` is given the queries of a round at once, the question first, then its keywords; any other each
    for itself, side by side.
    """

    @property
    def name(self) -> str: ...
    async def retrieve(self, queries: Sequence[str], *, results: int, language: Language) -> Findings: ...


class SearchProvider(Protocol):
    """Something that finds passages; `search` may block (it runs where blocking is allowed) and raises `OrchestraError`."""

    @property
    def name(self) -> str: ...
    def search(self, query: str, *, results: int) -> Sequence[Passage]: ...
