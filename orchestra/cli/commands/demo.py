"""The command that shows the main job: `demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say


def demo(
    fast: Annotated[bool, typer.Option("--fast", help=say("without pauses", "不停顿"))] = False,
    json: o.Json = False,
) -> None:
    """What Orchestra makes of a bare daemon, in a few scenes."""
    from orchestra.cli.demo.show import run

    raise typer.Exit(run(fast=fast, as_json=json))
