"""Request bodies as the daemon reads them, and its complaints about those it cannot read.

Field names are taken without regard to case, unknown fields are ignored, text after the JSON value too; a value of
the wrong type is named as Go's decoder names it, because clients show these texts to people.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from orchestra.standin.encoding import quoted, sound
from orchestra.standin.refusal import Refusal

ANY = "any"
_PROMPTED = {"model": "string", "stream": "bool", "options": "map[string]interface {}", "keep_alive": "Duration"}
_ANSWERED = {
    **_PROMPTED, "format": ANY, "truncate": "bool", "shift": "bool", "logprobs": "bool", "top_logprobs": "int",
    "think": "ThinkValue", "_debug_render_only": "bool",
}  # fmt: skip
_NAMED = {"model": "string", "name": "string", "stream": "bool"}
_ASKED = {
    "model": "string", "stream": "bool", "stream_options": "openai.StreamOptions", "max_tokens": "int", "seed": "int", "stop": ANY,
    **dict.fromkeys(("temperature", "frequency_penalty", "presence_penalty", "top_p"), "float64"),
}  # fmt: skip
OPENAI = ("ChatCompletionRequest", "CompletionRequest", "OpenAIEmbedRequest")

# The Go type of each request, and the fields that it has.
SHAPES: dict[str, dict[str, str]] = {
    "GenerateRequest": {
        **_ANSWERED, "prompt": "string", "suffix": "string", "system": "string", "template": "string",
        "context": "[]int", "raw": "bool", "images": "[]api.ImageData",
    },
    "ChatRequest": {**_ANSWERED, "messages": "[]api.Message", "tools": "api.Tools"},
    "EmbedRequest": {**_PROMPTED, "input": ANY, "truncate": "bool", "dimensions": "int"},
    "EmbeddingRequest": {**_PROMPTED, "prompt": "string"},
    "ShowRequest": {"model": "string", "name": "string", "verbose": "bool", "system": "string"},
    "PullRequest": {**_NAMED, "insecure": "bool"},
    "DeleteRequest": {"model": "string", "name": "string"},
    "CopyRequest": {"source": "string", "destination": "string"},
    "CreateRequest": {
        **_NAMED, "from": "string", "system": "string", "template": "string", "messages": "[]api.Message",
        "parameters": "map[string]interface {}", "files": "map[string]string", "quantize": "string", "license": ANY,
    },
    "ChatCompletionRequest": {
        **_ASKED, "messages": "[]openai.Message", "response_format": "openai.ResponseFormat", "tools": "[]api.Tool",
        "reasoning": "openai.Reasoning", "reasoning_effort": "string", "logprobs": "bool", "top_logprobs": "int",
    },
    "CompletionRequest": {**_ASKED, "prompt": "string", "suffix": "string", "logprobs": "int"},
    "OpenAIEmbedRequest": {"model": "string", "input": ANY, "dimensions": "int", "encoding_format": "string"},
}  # fmt: skip
_MESSAGE = {"role": "string", "content": "string", "thinking": "string", "tool_calls": "[]api.ToolCall"}
_KINDS: dict[str, Any] = {"string": str, "bool": bool, "int": int, "float64": int | float}
_EXPECTED = {
    "Expecting property name": "looking for beginning of object key string",
    "Illegal trailing comma": "looking for beginning of object key string",
    "Expecting value": "looking for beginning of value",
    "Expecting ':'": "after object key",
    "Expecting ','": "after object key:value pair",
    "Invalid control": "in string literal",
    "Invalid \\": "in string escape code",
}
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")


def read(raw: bytes, shape: str) -> dict[str, Any]:
    """The fields of a request's body. Raises `Refusal` (400) in the words of the daemon."""
    openai = shape in OPENAI
    value = _value(raw, empty="EOF" if openai else "missing request body")
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal(400, f"json: cannot unmarshal {_kind(value)} into Go value of type {'openai' if openai else 'api'}.{shape}")
    fields = SHAPES[shape]
    body = {name: value for key, value in value.items() if (name := key.lower()) in fields and value is not None}
    for name, given in body.items():
        body[name] = _checked(given, f"{shape}.{name}", fields[name])
    return body


def _value(raw: bytes, empty: str) -> Any:
    text = raw.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise Refusal(400, empty)
    try:
        return _mended(json.JSONDecoder(parse_constant=_no_constant).raw_decode(text)[0])
    except json.JSONDecodeError as error:
        raise Refusal(400, _complaint(text, error)) from None
    except RecursionError:
        raise Refusal(400, "exceeded max depth") from None
    except ValueError:
        raise Refusal(400, "json: cannot unmarshal number into Go value") from None


def _no_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError("Expecting value", name, 0)


def _complaint(text: str, error: json.JSONDecodeError) -> str:
    text = error.doc
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated"):
        return "unexpected EOF"
    where = next((words for start, words in _EXPECTED.items() if error.msg.startswith(start)), "in literal")
    return f"invalid character {_rune(text[error.pos])} {where}"


def _rune(character: str) -> str:
    return "'\\''" if character == "'" else f"'{quoted(character)[1:-1]}'"


def _mended(value: Any) -> Any:
    """The value without lone surrogates, which Go does not read."""
    if isinstance(value, str):
        return sound(value)
    if isinstance(value, list):
        return [_mended(each) for each in value]
    if isinstance(value, dict):
        return {sound(key): _mended(each) for key, each in value.items()}
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return {str: "string", int: "number", float: "number", list: "array", dict: "object"}[type(value)]


def _checked(value: Any, field: str, wanted: str) -> Any:
    if wanted == "Duration":
        return duration(value)
    if wanted == "ThinkValue":
        return _think(value)
    if wanted == "[]api.ImageData":
        return _images(value, field)
    if wanted == "[]api.Message":
        return _messages(value, field)
    expected = _KINDS.get(wanted) or (list if wanted.startswith("[]") or wanted == "api.Tools" else dict)
    if wanted != ANY and (not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool)):
        raise Refusal(400, f"json: cannot unmarshal {_kind(value)} into Go struct field {field} of type {wanted}")
    if wanted == "[]int" and not all(isinstance(each, int) for each in value):
        raise Refusal(400, f"json: cannot unmarshal {_kind(value[0])} into Go struct field {field} of type int")
    return value


def _messages(value: Any, field: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise Refusal(400, f"json: cannot unmarshal {_kind(value)} into Go struct field {field} of type []api.Message")
    messages = []
    for message in value:
        if not isinstance(message, Mapping):
            raise Refusal(400, f"json: cannot unmarshal {_kind(message)} into Go struct field {field} of type api.Message")
        known = {key.lower(): each for key, each in message.items() if each is not None}
        images = known.pop("images", None)
        fields = {name: _checked(known[name], f"Alias.{name}", wanted) for name, wanted in _MESSAGE.items() if name in known}
        if images:
            fields["images"] = _images(images, "Message.images")
        messages.append(fields)
    return messages


def _images(value: Any, field: str) -> list[bytes]:
    if not isinstance(value, list):
        raise Refusal(400, f"json: cannot unmarshal {_kind(value)} into Go struct field {field} of type []api.ImageData")
    images = []
    for number, image in enumerate(value):
        try:
            images.append(base64.b64decode(str(image), validate=True))
        except ValueError:  # binascii.Error is one, and what is not ASCII raises it bare
            bad = re.search(r"[^A-Za-z0-9+/]", str(image))
            place = bad.start() if bad else len(str(image))
            what = f"illegal base64 data at input byte {place}"
            raise Refusal(400, f"json: cannot unmarshal string into {field}.{number} of type api.ImageData: {what}") from None
    return images


def _think(value: Any) -> Any:
    if isinstance(value, bool) or value in ("low", "medium", "high", "max"):
        return value
    raise Refusal(400, f'invalid think value: {value!r} (must be "high", "medium", "low", "max", true, or false)')


def duration(value: Any) -> float:
    """Seconds of a `keep_alive`: a number, or text like "5m"; negative is for ever. Raises `Refusal` (400)."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refusal(400, f"Unsupported type: '{_kind(value)}'")
    if not isinstance(value, str):
        return float(value) if value >= 0 else -1.0
    digits = value.removeprefix("-").removeprefix("+")
    if digits == "0":
        return 0.0
    parts = _DURATION.findall(digits)
    if not parts or "".join(number + unit for number, unit in parts) != digits:
        unit = "missing unit in" if re.fullmatch(r"[\d.]+", digits) else "invalid"
        raise Refusal(400, f"time: {unit} duration {quoted(value)}")
    return -1.0 if value.startswith("-") else sum(float(number) * _UNITS[unit] for number, unit in parts)
