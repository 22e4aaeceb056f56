"""What `pull` does: a model from a library or a file, watched as it comes."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestra.cli.outcome import Wish
from orchestra.cli.tables import size
from orchestra.cli.terminal import as_line, colourful, harmless, tell, write
from orchestra.cli.words import say
from orchestra.errors import PullFailed, UsageError
from orchestra.model.catalog import Progress, bring, named, pull
from orchestra.model.client import Client
from orchestra.model.sources import HOSTS, Origin, Place, others, place_of
from orchestra.runtime import Blocking, blocking, stepping
from orchestra.settings import Settings

BETWEEN = 10.0  # seconds between two lines of how far it is, where no bar can be drawn


class _Puller:
    """The sync face of a pull: Ctrl-C ends a read in this thread at once, where a worker's would go on."""

    def __init__(self, client: Client) -> None:
        self._core = client

    steps = stepping(pull)
    version = blocking(Client.version)
    name = blocking(named)

    def bring(self, file: Path, name: str, base: bool) -> Generator[Progress]:
        """The steps of making a model of a file."""

        def steps(client: Client) -> AsyncGenerator[Progress]:
            return bring(client, file, name, base=base)

        class Bound:
            _core = self._core

        return stepping(steps)(Bound())


def pull_model(name: str, wish: Wish, *, origin: str, short: str) -> None:
    """Bring a model in. An interrupted pull goes on where it stopped."""
    if origin not in HOSTS:
        known = ", ".join(HOSTS)
        detail, detail_zh = f"--from does not know {origin!r}", f"--from 不支持 {origin!r}"
        raise UsageError(detail=detail, detail_zh=detail_zh, fix=f"one of: {known}", fix_zh=f"可选：{known}")
    source: Origin = origin
    place = place_of(name, source, short)
    puller = _ready()
    again = f"orchestra pull {name}{'' if origin == 'library' else f' --from {origin}'}{f' --as {short}' if short else ''}"
    try:
        _shown(puller.steps(place.full), wish, silence=lambda seconds: _silent(name, source, seconds))
    except KeyboardInterrupt:
        tell(say(f"stopped; `{again}` goes on from here", f"已停止；再次运行 `{again}` 会从此处继续"))
        raise
    except PullFailed:
        for command in others(name, source):
            tell(say(f"from elsewhere: {command}", f"其他来源：{command}"))
        raise
    if place.short:
        puller.name(place.full, place.short)
    _done(place, wish)


def pull_file(file: str, wish: Wish, *, name: str, base: bool) -> None:
    """Make a model of a GGUF file of this machine."""
    if not name:
        raise UsageError(
            detail="a model made of a file needs a name", detail_zh="由文件创建模型需要名称",
            fix=f"orchestra pull --gguf {file} --as NAME", fix_zh=f"orchestra pull --gguf {file} --as 名称",
        )  # fmt: skip
    puller = _ready()
    try:
        _shown(puller.bring(Path(file).expanduser(), name, base), wish)
    except KeyboardInterrupt:
        again = f"orchestra pull --gguf {file} --as {name}{' --base' if base else ''}"
        tell(say(f"stopped; again: {again} (a file that has arrived whole is not sent twice)", f"已停止；重新运行：{again}（已完整上传的文件不会再次发送）"))
        raise
    _done(Place(name), wish)


def _ready() -> _Puller:
    puller = _Puller(Client(Blocking(), Settings.read()))
    puller.version()  # nobody there is said before anything is drawn
    return puller


def _done(place: Place, wish: Wish) -> None:
    if wish.json:
        copied = {"from": place.full} if place.short else {}
        write(as_line({"model": place.short or place.full, "status": "success", **copied}) + "\n")
    elif place.short:
        tell(say(f"{place.full} is now also {place.short}", f"{place.full} 现在也叫 {place.short}"))


def _silent(name: str, origin: Origin, seconds: float) -> None:
    host = HOSTS[origin] or "ollama.com"
    elsewhere = others(name, origin)
    instead = "; ".join(elsewhere) or "orchestra pull OWNER/REPOSITORY-GGUF --from modelscope, --from hf"
    tell(say(f"nothing has come from {host} for {seconds:.0f} s; it goes on trying. Ctrl-C, and from elsewhere: {instead}",
             f"{host} 已 {seconds:.0f} 秒没有数据，仍在尝试。可按 Ctrl-C 改用其他来源：{instead}"))  # fmt: skip


# --- shown as it comes


def _shown(steps: Generator[Progress], wish: Wish, silence: Callable[[float], None] | None = None) -> None:
    try:
        with _progress(wish) as show:
            for step in steps:
                if step.silent:
                    if silence:
                        silence(step.silent)
                else:
                    show(step)
    finally:
        steps.close()


class Pace:
    """How fast bytes come and how long the rest will take, from what came since the layer began here."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._layer = ""
        self._began = (0.0, 0)
        self._told = 0.0

    def line(self, step: Progress) -> str:
        """How far it is, at most every ten seconds; else empty. What was there before counts as no speed."""
        now = self._clock()
        if step.digest != self._layer:
            self._layer, self._began, self._told = step.digest, (now, step.completed), now
        if not step.total or now - self._told < BETWEEN:
            return ""
        self._told = now
        speed = (step.completed - self._began[1]) / (now - self._began[0])
        share, done, whole = 100 * step.completed // step.total, size(step.completed), size(step.total)
        far = say(f"{share} % ({done} / {whole})", f"{share} %（{done} / {whole}）")
        if speed <= 0:
            return far
        left = (step.total - step.completed) / speed
        return say(f"{far}, {size(int(speed))}/s, {_span(left)} left", f"{far}，{size(int(speed))}/秒，剩余 {_span(left)}")


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" if minutes >= 10 else f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"


@contextmanager
def _progress(wish: Wish) -> Iterator[Callable[[Progress], None]]:
    """Where the steps of a pull are shown: a bar where a person looks, else a line for each new status."""
    if colourful(sys.stderr) and not wish.json:
        with _bar() as show:
            yield show
        return
    last = ""
    pace = Pace()

    def line(step: Progress) -> None:
        nonlocal last
        if wish.json:
            return
        far = pace.line(step)
        if step.status != last:
            tell(f"{step.status} ({size(step.total)})" if step.total else step.status)
        elif far:
            tell(far)
        last = step.status

    yield line


@contextmanager
def _bar() -> Iterator[Callable[[Progress], None]]:
    """One bar: that of the largest layer so far; the small ones pass unseen."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True, highlight=False)) as bar:
        tasks: dict[str, Any] = {}
        sizes: dict[Any, int] = {}

        def show(step: Progress) -> None:
            if not step.digest:
                bar.console.print(harmless(step.status), markup=False, style="dim")
                return
            if step.digest not in tasks:
                tasks[step.digest] = bar.add_task(harmless(step.status), total=step.total or None)
                sizes[tasks[step.digest]] = step.total
                largest = max(sizes, key=lambda task: sizes[task])
                for task in sizes:
                    bar.update(task, visible=task == largest)
            bar.update(tasks[step.digest], completed=step.completed, total=step.total or None, description=harmless(step.status))

        yield show
