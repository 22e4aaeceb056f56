"""The prompt that the model really sees: messages put into a model's template.

Ollama's older templates, and llama3's is one, know no list of messages: only `.System`, `.Prompt` and `.Response`,
filled turn by turn. What follows from that (a `tool` message vanishes, a second system message leaves an empty
answer before it) is what clients of the daemon meet, so it is done the same way here. Templates that go through
`.Messages` themselves get them as they are, with `.Tools`. Of Go's template language only fields, `if` (a field, `or`
of fields, `eq` of a field and a text) and `range` are understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestra.standin.encoding import compact, in_order
from orchestra.standin.refusal import Refusal

Messages = Sequence[Mapping[str, Any]]
_ACTION = re.compile(r"(\s*)\{\{(-?)\s*(.*?)\s*(-?)\}\}(\s*)", re.DOTALL)
_FIELD = re.compile(r"\$?\.(\w+(?:\.\w+)*|)\Z")
_EQUAL = re.compile(r"eq \.(\w+) \"(\w*)\"\Z")
PLAIN = "{{ .Prompt }}"
ROLES = ("system", "user", "assistant")


@dataclass(slots=True)
class _If:
    """Where one of the fields `names` is there, or equal to `text`; a `loop` is done for each of its members."""

    names: tuple[str, ...]
    text: str | None = None
    loop: bool = False
    then: list[str | _Field | _If] = field(default_factory=list)
    otherwise: list[str | _Field | _If] = field(default_factory=list)


class _Field(str):
    """The name of a field that stands in a template; `Function.Name` is a field of a field, the empty one the value itself."""

    __slots__ = ()


_Node = str | _Field | _If


class Template:
    """A parsed template. Raises `Refusal` (500) for one that cannot be read."""

    def __init__(self, source: str) -> None:
        self.nodes = _parse(source)
        self._turns = not _mentions(self.nodes, "Messages")
        if self._turns and not _mentions(self.nodes, "Response"):
            self.nodes.append(_Field("Response"))

    def render(self, messages: Messages, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt for these messages; the last answer among them is left open, so that the model goes on with it."""
        text: list[str] = []
        if not self._turns:
            system = "\n\n".join(content for role, content in _merged(messages) if role == "system")
            _fill(self.nodes, {"System": system, "Messages": _fields(messages), "Tools": tools}, text, False)
            return "".join(text)
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


def _fields(messages: Messages) -> list[dict[str, Any]]:
    """The messages as a template sees them: those of one role in a row are one, but not those of tools."""
    shown: list[dict[str, Any]] = []
    for message in messages:
        role, content = str(message.get("role") or "").lower(), str(message.get("content") or "")
        if shown and shown[-1]["Role"] == role and role != "tool":
            shown[-1]["Content"] += f"\n\n{content}"
            continue
        functions = [call.get("function") or {} for call in message.get("tool_calls") or ()]
        calls = [{"Function": {"Name": each.get("name", ""), "Arguments": in_order(each.get("arguments") or {})}} for each in functions]
        shown.append({"Role": role, "Content": content, "ToolCalls": calls})
    return shown


def _value(path: str, dot: Any) -> Any:
    for name in path.split(".") if path else ():
        dot = dot.get(name, "") if isinstance(dot, Mapping) else ""
    return dot


def _fill(nodes: Sequence[_Node], fields: Any, text: list[str], open_end: bool) -> bool:
    """Append what the nodes give; false once the answer's place was reached and the rest is to be left out."""
    for node in nodes:
        if isinstance(node, _If):
            values = [_value(name, fields) for name in node.names]
            holds = any(values) if node.text is None else node.text in values
            for dot in values[0] if node.loop and holds else (fields,):
                if not _fill(node.then if holds else node.otherwise, dot, text, open_end):
                    return False
        elif isinstance(node, _Field):
            value = _value(node, fields)
            text.append(value if isinstance(value, str) else compact(value))
            if open_end and node == "Response":
                return False
        else:
            text.append(node)
    return True


def _mentions(nodes: Sequence[_Node], name: str) -> bool:
    return any(
        name in node.names or _mentions(node.then, name) or _mentions(node.otherwise, name)
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
    branch = _branch(word, rest.strip())
    if branch is not None:
        target.append(branch)
        open_ifs.append(branch)
        return branch.then
    if action == "else" and open_ifs:
        return open_ifs[-1].otherwise
    if action == "end" and open_ifs:
        open_ifs.pop()
        return open_ifs[-1].then if open_ifs else root
    raise Refusal(500, f'template: :1: function "{word}" not defined')


def _branch(word: str, test: str) -> _If | None:
    """An `if` or `range` on a field; None for what is not understood."""
    if word == "range" and (name := _FIELD.match(test)):
        return _If((name[1],), loop=True)
    if word == "if" and (equal := _EQUAL.match(test)):
        return _If((equal[1],), equal[2])
    names = [_FIELD.match(each) for each in test.removeprefix("or ").split()]
    if word == "if" and names and all(names) and (len(names) == 1 or test.startswith("or ")):
        return _If(tuple(name[1] for name in names if name))
    return None
