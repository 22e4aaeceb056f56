"""What `personas` does: who can answer, what a persona is told, and whether the files are sound."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from orchestra.agents.persona_file import read
from orchestra.agents.personas import NAME, SUFFIX, Library
from orchestra.cli import words
from orchestra.cli.installing import held
from orchestra.cli.outcome import Wish
from orchestra.cli.tables import table
from orchestra.cli.terminal import as_line, harmless, plain, tell, write
from orchestra.cli.words import say
from orchestra.errors import OrchestraError, PersonaInvalid
from orchestra.model.persona import Persona
from orchestra.settings import Settings


class Found(NamedTuple):
    """A persona file: what it says, or why it cannot be used."""

    name: str
    path: str
    persona: Persona | None = None
    error: OrchestraError | None = None

    def reason(self) -> str:
        """Why it cannot be used; empty where it can."""
        return self.error.message(words.LANGUAGE) if self.error else ""


def _library() -> Library:
    return Library.of(Settings.read())


def _path(library: Library, name: str) -> str:
    paths = [folder / (name + SUFFIX) for folder in library.folders]
    return str(next((path for path in paths if path.is_symlink() or path.exists()), ""))


def _found(library: Library, name: str) -> Found:
    try:
        return Found(name, _path(library, name), library.persona(name))
    except PersonaInvalid as error:
        return Found(name, _path(library, name), error=error)


def list_personas(wish: Wish) -> None:
    """Everybody who can answer; a file that cannot be read is listed with its reason."""
    library = _library()
    everybody = [_found(library, name) for name in library.names()]
    baked = held({found.name: found.persona for found in everybody if found.persona})
    if wish.json:
        rows_of = [{**_described(found), "installed": baked.of(found.name) if baked else None} for found in everybody]
        write(as_line({"personas": rows_of}) + "\n")
        return
    rows = []
    for found in everybody:
        persona = found.persona
        title = persona.titled(words.LANGUAGE) if persona else ""
        about = persona.described(words.LANGUAGE) if persona else f"{say('error:', '错误：')} {found.reason()}"
        cells = [found.name, title, ", ".join(persona.seed_memory) if persona else "", about]
        if baked and baked.marks:
            cells.insert(3, baked.cell(found.name))
        rows.append(tuple(cells))
    headers = [say("NAME", "名称"), say("TITLE", "称呼"), say("LANGUAGES", "语言"), say("DESCRIPTION", "说明")]
    if baked and baked.marks:
        headers.insert(3, say("INSTALLED", "已安装"))
    table(tuple(headers), rows)


def _described(found: Found) -> dict[str, Any]:
    persona = found.persona
    return {
        "name": found.name,
        "title": persona.titled(words.LANGUAGE) if persona else "",
        "description": persona.described(words.LANGUAGE) if persona else "",
        "languages": list(persona.seed_memory) if persona else [],
        "model": persona.model if persona else None,
        "path": found.path,
        "error": found.reason(),
    }


def show_persona(name: str, wish: Wish) -> None:
    """One persona with what stands first in every request of it."""
    library = _library()
    persona = library.persona(name)
    if wish.json:
        whole: dict[str, Any] = plain(persona)
        whole["options"] = {key: value for key, value in whole["options"].items() if value is not None}
        write(as_line({**whole, "path": _path(library, persona.name)}) + "\n")
        return
    options = {key: value for key, value in plain(persona.options).items() if value is not None}
    facts = {
        say("name", "名称"): persona.name,
        say("title", "称呼"): persona.titled(words.LANGUAGE),
        say("description", "说明"): persona.described(words.LANGUAGE),
        say("model", "模型"): persona.model or "",
        say("options", "选项"): ", ".join(f"{key}={value}" for key, value in options.items()),
        say("file", "文件"): _path(library, persona.name),
    }
    for label, value in facts.items():
        if value:
            write(harmless(f"{label}: {value}\n"))
    for language, text in persona.seed_memory.items():
        write(harmless(f"\n[{language}]\n{text}\n"))


def check_personas(names: Sequence[str], wish: Wish) -> int:
    """Whether persona files are sound: those that were named (names or files), else all; the code of the error if not."""
    library = _library()
    looked_at = [_named(library, name) for name in names] if names else _everything(library)
    bad = [found for found in looked_at if found.error]
    if wish.json:
        rows = [{"name": f.name, "ok": not f.error, "path": f.path, "detail": f.reason()} for f in looked_at]
        write(as_line({"ok": not bad, "personas": rows}) + "\n")
    else:
        for found in looked_at:
            write(harmless(f"{'FAIL' if found.error else 'ok  '} {found.name}  {found.reason() or found.path}\n"))
        if bad:
            tell(say(f"{len(bad)} of {len(looked_at)} cannot be used", f"{len(looked_at)} 个中有 {len(bad)} 个无法使用"))
    return bad[0].error.exit_code if bad and bad[0].error else 0


def _named(library: Library, name: str) -> Found:
    if name.endswith(SUFFIX) or "/" in name:
        return _checked(Path(name))
    return _found(library, name)


def _everything(library: Library) -> list[Found]:
    """Every file that is there, also one that another of the same name hides, or whose name no persona can have."""
    return [_checked(path) for folder in library.folders for path in sorted(folder.glob("*" + SUFFIX))]


def _checked(path: Path) -> Found:
    try:
        if not NAME.fullmatch(path.stem):
            raise PersonaInvalid(
                path=str(path),
                line=0,
                detail="a persona's file is named with lower-case letters, digits, _ and -",
                detail_zh="角色文件名只能包含小写字母、数字、_ 和 -",
            )
        persona = read(path)
        return Found(persona.name, str(path), persona)
    except PersonaInvalid as error:
        return Found(path.stem, str(path), error=error)
