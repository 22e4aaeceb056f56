"""What `knowledge` does: local documents taken in, listed, found and taken out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestra.cli.outcome import Wish
from orchestra.cli.tables import moment, size, table
from orchestra.cli.terminal import as_line, colourful, harmless, tell, write
from orchestra.cli.words import LANGUAGE, say
from orchestra.errors import DocumentUnreadable, OrchestraError, UsageError
from orchestra.model.client import Client
from orchestra.retrieval.knowledge.bases import Base
from orchestra.retrieval.knowledge.embedding import EmbeddingProgress
from orchestra.retrieval.knowledge.index import Index
from orchestra.retrieval.knowledge.ingest import Progress, Report
from orchestra.retrieval.knowledge.library import AsyncKnowledgeBases, KnowledgeBases
from orchestra.runtime import Blocking, finish
from orchestra.sessions.records import timestamp
from orchestra.sessions.search import snippet
from orchestra.settings import Settings

BETWEEN = 10.0  # seconds between two lines of how far it is, where no bar can be drawn
MOST_NAMED = 10  # skipped files that are named one by one

Step = Progress | EmbeddingProgress | Report


@contextmanager
def opened() -> Iterator[KnowledgeBases]:
    """The knowledge bases of this user. No daemon is asked unless there are vectors."""
    settings = Settings.read()
    runtime = Blocking(parallel=settings.parallel)
    try:
        with Index(settings.folder(), timeout=settings.store_timeout) as index:
            yield KnowledgeBases(AsyncKnowledgeBases(index, Client(runtime, settings), model=settings.embedding))
    finally:
        finish(runtime.close())


def add(paths: Sequence[str], *, name: str, embed: str, wish: Wish) -> None:
    """Takes documents in, and says how far it is."""
    with opened() as bases:
        report = _shown(bases.add_stream(paths, name=name, embed=embed), wish)
    if report.base is None and report.skipped:
        first = report.skipped[0]
        raise DocumentUnreadable(path=shown(first.path), detail=first.why.en, detail_zh=first.why.zh)
    if wish.json:
        write(as_line(described(report)) + "\n")
        return
    _told(report)
    write(harmless(summary(report)) + "\n")


def described(report: Report) -> dict[str, Any]:
    """A report as JSON has it."""
    return {
        "name": report.name,
        **{field: getattr(report, field) for field in ("added", "changed", "unchanged", "removed", "hidden")},
        "skipped": [{"path": shown(path), "why": say(*why)} for path, why in report.skipped],
        "chunks": report.chunks,
        "bytes": report.bytes,
        "seconds": report.seconds,
        "base": _base(report.base) if report.base else None,
        "no_vectors": report.no_vectors.message(LANGUAGE) if report.no_vectors else "",
    }


def summary(report: Report) -> str:
    """What an ingest did, in one line."""
    counts = [
        (report.added, "new", "新增"),
        (report.changed, "changed", "更新"),
        (report.unchanged, "unchanged", "未变"),
        (report.removed, "gone", "移除"),
        (len(report.skipped), "skipped", "跳过"),
    ]
    counted = say(", ".join(f"{n} {en}" for n, en, _ in counts if n), "，".join(f"{zh} {n}" for n, _, zh in counts if n))
    counted = counted or say("nothing new", "没有变化")
    base = report.base or Base(name=report.name, documents=0, chunks=0)
    return say(
        f"{base.name}: {base.documents} documents, {base.chunks} chunks ({counted}; {report.seconds:.1f} s)",
        f"{base.name}：{base.documents} 个文档，{base.chunks} 个文本块（{counted}；{report.seconds:.1f} 秒）",
    )


def _told(report: Report) -> None:
    """What a reader of the one line would miss."""
    for path, why in report.skipped[:MOST_NAMED]:
        tell(say(f"skipped {shown(path)}: {why.en}", f"跳过 {shown(path)}：{why.zh}"))
    if (more := len(report.skipped) - MOST_NAMED) > 0:
        tell(say(f"skipped {more} more; --json lists them", f"另外跳过 {more} 个文件；--json 可列出全部"))
    base = report.base
    if base and not base.embedding:
        tell(say("found by words alone; --embed MODEL finds by meaning too", "仅按词检索；加 --embed 模型 可同时按语义检索"))
    elif report.no_vectors:
        tell(say("no vectors for what is new: ", "新内容没有向量：") + report.no_vectors.message(LANGUAGE))
        tell(report.no_vectors.hint(LANGUAGE))
    if base and base.shortened:
        tell(say(f"{base.shortened} chunks are longer than the model reads; of them only the beginning is found by meaning",
                 f"{base.shortened} 个文本块超过模型长度，仅开头部分可按语义查找"))  # fmt: skip
    if base and base.failed:
        tell(say(f"of {base.failed} chunks the model made no vector; they are found by words", f"{base.failed} 个文本块未能生成向量，仅按词检索"))


def list_bases(wish: Wish) -> None:
    """All knowledge bases."""
    with opened() as bases:
        found = bases.list()
    if wish.json:
        write(as_line({"bases": [_base(base) for base in found]}) + "\n")
    elif not found:
        tell(say("there is no knowledge base yet; make one: orchestra knowledge add PATH", "还没有知识库；可运行：orchestra knowledge add 路径"))
    else:
        headers = say("NAME", "名称"), say("DOCUMENTS", "文档"), say("CHUNKS", "文本块"), say("VECTORS", "向量"), say("CHANGED", "更新时间")
        table(headers, [(b.name, str(b.documents), str(b.chunks), _vectors(b), moment(b.changed)) for b in found])


def _vectors(base: Base) -> str:
    return f"{base.vectors} ({base.embedding})" if base.embedding else "-"


def _base(base: Base) -> dict[str, Any]:
    return {
        "name": base.name,
        "documents": base.documents,
        "chunks": base.chunks,
        "embedding": base.embedding,
        "vectors": base.vectors,
        "changed": timestamp(base.changed),
    }


def search(query: str, *, name: str, limit: int, wish: Wish) -> None:
    """The parts of documents that fit, the best first."""
    with opened() as bases:
        found = bases.search(query, name=name, limit=limit)
    if wish.json:
        why = found.why.message(LANGUAGE) if found.why else ""
        write(as_line({"hits": [{**hit.as_json(), "source": shown(hit.uri)} for hit in found.hits], "mode": found.mode, "why": why}) + "\n")
        return
    if found.why:
        tell(say("by words alone: ", "仅按词检索：") + found.why.message(LANGUAGE))
        tell(found.why.hint(LANGUAGE))
    if not found.hits:
        tell(say(f"nothing was found for {query!r}", f"没有找到 {query!r}"))
    else:
        headers = say("SOURCE", "来源"), say("PLACE", "位置"), say("TEXT", "内容")
        table(headers, [(shown(hit.uri), hit.chunk.place, snippet(hit.chunk.text, query)) for hit in found.hits])


def shown(path: str) -> str:
    """A path as people name it: from where they stand, if it is below."""
    here = os.getcwd().rstrip("/") + "/"
    return path.removeprefix(here)


def remove(name: str, paths: Sequence[str], *, yes: bool, wish: Wish) -> int:
    """Takes documents out; asks first, and without a terminal wants to be told."""
    with opened() as bases:
        base = next((base for base in bases.list() if base.name == name), None)
        if base is not None and not yes and not _agreed(base, paths):
            tell(say("nothing was removed", "未移除任何内容"))
            return 1
        count = bases.remove(name, paths)
    if wish.json:
        write(as_line({"name": name, "removed": count}) + "\n")
    else:
        write(harmless(say(f"{name}: {count} documents removed", f"{name}：移除了 {count} 个文档")) + "\n")
    return 0


def _agreed(base: Base, paths: Sequence[str]) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            detail="nobody is there to ask whether to remove", detail_zh="无法在此处询问是否移除", fix="add --yes", fix_zh="请加上 --yes"
        )
    what = harmless(", ".join(map(str, paths)))
    from_ = say(f" from {base.name}", f"（{base.name}）") if paths else f"{base.name} ({base.documents})"
    question = say(f"Remove {what}{from_}? The files stay. [y/N] ", f"移除 {what}{from_}？文件本身不会删除。[y/N] ")
    sys.stderr.write(question)
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes", "是")


# --- shown as it comes


def _shown(steps: Generator[Step], wish: Wish) -> Report:
    report = begun = None
    try:
        with _progress(wish) as show:
            for step in steps:
                if isinstance(step, Report):
                    report = step
                else:
                    begun = step
                    show(step)
    except (OrchestraError, KeyboardInterrupt):
        if begun:
            tell(say("what is in is found; the same command goes on from here", "已收录的内容可以检索；再次运行同一命令会继续"))
        raise
    finally:
        steps.close()
    if report is None:
        raise OrchestraError(detail="the ingest has no end")
    return report


def line(step: Progress | EmbeddingProgress) -> str:
    """How far it is."""
    if isinstance(step, EmbeddingProgress):
        return say(f"vectors: {step.done} of {step.total} chunks", f"向量：{step.done} / {step.total} 个文本块")
    return say(
        f"{step.number} of {step.total} files, {step.chunks} chunks, {size(step.bytes)}",
        f"{step.number} / {step.total} 个文件，{step.chunks} 个文本块，{size(step.bytes)}",
    )


@contextmanager
def _progress(wish: Wish) -> Iterator[Callable[[Progress | EmbeddingProgress], None]]:
    """Where the steps are shown: a bar where a person looks, else a line now and then."""
    if wish.json:
        yield lambda step: None
        return
    if colourful(sys.stderr):
        with _bar() as show:
            yield show
        return
    told = time.monotonic()

    def now_and_then(step: Progress | EmbeddingProgress) -> None:
        nonlocal told
        if time.monotonic() - told >= BETWEEN:
            told = time.monotonic()
            tell(line(step))

    yield now_and_then


@contextmanager
def _bar() -> Iterator[Callable[[Progress | EmbeddingProgress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}", markup=False))
    with Bar(*columns, console=Console(stderr=True, highlight=False), transient=True) as bar:
        files = bar.add_task(say("looking for files", "正在查找文件"), total=None)
        vectors = bar.add_task(say("vectors", "向量"), total=None, visible=False)

        def show(step: Progress | EmbeddingProgress) -> None:
            if isinstance(step, EmbeddingProgress):
                bar.update(files, visible=False)
                bar.update(vectors, completed=step.done, total=step.total, visible=True)
            else:
                bar.update(files, completed=step.number, total=step.total, description=harmless(Path(step.file).name))

        yield show
