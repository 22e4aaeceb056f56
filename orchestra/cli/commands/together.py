"""Commands over several parts: `ask` looks things up, `route` says who would answer, `integrate` asks several experts."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say

Search = Annotated[
    str,
    typer.Option(
        "--search",
        metavar="PROVIDER",
        help=say(
            "where to look: services in order (searxng,duckduckgo ...), offline, none, or any: the first that answers (the default)",
            "查找的地方：依次询问的服务（searxng,bocha ...）、offline、none，或 any：第一个可用的（默认）",
        ),
    ),
]
Strategy = Annotated[
    Literal["auto", "direct", "draft"],
    typer.Option(
        "--strategy",
        help=say(
            "direct: look up, answer; draft: draft, keywords, look up, refine; auto: direct, once more where that is not enough",
            "direct：检索后回答；draft：草稿、关键词、检索、修正；auto：先 direct，资料不足时再查一次",
        ),
    ),
]


def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help=say("what to look up; - reads standard input", "要查找的问题；- 表示标准输入"))],
    search: Search = "",
    knowledge: o.Knowledge = None,
    strategy: Strategy = "auto",
    draft: Annotated[bool, typer.Option("--draft", help=say("the same as --strategy draft", "等同于 --strategy draft"))] = False,
    pages: Annotated[bool, typer.Option("--pages", help=say("read the pages of the best hits", "读取最佳结果的网页正文"))] = False,
    session: Annotated[
        str, typer.Option("--session", metavar="NAME", help=say("a stored dialogue in which this is the next turn", "作为该会话的下一轮提问"))
    ] = "",
    trace: o.Trace = False,
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
    from orchestra.cli.together import Inquiry, ask_once

    wanted = o.given(max_tokens=max_tokens, temperature=temperature, seed=seed, window=window, deadline=deadline, lang=lang)
    inquiry = Inquiry(
        search=search, knowledge=tuple(knowledge or ()), strategy="draft" if draft else strategy,
        results=results,
        pages=pages, trace=trace, session=session,
    )  # fmt: skip
    ask_once(o.text_of(question), inquiry, model=model, options=wanted, wish=context.obj)


def route(
    context: typer.Context,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help=say("what to say; - reads standard input", "要说的话；- 表示标准输入"))],
    model: o.Model = "",
    json: o.Json = False,
) -> None:
    """Which persona would answer a message."""
    from orchestra.cli.routing import route_once

    route_once(o.text_of(message), model=model, wish=context.obj)


def integrate(
    context: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help=say("what to solve; - reads standard input", "要解决的任务；- 表示标准输入"))],
    expert: o.Expert = None,
    expert_description: o.ExpertDescription = None,
    panel: Annotated[
        bool, typer.Option("--panel", help=say("ask every expert the task itself, then integrate", "把任务直接交给每位专家，再整合"))
    ] = False,
    steps: Annotated[
        int, typer.Option("--steps", min=1, max=50, help=say("most steps of the coordinator", "协调者的最多步数"))
    ] = 5,
    session: Annotated[
        str, typer.Option("--session", "-s", metavar="NAME", help=say("a stored dialogue in which the task is a turn", "任务作为该会话的一轮"))
    ] = "",
    last: Annotated[bool, typer.Option("--continue", "-c", help=say("the task is a turn of the last dialogue", "任务作为上一个会话的一轮"))] = False,
    model: o.Model = "",
    max_tokens: o.MaxTokens = None,
    max_total_tokens: Annotated[
        int | None,
        typer.Option("--max-total-tokens", min=1, help=say("most tokens of coordinator and experts together", "协调者与专家合计的最大 token 数")),
    ] = None,
    temperature: o.Temperature = None,
    seed: o.Seed = None,
    window: o.Window = None,
    deadline: o.Deadline = None,
    lang: o.Lang = None,
    json: o.Json = False,
    stream: o.Stream = False,
) -> None:
    """Solve a task with several experts, one answer."""
    if panel:
        o.unused(context, "panel", ["steps"])
    from orchestra.api import TaskFields
    from orchestra.cli.together import dialogue, integrate_once

    wanted = o.given(max_tokens=max_tokens, temperature=temperature, seed=seed, window=window, deadline=deadline, lang=lang)
    described = o.descriptions(expert_description)
    how = TaskFields(panel=panel, steps=steps, max_total_tokens=max_total_tokens, descriptions=described, **dialogue(session, last=last))
    integrate_once(o.text_of(task), how, experts=expert, model=model, options=wanted, wish=context.obj)
