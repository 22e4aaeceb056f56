"""A persona at work: it answers in its role, and to every other agent it is a tool with a name and one argument."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from orchestra.model.client import Client
from orchestra.model.language import language_of, wanted, with_language
from orchestra.model.messages import Message, Options, Piece, Reply, gathered
from orchestra.model.persona import Persona


@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """One definition that serves many questions at once; `model` answers where the persona names none."""

    persona: Persona
    client: Client
    model: str

    @property
    def name(self) -> str:
        """The name by which other agents ask for it."""
        return self.persona.name

    def stream(self, question: str, *, options: Options | None = None, material: str = "") -> AsyncGenerator[Piece]:
        """What the expert says to `question`, in its language; `material` is text of others, to be judged, not obeyed.

        The seed memory stands first; only the question and what belongs to it stand in the user message.
        """
        options = (options or Options()).over(self.persona.options)
        line = wanted(question, options.language) if self.persona.follows_language else options.language
        asked = with_language(f"{question}\n\n{material}" if material else question, line)
        messages = [Message("system", self.persona.speaks(options.language or language_of(question))), Message("user", asked)]
        return self.client.chat(messages, model=self.persona.model or self.model, options=options)

    async def answer(self, question: str, *, options: Options | None = None) -> Reply:
        """The same, whole. Raises `OrchestraError`, with what was said so far as its `reply`."""
        async with aclosing(self.stream(question, options=options)) as pieces:
            return gathered([piece async for piece in pieces])
