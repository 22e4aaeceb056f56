"""The daemon's OpenAI-compatible interface, `/v1/*`: requests translated to its own, answers told in other shapes.

What that translation loses is what its clients meet: the window cannot be set, an answer that ends without a word has
no `[DONE]`, and an error in mid-answer becomes an empty piece.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import struct
import time
from collections.abc import Mapping
from typing import Any

from orchestra.standin.embedding import embedded
from orchestra.standin.encoding import compact, encoded
from orchestra.standin.inference import House, Inference
from orchestra.standin.link import JSON_PLAIN, Link
from orchestra.standin.names import parse
from orchestra.standin.refusal import Refusal
from orchestra.standin.voice import Event, Voice
from orchestra.standin.weights import Model

Body = Mapping[str, Any]
_EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "ultra", "max", "none")
_KINDS = {bool: "bool", int: "float64", float: "float64", dict: "map[string]interface {}"}
_OPTIONS = {"seed": "seed", "max_tokens": "num_predict", "frequency_penalty": "frequency_penalty", "presence_penalty": "presence_penalty"}
_FINGERPRINT = {"system_fingerprint": "fp_ollama"}
STREAM = "text/event-stream"
MOST_IDS = 999
"""The daemon's own habit: ids are one of 999, and so collide."""


def problem(status: int, error: str) -> dict[str, Any]:
    """An error in the words of this interface."""
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    return {"error": {"message": error, "type": kind, "param": None, "code": None}}


def chat(house: House, body: Body, link: Link) -> None:
    """Answer /v1/chat/completions. Raises `Refusal` and `ClientGone`."""
    if not body.get("messages"):
        raise Refusal(400, "[] is too short - 'messages'")
    messages = [each for message in body["messages"] for each in _message(message)]
    asked = {**_asked(body), "messages": messages, "tools": body.get("tools") or []}
    effort = body.get("reasoning_effort") or (body.get("reasoning") or {}).get("effort")
    if effort is not None:
        asked["think"] = _think(effort)
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        asked["format"] = (wanted.get("json_schema") or {}).get("schema")
    elif wanted.get("type") == "json_object":
        asked["format"] = "json"
    link.error_type = JSON_PLAIN
    _answer(house, asked, ChatVoice(link, usage=_usage_wanted(body)), chat=True)


def complete(house: House, body: Body, link: Link) -> None:
    """Answer /v1/completions, which uses the model's template all the same. Raises `Refusal` and `ClientGone`."""
    asked = {**_asked(body), "prompt": body.get("prompt", ""), "suffix": body.get("suffix", ""), "logprobs": False}
    link.error_type = JSON_PLAIN
    _answer(house, asked, CompletionVoice(link, usage=_usage_wanted(body)), chat=False)


def _answer(house: House, asked: Body, voice: OpenAIVoice, *, chat: bool) -> None:
    try:
        Inference(house, asked, voice, chat=chat).answer()
    except Refusal:
        if not voice.link.opened:
            raise
        voice.break_off()


def embed(house: House, body: Body, link: Link) -> None:
    """Answer /v1/embeddings. Raises `Refusal` and `ClientGone`."""
    format = body.get("encoding_format") or "float"
    if format not in ("float", "base64"):
        raise Refusal(400, f"Invalid value for 'encoding_format' = {format}. Supported values: ['float', 'base64'].")
    given = body.get("input", [])
    if given == []:
        raise Refusal(400, "invalid input")
    link.error_type = JSON_PLAIN
    answer = embedded(house, {**body, "input": [""] if given == "" else given}, link)
    vectors = answer["embeddings"] if format == "float" else [_packed(vector) for vector in answer["embeddings"]]
    data = [{"object": "embedding", "embedding": vector, "index": place} for place, vector in enumerate(vectors)]
    count = answer["prompt_eval_count"]
    usage = {"prompt_tokens": count, "total_tokens": count}
    link.json({"object": "list", "data": data, "model": answer["model"], "usage": usage}, content_type=JSON_PLAIN)


def models(house: House, link: Link) -> None:
    """Answer /v1/models."""
    listed = [_model(model.name.short, model) for model in house.library.all()]
    link.json({"object": "list", "data": listed}, content_type=JSON_PLAIN)


def model(house: House, link: Link, asked: str) -> None:
    """Answer /v1/models/NAME. Raises `Refusal` (404)."""
    found = house.library.find(asked)
    link.error_type = JSON_PLAIN
    if found is None:
        raise Refusal(404, f"model '{parse(asked).short}' not found")
    link.json(_model(asked, found), content_type=JSON_PLAIN)


def _model(name: str, found: Model) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": found.modified // 10**9, "owned_by": found.name.namespace}


def _asked(body: Body) -> dict[str, Any]:
    """The fields that both endpoints share, as the daemon's own. Temperature and top_p override the model's."""
    options: dict[str, Any] = {"temperature": body.get("temperature", 1.0), "top_p": body.get("top_p", 1.0)}
    options.update({ours: body[theirs] for theirs, ours in _OPTIONS.items() if theirs in body})
    stop = body.get("stop")
    if isinstance(stop, str | list):
        options["stop"] = [text for text in ([stop] if isinstance(stop, str) else stop) if isinstance(text, str)]
    fields = {name: body[name] for name in ("model", "logprobs", "top_logprobs") if name in body}
    return {**fields, "stream": body.get("stream", False), "options": options}


def _usage_wanted(body: Body) -> bool:
    return bool((body.get("stream_options") or {}).get("include_usage"))


def _think(effort: Any) -> bool | str:
    if effort not in _EFFORTS:
        allowed = ", ".join(f'"{each}"' for each in _EFFORTS[:-1])
        raise Refusal(400, f'invalid reasoning value: "{effort}" (must be {allowed}, or "none")')
    return effort != "none" and str(effort)


def _message(message: Any) -> list[dict[str, Any]]:
    """One message of the daemon's; each part of a content in parts is a message of its own."""
    if not isinstance(message, dict):
        raise Refusal(400, "json: cannot unmarshal into Go struct field ChatCompletionRequest.messages of type openai.Message")
    role, content = message.get("role", ""), message.get("content")
    if content is None or isinstance(content, str):
        calls = [_call(call) for call in message.get("tool_calls") or ()]
        return [{"role": role, "content": content or "", **({"tool_calls": calls} if calls else {})}]
    if not isinstance(content, list):
        raise Refusal(400, f"invalid message content type: {_KINDS[type(content)]}")
    return [{"role": role, **_part(part)} for part in content]


def _call(call: Any) -> dict[str, Any]:
    """A call of the dialogue before; its arguments come as JSON in a text."""
    try:
        function = call["function"]
        return {"function": {"name": function["name"], "arguments": json.loads(function["arguments"])}}
    except (TypeError, KeyError, ValueError, RecursionError):
        raise Refusal(400, "invalid tool call arguments") from None


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return {"content": part["text"]}
    image = part.get("image_url") if isinstance(part, dict) and part.get("type") == "image_url" else None
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str):
        raise Refusal(400, "invalid message format")
    try:
        return {"content": "", "images": [base64.b64decode(url.rpartition(",")[2], validate=True)]}
    except binascii.Error:
        raise Refusal(400, "invalid image input") from None


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _usage(event: Event) -> dict[str, Any]:
    read, said = event.get("prompt_eval_count", 0), event.get("eval_count", 0)
    usage = {"prompt_tokens": read, "completion_tokens": said, "total_tokens": read + said}
    cached = event.get("prompt_eval_cached_count")
    return usage if cached is None else {**usage, "prompt_tokens_details": {"cached_tokens": cached}}


class OpenAIVoice(Voice):
    """What the two endpoints have in common: server-sent events, an id, and a usage at the end where it is wanted."""

    kind = prefix = ""

    def __init__(self, link: Link, *, usage: bool) -> None:
        super().__init__(link)
        self._id = f"{self.prefix}-{random.randrange(MOST_IDS)}"
        self._usage = usage

    def say(self, value: Mapping[str, Any]) -> None:
        """One event of the stream."""
        self.link.open(200, STREAM)
        self.link.chunk(b"data: " + encoded(value) + b"\n\n")

    def end(self, last: Event | None = None) -> None:
        """The reason, the usage and the closing mark; none of them where the daemon ends without a word."""
        if last is not None:
            self.say(self.closing(last))
            if self._usage:
                self.say({**self.chunk(last, []), "usage": _usage(last)})
            self.link.chunk(b"data: [DONE]\n\n")
        self.link.open(200, STREAM)
        self.link.close()

    def break_off(self) -> None:
        """What an error in mid-answer becomes: an empty piece, and no closing mark."""
        self.piece({"model": "", "message": {"role": "", "content": ""}, "response": ""})
        self.link.close()

    def chunk(self, event: Event, choices: list[Any]) -> dict[str, Any]:
        """One event of a stream."""
        raise NotImplementedError

    def closing(self, last: Event) -> dict[str, Any]:
        """The event that tells the reason."""
        raise NotImplementedError

    def started(self) -> dict[str, Any]:
        """What every event begins with."""
        return {"id": self._id, "object": self.kind, "created": int(time.time())}


class ChatVoice(OpenAIVoice):
    """/v1/chat/completions."""

    kind, prefix = "chat.completion.chunk", "chatcmpl"
    _first = True
    _calls = False

    def whole(self, event: Event) -> None:
        """An answer that is not streamed."""
        said = event["message"]
        message = {"role": said["role"], "content": said["content"]}
        if "thinking" in said:
            message["reasoning"] = said["thinking"]
        message |= self._called(said)
        choice = {"index": 0, "message": message, "finish_reason": self._reason(event), **_logprobs(event)}
        self.link.json(
            {**self.chunk(event, [choice]), "object": "chat.completion", "usage": _usage(event)}, content_type=JSON_PLAIN
        )

    def piece(self, event: Event) -> None:
        """One piece of a stream; only the first has the role."""
        said = event["message"]
        delta = {"role": "assistant"} if self._first else {}
        self._first = False
        delta["content"] = said["content"]
        if "thinking" in said:
            delta["reasoning"] = said["thinking"]
        delta |= self._called(said)
        self.say(self.chunk(event, [{"index": 0, "delta": delta, "finish_reason": None, **_logprobs(event)}]))

    def closing(self, last: Event) -> dict[str, Any]:
        """The event that tells the reason."""
        return self.chunk(last, [{"index": 0, "delta": {}, "finish_reason": self._reason(last)}])

    def _called(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """The calls in a message, their arguments as a text; the reason at the end is then that there were some."""
        calls = said.get("tool_calls") or ()
        self._calls = self._calls or bool(calls)
        told = [
            {"id": call["id"], "index": call["function"]["index"], "type": "function",
             "function": {"name": call["function"]["name"], "arguments": compact(call["function"]["arguments"])}}
            for call in calls
        ]  # fmt: skip
        return {"tool_calls": told} if told else {}

    def _reason(self, event: Event) -> str | None:
        return "tool_calls" if self._calls else event.get("done_reason")

    def chunk(self, event: Event, choices: list[Any]) -> dict[str, Any]:
        """One event of a stream."""
        return {**self.started(), "model": event["model"], **_FINGERPRINT, "choices": choices}


class CompletionVoice(OpenAIVoice):
    """/v1/completions."""

    kind = "text_completion"
    prefix = "cmpl"

    def whole(self, event: Event) -> None:
        """An answer that is not streamed."""
        choice = {"text": event["response"], "index": 0, "finish_reason": event.get("done_reason")}
        answer = {**self.started(), "model": event["model"], **_FINGERPRINT, "choices": [choice], "usage": _usage(event)}
        self.link.json(answer, content_type=JSON_PLAIN)

    def piece(self, event: Event) -> None:
        """One piece of a stream; with a usage of nothing where a usage is wanted."""
        self.say({**self._choice(event["response"], None, event), **self._nothing()})

    def closing(self, last: Event) -> dict[str, Any]:
        """The event that tells the reason."""
        return {**self._choice("", last["done_reason"], last), **self._nothing()}

    def chunk(self, event: Event, choices: list[Any]) -> dict[str, Any]:
        """One event of a stream."""
        return {**self.started(), "choices": choices, "model": event["model"], **_FINGERPRINT}

    def _choice(self, text: str, reason: str | None, event: Event) -> dict[str, Any]:
        return self.chunk(event, [{"text": text, "index": 0, "finish_reason": reason}])

    def _nothing(self) -> dict[str, Any]:
        return {"usage": _usage({})} if self._usage else {}


def _logprobs(event: Event) -> dict[str, Any]:
    return {"logprobs": {"content": event["logprobs"]}} if event.get("logprobs") else {}
