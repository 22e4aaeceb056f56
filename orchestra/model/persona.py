"""The persona as a value: who answers. Files are read in `orchestra.agents.personas`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestra.model.messages import Language, Options


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a persona may take for one question, over whatever the caller allows; None = no bound of its own.

    `steps` are calls of its tools, `seconds` the wall clock, `tokens` those of all its answers together.
    """

    steps: int | None = None
    seconds: float | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LooksUp:
    """Where a persona looks things up before it answers: on the web, in knowledge bases; false where nowhere."""

    search: bool = False
    knowledge: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.search or bool(self.knowledge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Persona:
    """Who an agent is. `seed_memory` maps a language ("zh", "en") to the text that stands first in every request.

    `title` and `description` are by language as well; the description is what other agents and the router read.
    Its tools are `search` (the web), `knowledge` (bases that are looked into before it answers) and `experts`
    (names of personas, or addresses); it reaches no other. `languages` are those it works in, by default those of
    its seed memory. `follows_language`: its answers are asked for in the question's language, as a translator's are not.
    """

    name: str
    seed_memory: Mapping[str, str]
    title: Mapping[str, str] = field(default_factory=dict)
    description: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[Language, ...] = ()
    follows_language: bool = True
    examples: tuple[str, ...] = ()
    search: bool = False
    knowledge: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    model: str | None = None
    options: Options = field(default_factory=Options)
    limits: Limits = field(default_factory=Limits)

    @property
    def looks_up(self) -> LooksUp:
        """Where it looks things up before it answers."""
        return LooksUp(search=self.search, knowledge=self.knowledge)

    @property
    def tools(self) -> tuple[str, ...]:
        """Everything that it may use, in the words of a persona file: `search`, `knowledge: NAME`, experts and addresses."""
        return (*(["search"] if self.search else []), *(f"knowledge: {name}" for name in self.knowledge), *self.experts)

    def speaks(self, language: str) -> str:
        """The seed memory in `language`, else in the language there is."""
        return in_or_any(self.seed_memory, language)

    def described(self, language: str) -> str:
        """The description in `language`, else in the language there is."""
        return in_or_any(self.description, language)

    def titled(self, language: str) -> str:
        """The title in `language`, else the name."""
        return in_or_any(self.title, language) or self.name


def in_or_any(texts: Mapping[str, str], language: str) -> str:
    """The text in `language`, else in the language there is."""
    return texts.get(language) or next(iter(texts.values()), "")
