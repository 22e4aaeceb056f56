"""Chunks and questions as vectors, through the daemon's `/api/embed`.

The daemon fails a whole batch for one bad text, adds no task prefix, and cuts what is too long unless told not to. So
a batch that fails is halved until the bad text stands alone; it is set aside and counted, and found by its words. A
text that is too long for the model is embedded by its beginning, and counted too.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from orchestra.errors import (
    DaemonError,
    EmbeddingFailed,
    EmptyReply,
    ModelMissing,
    ModelUnsupported,
    NotOllama,
    OrchestraError,
    PromptTooLong,
)
from orchestra.model.client import Client
from orchestra.model.window import full_name
from orchestra.retrieval.knowledge.index import Index
from orchestra.retrieval.knowledge.vectors import Embedded, Pending, Space, State, changed

BATCH = 16
SHORTEST = 16  # characters; a text that does not fit even so is no matter of length
PLAIN = "The sky is blue."  # a text that every model can embed
_ONE_TEXT = (PromptTooLong, DaemonError, EmptyReply, NotOllama)  # what a single text of a batch may be to blame for


class Prefixes(NamedTuple):
    """What a family of models was trained to see before a passage, and before a question."""

    passage: str = ""
    question: str = ""


# By the beginning of the model's name, as the models' cards have it; the longest that fits. Whoever changes a row
# changes VERSION too: vectors with other prefixes cannot be compared.
VERSION = "1"
_RETRIEVE = "Represent this sentence for searching relevant passages: "
PREFIXES = {
    "nomic-embed-text": Prefixes("search_document: ", "search_query: "),
    "mxbai-embed": Prefixes(question=_RETRIEVE),
    "bge-large": Prefixes(question=_RETRIEVE),
    "bge-m3": Prefixes(),
    "snowflake-arctic-embed": Prefixes(question=_RETRIEVE),
    "snowflake-arctic-embed2": Prefixes(question="query: "),
    "embeddinggemma": Prefixes("title: none | text: ", "task: search result | query: "),
    "qwen3-embedding": Prefixes(
        question="Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
    ),
    "multilingual-e5": Prefixes("passage: ", "query: "),
}


def family(model: str) -> str:
    """The row of `PREFIXES` for a model, whoever publishes it; empty where none is known."""
    name = model.lower().rpartition("/")[2]
    return max((known for known in PREFIXES if name.startswith(known)), key=len, default="")


class Made(NamedTuple):
    """What came of one text."""

    state: State
    value: Sequence[float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingProgress:
    """How many of a base's chunks have been to the model, of how many; `shortened` and `failed` are among them."""

    done: int
    total: int
    shortened: int = 0
    failed: int = 0


class Embedder:
    """One embedding model of the daemon."""

    def __init__(self, client: Client, model: str, *, dimensions: int = 0) -> None:
        self.model = model
        self._client = client
        self._prefixes = PREFIXES.get(family(model), Prefixes())
        self._dimensions = dimensions  # 0 = what the first vector has
        self._proven = False  # it has given a vector

    async def space(self) -> Space:
        """What its vectors are comparable by. Raises `ModelMissing`."""
        for row in await self._client.tags():
            if full_name(str(row.get("name", ""))) == full_name(self.model):
                return Space(model=self.model, digest=str(row.get("digest", "")), prefixes=f"{VERSION} {family(self.model)}".strip())
        await self._client.show(self.model)  # says what is missing, and what is near
        raise ModelMissing(model=self.model, nearest="", nearest_zh="")

    async def question(self, text: str) -> Sequence[float]:
        """The vector of a question. Raises `EmbeddingFailed`, and what the daemon raises."""
        made = (await self._made([self._prefixes.question + text]))[0]
        if made.value is None:
            raise _failed(self.model, None)
        return made.value

    async def passages(self, texts: Sequence[str]) -> list[Made]:
        """What comes of each text, in order. Raises `EmbeddingFailed` where the model gives no vector at all."""
        made = await self._made([self._prefixes.passage + text for text in texts])
        if all(one.value is None for one in made):
            await self._proved(None)
        return made

    async def _made(self, texts: Sequence[str]) -> list[Made]:
        try:
            vectors = await self._client.embed(self.model, texts)
        except ModelUnsupported as error:
            raise _failed(self.model, error) from error
        except _ONE_TEXT as error:
            await self._proved(error)
            if len(texts) == 1:
                return [await self._beginning(texts[0]) if isinstance(error, PromptTooLong) else Made("failed")]
            middle = len(texts) // 2
            return [*await self._made(texts[:middle]), *await self._made(texts[middle:])]
        return [self._checked(vector) for vector in vectors]

    async def _proved(self, error: OrchestraError | None) -> None:
        """Raises `EmbeddingFailed` where the model can embed nothing, so that not every text is tried."""
        if self._proven:
            return
        try:
            (vector,) = await self._client.embed(self.model, [PLAIN])
        except _ONE_TEXT:
            raise _failed(self.model, error) from error
        if self._checked(vector).value is None:
            raise _failed(self.model, error) from error

    async def _beginning(self, text: str) -> Made:
        """The vector of as much of the text as fits, to within an eighth."""
        fits, too_long, best = 0, len(text), Made("failed")
        while too_long - fits > max(SHORTEST, too_long // 8):
            middle = (fits + too_long) // 2
            try:
                (vector,) = await self._client.embed(self.model, [text[:middle]])
            except PromptTooLong:
                too_long = middle
            except _ONE_TEXT:
                return best
            else:
                fits, best = middle, self._checked(vector)._replace(state="shortened")
                if best.value is None:
                    return Made("failed")
        return best

    def _checked(self, vector: Any) -> Made:
        """A vector of numbers that has a direction, and as many dimensions as all others; else a failure."""
        if not isinstance(vector, list) or len(vector) != (self._dimensions or len(vector)):
            return Made("failed")
        if not all(isinstance(value, float | int) and math.isfinite(value) for value in vector) or not any(vector):
            return Made("failed")
        self._dimensions, self._proven = len(vector), True
        return Made("whole", vector)


async def embed(client: Client, index: Index, name: str, *, model: str = "") -> AsyncGenerator[EmbeddingProgress]:
    """Gives the chunks of a base that have no vector one, batch by batch; interrupted, it goes on where it was.

    `model` is taken from now on: vectors of another one are thrown away, and chunks that failed are tried once more.
    Without it the base's own goes on. Raises `EmbeddingChanged` where that is another one now or gone, `EmbeddingFailed`,
    `KnowledgeMissing`, and what the daemon raises.
    """
    call = client.runtime.call
    vectors = index.vectors
    had = await call(partial(vectors.space, name))
    if model:
        new = Embedder(client, model)
        space = await new.space()
        await new.passages([PLAIN])  # before anything is thrown away
        await call(partial(vectors.adopt, name, space))
        await call(partial(vectors.retry, name))
    elif had is not None:
        space = await current(Embedder(client, had.model), had, name)
    else:
        return
    base = await call(partial(index.base, name))
    embedder = Embedder(client, space.model, dimensions=base.dimensions)
    done, total, shortened, failed = base.vectors + base.failed, base.chunks, base.shortened, base.failed
    after = 0
    while pending := await call(partial(vectors.pending, name, BATCH, after=after)):
        made = await embedder.passages([_text(chunk) for chunk in pending])
        rows = [Embedded(chunk.chunk, *one) for chunk, one in zip(pending, made, strict=True)]
        await call(partial(vectors.put, name, space, rows))
        after = pending[-1].chunk
        done += len(rows)
        shortened += sum(row.state == "shortened" for row in rows)
        failed += sum(row.state == "failed" for row in rows)
        yield EmbeddingProgress(done=done, total=max(done, total), shortened=shortened, failed=failed)


async def current(embedder: Embedder, had: Space, name: str) -> Space:
    """What the base's model makes now. Raises `EmbeddingChanged` where that cannot be compared with what it has."""
    try:
        now = await embedder.space()
    except ModelMissing as error:
        raise changed(name, had, "it is no longer installed", "该模型已不存在") from error
    if (now.digest, now.prefixes) != (had.digest, had.prefixes):
        raise changed(name, had)
    return now


def _text(chunk: Pending) -> str:
    return f"{chunk.heading}\n{chunk.text}" if chunk.heading else chunk.text


def _failed(model: str, error: OrchestraError | None) -> EmbeddingFailed:
    if error is None:
        return EmbeddingFailed(model=model, detail="not for this text", detail_zh="无法处理这段文本")
    detail = str(error.facts.get("detail") or error.message())
    return EmbeddingFailed(model=model, detail=detail, detail_zh=str(error.facts.get("detail") or error.message("zh")))

