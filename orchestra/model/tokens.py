"""Counting tokens before the daemon does: exactly where the model's vocabulary is known, else by a bound in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from orchestra.model.messages import Message

Counted = Literal["exact", "calibrated", "bound", "measured"]

# The control tokens that a chat template puts around one message, generously: llama3's take five.
PER_MESSAGE = 8


class Count(NamedTuple):
    """A number of tokens, and how it was found; all but "exact" and "measured" are more than there can be."""

    tokens: int
    counted: Counted


def most_tokens(text: str) -> int:
    """An upper bound: a byte-level vocabulary never needs more tokens than there are UTF-8 bytes."""
    return len(text.encode("utf-8", "replace"))


def most_tokens_of(subject: Sequence[Message] | str, template: str = "") -> int:
    """An upper bound for a rendered prompt; `template` is the model's own text, which may add to it."""
    fixed = most_tokens(template) + PER_MESSAGE
    if isinstance(subject, str):
        return fixed + most_tokens(subject)
    return fixed + sum(most_tokens(message.content) + PER_MESSAGE for message in subject)


class Counter:
    """Counts for one model. `exact` says that `rendered` is what the daemon will count; else it is a bound."""

    def __init__(self, *, template: str = "") -> None:
        self._template = template

    @property
    def exact(self) -> bool:
        """Whether the numbers are the daemon's own."""
        return False

    def count(self, text: str) -> int:
        """The tokens of a text by itself, without a template or a begin-of-text."""
        return most_tokens(text)

    def rendered(self, messages: Sequence[Message]) -> int:
        """The tokens of a dialogue as the daemon renders it, the opening of the answer included."""
        return self.measure(messages).tokens

    def measure(self, subject: Sequence[Message] | str, *, raw: bool = False) -> Count:
        """The tokens of a whole prompt, for `chat` (messages) or `complete` (a text; `raw` without the template)."""
        return Count(most_tokens_of(subject, "" if raw else self._template), "bound")
