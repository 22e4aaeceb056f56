"""The OpenAI protocol: what its clients send, and what they are sent; nothing else in the house knows its shapes.

Clients that show more than text - Open WebUI - are told what happens by `event` chunks. A browser acts on such an event,
so each is made here, of our own words; nothing that a model, a page or a service said can become one.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from orchestra.errors import ModelUnsupported
from orchestra.gateway.answering import linked, titled
from orchestra.gateway.voices import Voice
from orchestra.model.messages import FinishReason, Message, Options, Receipt, Role, Usage
from orchestra.model.untrusted import visible
from orchestra.retrieval.links import without_links
from orchestra.retrieval.passages import Source
from orchestra.texts import Words

DONE = "data: [DONE]\n\n"
BEAT = ": still at work\n\n"
_quoted = json.JSONEncoder(ensure_ascii=False).encode
ROLES: Mapping[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


class Lenient(BaseModel):
    """What is unknown is ignored, as in the original."""

    model_config = ConfigDict(extra="ignore")


class Said(Lenient):
    """One message; a list of parts stands for the texts in it."""

    role: str
    content: str | list[dict[str, Any]] | None = None

    def kinds(self) -> set[str]:
        """The kinds of its parts."""
        return {str(part.get("type")) for part in self.content} if isinstance(self.content, list) else set()

    def text(self) -> str:
        """What was said, without pictures and sounds."""
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content if part.get("type") == "text")
        return self.content or ""


class StreamOptions(Lenient):
    """What else is streamed."""

    include_usage: bool = False


class ResponseFormat(Lenient):
    """The form of the answer."""

    type: str = "text"
    json_schema: dict[str, Any] | None = None


class Wishes(Lenient):
    """What is asked for beside the words; a number of tokens below 1 asks for no bound."""

    model: str = Field(min_length=1, max_length=300)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, le=1_000_000)
    max_completion_tokens: int | None = Field(default=None, le=1_000_000)
    temperature: float | None = Field(default=None, ge=0, le=5, allow_inf_nan=False)
    top_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(default=None, ge=-(2**31), le=2**31 - 1)
    stop: str | Annotated[list[str], Field(max_length=64)] | None = None
    response_format: ResponseFormat | None = None

    def most(self) -> int | None:
        """The most tokens of the answer."""
        return self.max_completion_tokens or self.max_tokens

    def stops(self) -> tuple[str, ...]:
        """The texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def form(self) -> str | dict[str, Any] | None:
        """The form of the answer as the daemon takes it: "json", a schema, None for any."""
        wanted = self.response_format
        if wanted is None or wanted.type == "text":
            return None
        schema = (wanted.json_schema or {}).get("schema")
        return schema if isinstance(schema, dict) else "json"

    def usage_wanted(self) -> bool:
        """Whether the stream is to say what it took."""
        return self.stream_options is not None and self.stream_options.include_usage


class Completion(Wishes):
    """`POST /v1/chat/completions`, as far as it means something here; `tools` are a persona's own business."""

    messages: list[Said] = Field(min_length=1, max_length=10_000)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    n: int | None = Field(default=None, ge=1, le=1)

    def check(self) -> None:
        """Raises `ModelUnsupported` for pictures and whatever else no persona reads: it would answer without having seen it."""
        unread = {kind for one in self.messages for kind in one.kinds()} - {"text", "refusal"}
        if unread:
            what = Words("images", "图片") if unread == {"image_url"} else Words("anything but text", "文本以外的内容")
            raise ModelUnsupported(model=self.model, detail=f"does not support {what.en}", detail_zh=f"不支持 {what.zh}")

    def said(self) -> list[Message]:
        """The messages, those of roles that are known here."""
        return [Message(ROLES[one.role], one.text()) for one in self.messages if one.role in ROLES]

    def options(self) -> Options:
        """The wishes in the daemon's terms."""
        return Options(
            max_tokens=self.most(), temperature=self.temperature, top_p=self.top_p, seed=self.seed, stop=self.stops() or None,
            format=self.form(),
        )  # fmt: skip


def model_entry(voice: Voice, language: str) -> dict[str, Any]:
    """One row of `/v1/models`; `info` is what Open WebUI shows of it, and which of its own tools it leaves out."""
    capabilities = dict.fromkeys(("usage", "citations", "status_updates"), True)
    off = ("builtin_tools", "vision", "file_upload", "web_search", "image_generation", "code_interpreter")
    starters = [{"title": [text[:40], ""], "content": text} for text in voice.starters[:4]]
    return {
        "id": voice.id,
        "object": "model",
        "created": 0,
        "owned_by": "orchestra",
        "name": f"{voice.titled(language)} ({voice.id})",
        "info": {
            "meta": {
                "description": voice.described(language),
                "suggestion_prompts": starters,
                "capabilities": capabilities | dict.fromkeys(off, False),
            }
        },
    }


class Told:
    """The chunks of one streamed answer, and the whole object of one that is not streamed."""

    def __init__(self, model: str) -> None:
        self._first = True
        self.id, self.created, self.model = f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), model
        self._before, _, self._after = self._chunk([{"index": 0, "delta": "", "finish_reason": None}]).rpartition('""')

    def delta(self, **delta: str) -> str:
        """A piece of text (`content`) or of thinking (`reasoning_content`); the first one says whose it is."""
        if self._first:
            self._first, delta = False, {"role": "assistant", **delta}
        # all but the text is the same for each token of an answer
        said = ", ".join([f'"{name}": {_quoted(text)}' for name, text in delta.items()])
        return f"{self._before}{{{said}}}{self._after}"

    def end(self, reason: FinishReason) -> str:
        """Why it ended: what is not `stop` is `length` in this protocol; the true reason stands beside it."""
        choice = {"index": 0, "delta": {}, "finish_reason": finish(reason)}
        return self._chunk([choice], orchestra={"finish_reason": str(reason)})

    def usage(self, usage: Usage, receipt: Receipt) -> str:
        """The last chunk of those who asked for it."""
        return self._chunk([], usage=counted(usage, receipt))

    def whole(self, text: str, thinking: str, reason: FinishReason, usage: Usage, receipt: Receipt) -> dict[str, Any]:
        """The answer in one."""
        message = {"role": "assistant", "content": text} | ({"reasoning_content": thinking} if thinking else {})
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish(reason)}],
            "usage": counted(usage, receipt),
            "orchestra": {"finish_reason": str(reason)},
        }

    def at_once(self, text: str, *, stream: bool) -> Response:
        """An answer that took no model."""
        if stream:
            lines = (self.delta(content=text), self.end(FinishReason.STOP), DONE)
            return Response("".join(lines), media_type="text/event-stream")
        return JSONResponse(self.whole(text, "", FinishReason.STOP, Usage(), Receipt(calls=0)))

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> str:
        return line({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model, "choices": choices, **more
        })  # fmt: skip


def finish(reason: FinishReason) -> str:
    """The reason in the protocol's words."""
    return "stop" if reason is FinishReason.STOP else "length"


def counted(usage: Usage, receipt: Receipt) -> dict[str, int]:
    """Tokens of all that worked on the answer, and how many calls of models that took."""
    prompt, completion = usage.prompt_tokens or 0, usage.completion_tokens or 0
    return {
        "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, "orchestra_calls": receipt.calls
    }  # fmt: skip


def status(description: str, *, done: bool = False, hidden: bool = False) -> str:
    """A status line; the last one is `done`, else it shimmers for ever, and `hidden` where nothing of it is to stay."""
    data = {"description": description, "done": done} | ({"hidden": True} if hidden else {})
    return line({"event": {"type": "status", "data": data}})


def citations(sources: Iterable[Source]) -> list[str]:
    """Sources as citations, in the order of their numbers; `external`, so that the browser asks nobody for its icon.

    Their passages are shown as Markdown, an address as a link: what would be an image or a script there is text.
    Open WebUI counts those of one address as one, and leads `[2]` to the second that it counts: so each address is given once.
    """
    lines: list[str] = []
    given: set[str] = set()
    for one in sources:
        name, url = titled(one), linked(one)
        address = f"{url}{'&' if '#' in url else '#'}source-{one.n}" if url in given else url
        given.add(url)
        data = {
            "source": {"name": name, "url": url, "id": str(one.n)},
            "document": [without_links(visible(one.snippet))],
            "metadata": [{"name": name, "external": True} | ({"source": address} if address else {})],
            "distances": [],
        }
        lines.append(line({"event": {"type": "source", "data": data}}))
    return lines


def error(message: str, code: str) -> dict[str, Any]:
    """An error in the protocol's shape."""
    return {"error": {"message": message, "type": code, "code": code, "param": None}}


def line(value: Mapping[str, Any]) -> str:
    """One event of the stream."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
