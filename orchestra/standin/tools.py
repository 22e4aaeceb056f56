"""Tools that a model may call: how they stand in a prompt, and how calls are found in what a model says.

The daemon does not hold a model to anything here. It waits where a call may begin, and gives as a call what names a tool
that was offered and has an object of arguments; all else - an unknown name, arguments that are a text, half a JSON - goes
to the client as text. What the arguments say is never compared with the tool's schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from orchestra.standin.encoding import in_order
from orchestra.standin.refusal import Refusal

Tools = Sequence[Mapping[str, Any]]
_SCHEMA = ("type", "$defs", "items", "required", "properties")
_PROPERTY = ("anyOf", "type", "items", "description", "enum", "properties", "required")
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_MARKS = {"{": "}", "[": "]"}
MOST_AT_ONCE = 3


def offered(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """The tools of a request as the daemon keeps them: the fields that it knows, in its order. Raises `Refusal` (400)."""
    return [_tool(tool) for tool in tools]


def _tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, Mapping):
        raise Refusal(400, f"json: cannot unmarshal {_kind(tool)} into Go struct field ChatRequest.tools of type api.Tool")
    function = tool.get("function") or {}
    name, description = function.get("name") or "", function.get("description") or ""
    if not isinstance(name, str):
        raise Refusal(400, f"json: cannot unmarshal {_kind(name)} into Go struct field ToolFunction.tools.function.name of type string")
    parameters = function.get("parameters") or {}
    schema = {"type": "", "properties": None, **{key: value for key, value in parameters.items() if key in _SCHEMA}}
    if schema["properties"]:
        properties = {key: _ordered(value, _PROPERTY) for key, value in sorted(schema["properties"].items())}
        schema["properties"] = properties
    return {"type": tool.get("type") or "", "function": {"name": name, "description": description, "parameters": _ordered(schema, _SCHEMA)}}


def _ordered(value: Any, names: Sequence[str]) -> Any:
    return {name: value[name] for name in names if name in value} if isinstance(value, Mapping) else value


def _kind(value: Any) -> str:
    return {str: "string", int: "number", float: "number", list: "array", bool: "bool"}.get(type(value), "object")


def chosen(tools: Tools, random: Random) -> dict[str, Any] | None:
    """The schema of a list of calls, as the stand-in's own model makes them: of some tools, or, as often, None."""
    if not tools or random.random() < 0.5:
        return None
    some = random.sample(list(tools), random.randint(1, min(MOST_AT_ONCE, len(tools))))
    calls = [_schema(tool["function"]) for tool in some]
    return {"type": "array", "prefixItems": calls, "items": False, "minItems": len(calls)}


def _schema(function: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", **{key: value for key, value in function["parameters"].items() if value}}
    return {"type": "object", "properties": {"name": {"const": function["name"]}, "parameters": parameters}}


class Calls:
    """Takes the text of an answer, gives what of it is text and what are calls. `mark` is how a call begins: "[" or "{"."""

    def __init__(self, tools: Tools, mark: str, random: Random) -> None:
        self._names = [str(tool["function"]["name"]) for tool in tools]
        self._mark, self._random = mark, random
        self._buffer = ""
        self._plain = False
        self.text = ""
        self.found: list[dict[str, Any]] = []

    def push(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        """The text that can be sent, and the calls that are whole; nothing while something may be one."""
        said, calls = self._told(text)
        self.text += said
        self.found += calls
        return said, calls

    def rest(self) -> str:
        """What was held back when the answer ends: text, where no call was found in it."""
        return "" if self.found else self._buffer

    def _told(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        if self._plain:
            return text, []
        self._buffer += text
        if not self.found and not self._buffer.lstrip().startswith(self._mark):
            said, self._buffer, self._plain = self._buffer, "", bool(self._buffer.strip())
            return said, []
        calls: list[dict[str, Any]] = []
        while (call := self._call(len(self.found) + len(calls))) is not None:
            calls.append(call)
        if not self._closed():
            return "", calls
        said, self._buffer, self._plain = self._buffer, "", True
        return said, calls

    def _call(self, number: int) -> dict[str, Any] | None:
        start = self._buffer.find("{")
        if start < 0:
            return None
        try:
            value, end = json.JSONDecoder().raw_decode(self._buffer, start)
        except (ValueError, RecursionError):
            return None
        arguments = in_order(value.get("parameters", value.get("arguments")))
        if value.get("name") not in self._names or not isinstance(arguments, dict):
            return None
        self._buffer = self._buffer[end:]
        name = "call_" + "".join(self._random.choices(_ALPHABET, k=8))
        return {"id": name, "function": {"index": number, "name": value["name"], "arguments": arguments}}

    def _closed(self) -> bool:
        """Whether what began with the mark has its end, as many closed as opened."""
        depth = 0
        for character in self._buffer:
            depth += (character == self._mark) - (character == _MARKS[self._mark])
            if depth == 0 and character == _MARKS[self._mark]:
                return True
        return False


def mark_of(template: str) -> str:
    """How a call begins in a template: with a list where it writes one."""
    return "[" if "[{{ range .ToolCalls }}" in template else "{"
