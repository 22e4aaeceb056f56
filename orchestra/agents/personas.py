"""Where personas are found: in the folders that the operator named, in the data folder, among the shipped ones.

Never in the current folder: a persona speaks first in every request, so a folder that somebody merely stands in
must not be able to bring one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from orchestra.errors import PersonaMissing
from orchestra.model.persona import Persona
from orchestra.settings import Settings

SUFFIX = ".md"
NAME = re.compile(r"[a-z0-9_-]{1,64}")


class Library:
    """The personas of several folders; where two have the same name the first folder wins."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)

    @classmethod
    def of(cls, settings: Settings) -> Library:
        """The folders in their order: `ORCHESTRA_PERSONAS`, the data folder's `personas`, the shipped ones."""
        named = [Path(settings.personas).expanduser()] if settings.personas else []
        return cls([*named, settings.folder() / "personas", shipped()])

    def names(self) -> list[str]:
        """The names of all personas, sorted; the files are not read."""
        return sorted({path.stem for folder in self.folders for path in folder.glob("*" + SUFFIX) if NAME.fullmatch(path.stem)})

    def persona(self, name: str) -> Persona:
        """The persona of that name, read anew. Raises `PersonaMissing`, or `PersonaInvalid` with file and line."""
        known = unicodedata.normalize("NFKC", name).casefold()
        # what is no name never becomes a path: `..`, slashes and NUL end here
        path = self._path(known) if NAME.fullmatch(known) else None
        if path is None:
            raise self._missing(name)
        # yaml and pydantic take longer to load than everything else that a command needs
        from orchestra.agents.persona_file import read

        return read(path)

    def all(self) -> list[Persona]:
        """Every persona, by name. Raises `PersonaInvalid` for the first file that cannot be read."""
        return [self.persona(name) for name in self.names()]

    def _path(self, name: str) -> Path | None:
        paths = (folder / (name + SUFFIX) for folder in self.folders)
        return next((path for path in paths if path.is_symlink() or path.exists()), None)

    def _missing(self, name: str) -> PersonaMissing:
        near = ", ".join(get_close_matches(name.casefold(), self.names(), n=2, cutoff=0.5))
        en, zh = (f"; there is: {near}", f"；相近的有：{near}") if near else ("", "")
        return PersonaMissing(name=name, nearest=en, nearest_zh=zh)


def shipped() -> Path:
    """The folder of the personas that come with Orchestra: inside the package, in a checkout beside it."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "personas"
    return inside if inside.is_dir() else package.parent / "personas"
