"""What happens to a prompt before the model sees it: rendered, counted, and - unless told not to - cut without a word.

This is the behaviour that Orchestra exists to make visible, so it is followed to the token: whole oldest messages
go first, then the middle of what is left, down to about half the window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from orchestra.standin.options import Settings
from orchestra.standin.refusal import EXCEEDS, TOO_LONG, Refusal, exceeds
from orchestra.standin.template import PLAIN, Template, native
from orchestra.standin.versions import Profile
from orchestra.standin.vocabulary import BEGIN, CONTROL, Vocabulary
from orchestra.standin.weights import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """The text, and the tokens that are left of it (the first is begin-of-text)."""

    text: str
    tokens: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What there is to fill, and what may be done when it is too small."""

    settings: Settings
    truncate: bool
    native: bool
    profile: Profile

    @property
    def size(self) -> int:
        """The window in tokens."""
        return self.settings.load.num_ctx

    @property
    def room(self) -> int:
        """The most tokens that a whole prompt may have."""
        return self.size - 1 if self.profile.has("engine of its own") else self.size


def chat(
    model: Model, messages: Sequence[Mapping[str, Any]], words: Vocabulary, window: Window, tools: Sequence[Mapping[str, Any]] = ()
) -> Prompt:
    """The prompt of a chat, with the tools that are offered. Raises `Refusal` (400) where it does not fit and must not be cut."""
    lead = tuple(model.messages)
    given = [*lead, *messages]
    if model.system and messages[0].get("role") != "system":
        given = [{"role": "system", "content": model.system}, *given]
    render = native if model.template is None else partial(Template(model.template).render, tools=tools)
    text = render(given)
    if window.truncate:
        start = 0
        while len(words.encode(text)) > window.size and start < len(given) - 1:
            start += 1
            kept = [message for message in given[:start] if message.get("role") == "system"]
            text = render([*kept, *given[start:]])
    return fitted(text, words, window)


def complete(model: Model, body: Mapping[str, Any], words: Vocabulary) -> str:
    """The text of a prompt for /api/generate."""
    if body.get("raw"):
        return str(body["prompt"])
    system = body.get("system") or model.system
    messages: list[Mapping[str, Any]] = [{"role": "system", "content": system}] if system else []
    context = body.get("context") or []
    messages += [*(() if context else model.messages), {"role": "user", "content": body["prompt"]}]
    template = Template(body.get("template") or (PLAIN if model.template is None else model.template))
    return detokenized(context, words) + template.render(messages)


def detokenized(numbers: Sequence[int], words: Vocabulary) -> str:
    """The text of a `context`. Raises `Refusal` (500) for a number that is no token."""
    size = len(words.tokens)
    for number in numbers:
        if not 0 <= number < size:
            check = f"vector::_M_range_check: __n (which is {number}) >= this->size() (which is {size})"
            nested = f'{{"error":{{"code":500,"message":"{check}","type":"server_error"}}}}'
            raise Refusal(500, f"detokenize error: {nested}")
    data = [words.tokens[n].encode() if words.kinds[n] == CONTROL else words.data(n) for n in numbers]
    return b"".join(data).decode("utf-8", "replace")


def fitted(text: str, words: Vocabulary, window: Window) -> Prompt:
    """The tokens of `text`, cut in the middle if need be. Raises `Refusal` (400) where that is not allowed."""
    tokens = [BEGIN, *words.encode(text)]
    if len(tokens) <= window.room:
        return Prompt(text=text, tokens=tokens)
    own = window.profile.has("engine of its own")
    if not own and not window.truncate:
        raise Refusal(400, EXCEEDS)
    if own and (not window.truncate or window.native):
        raise exceeds(len(tokens), window.size)
    if own and not window.settings.shift:
        raise Refusal(400, TOO_LONG)
    keep = min(window.settings.num_keep + 1, window.size - 1)
    left = window.room
    if window.profile.has("cut to half"):
        left = min(window.size - (window.size - keep) // 2, left)
    return Prompt(text=text, tokens=tokens[:keep] + tokens[len(tokens) - (left - keep) :] if left > keep else tokens[:left])
