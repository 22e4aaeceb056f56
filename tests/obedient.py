"""A daemon whose model says what a function makes of the messages that it reads: for models that do as they are told, or run wild."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from orchestra.standin import StandIn
from orchestra.standin.engine import Token
from orchestra.standin.inference import Inference
from orchestra.standin.script import spoken
from orchestra.standin.vocabulary import END_OF_TURN

Said = Callable[[list[dict[str, Any]]], str]


@contextmanager
def obeying(said: Said, **how: Any) -> Iterator[StandIn]:
    """The stand-in, over real sockets, with another model."""

    def tokens(inference: Inference, *_: Any) -> Iterator[Token]:
        return itertools.chain(spoken(said(inference.body["messages"])), [Token(END_OF_TURN, b"", 0.0, ())])

    with pytest.MonkeyPatch.context() as patch, StandIn(**how) as daemon:
        patch.setattr(Inference, "_tokens", tokens)
        yield daemon


def act(*calls: tuple[str, str]) -> str:
    """A step that asks the experts so named these questions; none: that it is enough."""
    return json.dumps({"thought": "-", "actions": [{"expert": name, "question": asked} for name, asked in calls]}, ensure_ascii=False)


def decides(messages: list[dict[str, Any]]) -> bool:
    """Whether a step is asked for, rather than an answer."""
    return "决定下一步" in messages[-1]["content"] or "Decide the next step" in messages[-1]["content"]
