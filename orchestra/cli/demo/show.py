"""The order of the demo: what answers here, the scenes, what is missing, where to go on."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestra.cli import words
from orchestra.cli.demo.doors import doors, lacking
from orchestra.cli.demo.interruption import interruption
from orchestra.cli.demo.next_token import next_token
from orchestra.cli.demo.scenes import loop, overflow
from orchestra.cli.demo.stage import BAR, QUIET, Stage
from orchestra.cli.demo.thread import thread
from orchestra.cli.demo.together import together
from orchestra.cli.demo.world import Found, Record, World, looked_for
from orchestra.cli.terminal import as_line, harmless, write
from orchestra.cli.words import say
from orchestra.errors import OrchestraError
from orchestra.settings import Settings

READING_SECONDS = 2.5
Scene = Callable[[Stage, World, Record], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """What the whole demo came to."""

    found: Found
    records: list[Record]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether every scene did what it says."""
        return all(record.ok for record in self.records)

    def shown(self) -> dict[str, Any]:
        """The one object of `--json`."""
        real = self.found.model and not self.found.stand_in
        return {
            "ok": self.ok,
            "daemon": self.found.url if real else "stand-in",
            "seconds": round(self.seconds, 3),
            "scenes": [record.shown() for record in self.records],
        }


def scenes() -> list[tuple[str, str, Scene]]:
    """Name, title and what happens; the last one needs the parts that serve HTTP."""
    last = [] if lacking() else [("doors", say("Through the tools that you use already", "通过你已在使用的工具"), doors)]
    return [
        ("loop", say("An answer that loops, and ends without a word", "回答陷入循环，然后无声中断"), loop),
        ("overflow", say("A dialogue whose beginning is dropped in silence", "对话的开头被悄悄丢弃"), overflow),
        ("kill", say("kill -9 in mid-answer", "回答到一半时 kill -9"), interruption),
        ("next", say("The next token, and what if it were another", "下一个 token，以及假如换一个"), next_token),
        ("thread", say("A question, looked up, cited and checked", "一个问题：检索、引用、核对"), thread),
        ("together", say("A task for several experts", "需要多位专家的任务"), together),
        *last,
    ]


def perform(stage: Stage, settings: Settings, *, found: Found | None = None, command: str = "") -> Performance:
    """All scenes; `found` spares the look for a daemon, `command` is how the last lines call this program.

    A scene that fails is noted. Raises `ConfigError` for an OLLAMA_HOST that is none.
    """
    began = time.monotonic()
    found = found or looked_for(settings)
    records: list[Record] = []
    with tempfile.TemporaryDirectory(prefix="orchestra-demo-", ignore_cleanup_errors=True) as folder, warmed(found) as loaded:
        speaks = found.model and not found.stand_in  # over somebody's stand-in nothing could be promised: the demo brings its own
        world = World(folder=Path(folder), found=found if speaks else None, paced=stage.pace > 0)
        opening(stage, found)
        for number, (name, title, scene) in enumerate(scenes(), 1):
            stage.heading(number, title)
            if number > 2 and not loaded(0):
                stage.line(Text(say(f"{found.model} is being loaded …", f"正在加载 {found.model} …"), style=QUIET))
                loaded(settings.load_timeout)
            records.append(played(stage, world, name, scene))
            stage.pause(READING_SECONDS)
        performance = Performance(found=found, records=records, seconds=time.monotonic() - began)
        closing(stage, performance, [*missing(found, folder), *_no_doors()], command or own_command())
    return performance


def played(stage: Stage, world: World, name: str, scene: Scene) -> Record:
    """One scene; what it promised and did not hold is in the record, and shown."""
    record = Record(name)
    began = time.monotonic()
    try:
        scene(stage, world, record)
    except OrchestraError as error:
        record.promise(False, error.message(words.LANGUAGE))
    except OSError as error:
        record.promise(False, str(error))
    record.seconds = time.monotonic() - began
    for what in record.broken:
        stage.line(Text(say(f"✗ does not hold: {what}", f"✗ 不成立：{what}"), style="red"))
    return record


@contextmanager
def warmed(found: Found) -> Iterator[Callable[[float], bool]]:
    """Loads the model of a real daemon while the first scenes play; what is given waits so many seconds for it."""
    import threading

    from orchestra.api import AsyncOrchestra
    from orchestra.runtime import Blocking, finish

    if not found.model:
        yield lambda seconds: True
        return
    core = AsyncOrchestra(settings=Settings.read(host=found.url), runtime=Blocking())

    def load() -> None:
        with suppress(OrchestraError):  # whoever asks next is told
            finish(core.client.ready(found.model))

    thread = threading.Thread(target=load, name="demo-warm-up", daemon=True)
    thread.start()

    def loaded(seconds: float) -> bool:
        thread.join(seconds)
        return not thread.is_alive()

    try:
        yield loaded
    finally:
        finish(core.runtime.close())
        thread.join(1.0)


# --- the first lines and the last


def opening(stage: Stage, found: Found) -> None:
    """What answers here, and how to read what follows."""
    real = found.model and not found.stand_in
    stage.line()
    stage.line(Text("Orchestra", style="bold") + Text(say(" · what it makes of a local Ollama daemon", " · 在本地 Ollama 之上"), style=QUIET))
    stage.line()
    if real:
        stage.line(say(
            f"Ollama {found.version} answers at {found.url}; from scene 3 on its {found.model} speaks.",
            f"Ollama {found.version} 在 {found.url} 应答；从第 3 幕起使用其中的 {found.model}。",
        ))  # fmt: skip
        stage.line(say(
            "The faults of 1 and 2 cannot be had on demand: there recordings and a stand-in show them.",
            "第 1、2 幕的故障无法随时重现：由录制的交互和替身服务演示。",
        ))  # fmt: skip
    else:
        stage.line(_no_model(found))
        stage.line(say(
            "The demo brings a stand-in: Ollama's protocol, with a mechanical engine for a model.",
            "演示自带替身服务：Ollama 的协议，背后是机械程序而不是模型。",
        ))  # fmt: skip
    stage.line(Text(BAR, style=QUIET) + Text(say(
        "The stand-in's words stand behind such a bar, dim. They are no model's answer.", "替身服务的文字在这样的竖线之后，颜色较淡；它们不是模型的回答。"
    ), style=QUIET))  # fmt: skip
    if stage.wide:
        stage.line(say("On the left a bare daemon, recorded; on the right Orchestra, live.", "左边：直接使用 Ollama（录制）；右边：Orchestra（实时）。"))
    else:
        stage.line(say("First a bare daemon, recorded; then Orchestra, live.", "先看直接使用 Ollama（录制），再看 Orchestra（实时）。"))
    stage.pause(READING_SECONDS)


def _no_model(found: Found) -> str:
    if found.stand_in:
        return say(f"At {found.url} a stand-in answers, no real daemon.", f"在 {found.url} 应答的是替身服务，不是真正的 Ollama。")
    if found.answers:
        return say(f"Ollama answers at {found.url}, but has no model that can chat.", f"Ollama 在 {found.url} 应答，但没有可用的对话模型。")
    return say(f"No Ollama daemon answers at {found.url}.", f"{found.url} 没有 Ollama 应答。")


def missing(found: Found, folder: str) -> list[tuple[str, str]]:
    """What is not here, and the command that brings it; at most four."""
    from orchestra.instruments.doctor import examined
    from orchestra.runtime import Blocking, finish

    if not found.answers or found.stand_in:
        return [("Ollama", "https://ollama.com/download"), (say("a model", "模型"), "ollama pull llama3")]
    checks = finish(examined(Settings.read(host=found.url, home=folder), Blocking()))
    chosen = {row["fix"]: row for row in (check.shown(words.LANGUAGE) for check in checks if not check.ok) if row["fix"]}
    return [(row["name"], row["fix"]) for row in chosen.values()][:4]


def _no_doors() -> list[tuple[str, str]]:
    """How to get the last scene."""
    error = lacking()
    return [(say("the gateway", "网关"), error.hint(words.LANGUAGE))] if error else []


def closing(stage: Stage, performance: Performance, without: list[tuple[str, str]], own: str) -> None:
    """How it went, what is missing here, and three commands to go on with."""
    good = sum(record.ok for record in performance.records)
    total = len(performance.records)
    stage.line()
    mark = ("✓ ", "bold green") if performance.ok else ("✗ ", "bold red")
    stage.line(Text.assemble(mark, (say(
        f"{good} of {total} scenes did what they say · {performance.seconds:.0f} s",
        f"{total} 幕中有 {good} 幕如其所述 · {performance.seconds:.0f} 秒",
    ), "bold")))  # fmt: skip
    for record in performance.records:
        if not record.ok:
            stage.line(Text(say(f"  failed: {record.name}", f"  失败：{record.name}"), style="red"))
    if without:
        _listed(stage, say("Missing here", "这里还缺少"), without, quiet=0)
    _listed(stage, say("Go on with", "接下来"), [
        (f"{own} chat", say("a dialogue that is kept", "保存下来的对话")),
        (f"{own} ask \"...\"", say("an answer with its sources", "带来源的回答")),
        (f"{own} integrate \"...\"", say("a task for several experts", "多位专家共同完成任务")),
        *([] if lacking() else [(f"{own} serve", say("for Open WebUI, ollama run, SDKs", "供 Open WebUI、ollama run 与 SDK 使用"))]),
        (f"{own} doctor", say("what works here, and what does not", "检查这里的环境")),
    ], quiet=1)  # fmt: skip
    stage.line()


def _listed(stage: Stage, title: str, rows: list[tuple[str, str]], *, quiet: int) -> None:
    """Two columns below a title; the column `quiet` is only beside the other."""
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    for column in (0, 1):
        grid.add_column(style=QUIET if column == quiet else "", no_wrap=column == 0)
    for name, about in rows:
        grid.add_row(harmless(name), harmless(about))
    stage.line()
    stage.line(Text(title, style="bold"))
    stage.line(grid)


def own_command() -> str:
    """How this program is called from here: by its name where the shell finds it, else by its path."""
    beside = Path(sys.executable).parent / "orchestra"
    known = shutil.which("orchestra")
    if known and beside.exists() and os.path.samefile(known, beside):
        return "orchestra"
    if not beside.exists():
        return "python -m orchestra"
    with suppress(ValueError):
        return str(beside.relative_to(Path.cwd()))
    return str(beside)


# --- the command


@contextmanager
def ended_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does: nothing is left behind."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            with suppress(ValueError):  # only the main thread may
                before[name] = signal.signal(getattr(signal, name), leave)
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def run(*, fast: bool, as_json: bool) -> int:
    """`orchestra demo`; the exit code."""
    settings = Settings.read()
    if as_json:
        with ended_in_order():
            performance = perform(Stage(Console(quiet=True)), settings)
        write(as_line(performance.shown()) + "\n")
        return 0 if performance.ok else 1
    console = Console(highlight=False, emoji=False, markup=False)
    person = console.is_terminal and not console.is_dumb_terminal
    stage = Stage(console, boxed=person, live=person, pace=1.0 if person and not fast else 0.0)
    with ended_in_order():
        performance = perform(stage, settings)
    return 0 if performance.ok else 1
