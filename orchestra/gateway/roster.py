"""Who answers here: one expert alone, a coordinator with its experts, or everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from orchestra.agents.experts import Named
from orchestra.agents.personas import Library
from orchestra.api import DEFAULT_COORDINATOR, DEFAULT_EXPERTS
from orchestra.errors import PersonaFault, PersonaMissing
from orchestra.model.language import language_of
from orchestra.model.persona import Persona
from orchestra.retrieval.available import line_of
from orchestra.retrieval.search import leaves, service_of
from orchestra.settings import Settings
from orchestra.texts import Words

UNNAMED = "expert"
SEARCH = "orchestra/search"  # the model that looks everything up
GENERAL = "general"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """`alone` is the one expert of this service, read once: a file that is changed meanwhile does not take it away."""

    library: Library
    alone: Persona | None
    experts: tuple[Named, ...]
    descriptions: Mapping[str, str]
    coordinator: str
    integrates: bool

    @classmethod
    def of(
        cls, library: Library, *, seed_memory: str, persona: str, experts: Sequence[Named], coordinator: str,
        descriptions: Mapping[str, str],
    ) -> Roster:  # fmt: skip
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
            descriptions=descriptions,
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

    def known(self) -> list[Persona]:
        """Everybody whose seed memory may be in what goes wrong here."""
        with suppress(PersonaFault):
            return [*([self.alone] if self.alone else []), *self.library.all()]
        return [self.alone] if self.alone else []

    def face(self) -> Persona:
        """Who the service is to others: the one expert, else the coordinator."""
        return self.alone or self.library.persona(self.coordinator)

    def searching(self) -> list[str]:
        """The names of those who look things up on the web when they are asked here, as far as they are known."""
        named = [each if isinstance(each, Persona) else self._file(each) for each in (self.experts if self.integrates else ())]
        served = [self.alone, *named] if self.alone else self.library.all()
        names = sorted({persona.name for persona in served if persona and persona.search})
        return names if self.alone else [*names, SEARCH]

    def notice(self, settings: Settings) -> Words | None:
        """Where the questions to those who search go, for whoever starts the service; None where they stay on this machine.

        Raises what a wrong setting of the search services raises.
        """
        names = self.searching()
        services = [service_of(provider) for step in line_of(settings) for provider in step if leaves(provider)] if names else []
        if not services:
            return None
        who, seen = ", ".join(names), ", ".join(dict.fromkeys(services))
        return Words(
            f"questions to {who} are sent to a search service, the first that answers: {seen} (ORCHESTRA_SEARCH chooses)",
            f"发给 {who} 的问题会发送到搜索服务（第一个应答的）：{seen}（可用 ORCHESTRA_SEARCH 选择）",
        )

    def _file(self, named: Named) -> Persona | None:
        with suppress(PersonaMissing):
            return self.library.persona(named) if isinstance(named, str) else None
        return None


def _seeded(library: Library, seed_memory: str, name: str) -> Persona:
    """A persona of this seed memory; where there is one of that name, with its description."""
    text = seed_memory.removeprefix("system:").strip()  # the lesson's own way to begin one
    spoken: dict[str, str] = {language_of(text): text}
    try:
        return replace(library.persona(name), seed_memory=spoken) if name else Persona(name=UNNAMED, seed_memory=spoken)
    except PersonaMissing:
        return Persona(name=name, seed_memory=spoken)
