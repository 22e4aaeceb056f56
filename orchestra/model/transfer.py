"""Bytes that are on their way to the daemon's store: steps that may be watched, left, and that may fall silent.

A registry that sends nothing is not seen in the daemon's answer, which goes on with lines that say the same; so what
counts as silence is that nothing moves. The lines are read in a thread: whoever waits for the next step can be
interrupted at once, told that nothing comes, and leave.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from orchestra.errors import DaemonUnreachable, PullFailed, UsageError
from orchestra.errors.system import why
from orchestra.model import wire
from orchestra.request import Breakage, Call
from orchestra.runtime import Runtime

QUIET = 20.0  # seconds without a byte after which it is said that nothing comes
GIVEN_UP = 600.0  # and after which nothing is expected any more
LEAVING = 1.0
CHUNK = 2**20
MAGIC = b"GGUF"
_OWN = ("verifying", "writing", "removing", "using", "creating", "parsing", "success")  # what the daemon does by itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One step of a pull. `completed` and `total` are bytes of the layer `digest`, 0 where there are none.

    `silent` is not 0 in a step that only says that nothing has moved for so many seconds.
    """

    status: str
    digest: str = ""
    completed: int = 0
    total: int = 0
    silent: float = 0.0


Source = Callable[[Call], Generator[Progress]]


async def watched(runtime: Runtime, source: Source, *, model: str, quiet: float = 0.0) -> AsyncGenerator[Progress]:
    """The steps of `source`, and one that says so where nothing moves for `quiet` seconds (by default 20).

    Raises `PullFailed` when nothing moves for ten minutes. Leaving ends the request.
    """
    call = Call()
    steps: SimpleQueue[Progress | None] = SimpleQueue()
    watch = _Watch(quiet or QUIET)
    thread = ThreadPoolExecutor(1, "orchestra-transfer")
    reading = thread.submit(_pumped, source(call), steps)
    thread.shutdown(wait=False)

    def leave() -> None:
        call.end(Breakage.CLOSED)
        steps.put(None)  # a thread of the runtime may still be waiting for the next step
        wait([reading], LEAVING)

    def following() -> Progress | None:
        try:
            return steps.get(timeout=watch.patience())
        except Empty:
            return watch.last

    try:
        while (step := await runtime.call(following)) is not None:
            if step is not watch.last:
                watch.seen(step)
                yield step
            if silent := watch.silence():
                yield Progress(status=step.status, digest=step.digest, silent=silent)
            if watch.hopeless():
                raise PullFailed(model=model, detail=f"nothing has come for {GIVEN_UP:.0f} s")
        await runtime.call(reading.result)
    finally:
        await runtime.call(leave)


def _pumped(source: Generator[Progress], steps: SimpleQueue[Progress | None]) -> None:
    try:
        for step in source:
            steps.put(step)
    finally:
        steps.put(None)


class _Watch:
    """When something last moved."""

    def __init__(self, quiet: float) -> None:
        self._quiet = quiet
        self._since = self._looked = time.monotonic()
        self._told = False
        self.last = Progress(status="")

    def seen(self, step: Progress) -> None:
        moved = (step.status, step.digest, step.completed) != (self.last.status, self.last.digest, self.last.completed)
        self.last = step
        if moved or step.status.startswith(_OWN):
            self._since = self._looked = time.monotonic()
            self._told = False

    def patience(self) -> float:
        return max(0.01, self._looked + self._quiet - time.monotonic())

    def silence(self) -> float:
        """The seconds of silence where they are to be said now, once for each time that nothing moves; else 0."""
        now = time.monotonic()
        if now - self._looked < self._quiet:
            return 0.0
        self._looked = now
        if self._told or self.last.status.startswith(_OWN):
            return 0.0
        self._told = True
        return now - self._since

    def hopeless(self) -> bool:
        return time.monotonic() - self._since >= GIVEN_UP and not self.last.status.startswith(_OWN)


# --- a file of one's own


def checked_gguf(file: Path) -> int:
    """The size of a GGUF file in bytes. Raises `UsageError` for what is none."""
    try:
        with file.open("rb") as opened:
            start = opened.read(4)
            size = file.stat().st_size
    except OSError as error:
        raise _unusable(file, *why(error)) from None
    if start != MAGIC:
        raise _unusable(file, "it is no GGUF file", "不是 GGUF 文件")
    return size


def _unusable(file: Path, detail: str, detail_zh: str = "") -> UsageError:
    return UsageError(
        detail=f"{file}: {detail}",
        detail_zh=f"{file}：{detail_zh or detail}",
        fix="name a model file that ends in .gguf; other formats are converted with llama.cpp's convert_hf_to_gguf.py",
        fix_zh="请指定 .gguf 模型文件；其他格式可用 llama.cpp 的 convert_hf_to_gguf.py 转换",
    )


def uploaded(url: str, file: Path, size: int) -> Source:
    """Sends a file to the daemon's store; the last step's `digest` is its name there. What is there is not sent again."""
    return lambda call: _upload(url, file, size, call)


def _upload(url: str, file: Path, size: int, call: Call) -> Generator[Progress]:
    hashed = hashlib.sha256()
    done = 0
    for chunk in _chunks(file, call):
        hashed.update(chunk)
        done += len(chunk)
        yield Progress(status="reading", digest=file.name, completed=done, total=size)
    digest = f"sha256:{hashed.hexdigest()}"
    yield from _sent(url, file, digest, call)
    yield Progress(status="uploaded", digest=digest, completed=size, total=size)


def _sent(url: str, file: Path, digest: str, call: Call) -> Generator[Progress]:
    import httpx

    def traced(request: httpx.Request) -> None:
        request.extensions["trace"] = call.seen

    # the daemon answers when it has written the last byte: as long as it takes bytes, it is patience enough
    patience = httpx.Timeout(120.0, connect=5.0)
    place, size, done = f"{url}/api/blobs/{digest}", file.stat().st_size, 0
    taken: SimpleQueue[int] = SimpleQueue()
    try:
        with (
            httpx.Client(timeout=patience, trust_env=False, event_hooks={"request": [traced]}) as client,
            ThreadPoolExecutor(1, "orchestra-upload") as thread,
        ):
            if client.head(place).status_code == 200:
                return
            sending = thread.submit(_posted, client, place, (file, size, call), taken)
            while part := taken.get():
                done += part
                yield Progress(status="sending", digest=digest, completed=done, total=size)
            answer = sending.result()
        if answer.status_code not in (200, 201):
            asked = wire.Asked(url=url, model=file.name)
            raise wire.said(answer.status_code, wire.readable(answer.text), asked)
    except httpx.ConnectError:
        raise DaemonUnreachable(url=url, detail="nothing listens there", detail_zh="该地址没有服务在监听") from None
    except httpx.HTTPError as error:
        raise PullFailed(model=file.name, detail=str(error) or type(error).__name__) from None


def _posted(client: Any, place: str, what: tuple[Path, int, Call], taken: SimpleQueue[int]) -> Any:
    """Sends the file in a thread of its own: the HTTP library takes the chunks, it does not give them back."""
    file, size, call = what

    def chunks() -> Iterator[bytes]:
        for chunk in _chunks(file, call):
            yield chunk
            taken.put(len(chunk))

    try:
        return client.post(place, content=chunks(), headers={"content-length": str(size)})
    finally:
        taken.put(0)


def _chunks(file: Path, call: Call) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            while (chunk := opened.read(CHUNK)) and not call.ended:
                yield chunk
    except OSError as error:
        raise _unusable(file, *why(error)) from None
