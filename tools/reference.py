"""Writes docs/reference.md: commands, settings and errors as the code has them. A test compares the file with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ["ORCHESTRA_LANG"] = "en"
ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "reference.md"
sys.path.insert(0, str(ROOT))


def commands() -> list[str]:
    """A row for each command with its options."""
    import typer

    from orchestra.cli import app

    app.register()
    rows = ["| command | does | options |", "|---|---|---|"]
    for words, command in _walk(typer.main.get_command(app.app), ()):
        arguments = " ".join(p.name.upper() for p in command.params if not p.opts[0].startswith("-"))
        options = ", ".join(f"`{p.opts[0]}`" for p in command.params if p.opts[0].startswith("--") and p.name != "help")
        rows.append(f"| `{' '.join([*words, arguments]).strip()}` | {_first_line(command.help)} | {options or '-'} |")
    return rows


def _walk(group: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    found: list[tuple[tuple[str, ...], Any]] = []
    for name, command in group.commands.items():
        words = (*path, name)
        found.extend(_walk(command, words) if hasattr(command, "commands") else [(words, command)])
    return found


def settings() -> list[str]:
    """A row for each setting."""
    from orchestra.settings import table

    rows = ["| variable | default | what it is for | 用途 |", "|---|---|---|---|"]
    rows += [f"| `{s.variable}` | {s.default if s.default != '' else '-'} | {s.help.en} | {s.help.zh} |" for s in table()]
    return rows


def errors() -> list[str]:
    """A row for each error that can be met."""
    from orchestra.errors import every_error

    rows = ["| error | exit | status | says | what to do | 提示 |", "|---|---|---|---|---|---|"]
    for error in sorted(every_error(), key=lambda e: e.exit_code):
        if error.__subclasses__() and error.__name__ != "OrchestraError":
            continue  # a branch of the tree is never raised itself
        cells = (error.says.en, error.advice.en, error.advice.zh)
        said, advice, zh = (_cell(cell) for cell in cells)
        rows.append(f"| `{error.__name__}` | {error.exit_code} | {error.status} | {said} | {advice} | {zh} |")
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0] if text else ""


def document() -> str:
    """The whole page."""
    parts = [
        "# Reference",
        "Made from the code by `make reference`; a test compares the two.",
        "## Commands",
        "Every command knows `--help`; `--json` prints exactly one object on stdout, also for an error.",
        "\n".join(commands()),
        "## Settings",
        "Environment variables, read once when a program starts; there is no configuration file. Times are seconds, sizes bytes.",
        "\n".join(settings()),
        "## Errors",
        "Each has one line that says what happened and one that says what to do, in English and Chinese (`ORCHESTRA_LANG`), "
        "an exit code of its own for the shell and a status for HTTP. An answer that was ended (a loop, a bound, a deadline) "
        "is no error: exit 0 and a note on stderr. Ctrl-C: 130. A reader that has gone: 141.",
        "\n".join(errors()),
    ]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
