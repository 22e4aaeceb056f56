"""Commands about models: `models`, `pull`, `show`, and `standin`, a daemon without any."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say

Name = Annotated[str, typer.Argument(metavar="NAME", help=say("a model, for example llama3", "模型名称，例如 llama3"))]


def models(context: typer.Context, json: o.Json = False) -> None:
    """List the installed models."""
    from orchestra.cli.installed import list_models

    list_models(context.obj)


def show(context: typer.Context, name: Name, json: o.Json = False) -> None:
    """Show what matters of a model."""
    from orchestra.cli.installed import show_model

    show_model(name, context.obj)


def pull(context: typer.Context, name: Name, json: o.Json = False) -> None:
    """Bring a model in."""
    from orchestra.cli.installed import pull_model

    pull_model(name, context.obj)


def standin(
    context: typer.Context,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help=say("where to listen; 0 = any port", "监听端口；0 为任意空闲端口"))] = 11435,
    window: Annotated[int, typer.Option("--window", min=16, max=1_000_000, help=say("context window in tokens", "上下文窗口（token）"))] = 4096,
    pace: Annotated[float, typer.Option("--pace", min=0, max=60, help=say("seconds between two pieces", "两段输出之间的秒数"))] = 0.0,
    slots: Annotated[int, typer.Option("--slots", min=1, max=64, help=say("answers at once", "同时回答的数量"))] = 1,
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help=say("a model to play (or several)", "要模拟的模型（可多次）"))] = None,
    json: o.Json = False,
) -> None:
    """Run a stand-in daemon in the foreground: the protocol without a model."""
    from orchestra.cli.installed import stand_in

    stand_in(context.obj, port=port, models=model, window=window, pace=pace, slots=slots)
