"""The daemon's own protocol as personas speak it: what its clients send, and what they are sent.

Its clients are many and lenient, and some send what a persona has no use for: `num_ctx` and its like, which would load the
model again for everybody, `template` and `context`, which would take the place of the seed memory, and `tools` are ignored.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from orchestra.errors import ModelUnsupported
from orchestra.model import wire
from orchestra.model.messages import FinishReason, Message, Options, Role, Usage
from orchestra.model.persona import Persona

LINES = "application/x-ndjson"
_NO_DETAILS = {"format": "", "family": "", "families": None, "parameter_size": "", "quantization_level": ""}



def _cut(value: Any) -> Any:
    """A whole number where the daemon takes one: it cuts fractions off."""
    return int(value) if isinstance(value, float) and abs(value) < 2**31 else value


Whole = Annotated[int, Field(ge=-(2**31), le=2**31 - 1), BeforeValidator(_cut)]
Real = Annotated[float, Field(ge=-1e9, le=1e9, allow_inf_nan=False)]
Stay = Annotated[str, Field(pattern=r"^-?(\d{1,9}(\.\d{1,9})?(ns|us|ms|s|m|h)?){1,3}$")]
Effort = Literal["low", "medium", "high", "max"]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Named(_Lenient):
    """A body of which the model's name matters here; the daemon reads the rest."""

    model: str


class Wishes(_Lenient):
    """`options`, as far as a persona's answer follows them."""

    num_predict: Whole | None = None
    temperature: Real | None = None
    top_p: Real | None = None
    top_k: Whole | None = None
    min_p: Real | None = None
    seed: Whole | None = None
    stop: Annotated[list[str], Field(max_length=64)] | None = None
    repeat_penalty: Real | None = None
    repeat_last_n: Whole | None = None
    presence_penalty: Real | None = None
    frequency_penalty: Real | None = None

    def options(self) -> Options:
        """The same as options; `num_predict` below 1 says that there is no bound, which there always is."""
        given = self.model_dump(exclude={"num_predict", "stop"})
        most = self.num_predict if self.num_predict and self.num_predict > 0 else None
        return Options(max_tokens=most, stop=tuple(self.stop) if self.stop else None, **given)


class Said(_Lenient):
    """One message; where its role is none that is known here it is left out, as the daemon leaves it out."""

    role: str = ""
    content: str | None = None
    images: list[Any] | None = None


class Asked(_Lenient):
    """What `/api/chat` and `/api/generate` have in common."""

    model: str = Field(min_length=1, max_length=300)
    stream: bool | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: Wishes | None = None
    think: bool | Effort | Literal[""] | None = None
    keep_alive: Real | Stay | None = None

    def said(self) -> list[Message]:
        """The dialogue; empty where the model is only to be loaded."""
        raise NotImplementedError

    def unwanted(self) -> str:
        """What is asked for that no persona does."""
        raise NotImplementedError

    def wished(self) -> Options:
        """The wishes for the answer; models that can think do so unasked, and others refuse to be asked."""
        think = False if self.think is False else None
        return replace((self.options or Wishes()).options(), format=self.format or None, think=think)

    @property
    def streams(self) -> bool:
        """Whether the answer is wanted as it comes, as it is unless told otherwise."""
        return self.stream is not False

    def check(self) -> None:
        """Raises `ModelUnsupported` for what no persona does."""
        if what := self.unwanted():
            raise ModelUnsupported(model=self.model, detail=f"does not support {what}", detail_zh=f"不支持 {what}")

    @property
    def stays(self) -> float | str | int | None:
        """`keep_alive` as the daemon takes it."""
        return wire.keep_alive(self.keep_alive) if isinstance(self.keep_alive, str) else self.keep_alive

    @property
    def unloads(self) -> bool:
        """Whether the model is to leave the memory once it has answered: `keep_alive` is 0, "0", "0s"."""
        return self.keep_alive is not None and str(self.keep_alive).rstrip("smh") in ("0", "0.0")


class Chat(Asked):
    """`POST /api/chat`."""

    messages: list[Said] | None = Field(default=None, max_length=10_000)

    def said(self) -> list[Message]:
        """The messages of known roles."""
        roles: dict[str, Role] = {role: role for role in get_args(Role)}
        return [Message(roles[one.role.lower()], one.content or "") for one in self.messages or () if one.role.lower() in roles]

    def unwanted(self) -> str:
        """Pictures."""
        return "images" if any(one.images for one in self.messages or ()) else ""


class Generate(Asked):
    """`POST /api/generate`."""

    prompt: str | None = None
    system: str | None = None
    suffix: str | None = None
    raw: bool | None = None
    images: list[Any] | None = None

    def said(self) -> list[Message]:
        """The prompt as a question; `system` is a wish before it."""
        if not self.prompt:
            return []
        return [*([Message("system", self.system)] if self.system else []), Message("user", self.prompt)]

    def unwanted(self) -> str:
        """Pictures, a text to be filled in, a prompt in which no seed memory stands."""
        return next((name for name in ("images", "suffix", "raw") if getattr(self, name)), "")


class Told:
    """One answer as it is told: its lines, or one object."""

    def __init__(self, model: str, *, chat: bool) -> None:
        self._model, self._chat, self._began = model, chat, time.perf_counter_ns()
        self._before = f'{{"model":{json.dumps(model)},"created_at":"'
        self._between, self._after = ('","message":{"role":"assistant","content":', "}") if chat else ('","response":', "")

    def line(self, text: str = "", thinking: str = "") -> bytes:
        """A part of the answer, in ASCII alone: some clients take other characters for line ends."""
        # all but the text is the same for each token of an answer
        thought = f',"thinking":{json.dumps(thinking)}' if thinking else ""
        return f'{self._before}{_now()}{self._between}{json.dumps(text)}{thought}{self._after},"done":false}}\n'.encode()

    def end(self, reason: FinishReason | str, usage: Usage | None = None) -> bytes:
        """The last line: why it ended, and what the daemon counted for it."""
        return json.dumps(self.whole("", "", reason, usage), separators=(",", ":")).encode() + b"\n"

    def whole(self, text: str, thinking: str, reason: FinishReason | str, usage: Usage | None = None) -> dict[str, Any]:
        """The answer in one."""
        said: dict[str, Any] = {"content" if self._chat else "response": text, **({"thinking": thinking} if thinking else {})}
        if self._chat:
            said = {"message": {"role": "assistant", **said}}
        taken = {} if usage is None else {"total_duration": time.perf_counter_ns() - self._began, **_counted(usage)}
        return {"model": self._model, "created_at": _now(), **said, "done": True, "done_reason": str(reason), **taken}

    def at_once(self, text: str, *, stream: bool) -> Response:
        """An answer that took no model."""
        if stream:
            return Response(self.line(text) + self.end(FinishReason.STOP), media_type=LINES)
        return JSONResponse(self.whole(text, "", FinishReason.STOP))


def entry(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A voice as `/api/tags` and `/api/ps` list models; `row` is the daemon's own of the model that answers for it, or empty.

    Each has a digest of its own: some clients take what has the same one for one model.
    """
    digest = hashlib.sha256(f"{name} {row.get('digest', '')}".encode()).hexdigest()
    own = {"name": f"{name}:latest", "model": f"{name}:latest", "digest": digest, "details": _details(row)}
    return {"modified_at": _now(), "size": 0, **row, **own, "capabilities": ["completion"]}


def shown(title: str, facts: Mapping[str, Any], model: str, window: int, persona: Persona | None) -> dict[str, Any]:
    """A voice as `/api/show` describes a model: `facts` are the daemon's of the `model` that answers for it.

    The context is what is loaded, where something is: as much may be sent. A seed memory is nobody's to read here.
    """
    info = dict(facts.get("model_info") or {})
    if window:
        info[f"{info.get('general.architecture', '')}.context_length"] = window
    settings = wire.sampling(persona.options) if persona else {}
    rows = [f"{name:<30} {json.dumps(each, ensure_ascii=False)}" for name, value in settings.items() for each in _each(value)]
    return {
        "modelfile": f"# {title}\nFROM {model}\n",
        **({"parameters": "\n".join(rows)} if rows else {}),
        "details": _details({**facts, "name": model}),
        "model_info": info,
        "capabilities": ["completion"],
        "modified_at": facts.get("modified_at") or _now(),
    }


def _details(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**_NO_DETAILS, **(row.get("details") or {}), "parent_model": row.get("name", "")}


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _counted(usage: Usage) -> dict[str, int]:
    """The daemon's counters, durations in nanoseconds; what is not known is left out, as the daemon leaves out a 0."""
    counts = {"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}
    times = {"load_duration": usage.load_duration, "prompt_eval_duration": usage.prompt_duration, "eval_duration": usage.eval_duration}
    known = {name: round(1e9 * seconds) for name, seconds in times.items() if seconds is not None}
    return {**known, **{name: count for name, count in counts.items() if count is not None}}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
