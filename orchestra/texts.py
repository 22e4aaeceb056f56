"""A text in the two languages of the house, filled with facts."""

from __future__ import annotations

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

    def __missing__(self, key: str) -> str:
        return "?"

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if isinstance(value, str) and len(value) > LONGEST_FACT:
            return value[:LONGEST_FACT] + "…"
        return value
