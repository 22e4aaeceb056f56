"""Who may be asked: the tools that names of personas, addresses and Python functions stand for.

Nobody else can be reached from a task: the list is made once, by the operator, before any text is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast
from urllib.parse import urlsplit

from orchestra.agents.bearer import origin, tokens
from orchestra.agents.expert import Expert
from orchestra.agents.personas import Library
from orchestra.agents.remote import INTRODUCTION, Remote, address, introduced
from orchestra.agents.subteam import Subteam
from orchestra.agents.tool import Tool
from orchestra.errors import PersonaMissing, UsageError
from orchestra.model.client import Client
from orchestra.model.persona import Persona
from orchestra.sessions.grounding import Ground

Named = str | Persona | Tool | Callable[..., Any]


def _groundless(persona: Persona) -> Ground | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where experts come from: persona files, the daemon that they share, what those that look things up look in.

    `descriptions` say what a service is for that does not say it itself, by its name or its address. `met` remembers who
    was met at an address: one that is down since then is called by its name still.
    """

    personas: Library
    client: Client
    model: str
    grounded: Callable[[Persona], Ground | None] = _groundless
    descriptions: Mapping[str, str] = field(default_factory=dict)
    met: MutableMapping[str, Remote] = field(default_factory=dict)


async def resolved(
    named: Sequence[Named], source: Source, *, seconds: float = INTRODUCTION, coordinator: str = ""
) -> list[Tool]:
    """The tools, in their order; services are asked who they are, all at once, within so many seconds.

    Raises `PersonaMissing` for an unknown name and `UsageError` for an address that cannot be asked, a function that
    cannot be described, a name that stands for two, or that of the `coordinator`, or a description of nobody.
    """
    tools = await _tools(named, source, seconds)
    if any(tool.name == coordinator for tool in tools):
        raise UsageError(
            detail=f"the expert {coordinator} is the coordinator itself", detail_zh=f"专家 {coordinator} 就是协调者自己",
            fix="leave it out, or let another one coordinate", fix_zh="请去掉它，或改由其他角色协调",
        )  # fmt: skip
    known = {tool.name for tool in tools} | {tool.url for tool in tools if isinstance(tool, Remote)}
    for name in source.descriptions:
        if _place(name) not in known:
            raise UsageError(
                detail=f"{name} is described and is no expert of this task", detail_zh=f"描述了 {name}，但它不是本任务的专家",
                fix=f"experts are: {', '.join(sorted(tool.name for tool in tools))}",
                fix_zh=f"现有专家：{'、'.join(sorted(tool.name for tool in tools))}",
            )  # fmt: skip
    return tools


async def _tools(named: Sequence[Named], source: Source, seconds: float) -> list[Tool]:
    places = {each: place for each in named if isinstance(each, str) and (place := address(each))}
    met = await source.client.runtime.together([partial(_met, *place, source, seconds) for place in places.values()])
    remotes = dict(zip(places, met, strict=True))
    tools = [remotes[each] if isinstance(each, str) and each in remotes else _local(each, source) for each in named]
    seen: dict[str, Named] = {}
    for tool, each in zip(tools, named, strict=True):
        if tool.name in seen and each == seen[tool.name]:
            raise UsageError(
                detail=f"the expert {tool.name} is named twice", detail_zh=f"专家 {tool.name} 重复出现",
                fix="name each expert once", fix_zh="每位专家只需列出一次",
            )  # fmt: skip
        if tool.name in seen:
            both = f"{_shown(seen[tool.name])}, {_shown(each)}"
            raise UsageError(
                detail=f"two experts are called {tool.name}: {both}", detail_zh=f"有两个专家都叫 {tool.name}：{both}",
                fix="give one another name: NAME=URL", fix_zh="请给其中一个换名：名称=URL",
            )  # fmt: skip
        seen[tool.name] = each
    return tools


def _local(named: Named, source: Source) -> Tool:
    if isinstance(named, str):
        named = source.personas.persona(named)
    if isinstance(named, Persona):
        expert = Expert(persona=named, client=source.client, model=source.model, ground=source.grounded(named))
        return Subteam(tool=expert, experts=partial(_tools, named.experts, source)) if named.experts else expert
    if hasattr(named, "ask") and hasattr(named, "parameters"):
        return cast(Tool, named)
    if callable(named):
        # pydantic, which reads its signature, takes longer to load than everything else that a task needs
        from orchestra.agents.function import tool

        return tool(named)
    raise UsageError(
        detail=f"{named!r} is no expert", detail_zh=f"{named!r} 不是专家",
        fix="name a persona, an address or a function", fix_zh="请给出角色名称、地址或函数",
    )  # fmt: skip


async def _met(name: str, url: str, source: Source, seconds: float) -> Remote:
    """The expert at an address: as it says or once said itself, else as the persona file of its name says, else as the operator says."""
    settings = source.client.settings
    token = tokens(settings.expert_tokens).get(origin(url), "")
    stranger = Remote(name=name or _placed(url), url=url, seconds=settings.expert_timeout, token=token)
    said = await introduced(source.client.runtime, stranger, seconds=seconds)
    if said is not None:
        source.met[url] = said
    said = said or source.met.get(url)
    if said is not None and said.description:
        return replace(said, name=name or said.name)
    name = name or (said or stranger).name
    try:
        persona = source.personas.persona(name)
    except PersonaMissing:
        told = {_place(key): text for key, text in source.descriptions.items()}
        text = told.get(name) or told.get(url) or ""
        texts = {"en": text or f"the expert at {url}", "zh": text or f"位于 {url} 的专家"}
        title = said.title if said else {} if name != _placed(url) else dict.fromkeys(texts, urlsplit(url).netloc)
        return replace(stranger, name=name, title=title, description=texts)
    return replace(stranger, name=name, title=persona.title, description=persona.description)


def _place(name: str) -> str:
    """What a description is for: an address as experts have it, else a name as it is."""
    place = address(name)
    return place[1] if place else name


def _placed(url: str) -> str:
    """A name made of an address: `localhost-5000`."""
    parts = urlsplit(url)
    return re.sub(r"[^\w-]", "-", f"{parts.hostname}-{parts.port}" if parts.port else str(parts.hostname))[:64]


def _shown(named: Named) -> str:
    return named if isinstance(named, str) else str(getattr(named, "name", None) or getattr(named, "__name__", named))
