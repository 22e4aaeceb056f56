"""Where personas are found: in the folders that the operator named, in the data folder, among the shipped ones.

Never in the current folder: a persona speaks first in every request, so a folder that somebody merely stands in
must not be able to bring one. While a process runs, what a file once said stays until it says something sound again.
"""

from __future__ import annotations

import logging
import os
import re
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from orchestra.errors import ConfigError, PersonaInvalid, PersonaMissing
from orchestra.model.persona import Persona
from orchestra.settings import Settings
from orchestra.texts import Words

SUFFIX = ".md"
NAME = re.compile(r"[a-z0-9_-]{1,64}")
SETTLED = 0.5
"""Seconds: a file that changed less than this ago may still be being written."""
_DEVICE = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")  # on Windows a file of that name is no file
_LOG = logging.getLogger("orchestra")
_STAYS = Words(": the persona {name} stays as it was", "：角色 {name} 保持原样")
_LEFT_OUT = Words("; {name} is left out (orchestra personas check {name})", "；{name} 未被采用（请运行：orchestra personas check {name}）")

Signature = tuple[int, int, int]


class _Kept(NamedTuple):
    """What a file said when it was last read; `signature` is None where it may have changed since, unseen."""

    path: Path
    signature: Signature | None
    persona: Persona


def canonical(name: str) -> str:
    """The form of a name by which a persona is known: NFKC and casefold. Empty where no persona can have that name."""
    known = unicodedata.normalize("NFKC", name).casefold()
    return known if NAME.fullmatch(known) and not _DEVICE.fullmatch(known) else ""


class Library:
    """The personas of several folders; where two have the same name the first folder wins."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._kept: dict[str, _Kept] = {}
        self._warned: dict[str, str] = {}  # of each name the last warning: it is said once, not at every message

    @classmethod
    def of(cls, settings: Settings) -> Library:
        """The folders in their order: `ORCHESTRA_PERSONAS`, the data folder's `personas`, the shipped ones.

        Raises `ConfigError` where one that was named is not there, or cannot be read.
        """
        named = [Path(settings.personas).expanduser()] if settings.personas else []
        own = settings.folder() / "personas"
        _readable(own, "ORCHESTRA_HOME", settings.home)
        for folder in named:
            _readable(folder, "ORCHESTRA_PERSONAS (--personas)", settings.personas, needed=True)
        return cls([*named, own, shipped()])

    def names(self) -> list[str]:
        """The names of all personas, sorted; the files are not read."""
        return sorted({name for folder in self.folders for name, _ in _named(folder)})

    def path(self, name: str) -> Path | None:
        """The file of that name. Raises `PersonaInvalid` where a folder has two of it, as `Lawyer.md` and `lawyer.md`."""
        # what is no name never becomes a path: `..`, slashes and NUL end here
        known = canonical(name)
        for folder in self.folders if known else ():
            paths = [path for other, path in _named(folder) if other == known]
            if len(paths) > 1:
                raise _twice(known, paths)
            if paths:
                return paths[0]
        return None

    def persona(self, name: str) -> Persona:
        """The persona of that name, as its file is now. Raises `PersonaMissing`, or `PersonaInvalid` with file and line.

        One that was given before is given again while its file is gone, half written or broken.
        """
        kept = self._kept.get(canonical(name))
        if kept is None:
            return self._read(name)
        try:
            path = self.path(name)
            now = _signature(path) if path else None
            if _signature(kept.path) is None:
                self._warn(kept.persona.name, Words(f"{kept.path} is gone", f"{kept.path} 已不存在"), _STAYS)
            elif now is not None and _settled(now) and (path, now) != (kept.path, kept.signature):
                return self._read(name)
        except PersonaInvalid as error:
            self._warn(kept.persona.name, _said(error), _STAYS)
        return kept.persona

    def all(self) -> list[Persona]:
        """Every persona that can be read, by name; the others are left out, with a warning in the log.

        Raises `PersonaInvalid` where none can be read.
        """
        sound: list[Persona] = []
        broken: dict[str, PersonaInvalid] = {}
        for name in self.names():
            with suppress(PersonaMissing):  # removed in this moment
                try:
                    sound.append(self.persona(name))
                except PersonaInvalid as error:
                    broken[name] = error
        if broken and not sound:
            raise next(iter(broken.values()))
        for name, fault in broken.items():
            self._warn(name, _said(fault), _LEFT_OUT)
        return sound

    def near(self, name: str) -> list[str]:
        """At most two personas with a name like this one; only such as can be read are offered."""
        like = get_close_matches(name.casefold()[:64], self.names(), n=8, cutoff=0.5)
        return list(islice((other for other in like if self._sound(other)), 2))

    def _sound(self, name: str) -> bool:
        try:
            self.persona(name)
        except (PersonaInvalid, PersonaMissing):
            return False
        return True

    def _warn(self, name: str, what: Words, so: Words) -> None:
        """A line in the log, once; whoever shows it to people finds it in Chinese as its `zh`."""
        en, zh = f"{what.en}{so.en.format(name=name)}", f"{what.zh}{so.zh.format(name=name)}"
        if self._warned.get(name) != en:
            self._warned[name] = en
            _LOG.warning("%s", en, extra={"zh": zh})

    def _read(self, name: str) -> Persona:
        path = self.path(name)
        if path is None:
            raise self._missing(name)
        # yaml and pydantic take longer to load than everything else that a command needs
        from orchestra.agents.persona_file import read

        before = _signature(path)
        persona = read(path)
        trusted = before if before is not None and _settled(before) and before == _signature(path) else None
        self._kept[canonical(name)] = _Kept(path, trusted, persona)
        self._warned.pop(canonical(name), None)
        return persona

    def _missing(self, name: str) -> PersonaMissing:
        near = ", ".join(self.near(name))
        en, zh = (f"; there is: {near}", f"；相近的有：{near}") if near else ("", "")
        return PersonaMissing(name=name, nearest=en, nearest_zh=zh)


def _readable(folder: Path, name: str, value: str, *, needed: bool = False) -> None:
    """Raises `ConfigError` for a folder that cannot be listed; one that is not there would else look like an empty one."""
    try:
        os.listdir(folder)
        return
    except (FileNotFoundError, NotADirectoryError):
        if not needed:
            return
        en, zh = f"there is no folder {folder}", f"目录 {folder} 不存在"
    except OSError:
        en, zh = f"the folder {folder} cannot be read", f"目录 {folder} 无法读取"
    raise ConfigError(name=name, value=value, detail=en, detail_zh=zh, example="~/personas")


def _said(error: PersonaInvalid) -> Words:
    return Words(error.message("en"), error.message("zh"))


def _named(folder: Path) -> Iterator[tuple[str, Path]]:
    """The persona files of a folder with the names that they are known by."""
    for path in sorted(folder.glob("*" + SUFFIX)):
        if name := canonical(path.stem):
            yield name, path


def _twice(name: str, paths: Sequence[Path]) -> PersonaInvalid:
    others = ", ".join(map(str, paths[1:]))
    return PersonaInvalid(
        path=str(paths[0]),
        line=0,
        detail=f"the name {name!r} is that of {others} as well",
        detail_zh=f"名称 {name!r} 与 {others} 重复",
    )


def _signature(path: Path) -> Signature | None:
    """What changes with a file: its number, size and time; None where there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _settled(signature: Signature) -> bool:
    """Whether the last change is long enough ago; one that lies in the future says nothing and counts as settled."""
    return not 0 <= time.time() - signature[2] / 1e9 < SETTLED


def shipped() -> Path:
    """The folder of the personas that come with Orchestra: inside the package, in a checkout beside it."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "personas"
    return inside if inside.is_dir() else package.parent / "personas"
