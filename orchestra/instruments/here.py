"""What `doctor` looks at on this machine: the folder of the data, personas, ports, Python, the language."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from orchestra.agents.personas import Library
from orchestra.errors import OrchestraError
from orchestra.instruments.check import NOTHING, Check, failed, gigabytes
from orchestra.instruments.machine import Machine, remote_kind
from orchestra.sessions.faults import free_bytes
from orchestra.sessions.migrations import MIGRATIONS
from orchestra.sessions.store import Store
from orchestra.settings import Settings
from orchestra.texts import Words

STORE_PATIENCE = 1.0
LEAST_FREE = 200 * 10**6
PORTS = {5000: ("the lesson's first service", "课程的第一个服务")}
PACKAGES = ("httpx", "pydantic", "typer", "rich", "ollama", "PyYAML", "platformdirs")


def store(settings: Settings) -> list[Check]:
    """Whether the sessions can be read and written - tried, since modes and locks do not tell - and the room left."""
    folder = settings.folder()
    free = free_bytes(folder)
    room = Words(f"{gigabytes(free)} free at {folder}", f"{folder} 剩余 {gigabytes(free)}")
    fix = Words("free some space, or set ORCHESTRA_HOME to a larger disk", "请清理磁盘，或将 ORCHESTRA_HOME 设到更大的磁盘")
    space = Check(name="free space", ok=free >= LEAST_FREE, detail=room, fix=NOTHING if free >= LEAST_FREE else fix)
    try:
        with Store(folder, timeout=STORE_PATIENCE) as opened:
            count = len(opened.sessions())
            opened.database.write(lambda connection: None)
    except OrchestraError as error:
        return [failed("store", error, required=True), space]
    version = len(MIGRATIONS)
    detail = Words(f"{opened.path}, version {version}, {count} sessions", f"{opened.path}，版本 {version}，{count} 个会话")
    return [Check(name="store", ok=True, required=True, detail=detail), space]


def folder(path: Path, machine: Machine) -> Check:
    """Whether the data lies on this machine's own disk: locks do not hold on a share, and SQLite stands on them."""
    resolved = path.expanduser().resolve()
    kind = remote_kind(resolved.as_posix(), machine.mounts)
    if not kind:
        return Check(name="data folder", ok=True, detail=Words(f"{resolved}, on a disk of this machine", f"{resolved}，位于本机磁盘"))
    windows = resolved.as_posix().startswith("/mnt/")
    where, where_zh = ("on Windows' side of WSL", "位于 WSL 的 Windows 一侧") if windows else (f"on a share ({kind})", f"位于网络共享（{kind}）")
    return Check(
        name="data folder",
        ok=False,
        detail=Words(f"{resolved} is {where}: locks may not hold there, and the sessions may be damaged",
                     f"{resolved} {where_zh}：锁可能失效，会话文件可能损坏"),
        fix=Words("set ORCHESTRA_HOME to a folder on a disk of this machine, for example ~/.local/share/orchestra",
                  "请将 ORCHESTRA_HOME 设为本机磁盘上的目录，例如 ~/.local/share/orchestra"),
    )  # fmt: skip


def personas(settings: Settings) -> list[Check]:
    """How many personas there are, and the first that cannot be read."""
    try:
        library = Library.of(settings)
    except OrchestraError as error:  # a folder that was named is not there
        return [failed("personas", error)]
    names = library.names()
    for name in names:
        try:
            library.persona(name)
        except OrchestraError as error:
            return [failed("personas", error)]
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
    if not taken(number):
        return Check(name=name, ok=True, detail=Words(f"free for {user}", f"空闲，可供{user_zh}使用"))
    fix = Words(f"see who has it, and end that: lsof -i :{number}", f"请查看并结束占用者：lsof -i :{number}")
    if number == 5000 and sys.platform == "darwin":
        fix = Words("turn AirPlay Receiver off: System Settings > General > AirDrop & Handoff", "请关闭“隔空播放接收器”：系统设置 > 通用 > 隔空投送与接力")
    return Check(name=name, ok=False, detail=Words(f"taken; {user} could not listen there", f"已被占用，{user_zh}无法监听"), fix=fix)


def taken(number: int) -> bool:
    """Whether somebody listens on a port of this machine."""
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
