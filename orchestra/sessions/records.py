"""What the store gives back: frozen values, and the small rules that belong to them.

They know nothing of SQLite, so that a conversation, a face or an exporter can hold them without holding the store.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypedDict, get_args

from orchestra.errors import UsageError
from orchestra.model.messages import FinishReason, Message, Role

Status = Literal["open", "done", "interrupted", "failed"]
Mode = Literal["chat", "transcript"]

LONGEST_NAME = 300


class About(TypedDict, total=False):
    """What is known of a session beside its turns; only the keys that are given are set."""

    title: str | None
    persona: str | None
    auto: bool
    model: str | None
    language: str | None
    mode: Mode
    speakers: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """A named dialogue. Times are seconds since 1970 and only shown: order never depends on them.

    `turns` counts the turns along the head's chain and `first` begins like its first question. `persona` leads it; with
    `auto` that is who led it last, and it has segments. `speakers` are the two labels of a transcript.
    """

    id: str
    name: str
    title: str | None = None
    persona: str | None = None
    auto: bool = False
    model: str | None = None
    language: str | None = None
    mode: Mode = "chat"
    speakers: tuple[str, ...] = ()
    turns: int = 0
    first: str = ""
    head: str | None = None
    created: float = 0.0
    changed: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One exchange: a question and its answer, linked to the turn before it.

    `turn_id` is the caller's own name for it, `digest` the hash of everything said up to here (None while open).
    `usage` and `receipt` are JSON objects as `Usage` and `Receipt` write them, `ground` is one of the answer's sources.
    `persona` led the turn; None where nobody did, or nobody said.
    """

    id: str
    session: str
    question: str
    answer: str = ""
    parent: str | None = None
    turn_id: str | None = None
    thinking: str = ""
    status: Status = "done"
    finish_reason: FinishReason | None = None
    model: str = ""
    usage: Mapping[str, Any] | None = None
    receipt: Mapping[str, Any] | None = None
    ground: Mapping[str, Any] | None = None
    persona: str | None = None
    created: float = 0.0
    digest: str | None = None

    def messages(self) -> list[Message]:
        """The turn as messages; a side that said nothing is left out."""
        both: list[tuple[Role, str]] = [("user", self.question), ("assistant", self.answer)]
        return [Message(role, content) for role, content in both if content]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """A summary in which all turns up to `turn` stand in later prompts; the turns themselves stay as they are.

    `turns` counts them and `tokens` are the summary's, None where the daemon did not say. `fault` says why an attempt
    gave no summary: its `text` is empty then.
    """

    turn: str
    text: str
    model: str = ""
    tokens: int | None = None
    fault: str | None = None
    turns: int = 0
    created: float = 0.0
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A message that a search found; `text` is the part of it around the first word found."""

    session: str
    turn: str
    role: Role
    text: str
    created: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a turn ended: everything about an answer that is not its text."""

    status: Status = "done"
    finish_reason: FinishReason | None = None
    model: str = ""
    usage: Any = None
    receipt: Any = None
    ground: Any = None
    persona: str | None = None


def digest(parent: str | None, question: str, answer: str) -> str:
    """The hash that a dialogue has after this exchange; the same words give the same hash in any session."""
    state = hashlib.sha256()
    for part in (parent or "", question, answer):
        encoded = part.encode("utf-8", "surrogatepass")
        state.update(len(encoded).to_bytes(8, "big"))
        state.update(encoded)
    return state.hexdigest()


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: halves of a surrogate pair are joined, lone ones become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def named(name: str) -> str:
    """The name as it is stored; raises `UsageError` for one that is empty or longer than 300 characters."""
    if name.strip() and len(name) <= LONGEST_NAME:
        return storable(name)
    raise UsageError(
        detail="a session's name has 1 to 300 characters",
        detail_zh="会话名称须为 1 到 300 个字符",
        fix="choose another name",
        fix_zh="请换一个名称",
    )


def paired(history: Sequence[Message]) -> list[tuple[str, str]]:
    """Messages as exchanges; a question without an answer, or the reverse, has an empty other side."""
    pairs: list[tuple[str, str]] = []
    waiting: str | None = None
    for message in history:
        if message.role == "user":
            if waiting is not None:
                pairs.append((waiting, ""))
            waiting = message.content
        elif message.role == "assistant":
            pairs.append((waiting or "", message.content))
            waiting = None
        else:
            raise UsageError(
                detail="a session's history holds what was said; a system message belongs to a persona",
                detail_zh="会话历史只包含对话内容；系统消息属于角色（persona）",
                fix="give it as persona=",
                fix_zh="请通过 persona= 提供",
            )
    return pairs if waiting is None else [*pairs, (waiting, "")]


def jsonable(value: Any) -> str | None:
    """A dataclass or mapping as JSON text, None as None."""
    if value is None:
        return None
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else dict(value)
    return storable(json.dumps(plain, ensure_ascii=False, default=str))


def timestamp(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, exact to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def seconds_of(stamp: str) -> float:
    """The reverse of `timestamp`; raises `ValueError` or `OverflowError` for what that could not write."""
    moment = datetime.fromisoformat(stamp)
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    timestamp(seconds)
    return seconds


STATUSES: tuple[str, ...] = get_args(Status)
MODES: tuple[str, ...] = get_args(Mode)
