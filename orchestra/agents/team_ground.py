"""A task as a turn of a dialogue: the ground of a session, made of the same halves as `solve`.

Before the turn's answer the team is asked - its coordinator has read what was said before - and what the experts said
stands in the last user message; the session writes the answer, and keeps with the turn what happened on the way.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from orchestra.agents.budget import Budget
from orchestra.agents.contributions import LEAST, Step, beneath, missing
from orchestra.agents.coordinator import Plan, trace_as_json
from orchestra.agents.dialects import Call
from orchestra.agents.landing import EACH, INTEGRATE, SHORTENED, beside, lacking, landed, note, notice, shaped
from orchestra.agents.reasoning import Reasoning, Team, Thought
from orchestra.agents.tool import Tool
from orchestra.errors import OrchestraError
from orchestra.model.messages import FinishReason, Message, Options, Piece, Receipt, Reply, gathered
from orchestra.model.stages import summed
from orchestra.sessions.grounding import Inquiry, Material

Part = Thought | Step
_CUT = " …"


class TeamGround:
    """Gives a session's turns what a team says to them; `team` makes it, given the session's model.

    `calls` are asked in place of what the coordinator would want, a `panel` is asked the message itself. `trace` is told
    each step as it begins and ends. `options` hold for all, but length and form for the answer alone. `run` and `missing`
    are of the last turn, `happened` is what `trace` was told of it.
    """

    def __init__(
        self, team: Callable[[str], Awaitable[Team]], *, options: Options | None = None, panel: bool = False, calls: Sequence[Call] = (),
        budget: Callable[[], Budget] | None = None, trace: Callable[[Part], object] | None = None,
    ) -> None:  # fmt: skip
        self.run: Reasoning | None = None
        self.missing: tuple[str, ...] = ()
        self.happened: list[Part] = []
        self._team = team
        self._options = options or Options()
        self._panel = panel
        self._calls = tuple(calls)
        self._budget = budget
        self._trace = trace

    async def __call__(self, inquiry: Inquiry) -> Material:
        """What the experts said to one message, and who did not."""
        self.run, self.missing, self.happened = None, (), []
        team, options = await self._team(inquiry.model), self._options.over(Options(language=inquiry.language))
        budget = None if self._budget is None else self._budget()
        self.run = run = Reasoning(inquiry.question, team, options, budget, _before(inquiry))
        experts = {one.name: one for one in team.experts}
        calls = [(experts[call.expert], call.question) for call in self._calls]
        await self._asked(run, calls, inquiry)
        missed = _unheard(calls, run) if calls else lacking(run)
        self.missing = (*(one.name for one in missed), *beneath(run.said))
        text, cut = self._text(run, missed, inquiry)
        return Material(
            text=text,
            calls=sum(reply.receipt.calls for reply in run.replies),
            usage=summed([reply.usage for reply in run.replies]),
            notes=tuple(filter(None, (SHORTENED if cut else "", note(missed)))),
            notice="" if shaped(options) else notice(missed, run.language),
            stage=partial(_ending, run=run, typed=shaped(options), left=_left(run.budget)),
            kept=partial(_kept, run=run, missed=missed),
        )

    async def _asked(self, run: Reasoning, calls: Sequence[tuple[Tool, str]], inquiry: Inquiry) -> None:
        """Asks the team. What was said by then is kept for whoever leaves; what keeps the coordinator from asking is noted."""
        happening = run.ask(calls) if calls else run.whole(panel=self._panel)
        try:
            async with aclosing(happening) as parts:
                async for part in parts:
                    self.happened.append(part)
                    inquiry.keep(_kept("", run, _unheard(calls, run) if calls else missing(run.said)))
                    if self._trace is not None:
                        self._trace(part)
        except OrchestraError:
            run.notes.append("step_failed")

    def _text(self, run: Reasoning, missed: Sequence[Tool], inquiry: Inquiry) -> tuple[str, bool]:
        """What stands beside the message, and whether contributions had to be shortened for its room."""
        texts = list(beside(run, missed, closing=EACH if self._calls else INTEGRATE))
        return next(((text, cut) for text, cut in texts if inquiry.tokens(text) <= inquiry.room), texts[-1])


async def turn(pieces: AsyncGenerator[Piece], ground: TeamGround) -> AsyncGenerator[Part | Piece | Plan]:
    """One turn of a session that has `ground`: what happened before its answer, its pieces, then the `Plan`.

    What the session does after that is done then.
    """
    started, told, shown = time.monotonic(), list[Piece](), 0
    async with aclosing(pieces):
        async for piece in pieces:
            for part in ground.happened[shown:]:
                shown += 1
                yield part
            told.append(piece._replace(ground=None))  # the `Plan` has it
            yield told[-1]
            if piece.finish_reason is not None:
                yield _planned(gathered(told), ground, time.monotonic() - started)


def _planned(reply: Reply, ground: TeamGround, seconds: float) -> Plan:
    """The plan that a reply is; its usage and calls are of the whole already."""
    run = ground.run
    replies = run.replies if run else []
    receipt = replace(
        reply.receipt,
        loads=reply.receipt.loads + sum(each.receipt.loads for each in replies),
        reloads=reply.receipt.reloads + sum(each.receipt.reloads for each in replies),
        retries=reply.receipt.retries + sum(each.receipt.retries for each in replies),
        seconds=round(seconds, 6),
    )
    return Plan(
        text=reply.text,
        finish_reason=reply.finish_reason,
        model=reply.model,
        steps=tuple(one.step for one in run.said) if run else (),
        missing=ground.missing,
        usage=reply.usage,
        receipt=receipt,
        value=reply.value,
        trace=tuple(run.trace) if run else (),
    )


def _unheard(calls: Sequence[tuple[Tool, str]], run: Reasoning) -> list[Tool]:
    """Those among the called who have not answered, each once."""
    heard = {one.expert.name for one in run.said if one.step.ok}
    return list({tool.name: tool for tool, _ in calls if tool.name not in heard}.values())


def _before(inquiry: Inquiry) -> list[Message]:
    """The last of what was said, as far as the room for material holds it: each message at most half of that."""
    kept: list[Message] = []
    left = inquiry.room
    for message in reversed(inquiry.said):
        text = message.content
        while (needed := inquiry.tokens(text)) > inquiry.room // 2 and len(text) > LEAST:
            text = text[: max(LEAST, int(len(text) * min(0.9, inquiry.room / 2 / needed)) - len(_CUT))].rstrip() + _CUT
        left -= needed
        if left < 0:
            break
        kept.insert(0, replace(message, content=text))
    return kept[next((place for place, message in enumerate(kept) if message.role == "user"), len(kept)) :]


def _kept(answer: str, run: Reasoning, missed: Sequence[Tool]) -> Mapping[str, Any]:
    """What is stored with the turn, as plain JSON values; nothing where nobody was asked."""
    return {"trace": trace_as_json(run.trace), "missing": [*(one.name for one in missed), *beneath(run.said)]} if run.trace else {}


class _Left(NamedTuple):
    """What is left of the task's limits for its answer: `until` on the monotonic clock, `tokens`; None = not bounded."""

    until: float | None
    tokens: int | None


def _left(budget: Budget) -> _Left:
    options = budget.options(Options(), landing=True)
    return _Left(None if options.deadline is None else time.monotonic() + options.deadline, options.max_tokens)


async def _ending(pieces: AsyncGenerator[Piece], run: Reasoning, *, typed: bool, left: _Left) -> AsyncGenerator[Piece]:
    """The answer, which lands, within what is left of the task's limits."""
    async with aclosing(landed(_within(pieces, left), run, typed=typed)) as stream:
        async for piece in stream:
            yield piece


async def _within(pieces: AsyncGenerator[Piece], left: _Left) -> AsyncGenerator[Piece]:
    """The pieces up to a limit; a piece is a token, at least."""
    count = 0
    async with aclosing(pieces):
        async for piece in pieces:
            yield piece
            count += bool(piece.text)
            late = left.until is not None and time.monotonic() >= left.until
            if piece.finish_reason is None and (late or (left.tokens is not None and count >= left.tokens)):
                reason = FinishReason.DEADLINE if late else FinishReason.TOKEN_LIMIT
                yield Piece("", finish_reason=reason, receipt=Receipt())
                return
