"""The steps of a task as they happen: a live tree where a person looks, lines in a pipe, objects with --json --stream."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from orchestra.agents.contributions import Step
from orchestra.agents.coordinator import trace_as_json
from orchestra.agents.reasoning import Thought
from orchestra.cli.outcome import Wish
from orchestra.cli.running import Patience
from orchestra.cli.terminal import as_line, colourful, plain, tell, write
from orchestra.cli.tracing import one_line
from orchestra.cli.tree import branches, drawn, key, took
from orchestra.cli.words import say
from orchestra.model.messages import Piece

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"  # a circle that turns
REFRESHES = 8  # a second


def steps_shown(task: str, wish: Wish, patience: Patience) -> Steps:
    """Where the steps of `task` are shown."""
    if wish.json:
        return Objects() if wish.stream else Steps()
    return LiveTree(task, patience) if colourful(sys.stderr) else Lines()


async def stepped(pieces: AsyncGenerator[Piece], steps: Steps) -> AsyncGenerator[Piece]:
    """The stage that ends what is shown of the steps before the first piece of an answer, or when there will be none."""
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                steps.close()
                yield piece
    finally:
        steps.close()


class Steps:
    """Where steps are shown as they begin and end; this one shows nothing."""

    def begin(self) -> None:
        """Show that a first step is being thought of; without it nothing is shown before there is one."""

    def push(self, part: Thought | Step) -> None:
        """Show one step."""

    def close(self) -> None:
        """Leave what was shown as it is."""


class Objects(Steps):
    """One JSON object a line."""

    def push(self, part: Thought | Step) -> None:
        told = {"thought": trace_as_json([part])[0]} if isinstance(part, Thought) else {"step": plain(part)}
        write(as_line(told) + "\n")


class Lines(Steps):
    """A few lines for each step, on stderr."""

    def push(self, part: Thought | Step) -> None:
        for line in self._thought(part) if isinstance(part, Thought) else [self._step(part)]:
            tell(line)

    def _thought(self, thought: Thought) -> list[str]:
        """A step of the coordinator, and below it whom it asks what."""
        text = f"{thought.number}. {thought.by}: {one_line(thought.text) or '-'}{took(thought.duration, thought.tokens)}"
        asked = [f"   → {call.expert}: {one_line(call.question)}" for call in thought.calls]
        return [text, *asked, *([f"   ! {one_line(thought.fault)}"] if thought.fault else [])]

    def _step(self, step: Step) -> str:
        if step.ok is None:
            return say(f"{step.expert} is asked ...", f"正在询问 {step.expert} ...")
        if step.ok:
            return say(f"{step.expert} answered ({step.duration:.1f} s)", f"{step.expert} 已回答（{step.duration:.1f} 秒）")
        return say(f"{step.expert} did not answer: {step.error}", f"{step.expert} 没有回答：{step.error}")


class LiveTree(Steps):
    """The tree as it grows, on stderr: what is finished scrolls away above, the step that is going on is drawn anew."""

    def __init__(self, task: str, patience: Patience) -> None:
        from rich.console import Console
        from rich.live import Live

        self._task = task
        self._patience = patience
        self._parts: tuple[dict[str, Any], ...] = ()  # of the step that is going on; read by the thread that draws
        self._since = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(
            console=self._console, get_renderable=self._drawn, transient=True, refresh_per_second=REFRESHES, redirect_stdout=False
        )

    def begin(self) -> None:
        if not self._live.is_started:
            self._patience.clear()
            self._patience.silent = True
            self._live.start()

    def push(self, part: Thought | Step) -> None:
        self.begin()
        value = {**trace_as_json([part])[0], "since": time.monotonic()}
        if isinstance(part, Thought) or (self._parts and part.ok is None and not self._belongs(value)):
            self._settle()
        known = any(key(one) == key(value) for one in self._parts)
        self._parts = (*(value if key(one) == key(value) else one for one in self._parts), *(() if known else (value,)))
        self._since = time.monotonic()

    def close(self) -> None:
        if self._live.is_started:
            self._settle()
            self._live.stop()
            self._patience.silent = False

    def _belongs(self, step: dict[str, Any]) -> bool:
        """Whether the step that is going on asked this: what is asked without a thought stands together as well."""
        calls = self._parts[0].get("calls")
        return calls is None or key(step) in map(key, calls)

    def _settle(self) -> None:
        """What was going on is over, and stays on the screen."""
        settled, self._parts = branches(self._parts, task=self._task), ()
        self._live.refresh()  # else what is printed above would be drawn once more below
        for branch in settled:
            self._console.print(drawn(branch))

    def _drawn(self) -> Any:
        """What is drawn now: the step that is going on, or that nobody has been asked yet."""
        from rich.console import Group
        from rich.text import Text

        now = time.monotonic()
        frame = FRAMES[int(now * REFRESHES) % len(FRAMES)]
        parts = [{**one, "duration": now - one["since"]} if one.get("ok", 0) is None else one for one in self._parts]
        rows: list[Any] = [drawn(branch) for branch in branches(parts, task=self._task, running=frame)]
        if not any(one.get("ok", 0) is None for one in parts):
            waiting = self._patience.words() or say("thinking", "正在思考") + f" ({now - self._since:.0f} s)"
            rows.append(Text(f"{frame} {waiting}", style="dim"))
        return Group(*rows)
