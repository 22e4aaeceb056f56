"""The one place that knows the daemon's wire: bodies that are sent, lines that come back, errors in its words.

Pure functions over bytes and dictionaries; nothing here waits. What the daemon does is written down in its
API documentation (github.com/ollama/ollama, docs/api.md) and, where that differs, was recorded from a
running one (tests/wire).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from orchestra.errors import (
    AuthFailed,
    DaemonBusy,
    DaemonError,
    LoadFailed,
    ModelMissing,
    ModelUnsupported,
    NotOllama,
    OrchestraError,
    PromptTooLong,
    RedirectRefused,
)
from orchestra.model.messages import Message, Options, ToolCall, Usage

STAND_IN = "orchestra-standin"  # the `Server` header of Orchestra's own stand-in daemon

_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "seed", "repeat_penalty", "repeat_last_n",
    "presence_penalty", "frequency_penalty",
)  # fmt: skip

# Control tokens of the model families that run here, as they would stand in a text: `<|eot_id|>` and its
# like, DeepSeek's with full-width bars, Llama 2's and Gemma's. Bounded, so linear on any text.
_CONTROL = re.compile(r"<([|｜])([^\s<>|｜\[\]]{1,64})([|｜])>|<(/?(?:start|end)_of_turn)>|\[(/?INST)\]|<<(/?SYS)>>")


def neutral(text: str) -> str:
    """`text` with control tokens broken up (`<|eot_id|>` -> `<| eot_id |>`), so that the daemon reads them as text.

    Without it a user or a web page could close the turn and open a system turn (promise 9).
    """
    if "<" not in text and "[" not in text:
        return text
    return _CONTROL.sub(_broken_up, text)


def _broken_up(match: re.Match[str]) -> str:
    bar, name, bar_after, turn, inst, system = match.groups()
    if name:
        return f"<{bar} {name} {bar_after}>"
    if turn:
        return f"< {turn} >"
    return f"[ {inst} ]" if inst else f"< <{system}> >"


def storable(text: str) -> str:
    """`text` without lone surrogates, which neither UTF-8 nor the store can hold: U+FFFD stands in their place."""
    if text.isascii() or not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What keeps a request within the loaded window and the answer within its bound, in tokens."""

    num_predict: int
    num_ctx: int | None = None


def inference_body(
    model: str,
    subject: Sequence[Message] | str,
    options: Options,
    bounds: Bounds,
    *,
    raw: bool = False,
    tools: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The body of /api/chat (messages, and the `tools` that may be called) or /api/generate (a prompt).

    Always `truncate:false`, a repeat penalty and a bound on tokens; never `shift`, which would reload a model
    that others loaded without it.
    """
    body: dict[str, Any] = {"model": model, "stream": True, "truncate": False}
    if isinstance(subject, str):
        body["prompt"] = neutral(storable(subject))
        if raw:
            body["raw"] = True
    else:
        body["messages"] = [{"role": m.role, "content": neutral(storable(m.content))} for m in subject]
    if options.format is not None:
        body["format"] = options.format
    if options.think is not None:
        body["think"] = options.think
    if tools:
        body["tools"] = _neutral_within(tools)
    if options.logprobs or tools:  # while it holds back what may be a call, the daemon sends nothing but these: a sign of life
        body["logprobs"] = True
        if options.top_logprobs:
            body["top_logprobs"] = options.top_logprobs
    body["options"] = _sampling(options, bounds)
    return body


def _neutral_within(value: Any) -> Any:
    if isinstance(value, str):
        return neutral(storable(value))
    if isinstance(value, Mapping):
        return {neutral(storable(str(key))): _neutral_within(item) for key, item in value.items()}
    return [_neutral_within(item) for item in value] if isinstance(value, list | tuple) else value


def keep_alive(text: str) -> str | int:
    """The daemon takes seconds as a number and refuses them as a text: "300" -> 300, "5m" as it is."""
    return int(text) if text.removeprefix("-").isdigit() else text


def _sampling(options: Options, bounds: Bounds) -> dict[str, Any]:
    wired = {**sampling(options), "num_predict": bounds.num_predict}
    if bounds.num_ctx:
        wired["num_ctx"] = bounds.num_ctx
    return wired


def sampling(options: Options) -> dict[str, Any]:
    """What the daemon is told of how tokens are drawn, by its own names; nothing that would load the model anew."""
    wired = {name: value for name in _SAMPLING if (value := getattr(options, name)) is not None}
    if options.stop:
        wired["stop"] = list(options.stop)
    return wired


class Corrupt(ValueError):
    """A line that is no JSON object."""


def parsed(line: bytes) -> dict[str, Any]:
    """One line of a stream. Bad UTF-8 becomes U+FFFD, numbers no program can hold are dropped; else `Corrupt`."""
    try:
        value = from_json(line, allow_inf_nan=False)
    except ValueError:
        value = _patiently(line)
    if not isinstance(value, dict):
        raise Corrupt(f"a JSON object was expected, not {type(value).__name__}")
    return value


def _patiently(line: bytes) -> Any:
    """What the fast parser refuses and a reader can still use: odd bytes, half surrogates, absurd numbers."""
    text = line.decode("utf-8-sig", "replace")
    try:
        return _without_surrogates(json.loads(text, parse_int=_sane_int, parse_constant=lambda _: None, strict=False))
    except RecursionError:
        raise Corrupt("nested too deeply") from None
    except ValueError as error:
        raise Corrupt(str(error)) from None


def _sane_int(digits: str) -> int | None:
    return int(digits) if len(digits) <= 19 else None


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(str(key)): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


_ABSURD = 2**63  # the daemon counts in 64 bits


def usage_of(event: dict[str, Any]) -> Usage:
    """The counters of the closing line; what is absent, negative, absurd or no number is None."""

    def count(name: str) -> int | None:
        value = event.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _ABSURD else None

    def seconds(name: str) -> float | None:
        value = event.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        return value / 1e9 if 0 <= value < _ABSURD else None

    return Usage(
        prompt_tokens=count("prompt_eval_count"),
        completion_tokens=count("eval_count"),
        total_duration=seconds("total_duration"),
        load_duration=seconds("load_duration"),
        prompt_duration=seconds("prompt_eval_duration"),
        eval_duration=seconds("eval_duration"),
    )


def text_of(event: dict[str, Any]) -> tuple[str, str]:
    """Text and thinking of one line, of /api/chat or /api/generate."""
    message = event.get("message")
    source = message if isinstance(message, dict) else event
    text = source.get("content") if source is message else event.get("response")
    thinking = source.get("thinking")
    return (text if isinstance(text, str) else ""), (thinking if isinstance(thinking, str) else "")


def tool_calls_of(event: dict[str, Any]) -> tuple[ToolCall, ...]:
    """The calls in one line of /api/chat: arguments are an object, from some servers its JSON; anything else is None."""
    message = event.get("message")
    calls = message.get("tool_calls") if isinstance(message, dict) else None
    return tuple(_call(call) for call in calls[:MOST_CALLS]) if isinstance(calls, list) else ()


MOST_CALLS = 64  # in one line; more is a model that lists


def _call(call: Any) -> ToolCall:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return ToolCall("", None)
    name, given, number = function.get("name"), function.get("arguments"), call.get("id")
    if isinstance(given, str):
        try:
            given = parsed(given.encode("utf-8", "replace")) if given.strip() else {}
        except Corrupt:
            given = None
    return ToolCall(
        name if isinstance(name, str) else "", given if isinstance(given, dict) else None, number if isinstance(number, str) else ""
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Whom a request was sent to, for the errors about it."""

    url: str
    model: str = ""
    window: int = 0  # 0 = the model is not known to be loaded
    most: int = 0  # the longest context the model was made for


def problem(status: int, location: str, body: bytes, asked: Asked) -> OrchestraError:
    """The error that an answer with `status` and `body` means."""
    if 300 <= status < 400:
        return RedirectRefused(url=asked.url, target=location or "?")
    return said(status, _error_text(body), asked)


def said(status: int, detail: str, asked: Asked) -> OrchestraError:
    """The error that the daemon's own words mean; `status` 200 for a line in the middle of a stream."""
    nested = _nested(detail)
    if nested.get("type") == "exceed_context_size_error":
        return too_long(_number(nested.get("n_prompt_tokens")), _number(nested.get("n_ctx")) or asked.window, asked)
    detail = readable(str(nested.get("message") or detail)) or "no reason given"
    lowered = detail.lower()
    if "exceeds the context length" in lowered or "longer than the context length" in lowered:
        return too_long(0, asked.window, asked)
    if any(words in lowered for words in ("does not support", "invalid model name", "support embeddings")):
        known = "模型名称无效" if "invalid model name" in lowered else detail
        return ModelUnsupported(model=asked.model, detail=detail, detail_zh=known)
    if status in (401, 403):
        return AuthFailed(url=asked.url, status=status, detail=detail)
    if status == 404:
        return ModelMissing(model=asked.model, nearest="", nearest_zh="") if asked.model else DaemonError(status=status, detail=detail)
    if status in (429, 503):
        return DaemonBusy(url=asked.url, detail=detail)
    if not asked.window and any(words in lowered for words in _LOADING_FAILS):
        return LoadFailed(model=asked.model, detail=detail)
    return DaemonError(status=status, detail=detail)


_LOADING_FAILS = ("timed out waiting for", "process has terminated", "requires more system memory")
_UNREADABLE = re.compile("\x1b\\[[0-9;:?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def readable(text: str) -> str:
    """Somebody else's words for one line of ours: no escapes for terminals, at most 500 characters."""
    return " ".join(_UNREADABLE.sub(" ", text[:4000]).split())[:500]


def _number(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < _ABSURD else 0


def too_long(needed: int, window: int, asked: Asked) -> PromptTooLong:
    """The prompt needs `needed` tokens (0 = not said) and the window holds `window`."""
    needed = max(needed, window + 1)
    room = 2048
    while room <= needed:
        room *= 2
    facts = {"needed": needed, "window": window or "?", "over": needed - window}
    return PromptTooLong(model=asked.model, needed_window=room, most=asked.most, **facts)


def _error_text(body: bytes) -> str:
    """The daemon's error in its words; a page of somebody else's HTML is not shown."""
    try:
        value = parsed(body)
    except Corrupt:
        text = body.decode("utf-8", "replace").strip()
        return "" if "<" in text or len(text) > 300 else text
    return error_words(value.get("error"))


def error_words(error: Any) -> str:
    """The text of an `error` field, which is a string or, from some versions, an object."""
    if isinstance(error, dict):
        return str(error.get("message") or json.dumps(error, ensure_ascii=False))
    return str(error or "")


def _nested(detail: str) -> dict[str, Any]:
    """The engine's errors come as JSON inside the daemon's error string."""
    if not detail.startswith("{"):
        return {}
    try:
        inner = parsed(detail.encode("utf-8", "replace")).get("error")
    except Corrupt:
        return {}
    return inner if isinstance(inner, dict) else {}


def unlike_ollama(url: str, content_type: str, start: bytes) -> NotOllama | None:
    """What answered with status 200 and is no daemon: a portal's page, an OpenAI-style stream."""
    if start.lstrip().startswith(b"data:"):
        return NotOllama(url=url, detail="it sends `data:` lines, as an OpenAI-compatible server does")
    kind = content_type.partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        return NotOllama(url=url, detail=f"its content type is {kind}")
    return None
