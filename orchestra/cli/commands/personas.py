"""Commands about who answers: `personas ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say


def list_(context: typer.Context, json: o.Json = False) -> None:
    """List the personas."""
    from orchestra.cli.characters import list_personas

    list_personas(context.obj)


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=say("name of the persona", "角色名称"))],
    json: o.Json = False,
) -> None:
    """Show a persona and its seed memory."""
    from orchestra.cli.characters import show_persona

    show_persona(name, context.obj)


def check(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME|FILE]...", help=say("without any, all of them", "省略则检查全部"))
    ] = None,
    json: o.Json = False,
) -> int:
    """Check persona files."""
    from orchestra.cli.characters import check_personas

    return check_personas(names or (), context.obj)
