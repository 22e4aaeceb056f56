"""Who answers here: one expert alone, a coordinator with its experts, or everybody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestra.agents.experts import Named
from orchestra.agents.personas import Library
from orchestra.api import DEFAULT_COORDINATOR, DEFAULT_EXPERTS
from orchestra.errors import PersonaMissing
from orchestra.model.language import language_of
from orchestra.model.persona import Persona

UNNAMED = "expert"
GENERAL = "general"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """`alone` is the one expert of this service, read once: a file that is changed meanwhile does not take it away."""

    library: Library
    alone: Persona | None
    experts: tuple[Named, ...]
    coordinator: str
    integrates: bool

    @classmethod
    def of(cls, library: Library, *, seed_memory: str, persona: str, experts: Sequence[Named], coordinator: str) -> Roster:
        """The roster as `create_app` is told it. Raises `PersonaMissing` for a persona that is not there."""
        alone = None
        if seed_memory:
            alone = _seeded(library, seed_memory, persona)
        elif persona:
            alone = library.persona(persona)
        if coordinator:
            library.persona(coordinator)
        return cls(
            library=library,
            alone=alone,
            experts=tuple(experts) or DEFAULT_EXPERTS,
            coordinator=coordinator or DEFAULT_COORDINATOR,
            integrates=alone is None or bool(experts or coordinator),
        )

    def speaker(self, name: str | None = None) -> Persona:
        """Who answers a message: the one that is named, else the one expert, else `general`."""
        if self.alone is None:
            return self.library.persona(name or GENERAL)
        if name not in (None, self.alone.name):
            raise PersonaMissing(name=name, nearest=f"; here is: {self.alone.name}", nearest_zh=f"；此处只有：{self.alone.name}")
        return self.alone

    def face(self) -> Persona:
        """Who the service is to others: the one expert, else the coordinator."""
        return self.alone or self.library.persona(self.coordinator)


def _seeded(library: Library, seed_memory: str, name: str) -> Persona:
    """A persona of this seed memory; where there is one of that name, with its description."""
    text = seed_memory.removeprefix("system:").strip()  # the lesson's own way to begin one
    spoken: dict[str, str] = {language_of(text): text}
    try:
        return replace(library.persona(name), seed_memory=spoken) if name else Persona(name=UNNAMED, seed_memory=spoken)
    except PersonaMissing:
        return Persona(name=name, seed_memory=spoken)
