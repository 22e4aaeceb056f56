"""The commands, one module for each part of the house; their bodies import what they need when they run."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Put every command on the line, in the order of the help."""
    from orchestra.cli.commands import answering

    app.command("generate")(answering.generate)
    app.command("chat")(answering.chat)
