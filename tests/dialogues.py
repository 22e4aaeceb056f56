"""Dialogues with the stand-in, and what it was shown of them."""

from __future__ import annotations

from collections.abc import Sequence

from orchestra import Persona
from orchestra.model.messages import Options
from orchestra.standin import StandIn

EN, ZH = "\n\nAnswer in English.", "\n\n请用中文回答。"
POLITE = Persona(name="polite", seed_memory={"en": "You are very polite.", "zh": "你非常有礼貌。"}, options=Options(temperature=0.2))


def prompts(daemon: StandIn) -> list[list[dict[str, str]]]:
    """The messages of each answer that was asked for; what was only measured is left out."""
    return [body["messages"] for body in daemon.asked("/api/chat") if body["stream"]]


def said(prompt: Sequence[dict[str, str]]) -> list[str]:
    return [message["content"] for message in prompt]
