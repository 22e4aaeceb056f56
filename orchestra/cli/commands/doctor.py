"""The command that examines: `doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say


def doctor(
    context: typer.Context,
    search: Annotated[
        bool, typer.Option("--search", help=say("ask each search service a word, and say which answer", "向各搜索服务发送一个单词，查看哪些应答"))
    ] = False,
    json: o.Json = False,
) -> int:
    """Say what works here, and for what does not, what fixes it."""
    from orchestra.cli.checkup import check

    return check(context.obj, search=search)
