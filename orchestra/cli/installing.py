"""What `personas install` and `uninstall` do, and what `personas list` knows of the daemon."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import aclosing
from typing import NamedTuple

from orchestra.agents.baking import (
    Base,
    Mark,
    admitted,
    base_for,
    digests,
    install,
    installed,
    recipe,
    removable,
    uninstall,
)
from orchestra.agents.personas import Library, shipped
from orchestra.cli import words
from orchestra.cli.outcome import Wish
from orchestra.cli.running import complete
from orchestra.cli.terminal import as_line, harmless, tell, write
from orchestra.cli.words import say
from orchestra.errors import OrchestraError, UsageError
from orchestra.model.client import Client
from orchestra.model.persona import Persona
from orchestra.runtime import Blocking, Looped, finish
from orchestra.settings import Settings

GLANCE = 1.0  # seconds: a list of files does not wait longer for a daemon that may not run


class Held(NamedTuple):
    """The personas that the daemon holds; `stale` are the names of those whose file or base model has changed."""

    marks: tuple[Mark, ...] = ()
    stale: frozenset[str] = frozenset()

    def of(self, persona: str) -> list[dict[str, object]]:
        """The models made of a persona."""
        return [
            {"model": mark.model, "language": mark.language, "base": mark.base, "stale": mark.model in self.stale}
            for mark in self.marks
            if mark.persona == persona
        ]

    def without_file(self, personas: Collection[str]) -> list[str]:
        """The models whose persona is none of these."""
        return [mark.model for mark in self.marks if mark.persona not in personas]

    def cell(self, persona: str) -> str:
        """The same in a few words."""
        return ", ".join(
            f"{mark.model} ({mark.language}{say(', stale', '，已过期') if mark.model in self.stale else ''})"
            for mark in self.marks
            if mark.persona == persona
        )


def held(personas: Mapping[str, Persona]) -> Held | None:
    """What the daemon holds of these personas; None where there is no daemon to ask."""

    async def look() -> Held:
        client = Client(Blocking(), Settings.read(connect_timeout=GLANCE))
        known = await digests(client)
        marks = await installed(client)
        return Held(tuple(marks), frozenset(mark.model for mark in marks if mark.stale(personas.get(mark.persona), known)))

    try:
        return finish(look())
    except OrchestraError:
        return None


def install_personas(names: Sequence[str], wish: Wish, *, language: str, name: str, force: bool) -> None:
    """Make a model of each persona (without names: of all of them)."""
    personas = _chosen(names, alone=name and "--as")
    language = language or words.LANGUAGE

    async def main() -> list[dict[str, str]]:
        settings = Settings.read()
        client = Client(Looped(), settings)
        _warn_of_templates(personas, settings)
        recipes = []
        for persona in personas:
            how = recipe(persona, await base_for(client, persona), language=language, settings=settings)
            await admitted(client, how, name or persona.name, force=force)
            recipes.append((name or persona.name, how))
        made = []
        for model, how in recipes:
            async with aclosing(install(client, how, model, force=force)) as steps:
                async for step in steps:
                    if wish.verbose:
                        tell(harmless(f"{model}: {step.status}"))
            made.append({"model": model, "persona": how.persona.name, "language": how.language, "base": how.base.name})
            if not wish.json:
                made_of = f"{how.base.name} ({how.language})"
                write(harmless(say(f"{model}: made of {made_of}\n", f"{model}：由 {made_of} 创建\n")))
        return made

    made = complete(main())
    if wish.json:
        write(as_line({"installed": made}) + "\n")
    elif made:
        tell(say(f"try: ollama run {made[0]['model']}", f"可运行：ollama run {made[0]['model']}"))


def _warn_of_templates(personas: Sequence[Persona], settings: Settings) -> None:
    """Says which of these nobody has filled in since `personas new`."""
    from orchestra.agents.persona_check import unfilled

    library = Library.of(settings)
    for persona in personas:
        path = library.path(persona.name)
        for said in unfilled(persona, path) if path and path.parent != shipped() else ():
            tell(harmless(f"{say('warning:', '警告：')} {persona.name}: {say(*said)}"))


def print_modelfile(names: Sequence[str], *, language: str, name: str) -> None:
    """The Modelfile of one persona; no daemon is asked."""
    [persona] = _chosen(names, alone="--modelfile")
    settings = Settings.read()
    _warn_of_templates([persona], settings)
    base = Base(persona.model or settings.model or "llama3")
    write(recipe(persona, base, language=language or words.LANGUAGE, settings=settings).modelfile(name or persona.name))


def _chosen(names: Sequence[str], *, alone: str) -> list[Persona]:
    if alone and len(names) != 1:
        example = f"{alone} my_lawyer" if alone == "--as" else alone
        raise UsageError(
            detail=f"{alone} goes with one persona", detail_zh=f"{alone} 只能用于一个角色",
            fix="name one (`orchestra personas list` shows them): orchestra personas install lawyer " + example,
            fix_zh="请指定一个角色（`orchestra personas list` 可查看）：orchestra personas install lawyer " + example,
        )  # fmt: skip
    library = Library.of(Settings.read())
    return [library.persona(each) for each in dict.fromkeys(names)] if names else library.all()


def uninstall_personas(names: Sequence[str], wish: Wish, *, yes: bool) -> int:
    """Remove models that `install` made, all that were named or none; asks first."""
    client = Client(Blocking(), Settings.read())

    finish(removable(client, names))
    if not yes and not _agreed(names):
        tell(say("nothing was removed", "未移除任何模型"))
        return 1
    finish(uninstall(client, names))
    removed = list(dict.fromkeys(names))
    write((as_line({"removed": removed}) if wish.json else harmless("\n".join(removed))) + "\n")
    return 0


def _agreed(names: Sequence[str]) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            detail="nobody is there to ask whether to remove", detail_zh="无法在此处询问是否移除", fix="add --yes", fix_zh="请加上 --yes"
        )
    listed = harmless(", ".join(names))
    sys.stderr.write(say(f"Remove {listed} from the daemon? [y/N] ", f"从 Ollama 中移除 {listed}？[y/N] "))
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes", "是")
