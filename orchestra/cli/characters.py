"""What `personas` does: who can answer, what a persona is told, and whether the files are sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from orchestra.agents.persona_check import remarks
from orchestra.agents.persona_file import read
from orchestra.agents.persona_template import begin
from orchestra.agents.personas import SUFFIX, Library, canonical, shipped
from orchestra.cli import words
from orchestra.cli.installing import held
from orchestra.cli.outcome import Wish
from orchestra.cli.tables import table
from orchestra.cli.terminal import as_line, harmless, plain, tell, write
from orchestra.cli.words import say
from orchestra.errors import KnowledgeMissing, PersonaInvalid
from orchestra.model.persona import Persona
from orchestra.settings import Settings


class Found(NamedTuple):
    """A persona file: what it says, or why it cannot be used."""

    name: str
    path: str
    persona: Persona | None = None
    error: PersonaInvalid | None = None
    warnings: tuple[str, ...] = ()

    def reason(self) -> str:
        """Why it cannot be used; empty where it can."""
        return self.error.message(words.LANGUAGE) if self.error else ""

    def faults(self) -> list[str]:
        """Everything that keeps it from being used."""
        return [fault.message(words.LANGUAGE) for fault in self.error.faults] if self.error else []


def _library() -> Library:
    return Library.of(Settings.read())


def _path(library: Library, name: str) -> str:
    try:
        return str(library.path(name) or "")
    except PersonaInvalid as error:  # two files have the name; the first stands for both
        return str(error.facts["path"])


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
    marks = baked if baked and baked.marks else None
    columns = [
        (say("NAME", "名称"), [found.name for found in everybody]),
        (say("TITLE", "称呼"), [_of(found, lambda persona: persona.titled(words.LANGUAGE)) for found in everybody]),
        (say("LANGUAGES", "语言"), [_of(found, lambda persona: ", ".join(persona.languages)) for found in everybody]),
        (say("MODEL", "模型"), [_of(found, lambda persona: persona.model or "") for found in everybody]),
        (say("INSTALLED", "已安装"), [marks.cell(found.name) if marks else "" for found in everybody]),
        (say("FROM", "来自"), [_origin(found) for found in everybody]),
        (say("DESCRIPTION", "说明"), [_about(found) for found in everybody]),
    ]
    said = [(header, cells) for header, cells in columns if any(cells)]
    table([header for header, _ in said], list(zip(*(cells for _, cells in said), strict=True)))
    if marks and (left := marks.without_file([found.name for found in everybody])):
        listed = harmless(", ".join(left))
        tell(say(f"installed, and no longer among the personas: {listed}", f"已安装，但角色文件已不存在：{listed}"))


def _of(found: Found, fact: Callable[[Persona], str]) -> str:
    return fact(found.persona) if found.persona else ""


def _origin(found: Found) -> str:
    """The folder of a file that is not shipped."""
    folder = Path(found.path).parent
    return "" if folder == shipped() else str(folder)


def _about(found: Found) -> str:
    return f"{say('error:', '错误：')} {found.reason()}" if found.error else _of(found, lambda persona: persona.described(words.LANGUAGE))


def _described(found: Found) -> dict[str, Any]:
    persona = found.persona
    return {
        "name": found.name,
        "title": persona.titled(words.LANGUAGE) if persona else "",
        "description": persona.described(words.LANGUAGE) if persona else "",
        "languages": list(persona.languages) if persona else [],
        "tools": list(persona.tools) if persona else [],
        "model": persona.model if persona else None,
        "path": found.path,
        "shipped": not _origin(found),
        "error": found.reason(),
    }


def show_persona(name: str, wish: Wish) -> None:
    """One persona with what stands first in every request of it."""
    library = _library()
    persona = library.persona(name)
    if wish.json:
        whole: dict[str, Any] = plain(persona)
        for part in ("options", "limits"):
            whole[part] = _given(whole[part])
        write(as_line({**whole, "path": _path(library, persona.name)}) + "\n")
        return
    facts = {
        say("name", "名称"): persona.name,
        say("title", "称呼"): persona.titled(words.LANGUAGE),
        say("description", "说明"): persona.described(words.LANGUAGE),
        say("model", "模型"): persona.model or "",
        say("languages", "语言"): ", ".join(persona.languages),
        say("tools", "工具"): ", ".join(persona.tools),
        say("options", "选项"): ", ".join(f"{key}={value}" for key, value in _given(plain(persona.options)).items()),
        say("limits", "限制"): ", ".join(f"{key}={value}" for key, value in _given(plain(persona.limits)).items()),
        say("file", "文件"): _path(library, persona.name),
    }
    for label, value in facts.items():
        if value:
            write(harmless(f"{label}: {value}\n"))
    for language, text in persona.seed_memory.items():
        write(harmless(f"\n[{language}]\n{text}\n"))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def new_persona(name: str, wish: Wish) -> None:
    """A file to begin a persona with, in the data folder; whom it stands before now is said."""
    library = _library()
    path = begin(name, Settings.read().folder() / "personas", words.LANGUAGE)
    hidden = next((str(other) for folder in library.folders if (other := folder / path.name) != path and other.exists()), "")
    if wish.json:
        write(as_line({"name": path.stem, "path": str(path), "other": hidden}) + "\n")
        return
    write(harmless(f"{path}\n"))
    if hidden:
        tell(say(f"there is another one of that name: {hidden}", f"已有同名角色：{hidden}"))
    tell(say(f"edit it, then: orchestra personas check {path.stem}", f"修改后请运行：orchestra personas check {path.stem}"))


def check_personas(names: Sequence[str], wish: Wish) -> int:
    """Whether persona files are sound: those that were named (names or files), else all; the code of the error if not."""
    library = _library()
    looked_at = [_named(library, name) for name in names] if names else _everything(library)
    has_base = cache(_has_base)
    looked_at = [_beside_others(found, library, has_base) for found in looked_at]
    bad = [found for found in looked_at if found.error]
    if wish.json:
        rows = [
            {
                "name": f.name, "ok": not f.error, "path": f.path, "detail": f.reason(), "faults": f.faults(), "warnings": list(f.warnings),
            }
            for f in looked_at
        ]  # fmt: skip
        write(as_line({"ok": not bad, "personas": rows}) + "\n")
    else:
        for found in looked_at:
            _tell_faults(found)
            for warning in found.warnings:
                write(harmless(f"{say('warn', '注意')} {found.name}  {warning}\n"))
        if bad:
            tell(say(f"{len(bad)} of {len(looked_at)} cannot be used", f"{len(looked_at)} 个中有 {len(bad)} 个无法使用"))
    return bad[0].error.exit_code if bad and bad[0].error else 0


def _tell_faults(found: Found) -> None:
    faults = found.faults()
    for fault in faults:
        write(harmless(f"FAIL {found.name}  {fault}\n"))
    if found.error and (left := found.error.facts.get("number", 1) - len(faults)) > 0:
        write(harmless(f"FAIL {found.name}  " + say(f"and {left} more of the kind", f"以及另外 {left} 处") + "\n"))
    if not faults:
        write(harmless(f"ok   {found.name}  {found.path}\n"))


def _beside_others(found: Found, library: Library, has_base: Callable[[str], bool]) -> Found:
    """What was found, and what is wrong between this file and others: faults as its error, and warnings."""
    if found.persona is None:
        return found
    path = Path(found.path)
    around = Library(tuple(dict.fromkeys([path.parent, *library.folders])))  # a file beside the folders may name its neighbours
    said = remarks(found.persona, path, around, has_base)
    faults = [
        PersonaInvalid(path=found.path, line=remark.line, detail=remark.said.en, detail_zh=remark.said.zh)
        for remark in said if remark.broken
    ]  # fmt: skip
    warnings = tuple(f"{found.path}:{remark.line}: {say(*remark.said)}" for remark in said if not remark.broken)
    return found._replace(error=PersonaInvalid.first_of(faults, len(faults)) if faults else None, warnings=warnings)


def _has_base(name: str) -> bool:
    """Whether there is a knowledge base of that name on this machine."""
    from orchestra.retrieval.knowledge.index import Index

    settings = Settings.read()
    with Index(settings.folder(), timeout=settings.store_timeout) as index:
        try:
            index.base(name)
        except KnowledgeMissing:
            return False
    return True


def _named(library: Library, name: str) -> Found:
    if name.endswith(SUFFIX) or "/" in name:
        return _checked(Path(name))
    return _found(library, name)


def _everything(library: Library) -> list[Found]:
    """Every file that is there, also one that another of the same name hides, or whose name no persona can have."""
    return [_checked(path) for folder in library.folders for path in sorted(folder.glob("*" + SUFFIX))]


def _checked(path: Path) -> Found:
    try:
        if canonical(path.stem) != path.stem:
            raise PersonaInvalid(
                path=str(path),
                line=0,
                detail="a persona's file is named with lower-case letters, digits, _ and -",
                detail_zh="角色文件名只能包含小写字母、数字、_ 和 -",
            )
        Library([path.parent]).path(path.stem)  # two of one name
        persona = read(path)
        return Found(persona.name, str(path), persona)
    except PersonaInvalid as error:
        return Found(path.stem, str(path), error=error)
