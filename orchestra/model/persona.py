"""The persona as a value: who answers. Files are read in `orchestra.agents.personas`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestra.model.messages import Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """Who an agent is. `seed_memory` maps a language ("zh", "en") to the text that stands first in every request.

    `title` and `description` are by language as well; the description is what other agents and the router read.
    `knowledge` names the knowledge bases that are looked into before it answers.
    """

    name: str
    seed_memory: Mapping[str, str]
    title: Mapping[str, str] = field(default_factory=dict)
    description: Mapping[str, str] = field(default_factory=dict)
    examples: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    knowledge: tuple[str, ...] = ()
    model: str | None = None
    options: Options = field(default_factory=Options)

    def speaks(self, language: str) -> str:
        """The seed memory in `language`, else in the language there is."""
        return _in(self.seed_memory, language)

    def described(self, language: str) -> str:
        """The description in `language`, else in the language there is."""
        return _in(self.description, language)

    def titled(self, language: str) -> str:
        """The title in `language`, else the name."""
        return _in(self.title, language) or self.name


def _in(texts: Mapping[str, str], language: str) -> str:
    return texts.get(language) or next(iter(texts.values()), "")
