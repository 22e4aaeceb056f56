"""The command that shows tokens: `tokens`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say


def tokens(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help=say("any text; - reads standard input", "任意文本；- 表示读取标准输入"))],
    model: o.Model = "",
    json: o.Json = False,
) -> None:
    """Show how a model cuts a text."""
    from orchestra.cli.tokens import show_tokens

    show_tokens(o.text_of(text), model=model, wish=context.obj)
