"""The values of looking things up: what was found, where it came from, and what an answer made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Found = Literal["yes", "weak", "no"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Text that was retrieved for a question; `score` orders the passages of one search, the best first."""

    text: str
    title: str
    url: str
    score: float = 0.0
    origin: str = ""  # the provider or knowledge base that gave it
    published: str = ""  # a date as YYYY-MM-DD, where one is known
    place: str = ""  # where in the source: a heading, lines or a page
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


class SearchProvider(Protocol):
    """Something that finds passages; `search` may block (it runs where blocking is allowed) and raises `OrchestraError`."""

    @property
    def name(self) -> str: ...
    def search(self, query: str, *, results: int) -> Sequence[Passage]: ...
