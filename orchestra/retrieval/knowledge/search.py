"""Searching a knowledge base: by words, by vectors where it has them, both fused.

The two are fused by reciprocal rank (Cormack, Clarke and Büttcher, SIGIR 2009): a place in a list counts
1 / (60 + place), whatever the scores are. Where vectors cannot be had now - no daemon, a model that was changed or
deleted - the words alone are searched, and what is found says so and why.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from orchestra.errors import OrchestraError
from orchestra.model.client import Client
from orchestra.model.messages import Language
from orchestra.retrieval.knowledge.chunks import Chunk
from orchestra.retrieval.knowledge.embedding import Embedder, current
from orchestra.retrieval.knowledge.index import Index, Match
from orchestra.retrieval.knowledge.reranking import MOST, likelihoods
from orchestra.retrieval.passages import Attempt, Findings, Passage
from orchestra.runtime import Runtime

Mode = Literal["hybrid", "full_text"]
FUSION = 60
CANDIDATES = 50  # of each list, for the fusion


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A chunk that was found; `score` orders the hits of one search."""

    uri: str
    title: str
    chunk: Chunk
    score: float

    def as_json(self) -> dict[str, Any]:
        """The hit as plain JSON values."""
        chunk = self.chunk
        return {
            "source": self.uri,
            "title": self.title,
            "heading": chunk.heading,
            "lines": [chunk.start, chunk.end] if chunk.start else None,
            "page": chunk.page or None,
            "text": chunk.text,
            "score": self.score,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Hits:
    """What was found, the best first. `why` is what kept the vectors out of it, where the base has some."""

    hits: tuple[Hit, ...] = ()
    mode: Mode = "full_text"
    why: OrchestraError | None = None


class Knowledge:
    """One base, searched. Without a `client` by its words alone; `rerank` names a model that puts the best hits in order."""

    joint = True

    def __init__(self, index: Index, name: str, *, runtime: Runtime, client: Client | None = None, rerank: str = "") -> None:
        self.name = name
        self._index = index
        self._call = runtime.call
        self._client = client
        self._rerank = rerank

    async def search(self, query: str, *, limit: int = 5, keywords: Sequence[str] = ()) -> Hits:
        """The chunks that fit the query best; `keywords` are further queries for the words alone.

        Raises `KnowledgeMissing`, and what the store raises.
        """
        many = max(CANDIDATES, 4 * limit)
        lists = [await self._call(partial(self._index.text_search, self.name, words, many)) for words in (query, *keywords)]
        near, why = await self._near(query, many)
        ranked = fused([*lists, near] if near else lists)
        hits = await self._located(ranked[: max(limit, MOST)] if self._rerank else ranked[:limit])
        if self._rerank and self._client is not None and hits:
            hits = await self._reranked(query, hits)
        return Hits(hits=tuple(hits[:limit]), mode="hybrid" if near else "full_text", why=why)

    async def retrieve(self, queries: Sequence[str], *, results: int, language: Language) -> Findings:
        """The passages for a question and its keywords, in any language; a base that cannot be searched is a failed attempt."""
        query, *keywords = queries
        begun = time.monotonic()
        try:
            found = await self.search(query, limit=results, keywords=keywords)
        except OrchestraError as error:
            return Findings(attempts=(self._attempt(query, begun, error=error),))
        passages = tuple(
            Passage(
                text=hit.chunk.body, title=hit.chunk.titled(hit.title), url=hit.uri,
                score=hit.score, origin=self.name, place=hit.chunk.where,
            )
            for hit in found.hits
        )  # fmt: skip
        return Findings(passages=passages, attempts=(self._attempt(query, begun, found=found, error=found.why),))

    def _attempt(self, query: str, begun: float, *, found: Hits | None = None, error: OrchestraError | None) -> Attempt:
        hits = len(found.hits) if found else 0
        return Attempt(
            name=self.name, query=query, hits=hits, seconds=round(time.monotonic() - begun, 6),
            outcome="failed" if found is None else "found" if hits else "nothing", error=error.message() if error else "",
        )  # fmt: skip

    async def _near(self, query: str, limit: int) -> tuple[list[Match], OrchestraError | None]:
        """The nearest by their vectors, or what stands in the way."""
        space = await self._call(partial(self._index.vectors.space, self.name))
        if space is None or not space.dimensions or self._client is None or not query.strip():
            return [], None
        embedder = Embedder(self._client, space.model, dimensions=space.dimensions)
        try:
            await current(embedder, space, self.name)
            vector = await embedder.question(query)
        except OrchestraError as error:
            return [], error
        return await self._call(partial(self._index.vectors.nearest, self.name, vector, limit)), None

    async def _located(self, matches: Sequence[Match]) -> list[Hit]:
        found = await self._call(partial(self._index.chunks, [match.chunk for match in matches]))
        return [
            Hit(uri=where.document.uri, title=where.document.title, chunk=where.chunk, score=round(match.score, 6))
            for match in matches
            if (where := found.get(match.chunk))
        ]

    async def _reranked(self, query: str, hits: list[Hit]) -> list[Hit]:
        """The first few in the order that a model gives them; as they were where it cannot."""
        assert self._client is not None
        try:
            scores = await likelihoods(self._client, self._rerank, query, [hit.chunk.text for hit in hits[:MOST]])
        except OrchestraError:
            return hits
        order = sorted(range(len(scores)), key=lambda place: -scores[place])
        return [hits[place] for place in order] + hits[MOST:]


def fused(lists: Sequence[Sequence[Match]]) -> list[Match]:
    """Several lists as one, the best first; a single one as it is."""
    if len(lists) == 1:
        return list(lists[0])
    scores: defaultdict[int, float] = defaultdict(float)
    for ranked in lists:
        for place, match in enumerate(ranked, 1):
            scores[match.chunk] += 1 / (FUSION + place)
    return [Match(chunk, score) for chunk, score in sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))]
