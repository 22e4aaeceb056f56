"""The values that travel through the house: what is said, how it is asked for, what comes back.

All are frozen. One message type serves the client, the store and the faces; only the wire converts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypedDict

Role = Literal["system", "user", "assistant"]
Kind = Literal["text", "thinking"]
Language = Literal["zh", "en"]
OnRepetition = Literal["stop", "skip", "ignore"]


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT_FULL = "context_full"
    REPETITION = "repetition"
    LOW_QUALITY = "low_quality"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    INCOMPLETE = "incomplete"
    STEP_LIMIT = "step_limit"
    TOKEN_LIMIT = "token_limit"


@dataclass(frozen=True, slots=True)
class Message:
    """One thing said, by one role."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that a model wants called; `arguments` is None where what it wrote is no JSON object."""

    name: str
    arguments: Mapping[str, Any] | None
    id: str = ""


class OptionFields(TypedDict, total=False):
    """The fields of `Options`, for `**fields` in signatures (PEP 692)."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    seed: int | None
    stop: tuple[str, ...] | list[str] | None
    repeat_penalty: float | None
    repeat_last_n: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    num_ctx: int | None
    logprobs: bool | None
    top_logprobs: int | None
    format: str | dict[str, Any] | None
    schema: Any
    think: bool | None
    language: Language | None
    on_repetition: OnRepetition | None
    deadline: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How an answer is asked for; None = not set. `deadline` is in seconds, the others are the daemon's.

    `num_ctx` differing from the loaded window reloads the model for everybody: leave it unset. `schema` is a type
    that pydantic knows, or a JSON Schema: `Reply.value` is then what the answer says. `on_repetition` "skip" cuts a
    loop and goes on once; `language` wins over the question's.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] | list[str] | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    num_ctx: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    format: str | dict[str, Any] | None = None
    schema: Any = None
    think: bool | None = None
    language: Language | None = None
    on_repetition: OnRepetition | None = None
    deadline: float | None = None

    def over(self, other: Options | None) -> Options:
        """These options, with the gaps filled from `other`."""
        if other is None:
            return self
        gaps = {f.name: getattr(other, f.name) for f in fields(self) if getattr(self, f.name) is None}
        return replace(self, **gaps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens and times of one answer as the daemon counted them; durations in seconds, None = not said.

    `prompt_tokens` includes what came from the daemon's cache, `prompt_duration` does not: a rate is not
    derived from the two.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_duration: float | None = None
    load_duration: float | None = None
    prompt_duration: float | None = None
    eval_duration: float | None = None

    @property
    def tokens_per_second(self) -> float | None:
        """Generated tokens a second, where there were enough of them to say so."""
        if not self.completion_tokens or self.completion_tokens < 2 or not self.eval_duration:
            return None
        return self.completion_tokens / self.eval_duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What an answer took: tokens used of the real window, what became of older turns, model calls, reloads.

    `used` is prompt and answer in tokens; `loads` counts loads of a model that was not loaded, `reloads`
    loads of one that was. Of the older turns, `compacted` stood in the prompt as a summary and `dropped` not at all;
    `recalled` are the numbers, from 1, of those that stood beside the question once more, `beside` the tokens (at most) of
    that and of all other material that stood there for this once.
    `counted` says how the prompt's tokens were known before it was sent: "exact", "calibrated", "measured", or "bound"
    where that was enough.
    """

    used: int | None = None
    window: int | None = None
    calls: int = 1
    loads: int = 0
    reloads: int = 0
    dropped: int = 0
    compacted: int = 0
    recalled: tuple[int, ...] = ()
    beside: int = 0
    retries: int = 0
    counted: str = ""
    first_token: float | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()


class Piece(NamedTuple):
    """One part of an answer as it comes. Pieces are never taken back; the last one says how it ended.

    `keep` is the number of characters of the text so far that the reply, the history and the store keep (a loop's
    repetitions are streamed, not kept). On the last piece, where `finish_reason` is set, it is the answer's length;
    on one before it, which then has no text, the answer goes on from there, and what is cut off was thinking where
    the piece's kind says so. A piece with `tool_calls` has no text.
    """

    text: str
    kind: Kind = "text"
    finish_reason: FinishReason | None = None
    keep: int | None = None
    usage: Usage | None = None
    receipt: Receipt | None = None
    model: str = ""
    logprobs: Any = None
    value: Any = None
    ground: Mapping[str, Any] | None = None
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer; `value` is what it says where a schema was asked for, `ground` its sources where it was given some.

    `tool_calls` are what the model wants called, where it was offered tools; the text may then be empty.
    """

    text: str
    finish_reason: FinishReason
    model: str = ""
    usage: Usage = field(default_factory=Usage)
    receipt: Receipt = field(default_factory=Receipt)
    thinking: str = ""
    logprobs: tuple[Any, ...] = ()
    value: Any = None
    ground: Mapping[str, Any] | None = None
    tool_calls: tuple[ToolCall, ...] = ()


def gathered(pieces: Iterable[Piece], *, unfinished: FinishReason = FinishReason.INCOMPLETE) -> Reply:
    """The pieces of one answer as a whole; without a last piece the reply is `unfinished`."""
    text: list[str] = []
    thinking: list[str] = []
    logprobs: list[Any] = []
    calls: list[ToolCall] = []
    last = Piece("")
    for piece in pieces:
        (text if piece.kind == "text" else thinking).append(piece.text)
        if piece.logprobs:
            logprobs.extend(piece.logprobs)
        calls.extend(piece.tool_calls)
        if piece.keep is not None and piece.finish_reason is None:
            text, cut = cut_back(text, piece.keep)
            thinking += [cut] if piece.kind == "thinking" else []
        last = piece
    whole = "".join(text)
    return Reply(
        text=whole if last.keep is None else whole[: last.keep],
        finish_reason=last.finish_reason or unfinished,
        model=last.model,
        usage=last.usage or Usage(),
        receipt=last.receipt or Receipt(),
        thinking="".join(thinking),
        logprobs=tuple(logprobs),
        value=last.value,
        ground=last.ground,
        tool_calls=tuple(calls),
    )


def cut_back(text: Iterable[str], keep: int) -> tuple[list[str], str]:
    """The first `keep` characters of a text that came in parts, and the rest."""
    whole = "".join(text)
    return [whole[:keep]], whole[keep:]
