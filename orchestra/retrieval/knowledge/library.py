"""Face of the knowledge bases: documents in, found again, and out; for Python and the command line."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path

from orchestra.errors import DaemonFault, KnowledgeFault, ModelFault, OrchestraError, UsageError
from orchestra.model.client import Client
from orchestra.retrieval.knowledge.bases import Base
from orchestra.retrieval.knowledge.embedding import Embedder, EmbeddingProgress, embed
from orchestra.retrieval.knowledge.folders import below, full
from orchestra.retrieval.knowledge.index import Index
from orchestra.retrieval.knowledge.ingest import Progress, Report, add
from orchestra.retrieval.knowledge.search import Hits, Knowledge
from orchestra.runtime import blocking, stepping
from orchestra.sessions.records import storable

DEFAULT = "default"
Paths = str | Path | Sequence[str | Path]


class AsyncKnowledgeBases:
    """Local documents in named bases. `model` makes the vectors of new bases; without one they are found by their words."""

    def __init__(self, index: Index, client: Client, *, model: str = "") -> None:
        self.index = index
        self.client = client
        self.model = model

    async def add(self, paths: Paths = (), *, name: str = DEFAULT, embed: str = "") -> Report:
        """Brings a base up to date with files and folders: what is new or has changed goes in, what is gone goes out.

        `embed` names the model of its vectors; a base that has one goes on with it. Raises `UsageError` for a path that
        is not there and `StorageFull`; of files that cannot be read the report says why.
        """
        last: Report | None = None
        async for step in self.add_stream(paths, name=name, embed=embed):
            last = step if isinstance(step, Report) else last
        if last is None:
            raise OrchestraError(detail="the ingest has no end")
        return last

    async def add_stream(
        self, paths: Paths = (), *, name: str = DEFAULT, embed: str = ""
    ) -> AsyncGenerator[Progress | EmbeddingProgress | Report]:
        """The same as it happens: files, then vectors, at last the `Report`."""
        named = [paths] if isinstance(paths, str | Path) else list(paths)
        if not named and not embed:
            raise UsageError(
                detail="no file or folder is named", detail_zh="没有给出文件或目录",
                fix="orchestra knowledge add PATH", fix_zh="orchestra knowledge add 路径",
            )  # fmt: skip
        call = self.client.runtime.call
        model = embed or (self.model if self.model and not await call(partial(self.index.documents, name)) else "")
        if model:
            await Embedder(self.client, model).space()  # a model that is not there is said before minutes of work
        report = Report(name=name)
        async with aclosing(add(named, name=name, index=self.index, runtime=self.client.runtime)) as steps:
            async for step in steps:
                if isinstance(step, Report):
                    report = step
                else:
                    yield step
        found = {base.name for base in await call(self.index.bases)}
        if name in found or not named:
            async with aclosing(self._embedded(report, model)) as embedding:
                async for each in embedding:
                    yield each
        else:
            yield report

    async def _embedded(self, report: Report, model: str) -> AsyncGenerator[EmbeddingProgress | Report]:
        """The vectors of what is in. Where nobody asked for them now, their failure leaves a base that is found by its words."""
        why: OrchestraError | None = None
        try:
            async with aclosing(embed(self.client, self.index, report.name, model=model)) as steps:
                async for step in steps:
                    yield step
        except (DaemonFault, ModelFault, KnowledgeFault) as error:
            if model:
                raise
            why = error
        yield replace(report, base=await self.client.runtime.call(partial(self.index.base, report.name)), no_vectors=why)

    async def search(self, query: str, *, name: str = DEFAULT, limit: int = 5) -> Hits:
        """The chunks that fit a query, the best first. Raises `KnowledgeMissing`."""
        rerank = self.client.settings.rerank
        found = Knowledge(self.index, name, runtime=self.client.runtime, client=self.client, rerank=rerank)
        return await found.search(query, limit=limit)

    async def list(self) -> Sequence[Base]:
        """All bases, by name."""
        return await self.client.runtime.call(self.index.bases)

    async def remove(self, name: str, paths: Paths = ()) -> int:
        """Takes a base away, or only its documents at and below these paths; returns how many documents. Raises `KnowledgeMissing`."""
        call = self.client.runtime.call
        named = [paths] if isinstance(paths, str | Path) else paths
        base = await call(partial(self.index.base, name))
        if not named:
            await call(partial(self.index.drop, name))
            return base.documents
        roots = [storable(full(path)) for path in named]
        uris = [uri for uri in await call(partial(self.index.documents, name)) if below(uri, roots)]
        return await call(partial(self.index.remove, name, uris)) if uris else 0


class KnowledgeBases:
    """The same for code without an event loop."""

    def __init__(self, core: AsyncKnowledgeBases) -> None:
        self._core = core

    add = blocking(AsyncKnowledgeBases.add)
    add_stream = stepping(AsyncKnowledgeBases.add_stream)
    search = blocking(AsyncKnowledgeBases.search)
    list = blocking(AsyncKnowledgeBases.list)
    remove = blocking(AsyncKnowledgeBases.remove)
