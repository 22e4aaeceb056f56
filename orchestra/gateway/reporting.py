"""What became of each request, for whoever runs the gateway: who asked which model, and how it ended.

Numbers and names alone: never what was said, never a key. A report goes to the logger `orchestra.requests` at level INFO,
where nobody listens unless told to; `orchestra serve` shows it as a line.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.types import Message, Scope, Send

from orchestra.agents.coordinator import Plan
from orchestra.errors import OrchestraError
from orchestra.gateway.attending import LEFT
from orchestra.gateway.voices import Part
from orchestra.model.messages import Piece, Reply, Usage
from orchestra.retrieval.pipeline import Answer

REQUESTS = logging.getLogger("orchestra.requests")
WATCHING = ("/healthz", "/readyz")  # asked every few seconds by whoever watches over a service; told when they fail
LONGEST = 60  # characters of a name that a client has made up


@dataclass(slots=True)
class Report:
    """One request. Faces fill in what they know of its answer; `first` and `seconds` are counted from the request's head on.

    `finish` is why the answer ended, or the code of an error, or "left" where its caller did.
    """

    method: str
    path: str
    model: str = ""
    holder: str = ""
    user: str = ""
    prompt_tokens: int | None = None
    tokens: int | None = None
    finish: str = ""
    status: int = 0
    first: float | None = None
    seconds: float = 0.0
    _began: float = field(default_factory=time.perf_counter)
    _whole: bool = False

    def speaks(self) -> None:
        """The first word of the answer is there."""
        if self.first is None:
            self.first = time.perf_counter() - self._began

    def take(self, part: Part) -> None:
        """Takes what a part of an answer says of it as a whole."""
        if isinstance(part, Piece):
            if part.text:
                self.speaks()
            if part.finish_reason is not None:
                self.ended(str(part.finish_reason), part.usage)
        elif isinstance(part, Answer | Plan):
            self.ended(str(part.finish_reason), part.usage)

    def spoken(self, model: str, said: Reply | Plan | Answer) -> None:
        """Takes an answer that came whole."""
        self.model = model
        self.ended(str(said.finish_reason), said.usage)

    def ended(self, finish: str, usage: Usage | None = None) -> None:
        """Why the answer has ended, and the tokens that it took."""
        self.finish = finish
        if usage is not None:
            self.prompt_tokens, self.tokens = usage.prompt_tokens, usage.completion_tokens

    def failed(self, error: OrchestraError) -> None:
        """The answer is an error, or one has ended it."""
        self.finish = error.code()

    def refused(self, error: OrchestraError) -> None:
        """The request was answered with an error before anything was begun for it."""
        self.status, self._whole = error.status, True
        self.failed(error)

    def watched(self, send: Send) -> Send:
        """`send`, looked at on the way."""

        def watched(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            elif not message.get("more_body"):
                self._whole = True
            return send(message)

        return watched

    def close(self, scope: Scope) -> None:
        """Notes what is known when nothing more is sent: the route's path, without what stood in its place, and who asked."""
        self.seconds = time.perf_counter() - self._began
        self.path = getattr(scope.get("route"), "path", "") or self.path
        self.holder, self.user = scope["state"].get("holder", ""), scope["state"].get("user", "")
        if self.status == LEFT or not self._whole:
            self.finish = self.finish or "left"

    def cells(self, language: str = "en") -> list[str]:
        """What is told of it, in columns that may be empty."""
        zh = language == "zh"
        counts = [str(count) for count in (self.prompt_tokens, self.tokens) if count is not None]
        first = "" if self.first is None else f"{1000 * self.first:.0f} ms"
        return [
            str(self.status or "-"),
            f"{self.method} {seen(self.path)}",
            seen(self.model),
            seen("/".join(filter(None, (self.holder, self.user)))),
            f"{'+'.join(counts)} token{'' if zh else 's'}" if counts else "",
            (f"首字 {first}" if zh else f"first {first}") if first else "",
            f"{self.seconds:.2f} s",
            self.finish,
        ]

    def __str__(self) -> str:
        return " ".join(filter(None, self.cells()))


def report_of(scope: Scope) -> Report:
    """The report of a request; one that nobody reads where none was begun."""
    report = scope.get("state", {}).get("report")
    return report if isinstance(report, Report) else Report(scope["method"], scope["path"])


@contextmanager
def reported(scope: Scope) -> Iterator[Report]:
    """A report that is told when the request has ended, however it did."""
    report = Report(scope["method"], scope["path"])
    scope.setdefault("state", {})["report"] = report
    try:
        yield report
    finally:
        if REQUESTS.isEnabledFor(logging.INFO):
            report.close(scope)
            if report.status >= 400 or scope["path"] not in WATCHING:
                REQUESTS.info("%s", report, extra={"report": report})


def seen(text: str) -> str:
    """A text of somebody else's in a line of ours: short, and nothing in it that acts on a terminal."""
    shown = "".join(c if c.isprintable() else "?" for c in text[:LONGEST])
    return shown + "…" if len(text) > LONGEST else shown
