"""Answers with their ground: look up, answer from what was found, check what was cited.

The pieces stream as the model writes them; at the end stands the `Answer` with its sources, its checked
citations and a ledger of what was looked up and left out.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from orchestra.errors import OrchestraError, UsageError
from orchestra.model.client import Client
from orchestra.model.language import language_of, wanted
from orchestra.model.messages import FinishReason, Options, Piece, Receipt, Usage, gathered
from orchestra.retrieval.citations import citations
from orchestra.retrieval.notice import announced
from orchestra.retrieval.passages import Citation, Passage, SearchProvider, Source
from orchestra.retrieval.prompt import grounded

NO_SOURCES = "no sources"
NOTICE = {"zh": "（没有找到资料，以下内容只出自模型。）", "en": "(No sources were found; what follows is the model's alone.)"}
# An answer from sources should repeat them, not vary them.
SAMPLING = Options(temperature=0.2)
LONGEST_SNIPPET = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One search service that was asked: the hits it gave, its time in seconds, why it failed."""

    name: str
    hits: int
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A passage that was kept (`why` is empty) or dropped."""

    title: str
    url: str
    score: float
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What was looked up for an answer; times in seconds, `calls` counts requests to the model."""

    queries: tuple[str, ...] = ()
    engines: tuple[Engine, ...] = ()
    kept: tuple[Hit, ...] = ()
    dropped: tuple[Hit, ...] = ()
    times: dict[str, float] = field(default_factory=dict)
    calls: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer with its ground; `value` is what it says where a schema was asked for."""

    text: str
    finish_reason: FinishReason
    model: str = ""
    sources: tuple[Source, ...] = ()
    citations: tuple[Citation, ...] = ()
    ledger: Ledger = field(default_factory=Ledger)
    usage: Usage = field(default_factory=Usage)
    receipt: Receipt = field(default_factory=Receipt)
    value: Any = None


async def ask(
    question: str, *, client: Client, model: str, search: SearchProvider, results: int = 3, options: Options | None = None
) -> AsyncGenerator[Piece | Answer]:
    """Answers `question` from at most `results` passages: the pieces as they come, at last the `Answer`.

    Where nothing is found the model answers alone, and the answer says so. Raises what the client raises.
    """
    _checked(question, results)
    options = options or Options()
    language = options.language or language_of(question)
    passages, ledger = await _retrieved(question, client, search, results)
    messages = grounded(question, passages, language, line=wanted(question, options.language))
    pieces: list[Piece] = []
    started = time.monotonic()
    stream = announced(
        client.chat(messages, model=model, options=options.over(SAMPLING)),
        notice="" if passages else NOTICE[language],
        note="" if passages else NO_SOURCES,
    )
    async with aclosing(stream):
        async for piece in stream:
            pieces.append(piece)
            yield piece
    yield _answer(pieces, passages, replace(ledger, times={**ledger.times, "answer": _since(started)}))


def _checked(question: str, results: int) -> None:
    if not question.strip():
        raise UsageError(detail="the question is empty", detail_zh="问题为空", fix="ask something", fix_zh="请输入问题")
    if results < 1:
        raise UsageError(
            detail=f"{results} results cannot be cited", detail_zh=f"无法引用 {results} 条结果", fix="ask for 1 or more", fix_zh="请至少取 1 条"
        )


async def _retrieved(
    question: str, client: Client, search: SearchProvider, results: int
) -> tuple[Sequence[Passage], Ledger]:
    """The passages that the answer may use, and what became of the others. A search that fails finds nothing."""
    started = time.monotonic()
    error = ""
    hits: Sequence[Passage] = ()
    try:
        hits = await client.runtime.call(lambda: search.search(question, results=2 * results))
    except OrchestraError as failure:
        error = failure.message()
    seconds = _since(started)
    kept, dropped = hits[:results], hits[results:]
    ledger = Ledger(
        queries=(question,),
        engines=(Engine(name=search.name, hits=len(hits), seconds=seconds, error=error),),
        kept=tuple(_hit(passage) for passage in kept),
        dropped=tuple(_hit(passage, f"beyond the {results} best") for passage in dropped),
        times={"retrieve": seconds},
        notes=() if kept else (NO_SOURCES,),
    )
    return kept, ledger


def _hit(passage: Passage, why: str = "") -> Hit:
    return Hit(title=passage.title, url=passage.url, score=passage.score, why=why)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 6)


def _answer(pieces: list[Piece], passages: Sequence[Passage], ledger: Ledger) -> Answer:
    reply = gathered(pieces)
    checked = citations(reply.text, passages)
    cited = {citation.n for citation in checked}
    return Answer(
        text=reply.text,
        finish_reason=reply.finish_reason,
        model=reply.model,
        sources=tuple(
            Source(n=n, title=p.title, url=p.url, snippet=_snippet(p.text), cited=n in cited) for n, p in enumerate(passages, 1)
        ),
        citations=tuple(checked),
        ledger=replace(ledger, calls=reply.receipt.calls),
        usage=reply.usage,
        receipt=reply.receipt,
        value=reply.value,
    )


def _snippet(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SNIPPET else line[: LONGEST_SNIPPET - 1].rstrip() + "…"


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer as plain JSON values."""
    whole = {
        **asdict(answer),
        "finish_reason": str(answer.finish_reason),
        "sources": [asdict(source) for source in answer.sources],
        "citations": [asdict(citation) for citation in answer.citations],
    }
    return {name: part for name, part in whole.items() if name != "value" or part is not None}
