"""Answers with their ground: look up, answer from what was found, check what was cited - one shape for every strategy.

`direct` looks up and answers. `draft` lets the model write what it would say, takes keywords from that, looks up the
question and the keywords, and has the draft put right by the sources. `auto`, the default, first asks a rule whether
there is anything to look up, answers as `direct` does, and reads off the answer whether the sources were enough: where
they were not, it looks up once more with keywords. The pieces stream as the model writes them; at the end stands the
`Answer` with its sources, its checked citations and the ledger.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from orchestra.errors import OrchestraError, UsageError
from orchestra.model.catalog import is_base
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Message, Options, Piece, Receipt, Reply, Usage, gathered
from orchestra.model.notice import announced
from orchestra.model.rendition import Composed
from orchestra.model.stages import spent, summed
from orchestra.retrieval.citations import citations
from orchestra.retrieval.evidence import Opening, lacking, unsupported
from orchestra.retrieval.ledger import NO_SOURCES, NOT_SEARCHED, Ledger
from orchestra.retrieval.links import linkless
from orchestra.retrieval.looking import Looking, Lookup, Prepared
from orchestra.retrieval.passages import Citation, Passage, Source
from orchestra.retrieval.prompt import answering, plain, refining
from orchestra.retrieval.queries import with_keywords

NOTICE = {"zh": "（没有找到资料，以下内容只出自模型。）", "en": "(No sources were found; what follows is the model's alone.)"}
STALE = "stale results"
NOT_FOUND = "not in the sources"
UNSUPPORTED = "not supported by the sources"
# An answer from sources should repeat them, not vary them.
SAMPLING = Options(temperature=0.2)
LONGEST_SNIPPET = 240


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
    question: str, *, client: Client, model: str, lookup: Lookup, said: Sequence[Message] = (), options: Options | None = None
) -> AsyncGenerator[Piece | Answer]:
    """Answers `question`, which may follow on what was `said`: the pieces as they come, at last the `Answer`.

    Where nothing is found the model answers alone, and the answer says so. Raises what the client raises.
    """
    await _checked(question, client, model, lookup)
    run = _Run(client, model, lookup, options or Options())
    pieces: list[Piece] = []
    async with aclosing(run.pieces(question, said)) as stream:
        async for piece in stream:
            pieces.append(piece)
            yield piece
    yield answered(gathered(pieces), run.prepared)


async def composed(
    question: str, *, client: Client, model: str, lookup: Lookup, said: Sequence[Message] = (), options: Options | None = None
) -> Composed:
    """What `ask` would put to the model for the answer, once all has been looked up; with "draft" the model has then been asked."""
    await _checked(question, client, model, lookup)
    made = await Looking(client, model, lookup, options or Options()).prepared(question, said)
    options = (options or Options()).over(SAMPLING)
    return Composed(model=model, subject=tuple(_messages(made)), question=question, options=options)


async def _checked(question: str, client: Client, model: str, lookup: Lookup) -> None:
    if not question.strip():
        raise UsageError(detail="the question is empty", detail_zh="问题为空", fix="ask something", fix_zh="请输入问题")
    if lookup.results < 1:
        raise UsageError(
            detail=f"{lookup.results} results cannot be cited", detail_zh=f"无法引用 {lookup.results} 条结果",
            fix="ask for 1 or more", fix_zh="请至少取 1 条",
        )  # fmt: skip
    if is_base(model, await client.facts(model)):
        raise UsageError(
            detail=f"{model} completes texts and answers no questions", detail_zh=f"{model} 只续写文本，不回答问题",
            fix="take an instruct model, for example --model llama3", fix_zh="请使用指令模型，例如 --model llama3",
        )  # fmt: skip


class _Run:
    """One answer on its way; `prepared` is what it stands on in the end."""

    prepared: Prepared

    def __init__(self, client: Client, model: str, lookup: Lookup, options: Options) -> None:
        self._client = client
        self._model = model
        self._options = options
        # what is held to a form has no words in which to say that its sources lack something
        self._judged = lookup.strategy == "auto" and options.schema is None and options.format is None
        self._until = time.monotonic() + (options.deadline or client.settings.deadline)
        self._looking = Looking(client, model, lookup, options)

    async def pieces(self, question: str, said: Sequence[Message]) -> AsyncGenerator[Piece]:
        """The answer; in its place a second one, where the first has shown that its sources were not enough."""
        self.prepared = made = await self._looking.prepared(question, said)
        opening = Opening() if self._judged and made.passages else None
        told: list[Piece] = []
        shown = False
        try:
            async with aclosing(self._answer(made)) as stream:
                async for piece in stream:
                    told.append(piece)
                    for ready in opening.push(piece) if opening else (piece,):
                        if ready.finish_reason is None:  # the last one waits until it is known to be the last
                            shown = shown or ready.kind == "text"
                            yield ready
        except OrchestraError:
            for held in opening.held if opening else ():
                yield held
            raise
        replaced = False
        async with aclosing(self._instead(made, gathered(told), shown=shown)) as second:
            async for piece in second:
                replaced = True
                yield piece
        if replaced:
            return
        for piece in opening.held if opening and opening.held else told[-1:]:
            yield self._ended(piece, made, told)

    async def _instead(self, made: Prepared, first: Reply, *, shown: bool) -> AsyncGenerator[Piece]:
        """A second answer in place of the first where that needs one; nothing, and all as it was, where it is no better."""
        passages, ledger, begun = made.passages, made.book.ledger, False
        if await self._enlarged(made, first):
            try:
                async with aclosing(self._second(made, first, shown=shown)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
            except OrchestraError:
                if begun:
                    raise
            if begun:
                return
            made.book.called(Receipt(calls=1))
        # the first answer stands, and its numbers are those of its own passages
        made.passages = passages
        made.book.ledger = replace(made.book.ledger, kept=ledger.kept, dropped=ledger.dropped)

    async def _second(self, made: Prepared, first: Reply, *, shown: bool) -> AsyncGenerator[Piece]:
        """The answer after a second round, in place of what was `shown` of the first; nothing where its sources lack it too."""
        opening, told, begun = Opening(), list[Piece](), False
        async with aclosing(self._answer(made)) as stream:
            async for piece in stream:
                told.append(piece)
                for ready in opening.push(piece):
                    if not begun:
                        begun = True
                        made.book.called(first.receipt, first.usage)
                        if shown:
                            yield Piece("", keep=0)
                    yield self._ended(ready, made, told)
                if opening.lacking:
                    return

    async def _answer(self, made: Prepared) -> AsyncGenerator[Piece]:
        """One request for the answer, from what has been found by now."""
        messages = _messages(made)
        notice = NOTICE[made.asked.language] if made.searched and not made.passages else ""
        if _refined(made):
            made.book.refines()
        options = replace(self._options.over(SAMPLING), deadline=max(0.001, self._until - time.monotonic()))
        pieces = self._client.chat(messages, model=self._model, options=options)
        if made.searched and options.schema is None and options.format is None:
            pieces = linkless(pieces, sources=[passage.url for passage in made.passages])
        pieces = announced(pieces, notice=notice)
        with made.book.timed("answer"):
            async with aclosing(pieces):
                async for piece in pieces:
                    yield piece

    async def _enlarged(self, made: Prepared, first: Reply) -> bool:
        """Whether the first answer shows that more is needed, and a second round has found more."""
        why = self._wanting(made, first)
        if not why:
            return False
        made.book.again(why)
        try:
            words = await self._looking.asker.keywords(made.asked, made.query)
            return await self._looking.round(made, with_keywords(made.query, words)[1:])
        except OrchestraError:  # the first answer is there
            return False

    def _wanting(self, made: Prepared, first: Reply) -> str:
        """Why the first answer is not enough; empty where it is, or where looking once more could not help."""
        reached = any(attempt.outcome in ("found", "nothing") for attempt in made.book.ledger.attempts)
        ended = first.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
        if not (self._judged and made.searched and reached and ended) or time.monotonic() >= self._until:
            return ""
        if not made.passages:
            return NO_SOURCES
        return judged(first.text, made.passages)

    def _ended(self, piece: Piece, made: Prepared, told: Sequence[Piece]) -> Piece:
        """The piece; where it is the last one, with what all requests took and what the answer lacks."""
        if piece.finish_reason is None:
            return piece
        piece = noted(piece, made, gathered(told).text)
        if piece.usage is not None:
            piece = piece._replace(usage=summed([made.book.usage, piece.usage]))
        return spent(piece, before=made.book.receipt)


def _refined(made: Prepared) -> bool:
    return made.searched and bool(made.passages and made.before)


def _messages(made: Prepared) -> list[Message]:
    if not made.searched:
        return plain(made.asked)
    return refining(made.before, made.asked, made.passages) if _refined(made) else answering(made.asked, made.passages)


def noted(piece: Piece, made: Prepared, text: str) -> Piece:
    """The last piece of an answer, and the ledger, with what the answer lacks."""
    for note in lacks(made, text):
        made.book.noted(note)
        if piece.receipt is not None:
            piece = piece._replace(receipt=replace(piece.receipt, notes=tuple(dict.fromkeys((*piece.receipt.notes, note)))))
    return piece


def lacks(made: Prepared, text: str) -> tuple[str, ...]:
    """What whoever reads an answer has to know: that it has no sources, or that they do not say what it says."""
    if not made.searched:
        return (NOT_SEARCHED,)
    note = judged(text, made.passages) if made.passages else NO_SOURCES
    stale = (STALE,) if any(passage.stale for passage in made.passages) else ()
    return (note, *stale) if note else stale


def judged(text: str, passages: Sequence[Passage]) -> str:
    """What is wrong with an answer from `passages`: it says that they lack it, or nothing it cites stands there; else empty."""
    checked = citations(text, passages)
    if lacking(text) and not any(citation.found == "yes" for citation in checked):
        return NOT_FOUND
    return UNSUPPORTED if unsupported(checked, passages) else ""


def answered(reply: Reply, made: Prepared) -> Answer:
    """The answer that a reply is, with the sources it was given and its citations checked against them."""
    checked = citations(reply.text, made.passages)
    return Answer(
        text=reply.text,
        finish_reason=reply.finish_reason,
        model=reply.model,
        sources=sources_of(made.passages, checked),
        citations=tuple(checked),
        ledger=replace(made.book.ledger, calls=reply.receipt.calls),
        usage=reply.usage,
        receipt=reply.receipt,
        value=reply.value,
    )


def sources_of(passages: Sequence[Passage], checked: Sequence[Citation]) -> tuple[Source, ...]:
    """The sources of an answer, numbered as in its prompt; those that it does not cite are marked."""
    cited = {citation.n for citation in checked}
    return tuple(Source(n=n, title=_titled(p), url=p.url, snippet=_snippet(p.text), cited=n in cited) for n, p in enumerate(passages, 1))


def _titled(passage: Passage) -> str:
    """What a reader finds it by: of a document of one's own the place too."""
    local = not passage.url.lower().startswith(("http://", "https://"))
    return ", ".join(filter(None, (passage.title, passage.place if local else "")))


def _snippet(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_SNIPPET else line[: LONGEST_SNIPPET - 1].rstrip() + "…"


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer as plain JSON values."""
    whole: dict[str, Any] = {**asdict(answer), "finish_reason": str(answer.finish_reason)}
    return {name: part for name, part in whole.items() if name != "value" or part is not None}
