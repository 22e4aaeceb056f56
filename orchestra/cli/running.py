"""A command on the event loop: signals, the line that says what is being waited for, what an answer took."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from orchestra.cli import words
from orchestra.cli.outcome import Wish
from orchestra.cli.terminal import as_line, colourful, tell, write
from orchestra.model.messages import FinishReason, Reply

T = TypeVar("T")

PATIENT_SECONDS = 2.0


def complete(coro: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine. Ctrl-C and SIGTERM end it in order: what was said is stored before it returns."""

    async def main() -> T:
        task = asyncio.current_task()
        with suppress(NotImplementedError, AttributeError):  # not on Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # type: ignore[union-attr]
        return await coro

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None


class Patience:
    """The line that says what is being waited for, from two seconds on; only where a person looks."""

    def __init__(self) -> None:
        self._phase = "waiting"
        self._since = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._shown = False
        self.silent = False  # where somebody else shows what is being waited for
        self.turned: Callable[[], object] | None = None  # called once, when the model has been chosen
        self.begun: Callable[[], object] = str  # called before the first word of an answer is shown

    def observe(self, phase: str) -> None:
        """Told by the client: "waiting", "loading", "reading", "writing"."""
        self._phase = phase
        turned, self.turned = self.turned, None
        if turned:
            turned()
        if phase == "writing":
            self.clear()
            if self._task:
                self._task.cancel()
                self._task = None
            self.begun()
        elif self._task is None and colourful(sys.stderr):
            self._since = time.monotonic()
            self._task = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            if not self.silent and (line := self.words()):
                sys.stderr.write(f"\r\x1b[K\x1b[2m… {line}\x1b[0m")
                sys.stderr.flush()
                self._shown = True

    def words(self) -> str:
        """What is being waited for, and since when; empty before it is worth saying."""
        phases = {
            "waiting": words.say("waiting", "等待中"),
            "searching": words.say("searching", "正在搜索"),
            "loading": words.say("loading the model", "正在加载模型"),
            "reading": words.say("the model is reading the prompt", "模型正在读取提示词"),
        }
        seconds = time.monotonic() - self._since
        return f"{phases[self._phase]} ({seconds:.0f} s)" if seconds >= PATIENT_SECONDS and self._phase in phases else ""

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def footer(reply: Reply, wish: Wish) -> None:
    """After an answer: how it ended if it did not simply end, and on a terminal what it took."""
    if wish.json:
        return
    if line := words.ending(reply.finish_reason.value):
        tell(line)
    for name in reply.receipt.notes:
        tell(words.note(name))
    if reply.receipt.dropped:
        count = reply.receipt.dropped
        tell(words.say(f"{count} older turns no longer fit and were left out", f"较早的 {count} 轮对话已放不下，未包含在内"))
    if colourful(sys.stderr):
        tell(" · ".join(_figures(reply)))


def _figures(reply: Reply) -> list[str]:
    receipt, usage = reply.receipt, reply.usage
    parts = [reply.model]
    if receipt.used and receipt.window:
        parts.append(words.say(f"{receipt.used} of {receipt.window} tokens", f"{receipt.used}/{receipt.window} token"))
    if speed := usage.tokens_per_second:
        parts.append(words.say(f"{speed:.0f} tokens/s", f"{speed:.0f} token/秒"))
    if receipt.loads or receipt.reloads:
        parts.append(words.say("the model was loaded for this", "为此加载了模型"))
    return [part for part in parts if part]


def cancelled(said: str, wish: Wish, *, stored: str, **beside: Any) -> None:
    """After Ctrl-C: what was said so far, as an object where one is expected; else whether it is `stored` in a session, and in which."""
    if wish.json:
        write(as_line({"text": said, "finish_reason": FinishReason.CANCELLED, **beside}) + "\n")
    elif stored:
        tell("\n" + words.say(f"stopped; what was said is kept (session: {stored})", f"已停止；已有的内容已保留（会话：{stored}）"))
    else:
        tell("\n" + words.say("stopped; nothing of it is stored", "已停止；内容没有保存"))
