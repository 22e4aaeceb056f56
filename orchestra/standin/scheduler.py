"""Which model is loaded, how, and who may use it: the part of the daemon that neighbours feel.

One runner serves all models of a blob; a request that wants it loaded otherwise waits until it is idle and reloads
it for everybody. Beyond the slots requests wait in line, without a word. A client that leaves is taken out of
whatever it waits for, and a load that it waited for is given up.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from orchestra.standin.link import GLANCE, ClientGone, Link
from orchestra.standin.options import Load
from orchestra.standin.refusal import BUSY, Refusal
from orchestra.standin.weights import Model

KEEP_ALIVE = 300.0
MOST_LOADED = 3
REMEMBERED = 8


@dataclass(slots=True, eq=False)
class Runner:
    """A loaded model, under the name that loaded it."""

    model: Model
    load: Load
    keep_alive: float = KEEP_ALIVE
    users: int = 0
    draining: bool = False
    killed: bool = False
    expires: float = 0.0
    last_used: float = 0.0
    running: int = 0
    line: deque[object] = field(default_factory=deque)
    prompts: deque[tuple[int, ...]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def cached(self, prompt: Sequence[int]) -> int:
        """How many tokens of the prompt need not be read again; the last one always is."""
        longest = 0
        for past in list(self.prompts):
            same = 0
            for ours, theirs in zip(prompt, past, strict=False):
                if ours != theirs:
                    break
                same += 1
            longest = max(longest, same)
        return min(longest, len(prompt) - 1)

    def left(self) -> float:
        """Seconds until it is unloaded; negative: never."""
        if self.users or self.keep_alive < 0:
            return self.keep_alive
        return max(self.expires - time.monotonic(), 0.0)


class Scheduler:
    """The runners, and the counters that tests look at."""

    def __init__(self, *, slots: int, load_seconds: float, max_queue: int) -> None:
        self.loads = self.reloads = self.active = self.cancelled = 0
        self._slots, self._load_seconds, self._max_queue = slots, load_seconds, max_queue
        self._pending = 0
        self._changed = threading.Condition()
        self._runners: dict[str, Runner] = {}
        self._loading = False

    def loaded(self) -> list[tuple[Runner, float]]:
        """The runners and the seconds that each still has, the longest first."""
        with self._changed:
            self._expire()
            found = [(runner, runner.left()) for runner in self._runners.values()]
        return sorted(found, key=lambda pair: -pair[1] if pair[1] >= 0 else float("-inf"))

    def kill(self) -> None:
        """Let all runners die, as if their processes were killed; what runs in them ends with an error."""
        with self._changed:
            for runner in self._runners.values():
                runner.killed = True
            self._runners.clear()
            self._changed.notify_all()

    def unload(self, model: Model) -> None:
        """Let go of a model, as soon as nobody uses it."""
        with self._changed:
            runner = self._runners.get(model.weights.blob)
            if runner is not None:
                runner.keep_alive = 0.0
                self._settle(runner)

    @contextmanager
    def runner(self, model: Model, load: Load, link: Link, keep_alive: float | None) -> Iterator[Runner]:
        """The model loaded as wanted, for as long as the block runs. Raises `ClientGone`."""
        with self._changed:
            runner = self._obtain(model, load, link)
            runner.users += 1
            if keep_alive is not None:
                runner.keep_alive = keep_alive
        try:
            yield runner
        finally:
            with self._changed:
                runner.users -= 1
                runner.last_used = time.monotonic()
                self._settle(runner)

    @contextmanager
    def slot(self, runner: Runner, link: Link) -> Iterator[None]:
        """One of the runner's slots, in the order of arrival. Raises `ClientGone`, which is counted."""
        ticket = object()
        try:
            with self._changed:
                runner.line.append(ticket)
                try:
                    while runner.line[0] is not ticket or runner.running >= self._slots:
                        self._wait(link)
                finally:
                    runner.line.remove(ticket)
                    self._changed.notify_all()
                runner.running += 1
                self.active += 1
            try:
                yield
            finally:
                with self._changed:
                    runner.running -= 1
                    self.active -= 1
                    self._changed.notify_all()
        except ClientGone:
            with self._changed:
                self.cancelled += 1
            raise

    # --- all below is called with the lock held

    def _wait(self, link: Link) -> None:
        self._changed.wait(GLANCE)
        if link.gone():
            raise ClientGone

    def _obtain(self, model: Model, load: Load, link: Link) -> Runner:
        """The runner, at once where it is loaded; what needs loading waits in a queue. Raises `Refusal` (503) when it is full."""
        self._expire()
        runner = self._runners.get(model.weights.blob)
        if runner is not None and runner.load == load and not runner.draining:
            return runner
        # One request is being served; the others wait.
        if self._pending > self._max_queue:
            raise Refusal(503, BUSY)
        self._pending += 1
        try:
            return self._queued(model, load, link)
        finally:
            self._pending -= 1

    def _queued(self, model: Model, load: Load, link: Link) -> Runner:
        drained: Runner | None = None
        try:
            while True:
                self._expire()
                runner = self._runners.get(model.weights.blob)
                if runner is not None and runner.load == load and not (runner.draining and runner is not drained):
                    return runner
                if runner is not None and not runner.draining:
                    drained = runner
                    runner.draining = True
                if not self._loading and runner in (None, drained) and self._room(runner):
                    return self._load(model, load, link, runner)
                self._wait(link)
        finally:
            if drained is not None:
                drained.draining = False
                self._changed.notify_all()

    def _room(self, replaced: Runner | None) -> bool:
        """Whether a load may begin now; an idle runner makes way where there are too many."""
        if replaced is not None:
            return replaced.users == 0
        if len(self._runners) < MOST_LOADED:
            return True
        idle = [runner for runner in self._runners.values() if not runner.users]
        if idle:
            self._drop(min(idle, key=lambda runner: runner.last_used))
        return bool(idle)

    def _load(self, model: Model, load: Load, link: Link, replaced: Runner | None) -> Runner:
        if replaced is not None:
            self._drop(replaced)
        self._loading = True
        self._changed.release()
        try:
            link.pause(self._load_seconds)
        finally:
            self._changed.acquire()
            self._loading = False
            self._changed.notify_all()
        if replaced is None:
            self.loads += 1
        else:
            self.reloads += 1
        runner = Runner(model, load, last_used=time.monotonic())
        self._runners[model.weights.blob] = runner
        return runner

    def _settle(self, runner: Runner) -> None:
        """Start the clock of a runner that nobody uses any more."""
        if not runner.users:
            runner.expires = time.monotonic() + runner.keep_alive
            if runner.keep_alive == 0:
                self._drop(runner)
        self._changed.notify_all()

    def _drop(self, runner: Runner) -> None:
        if self._runners.get(runner.model.weights.blob) is runner:
            del self._runners[runner.model.weights.blob]

    def _expire(self) -> None:
        for runner in list(self._runners.values()):
            if not runner.users and runner.keep_alive >= 0 and time.monotonic() >= runner.expires:
                self._drop(runner)
