"""Taking documents in: what is new or has changed is read, cut and indexed, what is gone is taken out.

Some thousand chunks are written at a time, each lot in one transaction. Whatever ends the work - Ctrl-C, a full disk,
`kill -9` - leaves a base that holds the lots so far and can be searched; the next `add` finds them unchanged and goes on.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from orchestra.errors import ExtraMissing, OrchestraError
from orchestra.errors.system import why
from orchestra.model.language import language_of
from orchestra.retrieval.knowledge.bases import Base
from orchestra.retrieval.knowledge.chunks import Chunk, Content, Document
from orchestra.retrieval.knowledge.cutting import chunks
from orchestra.retrieval.knowledge.documents import HEAD, LARGEST, Kind, kind_of, read, too_large
from orchestra.retrieval.knowledge.folders import File, below, listed
from orchestra.retrieval.knowledge.office import Office, Unreadable
from orchestra.runtime import Runtime
from orchestra.texts import Words

LOT = 2000  # chunks
LOT_SECONDS = 5.0
STEP_SECONDS = 0.1  # how often it says how far it is
SAMPLE = 2_000  # characters that tell a document's language


class Shelf(Protocol):
    """What an ingest needs of the index."""

    def documents(self, name: str) -> Mapping[str, Document]: ...
    def putting(self, name: str, items: Sequence[tuple[Document, Sequence[Chunk]]]) -> Future[None]: ...
    def remove(self, name: str, uris: Sequence[str]) -> object: ...


class Skipped(NamedTuple):
    """A file that was not taken in, and why."""

    path: str
    why: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an ingest is: the file that was looked at last, its number of all, what was indexed and read so far."""

    file: str
    number: int
    total: int
    chunks: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an ingest did. `unchanged` files were not read again, `hidden` entries of folders not looked at.

    `base` is what there is now; where vectors were due and could not be made, `no_vectors` says why.
    """

    name: str
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    hidden: int = 0
    skipped: tuple[Skipped, ...] = ()
    chunks: int = 0
    bytes: int = 0
    seconds: float = 0.0
    base: Base | None = None
    no_vectors: OrchestraError | None = None


async def add(paths: Sequence[str | Path], *, name: str, index: Shelf, runtime: Runtime) -> AsyncGenerator[Progress | Report]:
    """Brings a base up to date with files and folders, step by step; at last a `Report`.

    Raises `UsageError` for a path that is not there, and what the index raises (`StorageFull`).
    """
    with Office() as office:
        intake = await runtime.call(lambda: Intake(paths, name=name, index=index, office=office))
        while progress := await runtime.call(intake.step):
            yield progress
        yield await runtime.call(intake.finish)


class Intake:
    """One ingest, in steps that block for a moment each."""

    def __init__(self, paths: Sequence[str | Path], *, name: str, index: Shelf, office: Office) -> None:
        self._begun = time.monotonic()
        self._name, self._index, self._office = name, index, office
        self._listing = listed(paths)
        self._known = index.documents(name)
        self._coming: Iterator[File] = iter(self._listing.files)
        self._skipped = [Skipped(*refused) for refused in self._listing.refused]
        self._lot: list[tuple[Document, Sequence[Chunk]]] = []
        self._waiting = 0  # chunks in the lot
        self._writing: Future[None] | None = None  # one lot is written while the next is read and cut
        self._written = self._begun
        self._number = self._chunks = self._bytes = 0
        self._added = self._changed = self._unchanged = 0

    def step(self) -> Progress | None:
        """Looks at some more files; None after the last."""
        file = None
        until = time.monotonic() + STEP_SECONDS
        for file in self._coming:
            self._look(file)
            now = time.monotonic()
            if self._waiting >= LOT or now - self._written > LOT_SECONDS:
                self._write()
            if now >= until:
                break
        if file is None:
            return None
        return Progress(
            file=file.uri, number=self._number, total=len(self._listing.files), chunks=self._chunks, bytes=self._bytes
        )

    def finish(self) -> Report:
        """Writes the last lot and takes out what is gone."""
        self._write()
        self._settle()
        gone = self._gone()
        if gone:
            self._index.remove(self._name, gone)
        return Report(
            name=self._name, added=self._added, changed=self._changed, unchanged=self._unchanged, removed=len(gone),
            hidden=self._listing.hidden, skipped=tuple(self._skipped), chunks=self._chunks, bytes=self._bytes,
            seconds=round(time.monotonic() - self._begun, 3),
        )  # fmt: skip

    def _look(self, file: File) -> None:
        self._number += 1
        known = self._known.get(file.uri)
        if known and (known.mtime_ns, known.size) == (file.mtime_ns, file.size):
            self._unchanged += 1
            return
        try:
            kind, data = _opened(file)
            digest = hashlib.sha256(data).hexdigest()
            self._bytes += len(data)
            if known and known.digest == digest:
                self._unchanged += 1
                return
            content = read(file.path, kind, data, self._office)
        except Unreadable as error:
            self._skipped.append(Skipped(file.uri, error.why))
        except ExtraMissing as error:
            missing = Words(*(f"{error.message(language)}; {error.hint(language)}" for language in ("en", "zh")))
            self._skipped.append(Skipped(file.uri, missing))
        except OSError as error:
            self._skipped.append(Skipped(file.uri, why(error)))
        else:
            self._take(file, digest, content, new=known is None)

    def _take(self, file: File, digest: str, content: Content, *, new: bool) -> None:
        document = Document(
            uri=file.uri, title=content.title, language=_language(content), digest=digest,
            mtime_ns=file.mtime_ns, size=file.size,
        )  # fmt: skip
        cut = list(chunks(content.sections))
        self._lot.append((document, cut))
        self._waiting += len(cut)
        self._chunks += len(cut)
        self._added, self._changed = self._added + new, self._changed + (not new)

    def _write(self) -> None:
        lot, self._lot, self._waiting = self._lot, [], 0
        if lot:
            writing = self._index.putting(self._name, lot)  # its words are cut while the lot before is written
            self._settle()
            self._writing = writing
        self._written = time.monotonic()

    def _settle(self) -> None:
        """Waits for the lot that is being written; raises what stopped it."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _gone(self) -> list[str]:
        """Documents that stood below a folder that was named and stand there no more; one that cannot be looked into keeps its own."""
        there = {file.uri for file in self._listing.files}
        unseen = [path for path, _ in self._listing.refused]
        return [
            uri for uri in self._known
            if uri not in there and below(uri, self._listing.roots) and not below(uri, unseen)
        ]  # fmt: skip


def _opened(file: File) -> tuple[Kind, bytes]:
    """What a file is, and its bytes; of one that is no text only the beginning is read."""
    if file.size > LARGEST:
        raise too_large(file.size)
    with open(file.path, "rb") as handle:
        head = handle.read(HEAD)
        kind = kind_of(file.path, head)
        return kind, head + handle.read(LARGEST - len(head))


def _language(content: Content) -> str:
    sample, size = [], 0
    for section in content.sections:
        sample.append(section.text[: SAMPLE - size])
        size += len(sample[-1])
        if size >= SAMPLE:
            break
    return language_of("\n".join(sample))
