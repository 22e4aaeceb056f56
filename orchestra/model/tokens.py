"""Counting tokens before the daemon does."""

from __future__ import annotations

from collections.abc import Sequence

from orchestra.model.messages import Message

# The control tokens that a chat template puts around one message, generously: llama3's take five.
PER_MESSAGE = 8


def most_tokens(text: str) -> int:
    """An upper bound: a byte-level vocabulary never needs more tokens than there are UTF-8 bytes."""
    return len(text.encode("utf-8", "replace"))


def most_tokens_of(subject: Sequence[Message] | str, template: str = "") -> int:
    """An upper bound for a rendered prompt; `template` is the model's own text, which may add to it."""
    fixed = most_tokens(template) + PER_MESSAGE
    if isinstance(subject, str):
        return fixed + most_tokens(subject)
    return fixed + sum(most_tokens(message.content) + PER_MESSAGE for message in subject)
