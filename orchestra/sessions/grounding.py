"""What a turn may be given beside what was said: material for its question, from whoever looks things up.

A session knows nothing of searches. It asks its ground - a function - before each answer, puts what it gives into the
last user message, after the question, and keeps of it what the ground wants kept with the turn: sources, citations,
a ledger. The material itself is not kept in the history.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestra.model.messages import Language, Message, Piece, Usage


def _nothing(answer: str) -> Mapping[str, Any]:
    return {}


def _forgotten(kept: Mapping[str, Any]) -> None:
    return None


def as_they_are(pieces: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
    """The stage that changes nothing."""
    return pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """What a ground is asked: the question as the user put it, and what it needs to answer.

    `said` is the dialogue before it, oldest first, as far as it stands word for word; `room` is the most tokens that the
    material may take, and `tokens` counts them, rather too high than too low. `language` is the answer's.
    `keep` takes what there is to store so far, as JSON: whoever leaves before the answer begins leaves it with the turn.
    """

    question: str
    said: Sequence[Message]
    model: str
    language: Language
    room: int
    tokens: Callable[[str], int]
    keep: Callable[[Mapping[str, Any]], object] = _forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What was found for a question; without `text` the question stands alone.

    `text` says how it is to be used and is fenced already (`orchestra.model.untrusted`). `calls` counts the requests to
    the model that it took, `usage` what they took; `notes` go on the receipt. `stage` is what the answer's pieces pass
    through before they are shown and stored. `notice` is told to the reader as a paragraph before the answer and is no
    part of what is stored: the model must not read it later as its own words. `kept` makes of the finished answer the
    JSON object that is stored with the turn and given with the reply; an empty one is left out.
    """

    text: str = ""
    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    notes: tuple[str, ...] = ()
    notice: str = ""
    stage: Callable[[AsyncGenerator[Piece]], AsyncGenerator[Piece]] = as_they_are
    kept: Callable[[str], Mapping[str, Any]] = _nothing


Ground = Callable[[Inquiry], Awaitable[Material]]
