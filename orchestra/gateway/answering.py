"""An answer on its way out, whatever the protocol: part by part or whole, and what is known of it when it has ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from urllib.parse import quote

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestra.agents.coordinator import Plan
from orchestra.agents.reasoning import Thought
from orchestra.agents.tool import Step
from orchestra.gateway.asides import LOOPED, aside
from orchestra.gateway.attending import unforeseen
from orchestra.gateway.reporting import Report
from orchestra.gateway.voices import Part
from orchestra.gateway.waiting import FENCE, Parts, Waiting
from orchestra.model.messages import FinishReason, Piece, Receipt, Usage, cut_back
from orchestra.model.untrusted import visible
from orchestra.retrieval.passages import Source
from orchestra.retrieval.pipeline import Answer
from orchestra.sessions.conversation import Leader
from orchestra.texts import Words

QUIET = 10.0  # seconds without a part, after which it is said that somebody is at work


@dataclass(slots=True)
class Outcome:
    """What is known of an answer when it has ended; `asked` are the experts that have worked on it."""

    text: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    reason: FinishReason = FinishReason.INCOMPLETE
    usage: Usage = field(default_factory=Usage)
    receipt: Receipt = field(default_factory=Receipt)
    sources: Sequence[Source] = ()
    asked: list[str] = field(default_factory=list)

    def take(self, part: Part) -> None:
        """Adds what a part says, without what a loop has repeated."""
        if isinstance(part, Piece):
            (self.thinking if part.kind == "thinking" else self.text).append(part.text)
            if part.keep is not None:
                self.text, rest = cut_back(self.text, part.keep)
                if part.kind == "thinking" and part.finish_reason is None:
                    self.thinking.append(rest)
            if part.finish_reason is not None:
                self.reason = part.finish_reason
                self.usage, self.receipt = part.usage or self.usage, part.receipt or self.receipt
        elif isinstance(part, Step) and part.ok:
            self.asked.append(part.expert)
        elif isinstance(part, Answer | Plan):
            self.reason, self.usage, self.receipt = part.finish_reason, part.usage, part.receipt
            self.sources = part.sources if isinstance(part, Answer) else ()


class Answering:
    """The parts of one answer; whoever reads them to the end has its outcome as well, and so has the request's `report`."""

    def __init__(self, parts: AsyncGenerator[Part], report: Report | None = None) -> None:
        self._source, self._report = parts, report
        self._parts = Parts(parts, quiet=QUIET)
        self.outcome = Outcome()

    def _taken(self, part: Part) -> Part:
        self.outcome.take(part)
        if self._report is not None:
            self._report.take(part)
        return part

    async def begun(self) -> None:
        """Waits until there is something to show: what fails before it is an error with a status of its own."""
        await self._parts.begun()

    async def whole(self) -> Outcome:
        """The answer in one."""
        async with aclosing(self._source) as parts:
            async for part in parts:
                self._taken(part)
        return self.outcome

    async def parts(self) -> AsyncGenerator[Part | None]:
        """The answer as it comes, and what is waited for; None each time nothing came for a while. Leaving early ends the work."""
        with unforeseen():
            async with aclosing(self._parts.all()) as parts:
                async for part in parts:
                    yield part if part is None else self._taken(part)

    async def close(self) -> None:
        """Ends the work, if it has not ended."""
        await self._parts.close()


class Streamed(StreamingResponse):
    """An answer as it comes: however its sending ends, even before its first line, the work ends with it."""

    def __init__(self, answering: Answering, lines: AsyncGenerator[str | bytes], kind: str) -> None:
        super().__init__(lines, media_type=kind, headers={"Cache-Control": "no-cache"})
        self._answering = answering

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answering.close()


class Beforehand:
    """What happens before the answer, as lines among the model's thinking; a fence keeps them from the model's own."""

    def __init__(self) -> None:
        self._said, self._over = False, False

    def line(self, part: Part, language: str) -> str:
        """What `part` says has happened; nothing once the answer has begun."""
        line = "" if self._over else said(part, language)
        self._said = self._said or bool(line)
        return line and line + "\n"

    def fenced(self, piece: Piece) -> str:
        """The text of a piece that is shown."""
        fence = FENCE if self._said and not self._over and piece.kind == "thinking" else ""
        self._over = True
        return fence + piece.text


def said(part: Part, language: str, called: Callable[[str], str] = str) -> str:
    """What happens, in a line of our own words and what the personas are `called`; nothing for what is the answer itself."""
    zh = language == "zh"
    if isinstance(part, Waiting):
        return part.told(language)
    if isinstance(part, Leader):
        return f"→ {called(part.persona.name)}"
    if isinstance(part, Thought):
        names = ("、" if zh else ", ").join(dict.fromkeys(called(call.expert) for call in part.calls))
        return (f"询问：{names}" if zh else f"asking: {names}") if names else ""
    if isinstance(part, Step):
        name = called(part.expert)
        if part.ok is None:
            return f"{name} …"
        if part.ok:
            return f"{name} ✓ {part.duration:.1f} s"
        return f"{name} 没有回答" if zh else f"{name} did not answer"
    return ""


_ENDS = {
    FinishReason.LENGTH: Words("the answer has reached its longest length", "回答达到了长度上限"),
    FinishReason.CONTEXT_FULL: Words("the context window is full: the answer ends here", "上下文窗口已满：回答到此为止"),
    FinishReason.REPETITION: LOOPED,
    FinishReason.LOW_QUALITY: Words("the answer turned into garbage and was stopped", "回答变成了乱码，已停止"),
    FinishReason.DEADLINE: Words("the answer took too long and was stopped", "回答超时，已停止"),
    FinishReason.STEP_LIMIT: Words("the limit on steps was reached: answered with what there was", "达到步数上限：已用现有内容作答"),
    FinishReason.TOKEN_LIMIT: Words("the limit on tokens was reached: answered with what there was", "达到 token 总量上限：已用现有内容作答"),
}


def ended(reason: FinishReason, language: str) -> str:
    """Why an answer ends where it does, for people; nothing where it has simply ended."""
    return _ENDS[reason].text(language) if reason in _ENDS else ""


def below(done: Outcome, language: str) -> str:
    """What follows an answer for people who see no field: why it was stopped, and its sources. That it is as long as asked is no news."""
    why = "" if done.reason is FinishReason.LENGTH else ended(done.reason, language)
    return (aside(why) if why else "") + sources_text(done.sources)


def sources_text(sources: Sequence[Source]) -> str:
    """The sources as text, for clients that show nothing else."""
    rows = [f"[{one.n}] [{titled(one)}]({address})" if (address := linked(one)) else f"[{one.n}] {titled(one)}" for one in sources]
    return "\n\n" + "\n".join(rows) if rows else ""


def titled(source: Source) -> str:
    """The title of a source as one line in which nothing is Markdown or HTML: an image in it would be fetched by whoever shows it."""
    return " ".join(visible(source.title).translate(_HARMLESS).split())


def linked(source: Source) -> str:
    """The address of a source, without what could end the link that it stands in; "" for one that is no page of the web."""
    return quote(source.url, safe=_IN_ADDRESS, errors="replace") if source.url.lower().startswith(("http://", "https://")) else ""


_HARMLESS = str.maketrans("[]<>`\\", "()‹›'/")
_IN_ADDRESS = "%:/?#@!$&'*+,;=~"  # RFC 3986 without brackets, which Markdown reads as its own
