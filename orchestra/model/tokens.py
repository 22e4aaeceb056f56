"""Counting tokens before the daemon does: exactly where the model's vocabulary is known, else rather too many."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from orchestra.model.calibration import Rates
from orchestra.model.messages import Message
from orchestra.model.rendering import certain, rendered
from orchestra.model.template import Unknown
from orchestra.model.vocabulary import Vocabulary
from orchestra.model.wire import neutral, storable

Counted = Literal["exact", "calibrated", "bound", "measured"]
Subject = Sequence[Message] | str

# The control tokens that a chat template puts around one message, generously: llama3's take five.
PER_MESSAGE = 8
_BROKEN = re.compile("[\udc80-\udcff]+")


class Count(NamedTuple):
    """A number of tokens, and how it was found; all but "exact" and "measured" are rather too many."""

    tokens: int
    counted: Counted


class Token(NamedTuple):
    """One token: its id, what it shows (bytes of a character that was cut in two as ⟨e8 af⟩), and its bytes."""

    id: int
    text: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """A text as a model reads it. Without the model's vocabulary `tokens` is empty and `count` rather too many."""

    model: str
    count: int
    exact: bool
    tokens: tuple[Token, ...] = ()


def most_tokens(text: str) -> int:
    """An upper bound: a byte-level vocabulary never needs more tokens than there are UTF-8 bytes."""
    return len(text.encode("utf-8", "replace"))


def most_tokens_of(subject: Subject, template: str = "") -> int:
    """An upper bound for a rendered prompt; `template` is the model's own text, which may add to it."""
    fixed = most_tokens(template) + PER_MESSAGE
    if isinstance(subject, str):
        return fixed + most_tokens(subject)
    return fixed + sum(most_tokens(message.content) + PER_MESSAGE for message in subject)


def most_tokens_of_tools(tools: Sequence[Mapping[str, Any]]) -> int:
    """A bound for tools in a prompt."""
    return most_tokens(_printed(tools))


def _printed(tools: Sequence[Mapping[str, Any]]) -> str:
    """Rather more than templates print of tools: once, as JSON, with more or fewer blanks."""
    return 2 * json.dumps(list(tools), ensure_ascii=False) if tools else ""


class Counter:
    """Counts for one model, whose `show` it is given. `exact` says that `rendered` is what the daemon will count.

    `confirmed` is what the daemon's own counts said of it: True, False, or None where there were none yet.
    """

    def __init__(
        self, facts: Mapping[str, Any], *, vocabulary: Vocabulary | None = None, rates: Rates | None = None,
        confirmed: bool | None = None,
    ) -> None:  # fmt: skip
        self._facts = facts
        self._vocabulary = None if confirmed is False else vocabulary
        self._rates = rates or Rates()
        self._sure = confirmed or certain(facts)

    @property
    def exact(self) -> bool:
        """Whether a dialogue's number is the daemon's own."""
        return self._sure and self.expected([Message("user", "?")]) > 0

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The model's vocabulary, where it is known."""
        return self._vocabulary

    def count(self, text: str) -> int:
        """The tokens of a text by itself, as it is sent: without a template or a begin-of-text."""
        text = neutral(storable(text))
        return self._rates.most(text) if self._vocabulary is None else self._vocabulary.count(text)

    def rendered(self, messages: Sequence[Message]) -> int:
        """The tokens of a dialogue as the daemon renders it, the opening of the answer included."""
        return self.measure(messages).tokens

    def measure(self, subject: Subject, *, raw: bool = False, tools: Sequence[Mapping[str, Any]] = ()) -> Count:
        """The tokens of a whole prompt, for `chat` (messages) or `complete` (a text; `raw` without the template).

        With `tools`, of which it is not known how a template prints them, never "exact".
        """
        if tools:
            beside = self.count(_printed(tools)) + self.count(str(self._facts.get("template") or ""))
            return Count(self.measure(subject).tokens + beside, "calibrated")
        expected = self.expected(subject, raw=raw)
        if expected and (raw or self._sure):
            return Count(expected, "exact")
        texts = [subject] if isinstance(subject, str) else [message.content for message in subject]
        own = "" if raw else str(self._facts.get("template") or "") + str(self._facts.get("system") or "")
        most = most_tokens(own) + PER_MESSAGE + sum(self.count(text) + PER_MESSAGE for text in texts)
        guessed = self._vocabulary is not None or self._rates.known
        return Count(max(most, expected), "calibrated" if guessed else "bound")

    def expected(self, subject: Subject, *, raw: bool = False) -> int:
        """What the daemon should count if it renders as it is thought to; 0 = that cannot be said."""
        if self._vocabulary is None:
            return 0
        try:
            text = self._text(subject, raw=raw)
        except Unknown:
            return 0
        return self._vocabulary.count(text) + self._vocabulary.around

    def learn(self, subject: Subject, tokens: int) -> None:
        """The daemon counted a prompt as so many tokens."""
        if self._vocabulary is None:
            self._rates.learn(subject if isinstance(subject, str) else "".join(message.content for message in subject), tokens)

    def read(self, text: str, *, model: str = "") -> Tokens:
        """The tokens of a text, one after another its bytes; what names a control token is read as one."""
        vocabulary = self._vocabulary
        if vocabulary is None:
            return Tokens(model=model, count=self._rates.most(text), exact=False)
        numbers = vocabulary.encode(storable(text))
        tokens = tuple(Token(number, shown(vocabulary.data[number]), vocabulary.data[number]) for number in numbers)
        return Tokens(model=model, count=len(tokens), exact=True, tokens=tokens)

    def _text(self, subject: Subject, *, raw: bool) -> str:
        if isinstance(subject, str):
            sent = neutral(storable(subject))
            return sent if raw else rendered(self._facts, sent)
        return rendered(self._facts, [{"role": m.role, "content": neutral(storable(m.content))} for m in subject])


def shown(data: bytes) -> str:
    """Bytes as text; what is no whole character by its bytes: b"\\xe8\\xaf" is ⟨e8 af⟩."""
    text = data.decode("utf-8", "surrogateescape")
    return _BROKEN.sub(lambda run: "⟨" + run[0].encode("utf-8", "surrogateescape").hex(" ") + "⟩", text)
