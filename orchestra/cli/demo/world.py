"""What a scene finds when it begins: a daemon or the stand-in, a data folder of its own, a record of what it saw.

The demo never opens the user's own sessions, and it needs neither a network nor a daemon.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from orchestra.api import AsyncOrchestra
from orchestra.errors import ModelMissing, NoModel, OrchestraError
from orchestra.model.messages import Options
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import StandIn

CONNECT_SECONDS = 1.5
LONGEST_ANSWER_SECONDS = 45.0
STANDIN_MODEL = "llama3"


class Found(NamedTuple):
    """What answers at OLLAMA_HOST: `model` is empty where nothing there can speak, and `why` says so."""

    url: str
    model: str = ""
    version: str = ""
    stand_in: bool = False
    fault: OrchestraError | None = None

    @property
    def answers(self) -> bool:
        """Whether a daemon is there, with or without a model."""
        return bool(self.version)


def looked_for(settings: Settings) -> Found:
    """Looks for a daemon where the settings name one, for at most a few seconds. Raises `ConfigError` for a name that is none."""
    patient = replace(settings, connect_timeout=min(CONNECT_SECONDS, settings.connect_timeout))
    core = AsyncOrchestra(settings=patient, runtime=Blocking())
    return finish(_looked(core))


async def _looked(core: AsyncOrchestra) -> Found:
    found = Found(core.client.connection.url)
    try:
        found = found._replace(version=await core.client.version() or "?")
        found = found._replace(stand_in=core.client.connection.stand_in)
        model = await core.model_for("chat")
        await core.client.facts(model)
        return found._replace(model=model)
    except (NoModel, ModelMissing) as error:
        return found._replace(fault=error)
    except OrchestraError as error:
        return found._replace(version="", fault=error)
    finally:
        await core.runtime.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Where the scenes play: `found` is the daemon that speaks (None: the stand-in), `folder` is removed afterwards."""

    folder: Path
    found: Found | None = None
    paced: bool = False

    @property
    def stand_in(self) -> bool:
        """Whether the words of the live scenes are the stand-in's."""
        return self.found is None

    @property
    def model(self) -> str:
        """The model of the live scenes."""
        return self.found.model if self.found else STANDIN_MODEL

    @contextmanager
    def daemon(self, pace: float) -> Iterator[tuple[str, StandIn | None]]:
        """The daemon of a live scene, with the stand-in's hands where it is one of ours; `pace` is in seconds a token."""
        if self.found:
            yield self.found.url, None
        else:
            with StandIn(pace=pace) as standin:
                yield standin.url, standin

    def settings(self, name: str, url: str = "") -> Settings:
        """Settings for a scene. With the stand-in nothing of the user's own applies."""
        home = str(self.folder / name)
        if url or self.found is None:
            return Settings.read({}, host=url, home=home)
        bound = Settings.read(host=self.found.url, home=home, model=self.model)
        return replace(bound, deadline=min(bound.deadline, LONGEST_ANSWER_SECONDS))

    def environment(self, name: str, url: str) -> dict[str, str]:
        """The same for a process of its own."""
        from orchestra.cli import words

        own = {"OLLAMA_HOST": url, "ORCHESTRA_HOME": str(self.folder / name), "ORCHESTRA_LANG": words.LANGUAGE}
        foreign = ("ORCHESTRA_", "OLLAMA_") if self.found is None else ()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**kept, **own, "ORCHESTRA_MODEL": self.model, "PYTHONUNBUFFERED": "1"}


COMMAND = (sys.executable, "-m", "orchestra")


@dataclass(slots=True)
class Record:
    """What a scene saw: facts for `--json`, and the promises that did not hold."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def promise(self, held: bool, what: str) -> bool:
        """Notes a promise; one that does not hold makes the scene fail, and is named."""
        if not held:
            self.broken.append(what)
        return held

    @property
    def ok(self) -> bool:
        """Whether the scene did what it says."""
        return not self.broken

    def shown(self) -> dict[str, Any]:
        """The record as JSON has it."""
        about: dict[str, Any] = {"name": self.name, "ok": self.ok, "seconds": round(self.seconds, 3)}
        if self.broken:
            about["broken"] = list(self.broken)
        return {**about, **self.facts}


BRIEF = Options(max_tokens=160)
