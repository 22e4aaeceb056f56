"""The command that examines: `doctor`."""

from __future__ import annotations

import typer

from orchestra.cli import options as o


def doctor(context: typer.Context, json: o.Json = False) -> int:
    """Say what works here, and for what does not, what fixes it."""
    from orchestra.cli.checkup import check

    return check(context.obj)
