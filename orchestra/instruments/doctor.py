"""What works here, and for what does not, the command or the setting that changes it.

Each check is a function that looks at one thing and never raises: what goes wrong is what it is there to say. The
main job can run where a daemon answers, a chat model is there and the store can be written; the rest is advice.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from orchestra.errors import ConfigError, FirstTokenTimeout, ModelMissing, OrchestraError
from orchestra.instruments import here, searching, serving, surroundings
from orchestra.instruments.check import NOTHING, Check, failed
from orchestra.instruments.inventory import sized
from orchestra.instruments.machine import Machine, look
from orchestra.model.catalog import ModelCard, Purpose, chosen
from orchestra.model.client import Client
from orchestra.model.connection import Patience
from orchestra.model.hosts import daemon_url
from orchestra.runtime import Runtime
from orchestra.settings import Settings
from orchestra.texts import Words

PATIENCE = 2.0  # seconds for the daemon to connect, and to say its version
FULL_WINDOW = 8192
NEEDED_VERSION = (0, 12, 6)  # from here on the daemon keeps a prompt whole (`truncate: false`) or refuses it
LOGPROBS = (0, 12, 11)
NO_PENALTY = (0, 32, 10)  # from here on it repeats itself unless told otherwise: the penalty is 1.0 by default


async def examined(settings: Settings, runtime: Runtime, *, ask_services: bool = False) -> list[Check]:
    """Every check, in the order in which they are read. Takes below three seconds, also where no daemon answers.

    With `ask_services` each search service that is set up is asked a word, which takes five seconds more at most.
    """
    machine = await runtime.call(look)
    checks = await _daemon(settings, runtime, machine)
    checks += [surroundings.place(machine), surroundings.proxies(os.environ, _address(settings)), surroundings.slots(settings, os.environ)]
    for looked in (lambda: here.store(settings), lambda: here.personas(settings), lambda: _gateway(settings), here.ports, here.python):
        checks += await runtime.call(looked)
    looked_up = await searching.asked(settings, runtime) if ask_services else await runtime.call(lambda: searching.ready_ones(settings))
    return [*checks, here.folder(settings.folder(), machine), *looked_up, here.language(os.environ)]


def _gateway(settings: Settings) -> list[Check]:
    return [serving.gateway(settings, _address(settings)), serving.keys(settings), serving.extras()]


def _address(settings: Settings) -> str:
    try:
        return daemon_url(settings.host)
    except ConfigError:
        return daemon_url("")


def readable(environment: Mapping[str, str]) -> tuple[Settings, list[Check]]:
    """The settings, without those that cannot be read, and what is wrong with those."""
    left = dict(environment)
    faults: list[Check] = []
    while True:
        try:
            return Settings.read(left), faults
        except ConfigError as error:
            faults.append(failed("settings", error, required=True))
            del left[str(error.facts["name"])]


# --- the daemon and its models


async def _daemon(settings: Settings, runtime: Runtime, machine: Machine) -> list[Check]:
    """The daemon, and what only it can tell; without it each of these says so."""
    patient = replace(settings, connect_timeout=min(PATIENCE, settings.connect_timeout))
    try:
        client = Client(runtime, patient)
        version = await _version(client)
        found = await sized(client, FULL_WINDOW)
    except OrchestraError as error:
        check = _unreachable(error, settings, machine)
        unknown = Words("cannot be told without a daemon", "没有 Ollama 无法得知")
        others = [Check(name=name, ok=False, required=name == "chat model", detail=unknown, fix=check.fix) for name in _TOLD]
        return [check, *others, surroundings.memory([], machine, _address(settings))]
    return [
        reached(client, settings),
        version_of(version),
        penalty(version, settings),
        stand_in(client.connection.stand_in),
        await serving.direct(client, _brief()),
        await model(client, "chat"),
        await model(client, "base"),
        window([each.card for each in found], client.connection.stand_in),
        surroundings.memory(found, machine, client.connection.url),
    ]


_TOLD = ("version", "penalty", "stand-in", "direct", "chat model", "base model", "window")


async def _version(client: Client) -> str:
    answer = await client.connection.ask("GET", "/api/version", patience=_brief())
    return str(answer.get("version", ""))


def _brief() -> Patience:
    return Patience(first=PATIENCE, between=PATIENCE, deadline=time.monotonic() + 1.3 * PATIENCE)


def _unreachable(error: OrchestraError, settings: Settings, machine: Machine) -> Check:
    check = failed("daemon", error, required=True)
    if isinstance(error, FirstTokenTimeout):
        silent = Words("something listens there and does not answer", "该地址有程序监听但没有应答")
        return replace(check, detail=silent, fix=Words("restart it: `ollama serve`", "请重新启动：`ollama serve`"))
    if isinstance(error, ConfigError):
        return check
    elsewhere = surroundings.way_out(machine)
    if shutil.which("ollama") is None and not settings.host:
        fix = Words("install Ollama from https://ollama.com/download, then run `ollama serve`",
                    "请从 https://ollama.com/download 安装 Ollama，然后运行 `ollama serve`")  # fmt: skip
        check = replace(check, fix=fix)
    if elsewhere == NOTHING or not surroundings.is_here(_address(settings)):
        return check
    return replace(check, fix=Words(f"{check.fix.en}; or: {elsewhere.en}", f"{check.fix.zh}；或者：{elsewhere.zh}"))


def reached(client: Client, settings: Settings) -> Check:
    """Where the daemon answered, and who said that it is there."""
    url, host = client.connection.url, settings.host
    same = host.rstrip("/") in (url, url.removeprefix("http://"))
    named = Words(f"{url} (from OLLAMA_HOST{'' if same else '=' + host})", f"{url}（来自 OLLAMA_HOST{'' if same else '=' + host}）")
    default = Words(f"{url} (the default; OLLAMA_HOST is not set)", f"{url}（默认值；未设置 OLLAMA_HOST）")
    return Check(name="daemon", ok=True, required=True, detail=named if host else default)


def version_of(version: str) -> Check:
    """Whether the daemon can keep a prompt whole, and say how likely its tokens are.

    A build without a number (0.0.0) is taken for a new one.
    """
    if _since(version, LOGPROBS):
        return Check(name="version", ok=True, detail=Words(version or "not said", version or "未说明"))
    if _since(version, NEEDED_VERSION):
        lacks = Words("it cannot say how likely its tokens are (logprobs)", "无法给出 token 的概率（logprobs）")
        needed = LOGPROBS
    else:
        lacks, needed = Words("it may cut a long prompt without saying so", "可能会悄悄截断过长的提示词"), NEEDED_VERSION
    least = ".".join(map(str, needed))
    return Check(
        name="version",
        ok=False,
        detail=Words(f"{version} is older than {least}: {lacks.en}", f"{version} 早于 {least}：{lacks.zh}"),
        fix=Words("update Ollama: https://ollama.com/download", "请升级 Ollama：https://ollama.com/download"),
    )


def _since(version: str, first: tuple[int, ...]) -> bool:
    numbers = tuple(int(part) for part in re.findall(r"\d+", version.partition("-")[0])[:3])
    return not any(numbers) or numbers >= first


def penalty(version: str, settings: Settings) -> Check:
    """Whether something keeps small models from repeating themselves: the daemon by itself no longer does."""
    ours = settings.repeat_penalty
    default = "1.0" if _since(version, NO_PENALTY) else "1.1"
    said = Words(
        f"repeat_penalty {ours:g} is sent (the daemon's own default is {default})", f"发送 repeat_penalty {ours:g}（Ollama 默认为 {default}）"
    )
    if ours > 1:
        return Check(name="penalty", ok=True, detail=said)
    fix = Words("unset ORCHESTRA_REPEAT_PENALTY, or set it to 1.1", "请 unset ORCHESTRA_REPEAT_PENALTY，或设为 1.1")
    return Check(name="penalty", ok=False, detail=Words(f"{said.en}: small models loop", f"{said.zh}：小模型容易重复"), fix=fix)


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
        check = failed(name, error, required=required)
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
