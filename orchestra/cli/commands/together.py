"""Commands over several parts: `ask` looks things up, `integrate` asks several experts."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say


def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help=say("what to look up; - reads standard input", "要查找的问题；- 表示标准输入"))],
    search: Annotated[str, typer.Option("--search", metavar="PROVIDER", help=say("where to look: offline", "查找的地方：offline"))] = "offline",
    results: Annotated[int, typer.Option("--results", min=1, max=20, help=say("most sources", "最多来源数"))] = 3,
    model: o.Model = "",
    max_tokens: o.MaxTokens = None,
    temperature: o.Temperature = None,
    seed: o.Seed = None,
    window: o.Window = None,
    deadline: o.Deadline = None,
    lang: o.Lang = None,
    json: o.Json = False,
    stream: o.Stream = False,
) -> None:
    """Answer from what was looked up, with sources."""
    from orchestra.cli.together import ask_once

    wanted = o.given(max_tokens=max_tokens, temperature=temperature, seed=seed, window=window, deadline=deadline, lang=lang)
    ask_once(o.text_of(question), search=search, results=results, model=model, options=wanted, wish=context.obj)


def integrate(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help=say("what to solve; - reads standard input", "要解决的任务；- 表示标准输入"))],
    expert: Annotated[
        list[str] | None, typer.Option("--expert", metavar="NAME", help=say("a persona to ask (or several)", "要询问的角色（可多次）"))
    ] = None,
    model: o.Model = "",
    max_tokens: o.MaxTokens = None,
    temperature: o.Temperature = None,
    seed: o.Seed = None,
    window: o.Window = None,
    deadline: o.Deadline = None,
    lang: o.Lang = None,
    json: o.Json = False,
    stream: o.Stream = False,
) -> None:
    """Solve a task with several experts, one answer."""
    from orchestra.cli.together import integrate_once

    wanted = o.given(max_tokens=max_tokens, temperature=temperature, seed=seed, window=window, deadline=deadline, lang=lang)
    integrate_once(o.text_of(task), experts=expert, model=model, options=wanted, wish=context.obj)
