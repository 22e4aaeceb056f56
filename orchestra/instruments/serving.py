"""What `doctor` looks at of the gateway: whether it answers, over which daemon, to whom, and whether its parts are here."""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any, NamedTuple

from orchestra.errors import OrchestraError
from orchestra.instruments import here
from orchestra.instruments.check import Check
from orchestra.model.client import Client
from orchestra.model.connection import Patience
from orchestra.settings import Settings
from orchestra.texts import Words

PORT = 5002
PATIENCE = 1.0  # seconds for each question to whoever listens there
DISTRIBUTION = "orchestra-ollama"
EXTRAS = ("serve", "knowledge")
_PACKAGE = re.compile(r"[A-Za-z0-9._-]+")


class Said(NamedTuple):
    """What an address answered; status 0 where it speaks no HTTP, or not in time."""

    status: int = 0
    value: Mapping[str, Any] = {}

    @property
    def code(self) -> str:
        """The code of an error in the gateway's own shape."""
        error = self.value.get("error")
        return str(error.get("code", "")) if isinstance(error, dict) else ""


def gateway(settings: Settings, daemon: str, port: int = PORT) -> Check:
    """Whether a gateway answers on its port, and whether it is ready, over the same daemon as this command line."""
    name = "gateway"
    if not here.taken(port):
        free = Words(f"not running; port {port} is free (orchestra serve)", f"未运行；端口 {port} 空闲（orchestra serve）")
        return Check(name=name, ok=True, detail=free)
    ready = asked(port, "/readyz", settings.token)
    if asked(port, "/healthz").value.get("status") != "ok" or not (ready.code or ready.value.get("status") == "ready"):
        return here.port(port, "the gateway", "网关")
    if ready.status == 401:
        detail = Words(f"one answers on port {port} and asks for another key", f"端口 {port} 上的网关要求另一个令牌")
        fix = Words("export ORCHESTRA_TOKEN=..., the key that it was started with", "export ORCHESTRA_TOKEN=...（启动网关时所用的令牌）")
        return Check(name=name, ok=False, detail=detail, fix=fix)
    if ready.code:
        detail = Words(f"one answers on port {port} and is not ready: {ready.code}", f"端口 {port} 上的网关尚未就绪：{ready.code}")
        why = f"curl http://127.0.0.1:{port}/readyz"
        return Check(name=name, ok=False, detail=detail, fix=Words(f"see why: {why}", f"查看原因：{why}"))
    behind = ready.value.get("daemon", daemon)
    if behind != daemon:
        detail = Words(f"one answers on port {port} over another daemon, {behind}", f"端口 {port} 上的网关使用另一个 Ollama：{behind}")
        again = f"OLLAMA_HOST={daemon} orchestra serve"
        fix = Words(f"where that is not meant, start it again: {again}", f"如非有意，请重新启动：{again}")
        return Check(name=name, ok=False, detail=detail, fix=fix)
    return _open(port, Words(f"ready on port {port}, over {daemon}", f"在端口 {port} 就绪，背后是 {daemon}"))


def _open(port: int, detail: Words) -> Check:
    """Whether it is open to others without a key: `serve` refuses that, another server of its app does not."""
    keyed, everywhere = asked(port, "/readyz").status == 401, _listens_everywhere(port)
    key = Words("a key is asked for", "需要令牌") if keyed else Words("no key is asked for", "不需要令牌")
    who = Words("other machines can reach it", "其他机器可以访问") if everywhere else Words("this machine alone can reach it", "只有本机可以访问")
    told = Words(f"{detail.en}; {who.en}, {key.en}", f"{detail.zh}；{who.zh}，{key.zh}")
    if keyed or not everywhere:
        return Check(name="gateway", ok=True, detail=told)
    fix = Words("set ORCHESTRA_TOKEN where it runs, or let it listen on 127.0.0.1", "请在其运行环境中设置 ORCHESTRA_TOKEN，或让它只监听 127.0.0.1")
    return Check(name="gateway", ok=False, detail=told, fix=fix)


def _listens_everywhere(port: int) -> bool:
    """Whether more than 127.0.0.1 is listened on. On Linux all of 127.0.0.0/8 is this machine; elsewhere this finds nothing."""
    with closing(socket.socket()) as probe:
        probe.settimeout(PATIENCE)
        return probe.connect_ex(("127.0.0.2", port)) == 0


def asked(port: int, path: str, token: str = "") -> Said:
    """What is answered on a port of this machine."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token.isascii() and token else {})
            answer = connection.getresponse()
            value = json.loads(answer.read(10_000))
            return Said(answer.status, value if isinstance(value, dict) else {})
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return Said()


async def direct(client: Client, patience: Patience) -> Check:
    """Whether OLLAMA_HOST names a daemon; through a gateway of ours its personas and bounds would come on top of our own."""
    url = client.connection.url
    try:
        through = (await client.connection.ask("GET", "/healthz", patience=patience)).get("status") == "ok"
    except OrchestraError:
        through = False
    if not through:
        return Check(name="direct", ok=True, detail=Words("OLLAMA_HOST names the daemon itself", "OLLAMA_HOST 直接指向 Ollama"))
    return Check(
        name="direct", ok=False,
        detail=Words(f"at {url} a gateway answers in place of the daemon: this command line goes through it",
                     f"{url} 是网关而不是 Ollama：本命令行会经过它"),
        fix=Words("unset OLLAMA_HOST here, and set it only for other programs", "请在此处 unset OLLAMA_HOST，只为其他程序设置"),
    )  # fmt: skip


def keys(settings: Settings) -> Check:
    """Which keys a gateway that is started here would ask for."""
    found = ", ".join(name for name, value in (("ORCHESTRA_TOKEN", settings.token), ("ORCHESTRA_TOKENS", settings.tokens)) if value)
    none = Words("none is set: serve listens on this machine alone", "未设置：serve 只监听本机")
    return Check(name="keys", ok=True, detail=Words(f"set: {found}", f"已设置：{found}") if found else none)


def extras() -> Check:
    """Whether the parts of the extras are installed."""
    missing: dict[str, list[str]] = {}
    for requirement, _, marker in (each.partition(";") for each in _requirements()):
        package, extra = _PACKAGE.match(requirement), next((name for name in EXTRAS if f"'{name}'" in marker), "")
        if package and extra and not _installed(package[0]):
            missing.setdefault(extra, []).append(package[0])
    there = ", ".join(extra for extra in EXTRAS if extra not in missing)
    if not missing:
        return Check(name="extras", ok=True, detail=Words(there, there))
    shown = "; ".join(f"{extra} ({', '.join(names)})" for extra, names in missing.items())
    command = f"{sys.executable} -m pip install '{DISTRIBUTION}[{','.join(missing)}]'"
    return Check(name="extras", ok=False, detail=Words(f"not installed: {shown}", f"未安装：{shown}"), fix=Words(command, command))


def _requirements() -> list[str]:
    try:
        return requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # a folder on the path, not installed
        return []


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False
