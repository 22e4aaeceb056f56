"""The only place that waits: one async source, two runtimes.

Everything above is written once, as coroutines, and waits only through a `Runtime`. `Looped` really waits, on
the event loop of a server or of the command line. `Blocking` has the same async signatures over blocking
calls, so that its coroutines finish at their first step; `finish` completes them without any loop, in the
caller's own thread: scripts and notebooks need no loop, and tracebacks, `pdb` and Ctrl-C behave.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

import httpx

from orchestra.ending import Ending
from orchestra.errors import Interrupted
from orchestra.request import Answer, Aside, Breakage, Broken, Call, Request, Watchdog
from orchestra.slots import Slots, Turn, asking

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Job = Callable[[], Coroutine[Any, Any, T]]
STORE_THREADS = 16  # that wait for the store: it has one writer


class Runtime(Protocol):
    """The powers that need a world outside."""

    def send(self, request: Request) -> AbstractAsyncContextManager[Answer]: ...
    def slot(self, deadline: float | None = None) -> AbstractAsyncContextManager[None]: ...
    async def call(self, fn: Callable[[], T]) -> T: ...
    async def call_store(self, fn: Callable[[], T]) -> T: ...  # may wait for a locked file: nothing else waits behind it
    async def aside(self, fn: Callable[[], T], *, seconds: float) -> T:
        """What somebody else's blocking code gives within so many seconds; else it is left behind, with `Broken`."""

    def completed(self, jobs: Sequence[Job[T]]) -> AsyncGenerator[tuple[int, T]]:
        """What the jobs give, each as it ends with its place; the first that fails is raised, and ends the others."""
        ...

    async def together(self, jobs: Sequence[Job[T]]) -> list[T]: ...
    async def pause(self, seconds: float) -> None: ...
    async def close(self) -> None: ...


def _patience(request: Request) -> dict[str, float | None]:
    # a dictionary of our own: the patience between chunks replaces that for the first byte once the head has come
    return {"connect": request.connect, "read": request.first, "write": request.first, "pool": None}


# The daemon is asked for plain bytes, and never through the environment's proxies. Connections are not kept:
# on loopback a new one costs 0.1 ms, and only a connection of its own can be shut down for one request.
_HEADERS = {"accept-encoding": "identity", "content-type": "application/json", "user-agent": "orchestra"}
_CLIENT: dict[str, Any] = {
    "trust_env": False,
    "follow_redirects": False,
    "limits": httpx.Limits(max_keepalive_connections=0),
    "headers": _HEADERS,
}


class _LoopedAnswer:
    def __init__(self, answer: Any, call: Call) -> None:
        self.status, self.headers = answer.status, answer.headers
        self._answer, self._call = answer, call

    async def chunks(self) -> AsyncGenerator[bytes]:
        try:
            async for chunk in self._answer.parts():
                yield chunk
        except httpx.HTTPError as error:
            raise self._call.broken(error) from error
        self._call.lasts()


class Looped:
    """For code that has an event loop."""

    def __init__(self, *, parallel: int = 1) -> None:
        self._parallel = max(1, parallel)
        # by loop: neither a client nor a limiter can cross to another one
        self._connections: weakref.WeakKeyDictionary[Any, dict[bool, Any]] = weakref.WeakKeyDictionary()
        self._slots: weakref.WeakKeyDictionary[Any, Slots] = weakref.WeakKeyDictionary()
        self._threads: weakref.WeakKeyDictionary[Any, ThreadPoolExecutor] = weakref.WeakKeyDictionary()  # of the store
        self._calls: set[Call] = set()
        self._ending = Ending()
        self._holders: Counter[Any] = Counter()  # by task, not by its number: that of one that has ended is given again

    def _over_which(self, secure: bool) -> Any:
        kinds = self._connections.setdefault(asyncio.get_running_loop(), {})
        if secure not in kinds:
            from orchestra.sockets import Connections  # brings half of the HTTP library: only who asks waits for it

            kinds[secure] = Connections(secure=secure)
        return kinds[secure]

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[Answer]:
        connections, call, patience = self._over_which(request.url.startswith("https:")), Call(), _patience(request)
        if self._ending.over:
            raise Interrupted()
        self._calls.add(call)
        timer = None
        if request.deadline is not None:
            loop = asyncio.get_running_loop()
            timer = loop.call_later(max(0.0, request.deadline - time.monotonic()), call.end, Breakage.DEADLINE)
        try:
            try:
                answer = await connections.answer(request, _HEADERS, patience, call.over)
            except httpx.HTTPError as error:
                raise call.broken(error) from error
            patience["read"] = request.between
            try:
                yield _LoopedAnswer(answer, call)
            finally:
                await answer.aclose()
        finally:
            self._calls.discard(call)
            if timer:
                timer.cancel()

    def interrupt(self) -> None:
        """Ends what is on its way, and whatever would begin: who waits for it hears so, by `Interrupted`."""
        self._ending.end()
        for call in self._calls:
            call.end(Breakage.CLOSED)

    @asynccontextmanager
    async def slot(self, deadline: float | None = None) -> AsyncIterator[None]:
        slots, task = self._slots.setdefault(asyncio.get_running_loop(), Slots(self._parallel)), asyncio.current_task()
        # a task that reads two answers by turns would wait for itself: the daemon has its own line
        turn = None if self._holders[task] and slots.full else await _turn(slots, deadline, self._ending)
        self._holders[task] += 1
        try:
            yield
        finally:
            _less(self._holders, task)
            if turn is not None:
                slots.leave(turn)

    async def call(self, fn: Callable[[], T]) -> T:
        return await asyncio.to_thread(fn)

    async def call_store(self, fn: Callable[[], T]) -> T:
        # in threads of its own: behind those of the loop stand names to be looked up, and personas to be read
        loop = asyncio.get_running_loop()
        if loop not in self._threads:
            self._threads[loop] = ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="orchestra-at-store")
        return await loop.run_in_executor(self._threads[loop], fn)

    async def aside(self, fn: Callable[[], T], *, seconds: float) -> T:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop may be gone by then
                loop.call_soon_threadsafe(ended.set)

        work = Aside(fn, tell)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._ending.wait():
                await ended.wait()
        if not work.done:
            raise Broken(Breakage.TIMEOUT, f"nothing within {seconds:g} s")
        return work.result()

    async def completed(self, jobs: Sequence[Job[T]]) -> AsyncGenerator[tuple[int, T]]:
        places = {asyncio.ensure_future(job()): place for place, job in enumerate(jobs)}
        try:
            waiting = set(places)
            while waiting:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in sorted(done, key=places.__getitem__):
                    yield places[task], task.result()
        finally:
            for task in places:
                task.cancel()
            await asyncio.gather(*places, return_exceptions=True)

    async def together(self, jobs: Sequence[Job[T]]) -> list[T]:
        return await _in_order(self.completed(jobs))

    async def pause(self, seconds: float) -> None:
        async with self._ending.wait():
            await asyncio.sleep(seconds)

    async def close(self) -> None:
        left = [connections for kinds in self._connections.values() for connections in kinds.values()]
        self._connections.clear()
        self._slots.clear()
        self._threads.clear()
        for connections in left:
            with suppress(RuntimeError):  # one whose loop is gone has nothing left to close
                await connections.aclose()


async def _turn(slots: Slots, deadline: float | None, ending: Ending) -> Turn:
    """A slot, once it is this asker's turn; whoever leaves before leaves the line as well."""
    held = asyncio.Event()
    turn = slots.enter(asking(), held.set)
    try:
        if not turn.held:
            async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic())), ending.wait():
                await held.wait()
    except BaseException as ended:
        slots.leave(turn)
        if isinstance(ended, TimeoutError):
            raise Broken(Breakage.DEADLINE, "still waiting for a slot") from None
        raise
    return turn


async def _in_order(results: AsyncGenerator[tuple[int, T]]) -> list[T]:
    """What came in the order in which it ended, in the order in which it was asked for."""
    async with aclosing(results):
        return [result for _, result in sorted([each async for each in results], key=lambda each: each[0])]


def _less(counts: Counter[T], key: T) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]


class _BlockingAnswer:
    def __init__(self, response: httpx.Response, call: Call) -> None:
        self.status, self.headers = response.status_code, response.headers
        self._response, self._call = response, call

    async def chunks(self) -> AsyncGenerator[bytes]:
        try:
            for chunk in self._response.iter_raw():
                yield chunk
        except httpx.HTTPError as error:
            raise self._call.broken(error) from error
        self._call.lasts()


class Blocking:
    """For scripts and notebooks: nothing in here ever waits on a loop."""

    def __init__(self, *, parallel: int = 1) -> None:
        self._limit = threading.BoundedSemaphore(max(1, parallel))
        self._clients: dict[bool, httpx.Client] = {}
        self._holders: Counter[int] = Counter()  # each thread counts under its own number
        self._watchdog = Watchdog()
        self._lock = threading.Lock()

    def _client(self, secure: bool) -> httpx.Client:
        with self._lock:
            if secure not in self._clients:
                self._clients[secure] = httpx.Client(verify=secure, **_CLIENT)
            return self._clients[secure]

    @asynccontextmanager
    async def send(self, request: Request) -> AsyncIterator[Answer]:
        client = self._client(request.url.startswith("https:"))
        call, patience = Call(), _patience(request)
        sending = client.build_request(
            request.method, request.url, content=request.body, headers=request.headers,
            extensions={"timeout": patience, "trace": call.seen},
        )  # fmt: skip
        with self._watchdog.over(call, request.deadline):
            try:
                response = client.send(sending, stream=True)
            except httpx.HTTPError as error:
                raise call.broken(error) from error
            patience["read"] = request.between
            try:
                yield _BlockingAnswer(response, call)
            finally:
                response.close()

    @asynccontextmanager
    async def slot(self, deadline: float | None = None) -> AsyncIterator[None]:
        me = threading.get_ident()
        taken = self._limit.acquire(blocking=False)
        # a thread that reads two answers by turns would wait for itself: the daemon has its own line
        if not taken and not self._holders[me]:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            taken = self._limit.acquire(timeout=left)
            if not taken:
                raise Broken(Breakage.DEADLINE, "still waiting for a slot")
        self._holders[me] += 1
        try:
            yield
        finally:
            _less(self._holders, me)
            if taken:
                self._limit.release()

    async def call(self, fn: Callable[[], T]) -> T:
        return fn()

    async def call_store(self, fn: Callable[[], T]) -> T:
        return fn()

    async def aside(self, fn: Callable[[], T], *, seconds: float) -> T:
        work = Aside(fn, self._watchdog.nudge)
        if not self._watchdog.until(lambda: work.done, seconds):
            raise Broken(Breakage.TIMEOUT, f"nothing within {seconds:g} s")
        return work.result()

    async def completed(self, jobs: Sequence[Job[T]]) -> AsyncGenerator[tuple[int, T]]:
        threads: set[int] = set()

        def run(job: Job[T]) -> T:
            threads.add(threading.get_ident())
            return finish(job())

        try:
            with ThreadPoolExecutor(len(jobs) or 1) as pool:
                places = {pool.submit(run, job): place for place, job in enumerate(jobs)}
                try:
                    waiting = set(places)
                    while waiting:
                        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                        for future in sorted(done, key=places.__getitem__):
                            yield places[future], future.result()
                except BaseException:
                    # Ctrl-C or the first that failed: the pool would wait for the others to their very end
                    for future in places:
                        future.cancel()
                    self._watchdog.leave(threads)
                    raise
        finally:
            self._watchdog.back(threads)

    async def together(self, jobs: Sequence[Job[T]]) -> list[T]:
        return await _in_order(self.completed(jobs))

    async def pause(self, seconds: float) -> None:
        self._watchdog.pause(seconds)

    async def close(self) -> None:
        self._watchdog.close()
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


def in_own_loop(coro: Coroutine[Any, Any, T], *, seconds: float) -> T:
    """Somebody else's coroutine, on an event loop of its own in this thread; cancelled after so many seconds (`TimeoutError`)."""

    async def limited() -> T:
        async with asyncio.timeout(seconds):
            return await coro

    return asyncio.run(limited())


def finish(coro: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never really waits, to its end."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return cast(T, stop.value)
    finally:
        coro.close()
    raise RuntimeError("a coroutine of the sync face waited for something that is not a Runtime's")


def blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]) -> Callable[Concatenate[Any, P], R]:
    """The sync twin of an async method, with its signature and docstring; it runs on `self._core`."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return finish(method(self._core, *args, **kwargs))

    return call


def stepping(method: Callable[Concatenate[Any, P], AsyncIterator[T]]) -> Callable[Concatenate[Any, P], Generator[T]]:
    """The sync twin of an async generator method; leaving it early closes the source."""

    @functools.wraps(method)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T]:
        stream: Any = method(self._core, *args, **kwargs)
        try:
            while True:
                try:
                    piece = finish(stream.__anext__())
                except StopAsyncIteration:
                    return
                yield piece
        finally:
            finish(stream.aclose())

    return call
