"""What works here, and for what does not, the command or the setting that changes it.

Each check is a function that looks at one thing and never raises: what goes wrong is what it is there to say. The
main job can run where a daemon answers, a chat model is there and the store can be written; the rest is advice.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestra.agents.personas import Library
from orchestra.errors import ConfigError, FirstTokenTimeout, ModelMissing, OrchestraError
from orchestra.instruments.inventory import inventory, kind_of
from orchestra.model.catalog import ModelCard, Purpose, chosen
from orchestra.model.client import Client
from orchestra.model.connection import Patience
from orchestra.runtime import Runtime
from orchestra.sessions.faults import free_bytes
from orchestra.sessions.migrations import MIGRATIONS
from orchestra.sessions.store import Store
from orchestra.settings import Settings
from orchestra.texts import Words

PATIENCE = 2.0  # seconds for the daemon to connect, and to say its version
STORE_PATIENCE = 1.0
FULL_WINDOW = 8192
LEAST_FREE = 200 * 10**6
NEEDED_VERSION = (0, 12, 6)  # from here on the daemon keeps a prompt whole (`truncate: false`) or refuses it
PORTS = {5002: ("the gateway", "网关"), 5000: ("the lesson's first service", "课程的第一个服务")}
PACKAGES = ("httpx", "pydantic", "typer", "rich", "ollama", "PyYAML", "platformdirs")
NOTHING = Words("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at. `required` = the main job needs it; `fix` is empty where nothing is wrong."""

    name: str
    ok: bool
    detail: Words
    required: bool = False
    fix: Words = NOTHING

    def shown(self, language: str) -> dict[str, Any]:
        """The check as JSON has it, its texts in `language`."""
        detail, fix = (text.zh if language == "zh" else text.en for text in (self.detail, self.fix))
        return {"name": self.name, "ok": self.ok, "required": self.required, "detail": detail, "fix": fix}


def sound(checks: Sequence[Check]) -> bool:
    """Whether the main job can run."""
    return all(check.ok for check in checks if check.required)


async def examined(settings: Settings, runtime: Runtime) -> list[Check]:
    """Every check, in the order in which they are read. Takes below three seconds, also where no daemon answers."""
    checks = await _daemon(settings, runtime)
    for look in (lambda: store(settings), lambda: personas(settings), ports, python):
        checks += await runtime.call(look)
    return [*checks, language(os.environ)]


def readable(environment: Mapping[str, str]) -> tuple[Settings, list[Check]]:
    """The settings, without those that cannot be read, and what is wrong with those."""
    left = dict(environment)
    faults: list[Check] = []
    while True:
        try:
            return Settings.read(left), faults
        except ConfigError as error:
            faults.append(_failed("settings", error, required=True))
            del left[str(error.facts["name"])]


def _failed(name: str, error: OrchestraError, *, required: bool = False) -> Check:
    return Check(
        name=name,
        ok=False,
        required=required,
        detail=Words(error.message("en"), error.message("zh")),
        fix=Words(error.hint("en"), error.hint("zh")),
    )


# --- the daemon and its models


async def _daemon(settings: Settings, runtime: Runtime) -> list[Check]:
    """The daemon, and what only it can tell; without it each of these says so."""
    patient = replace(settings, connect_timeout=min(PATIENCE, settings.connect_timeout))
    try:
        client = Client(runtime, patient)
        version = await _version(client)
        cards = await inventory(client)
    except OrchestraError as error:
        check = _unreachable(error, settings)
        unknown = Words("cannot be told without a daemon", "没有 Ollama 无法得知")
        others = [Check(name=name, ok=False, required=name == "chat model", detail=unknown, fix=check.fix) for name in _TOLD]
        return [check, *others]
    return [
        reached(client, settings),
        version_of(version),
        stand_in(client.connection.stand_in),
        await model(client, "chat"),
        await model(client, "base"),
        window(cards, client.connection.stand_in),
        memory(cards, await runtime.call(available_memory)),
    ]


_TOLD = ("version", "stand-in", "chat model", "base model", "window", "memory")


async def _version(client: Client) -> str:
    patience = Patience(first=PATIENCE, between=PATIENCE, deadline=time.monotonic() + 1.3 * PATIENCE)
    answer = await client.connection.ask("GET", "/api/version", patience=patience)
    return str(answer.get("version", ""))


def _unreachable(error: OrchestraError, settings: Settings) -> Check:
    check = _failed("daemon", error, required=True)
    if isinstance(error, FirstTokenTimeout):
        silent = Words("something listens there and does not answer", "该地址有程序监听但没有应答")
        return replace(check, detail=silent, fix=Words("restart it: `ollama serve`", "请重新启动：`ollama serve`"))
    if shutil.which("ollama") is None and not settings.host:
        fix = Words("install Ollama from https://ollama.com/download, then run `ollama serve`",
                    "请从 https://ollama.com/download 安装 Ollama，然后运行 `ollama serve`")  # fmt: skip
        return replace(check, fix=fix)
    return check


def reached(client: Client, settings: Settings) -> Check:
    """Where the daemon answered, and who said that it is there."""
    url = client.connection.url
    named = Words(f"{url} (from OLLAMA_HOST)", f"{url}（来自 OLLAMA_HOST）")
    default = Words(f"{url} (the default; OLLAMA_HOST is not set)", f"{url}（默认值；未设置 OLLAMA_HOST）")
    return Check(name="daemon", ok=True, required=True, detail=named if settings.host else default)


def version_of(version: str) -> Check:
    """Whether the daemon can keep a prompt whole. A build without a number (0.0.0) is taken for a new one."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0])[:3])
    if not any(numbers) or numbers >= NEEDED_VERSION:
        return Check(name="version", ok=True, detail=Words(version or "not said", version or "未说明"))
    needed = ".".join(map(str, NEEDED_VERSION))
    return Check(
        name="version",
        ok=False,
        detail=Words(f"{version} is older than {needed}: it may cut a long prompt without saying so",
                     f"{version} 早于 {needed}：可能会悄悄截断过长的提示词"),
        fix=Words("update Ollama: https://ollama.com/download", "请升级 Ollama：https://ollama.com/download"),
    )  # fmt: skip


def stand_in(found: bool) -> Check:
    """Whether the words come from a model at all."""
    if not found:
        return Check(name="stand-in", ok=True, detail=Words("the daemon is no stand-in", "不是替身服务"))
    return Check(
        name="stand-in",
        ok=False,
        detail=Words("this is Orchestra's stand-in: its words are mechanical, not a model's", "这是 Orchestra 的替身服务：文字由机械程序生成，不出自模型"),
        fix=Words("for a model: `ollama serve`, and `unset OLLAMA_HOST`", "要使用模型：运行 `ollama serve`，并 `unset OLLAMA_HOST`"),
    )


async def model(client: Client, purpose: Purpose) -> Check:
    """Whether there is a model to answer (chat), or one to go on with a text (base), and which one it would be."""
    name, required = f"{purpose} model", purpose == "chat"
    wanted = ""
    try:
        wanted = await chosen(client, purpose=purpose)
        await client.facts(wanted)
    except OrchestraError as error:
        check = _failed(name, error, required=required)
        command = f"orchestra pull {wanted}"
        return replace(check, fix=Words(command, command)) if isinstance(error, ModelMissing) else check
    return Check(name=name, ok=True, required=required, detail=Words(wanted, wanted))


def window(cards: Sequence[ModelCard], mechanical: bool) -> Check:
    """Whether the loaded models have the window that they were made for, up to what a dialogue needs."""
    loaded = [card for card in cards if card.window and card.context]
    small = [card for card in loaded if (card.window or 0) < min(card.context or 0, FULL_WINDOW)]
    if not loaded:
        return Check(name="window", ok=True, detail=Words("no model is loaded", "当前没有已加载的模型"))
    shown = ", ".join(f"{card.name} {card.window}/{card.context}" for card in small or loaded)
    if not small:
        return Check(name="window", ok=True, detail=Words(f"{shown} tokens", f"{shown} token"))
    size = min(max(card.context or 0 for card in small), FULL_WINDOW)
    fix = f"orchestra standin --window {size}" if mechanical else f"OLLAMA_CONTEXT_LENGTH={size} ollama serve"
    return Check(
        name="window",
        ok=False,
        detail=Words(f"{shown} tokens: loaded with less than the model has", f"{shown} token：加载的窗口小于模型支持的"),
        fix=Words(f"restart the daemon with the full window: {fix}", f"以完整窗口重新启动：{fix}"),
    )


def available_memory() -> tuple[int, int]:
    """Bytes of memory in all, and those that could be had now; 0 where the system does not say."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        total = 0
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("ascii"), re.MULTILINE)
    except OSError:
        found = None
    return total, int(found[1]) * 1024 if found else 0


def memory(cards: Sequence[ModelCard], measured: tuple[int, int]) -> Check:
    """Whether the largest model that is not loaded would fit into memory beside what runs now."""
    total, free = measured
    waiting = [card for card in cards if not card.loaded and kind_of(card) != "embedding"]
    largest = max(waiting, key=lambda card: card.size, default=None)
    detail = Words(f"{_gigabytes(total)}, {_gigabytes(free)} free", f"{_gigabytes(total)}，可用 {_gigabytes(free)}")
    if largest is None or not free or largest.size <= free:
        return Check(name="memory", ok=True, detail=detail)
    needed = _gigabytes(largest.size)
    return Check(
        name="memory",
        ok=False,
        detail=Words(f"{detail.en}; {largest.name} needs {needed}", f"{detail.zh}；{largest.name} 需要 {needed}"),
        fix=Words("close programs, or take a smaller model: orchestra pull llama3.2:1b", "请关闭其他程序，或换用更小的模型：orchestra pull llama3.2:1b"),
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size else "?"


# --- this machine


def store(settings: Settings) -> list[Check]:
    """Whether the sessions can be read and written - tried, since modes and locks do not tell - and the room left."""
    folder = settings.folder()
    free = free_bytes(folder)
    room = Words(f"{_gigabytes(free)} free at {folder}", f"{folder} 剩余 {_gigabytes(free)}")
    fix = Words("free some space, or set ORCHESTRA_HOME to a larger disk", "请清理磁盘，或将 ORCHESTRA_HOME 设到更大的磁盘")
    space = Check(name="free space", ok=free >= LEAST_FREE, detail=room, fix=NOTHING if free >= LEAST_FREE else fix)
    try:
        with Store(folder, timeout=STORE_PATIENCE) as opened:
            count = len(opened.sessions())
            opened.database.write(lambda connection: None)
    except OrchestraError as error:
        return [_failed("store", error, required=True), space]
    version = len(MIGRATIONS)
    detail = Words(f"{opened.path}, version {version}, {count} sessions", f"{opened.path}，版本 {version}，{count} 个会话")
    return [Check(name="store", ok=True, required=True, detail=detail), space]


def personas(settings: Settings) -> list[Check]:
    """How many personas there are, and the first that cannot be read."""
    library = Library.of(settings)
    names = library.names()
    for name in names:
        try:
            library.persona(name)
        except OrchestraError as error:
            return [_failed("personas", error)]
    shown = ", ".join(names)
    if names:
        return [Check(name="personas", ok=True, detail=Words(f"{len(names)}: {shown}", f"{len(names)} 个：{shown}"))]
    fix = Words("install Orchestra again, or set ORCHESTRA_PERSONAS to a folder of persona files", "请重新安装，或将 ORCHESTRA_PERSONAS 设为角色文件目录")
    return [Check(name="personas", ok=False, detail=Words("there is none", "没有找到角色"), fix=fix)]


def ports() -> list[Check]:
    """Whether the ports that the services stand on are free."""
    return [port(number, *users) for number, users in PORTS.items()]


def port(number: int, user: str, user_zh: str) -> Check:
    """Whether somebody could listen on a port of this machine."""
    name = f"port {number}"
    if not _taken(number):
        return Check(name=name, ok=True, detail=Words(f"free for {user}", f"空闲，可供{user_zh}使用"))
    fix = Words(f"see who has it, and end that: lsof -i :{number}", f"请查看并结束占用者：lsof -i :{number}")
    if number == 5000 and sys.platform == "darwin":
        fix = Words("turn AirPlay Receiver off: System Settings > General > AirDrop & Handoff", "请关闭“隔空播放接收器”：系统设置 > 通用 > 隔空投送与接力")
    return Check(name=name, ok=False, detail=Words(f"taken; {user} could not listen there", f"已被占用，{user_zh}无法监听"), fix=fix)


def _taken(number: int) -> bool:
    with socket.socket() as probe:
        # asked as well as tried: elsewhere than on Linux one may listen on loopback beside one who listens everywhere
        probe.settimeout(0.2)
        if probe.connect_ex(("127.0.0.1", number)) == 0:
            return True
    try:
        with socket.create_server(("127.0.0.1", number)):
            return False
    except OSError:
        return True


def python() -> list[Check]:
    """The interpreter, and the packages that Orchestra stands on."""
    from importlib.metadata import PackageNotFoundError, version

    found: list[str] = []
    missing: list[str] = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    own = ".".join(map(str, sys.version_info[:3]))
    interpreter = Check(name="python", ok=True, detail=Words(f"{own} at {sys.executable}", f"{own}（{sys.executable}）"))
    if missing:
        names = " ".join(missing)
        fix = f"{sys.executable} -m pip install {names}"
        return [interpreter, Check(name="packages", ok=False, detail=Words(f"missing: {names}", f"缺少：{names}"), fix=Words(fix, fix))]
    return [interpreter, Check(name="packages", ok=True, detail=Words(", ".join(found), "、".join(found)))]


def language(environment: Mapping[str, str]) -> Check:
    """In which language errors and hints come, and who said so."""
    names = ("ORCHESTRA_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    source = next((name for name in names if environment.get(name)), "")
    value = environment.get(source, "")
    if source == "ORCHESTRA_LANG" and not value.lower().startswith(("zh", "en")):
        detail = Words(f"ORCHESTRA_LANG is {value!r}; English is used", f"ORCHESTRA_LANG 为 {value!r}；已使用英文")
        fix = Words("export ORCHESTRA_LANG=zh, or =en", "export ORCHESTRA_LANG=zh 或 =en")
        return Check(name="language", ok=False, detail=detail, fix=fix)
    chinese = value.lower().startswith("zh")
    from_, from_zh = (f" (from {source}={value})", f"（来自 {source}={value}）") if source else ("", "")
    text = ("Chinese", "中文") if chinese else ("English", "英文")
    return Check(name="language", ok=True, detail=Words(text[0] + from_, text[1] + from_zh))
