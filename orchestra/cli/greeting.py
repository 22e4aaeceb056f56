"""What `serve` says when it is up: where it listens, what to paste into which client, what stands behind it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from orchestra.agents.router import AUTO
from orchestra.api import AsyncOrchestra
from orchestra.cli.tables import aligned
from orchestra.cli.terminal import harmless
from orchestra.cli.words import LANGUAGE, say
from orchestra.errors import OrchestraError
from orchestra.gateway.roster import Roster
from orchestra.gateway.voices import PREFIX
from orchestra.settings import Settings

KEY = "$ORCHESTRA_TOKEN"
EVERYWHERE = ("//0.0.0.0:", "//[::]:")


class Door(NamedTuple):
    """Where a service is, who answers there, and how its key is named in a shell: empty where none is asked for.

    With `named` keys alone each caller has one of his own.
    """

    roster: Roster
    url: str
    key: str
    named: bool = False

    @classmethod
    def of(cls, roster: Roster, url: str, settings: Settings) -> Door:
        """The door of a service that listens at `url`."""
        for everywhere in EVERYWHERE:  # listened on, but nobody's address
            url = url.replace(everywhere, "//127.0.0.1:")
        return cls(roster, url, KEY if settings.token or settings.tokens else "", named=not settings.token)

    @property
    def model(self) -> str:
        """The model to begin with."""
        return PREFIX + (self.roster.alone.name if self.roster.alone else AUTO)


def announced(roster: Roster, url: str) -> list[str]:
    """Who answers at an address, and whom a coordinator there asks."""
    name, name_zh = (roster.alone.name, f"{roster.alone.name} 的") if roster.alone else ("everybody", "")
    said = [say(f"serving {name} at {url} (Ctrl-C ends it)", f"{name_zh}服务地址：{url}（按 Ctrl-C 结束）")]
    if roster.integrates:
        names, chief = [str(each) for each in roster.experts], roster.coordinator
        said.append(say(f"  tasks go to {chief}, who asks {', '.join(names)}", f"  任务交给 {chief}，由其询问：{'、'.join(names)}"))
    return said


def tried(door: Door) -> str:
    """A line to try a service with, as a shell understands it."""
    route, field = ("integrate", "task") if door.roster.integrates else ("chat", "intent")
    key = f' -H "Authorization: Bearer {door.key}"' if door.key else ""
    return f"curl -X POST {door.url}/{route} -H 'Content-Type: application/json'{key} -d '{{\"{field}\": \"...\"}}'"


def pasted(door: Door) -> list[str]:
    """What to paste into each client, one below the other."""
    key, python = (door.key, f'os.environ["{door.key[1:]}"]') if door.key else (say("none (any word)", "none（任意字符）"), '"none"')
    place = say("Settings > Connections > OpenAI API", "设置 > 外部连接 > OpenAI API")
    rows = [
        ("Open WebUI", say(f"{place}: {door.url}/v1, key {key}", f"{place}：{door.url}/v1，密钥 {key}")),
        ("OpenAI SDK", f'OpenAI(base_url="{door.url}/v1", api_key={python}), model="{door.model}"'),
    ]
    if door.roster.alone is None:
        rows.insert(1, ("ollama", _ollama(door)))
    rows += [("curl", tried(door)), (say("more", "更多"), f"{door.url}/docs")]
    if door.key and door.named:
        rows.append((say("key", "令牌"), say(
            "each caller sets ORCHESTRA_TOKEN to a key of ORCHESTRA_TOKENS", "每位使用者把 ORCHESTRA_TOKEN 设为 ORCHESTRA_TOKENS 中自己的令牌"
        )))  # fmt: skip
    return [f"  {row}" for row in aligned(rows)]


def _ollama(door: Door) -> str:
    if not door.key:
        return f"OLLAMA_HOST={door.url} ollama run {door.model}"
    python = f"OLLAMA_HOST={door.url} OLLAMA_API_KEY={door.key} python ..."
    return say(f"{python} (the ollama command itself sends no key)", f"{python}（ollama 命令本身不发送密钥）")


def greet(lines: Sequence[str]) -> None:
    """Shows lines on stderr, in full brightness: to whoever starts a service they are what he is here for."""
    print(*(harmless(line) for line in lines), sep="\n", file=sys.stderr, flush=True)


async def behind(orchestra: AsyncOrchestra) -> str:
    """What stands behind a service: the daemon, the model that answers, how many requests it gets at once."""
    url, slots = orchestra.client.connection.url, max(1, orchestra.settings.parallel)
    try:
        version, model = await orchestra.client.version(), await orchestra.model_for()
    except OrchestraError as error:
        return f"{error.message(LANGUAGE)}: {error.hint(LANGUAGE)}"
    name = say("a stand-in", "替身服务") if orchestra.client.connection.stand_in else f"Ollama {version}"
    return say(
        f"behind it: {name} at {url}, {model}, {slots} at once (ORCHESTRA_PARALLEL)",
        f"背后：{name}（{url}），{model}，同时 {slots} 个请求（ORCHESTRA_PARALLEL）",
    )
