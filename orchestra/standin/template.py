"""The prompt that the model really sees: messages put into a model's template.

Ollama's older templates, and llama3's is one, know no list of messages: only `.System`, `.Prompt` and `.Response`,
filled turn by turn. What follows from that (a `tool` message vanishes, a second system message leaves an empty
answer before it) is what clients of the daemon meet, so it is done the same way here. Of Go's template language
only fields and `if` are understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestra.standin.refusal import Refusal

Messages = Sequence[Mapping[str, Any]]
_ACTION = re.compile(r"(\s*)\{\{(-?)\s*(.*?)\s*(-?)\}\}(\s*)", re.DOTALL)
_FIELD = re.compile(r"\$?\.(\w+)\Z")
PLAIN = "{{ .Prompt }}"
ROLES = ("system", "user", "assistant")


@dataclass(slots=True)
class _If:
    name: str
    then: list[str | _Field | _If] = field(default_factory=list)
    otherwise: list[str | _Field | _If] = field(default_factory=list)


class _Field(str):
    """The name of a field that stands in a template."""

    __slots__ = ()


_Node = str | _Field | _If


class Template:
    """A parsed template. Raises `Refusal` (500) for one that cannot be read."""

    def __init__(self, source: str) -> None:
        self.nodes = _parse(source)
        if not _mentions(self.nodes, "Response"):
            self.nodes.append(_Field("Response"))

    def render(self, messages: Messages) -> str:
        """The prompt for these messages; the last answer among them is left open, so that the model goes on with it."""
        text: list[str] = []
        turn = dict.fromkeys(ROLES, "")
        for role, content in _merged(messages):
            if role not in turn:
                continue
            # A turn is full when something comes that stands before what it already has.
            if any(turn[later] for later in ROLES[ROLES.index(role) + 1 :]):
                self._write(text, turn, open_end=False)
                turn = dict.fromkeys(ROLES, "")
            turn[role] = content
        self._write(text, turn, open_end=True)
        return "".join(text)

    def _write(self, text: list[str], turn: Mapping[str, str], *, open_end: bool) -> None:
        fields = {"System": turn["system"], "Prompt": turn["user"], "Response": turn["assistant"]}
        _fill(self.nodes, fields, text, open_end)


def native(messages: Messages) -> str:
    """The prompt as the chat template inside the GGUF makes it: every role, its content trimmed."""
    shown = [(str(m.get("role", "")), str(m.get("content") or "").strip()) for m in messages]
    prefill = shown.pop()[1] if shown and shown[-1][0] == "assistant" else ""
    turns = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>" for role, content in shown)
    return f"{turns}<|start_header_id|>assistant<|end_header_id|>\n\n{prefill}"


def _merged(messages: Messages) -> list[tuple[str, str]]:
    merged: list[tuple[str, str]] = []
    for message in messages:
        role, content = str(message.get("role") or "").lower(), str(message.get("content") or "")
        if merged and merged[-1][0] == role and role != "tool":
            merged[-1] = (role, f"{merged[-1][1]}\n\n{content}")
        else:
            merged.append((role, content))
    return merged


def _fill(nodes: Sequence[_Node], fields: Mapping[str, str], text: list[str], open_end: bool) -> bool:
    """Append what the nodes give; false once the answer's place was reached and the rest is to be left out."""
    for node in nodes:
        if isinstance(node, _If):
            if not _fill(node.then if fields.get(node.name) else node.otherwise, fields, text, open_end):
                return False
        elif isinstance(node, _Field):
            text.append(fields.get(node, ""))
            if open_end and node == "Response":
                return False
        else:
            text.append(node)
    return True


def _mentions(nodes: Sequence[_Node], name: str) -> bool:
    return any(
        node.name == name or _mentions(node.then, name) or _mentions(node.otherwise, name)
        if isinstance(node, _If)
        else isinstance(node, _Field) and node == name
        for node in nodes
    )


def _parse(source: str) -> list[_Node]:
    root: list[_Node] = []
    open_ifs: list[_If] = []
    target, place = root, 0
    for match in _ACTION.finditer(source):
        before, trim_left, action, trim_right, after = match.groups()
        target.append(source[place : match.start()] + ("" if trim_left else before))
        place = match.end() if trim_right else match.end() - len(after)
        target = _act(action, target, open_ifs, root)
    target.append(source[place:])
    if open_ifs or "{{" in source[place:]:
        raise Refusal(500, "template: :1: unexpected EOF")
    return root


def _act(action: str, target: list[_Node], open_ifs: list[_If], root: list[_Node]) -> list[_Node]:
    word, _, rest = action.partition(" ")
    if action.startswith("/*"):
        return target
    if name := _FIELD.match(action):
        target.append(_Field(name[1]))
        return target
    if word == "if" and (name := _FIELD.match(rest.strip())):
        branch = _If(name[1])
        target.append(branch)
        open_ifs.append(branch)
        return branch.then
    if action == "else" and open_ifs:
        return open_ifs[-1].otherwise
    if action == "end" and open_ifs:
        open_ifs.pop()
        return open_ifs[-1].then if open_ifs else root
    raise Refusal(500, f'template: :1: function "{word}" not defined')
