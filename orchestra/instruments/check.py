"""One thing that was looked at: how it is, and where it is not well, what changes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestra.errors import OrchestraError
from orchestra.texts import Words

NOTHING = Words("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at. `required` = the main job needs it; `fix` is empty where nothing is wrong."""

    name: str
    ok: bool
    detail: Words
    required: bool = False
    fix: Words = NOTHING

    def shown(self, language: str) -> dict[str, Any]:
        """The check as JSON has it, its texts in `language`."""
        detail, fix = (text.zh if language == "zh" else text.en for text in (self.detail, self.fix))
        return {"name": self.name, "ok": self.ok, "required": self.required, "detail": detail, "fix": fix}


def sound(checks: Sequence[Check]) -> bool:
    """Whether the main job can run."""
    return all(check.ok for check in checks if check.required)


def failed(name: str, error: OrchestraError, *, required: bool = False) -> Check:
    """What went wrong, as a check."""
    return Check(
        name=name,
        ok=False,
        required=required,
        detail=Words(error.message("en"), error.message("zh")),
        fix=Words(error.hint("en"), error.hint("zh")),
    )


def gigabytes(size: int) -> str:
    """Bytes as people say them; "?" where they are not known."""
    return f"{size / 1e9:.1f} GB" if size else "?"
