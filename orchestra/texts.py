"""A text in the two languages of the house, filled with facts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

LONGEST_FACT = 500


class Words(NamedTuple):
    """One text in the two languages; `{name}` is filled from the error's facts."""

    en: str
    zh: str

    def text(self, language: str, facts: dict[str, Any] | None = None) -> str:
        """The text in `language` ("zh", else English)."""
        template = self.zh if language == "zh" else self.en
        return template.format_map(_Facts(facts or {}))


class _Facts(dict[str, Any]):
    """Facts of an error: cut to a readable length, and a missing one never hides the error itself."""

    def __missing__(self, key: str) -> Any:
        english = key.removesuffix("_zh")  # a detail in somebody else's words is the same in both languages
        return self[english] if english != key else "?"

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if isinstance(value, str) and len(value) > LONGEST_FACT:
            return value[:LONGEST_FACT] + "…"
        return value


def interface_language(environment: Mapping[str, str] | None = None) -> str:
    """The language of errors and hints: `ORCHESTRA_LANG`, else the locale's, else English."""
    source = os.environ if environment is None else environment
    names = ("ORCHESTRA_LANG", "LC_ALL", "LC_MESSAGES", "LANG")
    chosen = next((value for name in names if (value := source.get(name, ""))), "en")
    return "zh" if chosen.lower().startswith("zh") else "en"
