"""Requests of the OpenAI protocol in the daemon's own terms.

What the daemon's own translation ignores is ignored here too, but for what has a meaning there: `max_completion_tokens`, the
role `developer`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from orchestra.errors import FieldInvalid
from orchestra.gateway import openai_wire as wire

_EFFORTS: Mapping[str, bool | str] = {
    "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "ultra": "max", "max": "max"
}  # fmt: skip


class _Drawn(wire.Wishes):
    """How tokens are drawn. Temperature and top_p are 1 where nothing is said, whatever the model's own are: as in the daemon's `/v1`."""

    frequency_penalty: float | None = Field(default=None, allow_inf_nan=False)
    presence_penalty: float | None = Field(default=None, allow_inf_nan=False)

    def options(self) -> dict[str, Any]:
        """The wishes in the daemon's terms."""
        wanted = {
            "num_predict": self.most(), "seed": self.seed, "stop": list(self.stops()) or None,
            "frequency_penalty": self.frequency_penalty, "presence_penalty": self.presence_penalty,
            "temperature": 1.0 if self.temperature is None else self.temperature, "top_p": 1.0 if self.top_p is None else self.top_p,
        }  # fmt: skip
        return {name: value for name, value in wanted.items() if value is not None}


class _Effort(wire.Lenient):
    effort: str | None = None


class Chat(_Drawn):
    """`POST /v1/chat/completions`."""

    messages: list[dict[str, Any]] = Field(max_length=10_000)
    tools: list[dict[str, Any]] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    reasoning: _Effort | None = None
    reasoning_effort: str | None = None

    def native(self) -> dict[str, Any]:
        """The same for `/api/chat`. Raises `FieldInvalid`."""
        more = {
            "format": self.form(), "tools": self.tools, "logprobs": self.logprobs, "top_logprobs": self.top_logprobs,
            "think": self._think(),
        }  # fmt: skip
        said = {name: value for name, value in more.items() if value is not None}
        return {"model": self.model, "messages": _messages(self.messages), "options": self.options(), **said}

    def _think(self) -> bool | str | None:
        effort = self.reasoning.effort if self.reasoning is not None else self.reasoning_effort
        if not effort:
            return None
        if effort not in _EFFORTS:
            raise FieldInvalid(field="reasoning_effort", detail=f"one of {', '.join(_EFFORTS)}", detail_zh=f"应为 {'、'.join(_EFFORTS)} 之一")
        return _EFFORTS[effort]


class Completion(_Drawn):
    """`POST /v1/completions`: the daemon puts the prompt into the model's template all the same."""

    prompt: str
    suffix: str | None = None

    def native(self) -> dict[str, Any]:
        """The same for `/api/generate`."""
        said = {"suffix": self.suffix} if self.suffix else {}
        return {"model": self.model, "prompt": self.prompt, "options": self.options(), **said}


def _messages(given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The messages as the daemon takes them; each part of a content in parts is one, as in its own translation."""
    said: list[dict[str, Any]] = []
    names: dict[str, str] = {}  # of the functions, by the ids of their calls
    for place, message in enumerate(given):
        said += _message(message, f"messages.{place}", names)
    return said


def _message(message: Mapping[str, Any], field: str, names: dict[str, str]) -> list[dict[str, Any]]:
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str):
        raise FieldInvalid(field=f"{field}.role", detail="a role", detail_zh="应为角色")
    beside = _beside(message, field, names)
    if content is None and "tool_calls" in beside:
        content = ""
    if isinstance(content, str):
        parts = [{"content": content}]
    elif isinstance(content, list) and content:
        parts = [_part(part, f"{field}.content.{place}") for place, part in enumerate(content)]
    else:
        raise FieldInvalid(field=f"{field}.content", detail="a text, or a list of parts", detail_zh="应为文本或内容片段列表")
    parts[-1] |= beside
    return [{"role": "system" if role == "developer" else role, **part} for part in parts]


def _beside(message: Mapping[str, Any], field: str, names: dict[str, str]) -> dict[str, Any]:
    """What a message says beside its content: its thinking, its calls, whose call it answers."""
    beside: dict[str, Any] = {}
    thinking = message.get("reasoning") or message.get("reasoning_content")
    if isinstance(thinking, str):
        beside["thinking"] = thinking
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        beside["tool_calls"] = [_call(call, f"{field}.tool_calls.{place}") for place, call in enumerate(calls)]
        names.update({call["id"]: call["function"]["name"] for call in beside["tool_calls"] if "id" in call})
    if message.get("role") == "tool":
        number = message.get("tool_call_id")
        name = message.get("name") or (names.get(number) if isinstance(number, str) else None)
        beside |= {key: value for key, value in (("tool_name", name), ("tool_call_id", number)) if isinstance(value, str)}
    return beside


def _call(call: Any, field: str) -> dict[str, Any]:
    """A call, whose arguments come as JSON in a text and go as an object."""
    try:
        function, number = call["function"], call.get("id")
        name, given = function["name"], function.get("arguments") or "{}"
        arguments = given if isinstance(given, dict) else json.loads(given)
    except (TypeError, KeyError, AttributeError, ValueError, RecursionError):
        name, number, arguments = None, None, None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise FieldInvalid(
            field=field, detail="a function with a name, and its arguments as a JSON object", detail_zh="应为函数名称及 JSON 对象形式的参数"
        )
    return {**({"id": number} if isinstance(number, str) else {}), "function": {"name": name, "arguments": arguments}}


def _part(part: Any, field: str) -> dict[str, Any]:
    """A text, or a picture or sound that is sent itself."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"content": part["text"]}
    if kind == "image_url":
        given = part.get("image_url")
        given = given.get("url") if isinstance(given, dict) else given
        if isinstance(given, str) and given.startswith("data:") and "," in given:
            return {"content": "", "images": [given.partition(",")[2]]}
    if kind == "input_audio":
        given = part.get("input_audio")
        if isinstance(given, dict) and isinstance(given.get("data"), str):
            return {"content": "", "images": [given["data"]]}
    raise FieldInvalid(
        field=field, detail="a text, a picture as a data: URL with base64, or a sound", detail_zh="应为文本、base64 的 data: URL 图片或音频"
    )
