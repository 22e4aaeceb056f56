"""The prompt that the daemon makes of a dialogue: its own and the model's messages, put into the model's template.

There are two kinds of templates. The newer ones go through a list of messages. The older ones, llama3's among them, know
only `.System`, `.Prompt` and `.Response` and are filled once for each exchange; that has consequences (messages of one role
in a row are joined, a second system message leaves an empty answer before it) which were recorded from a running daemon.
What is not certain is `Unknown`: templates inside the weights, renderers inside the daemon, thinking that is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from orchestra.model.template import Action, Node, Rendering, Unknown, cut_after, mentions, parsed

PLAIN = "{{ .Prompt }}"
_ORDER = ("system", "user", "assistant")
_FIELDS = ("System", "Prompt", "Response")
_RENDERER = re.compile(r"^(?:RENDERER|PARSER)\s", re.MULTILINE)
# families whose prompts the daemon makes in code of its own, or whose thinking it takes out of the history
_SPECIAL = re.compile(r"gpt-?oss|qwen3|deepseek-?(?:r1|v3)|gemma[34]")

Given = Mapping[str, str]  # a message as it is sent: role, content


def certain(facts: Mapping[str, Any]) -> bool:
    """Whether the template alone says what the prompt is; a newer daemon may prefer the one inside the weights."""
    try:
        return not mentions(_template(str(facts.get("template") or PLAIN)), "Messages")
    except Unknown:
        return False


def rendered(facts: Mapping[str, Any], subject: Sequence[Given] | str) -> str:
    """The text of a prompt for /api/chat (messages) or /api/generate. `facts` are `show`'s. Raises `Unknown`."""
    family = str((facts.get("details") or {}).get("family") or "")
    if facts.get("renderer") or _RENDERER.search(str(facts.get("modelfile") or "")) or _SPECIAL.search(family):
        raise Unknown("a renderer inside the daemon")
    nodes = _template(str(facts.get("template") or PLAIN))
    return _filled(nodes, _collated(_whole(facts, subject)))


@lru_cache(maxsize=16)
def _template(source: str) -> tuple[Node, ...]:
    nodes = parsed(source)
    if not mentions(nodes, "Messages") and not mentions(nodes, "Response"):
        nodes.append(Action([".Response"]))
    return tuple(nodes)


def _whole(facts: Mapping[str, Any], subject: Sequence[Given] | str) -> list[Given]:
    """The model's own system text and messages first, then what was asked."""
    own: list[Given] = [{"role": str(m.get("role", "")), "content": str(m.get("content") or "")} for m in facts.get("messages") or ()]
    asked = [{"role": "user", "content": subject}] if isinstance(subject, str) else list(subject)
    system = str(facts.get("system") or "")
    if system and (isinstance(subject, str) or asked[0]["role"] != "system"):
        own.insert(0, {"role": "system", "content": system})
    return [*own, *asked]


def _collated(messages: Sequence[Given]) -> list[tuple[str, str]]:
    """Role and content; messages of one role in a row are one."""
    joined: list[tuple[str, str]] = []
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "assistant" and "think>" in content:
            raise Unknown("thinking in the history")
        if joined and joined[-1][0] == role:
            joined[-1] = (role, f"{joined[-1][1]}\n\n{content}")
        else:
            joined.append((role, content))
    return joined


def _filled(nodes: Sequence[Node], messages: Sequence[tuple[str, str]]) -> str:
    if mentions(nodes, "Messages"):
        listed = [{"Role": role, "Content": content, "ToolCalls": [], "Images": [], "Thinking": ""} for role, content in messages]
        system = "\n\n".join(content for role, content in messages if role == "system")
        return Rendering({"System": system, "Messages": listed, "Tools": [], "Response": ""}).run(nodes)
    text: list[str] = []
    turn = dict.fromkeys(_ORDER, "")
    for role, content in messages:
        if role not in turn:
            continue
        if any(turn[later] for later in _ORDER[_ORDER.index(role) + 1 :]):
            text.append(_exchange(nodes, turn))
            turn = dict.fromkeys(_ORDER, "")
        turn[role] = content
    text.append(_exchange(cut_after(nodes, "Response")[0], turn))
    return "".join(text)


def _exchange(nodes: Sequence[Node], turn: Mapping[str, str]) -> str:
    return Rendering(dict(zip(_FIELDS, map(turn.__getitem__, _ORDER), strict=True))).run(nodes)
