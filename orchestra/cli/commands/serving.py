"""`orchestra serve`: personas over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say

Guard = Annotated[
    Literal["on", "strict", "off"] | None,
    typer.Option(
        "--guard",
        help=say(
            "the daemon's own models: bounded and looked after; strict = a long history is refused, not shortened; off = unchanged",
            "Ollama 自身的模型：有上限并受监护；strict = 过长的历史不缩短而报错；off = 原样转发",
        ),
    ),
]


def serve(
    context: typer.Context,
    persona: Annotated[str, typer.Option("--persona", "-p", metavar="NAME", help=say("one expert alone", "只提供这一位专家"))] = "",
    coordinator: Annotated[
        bool, typer.Option("--coordinator", help=say("the coordinator with its experts", "提供协调者及其专家"))
    ] = False,
    expert: o.Expert = None,
    expert_description: o.ExpertDescription = None,
    lesson: Annotated[
        bool,
        typer.Option("--lesson", help=say("two experts on 5000 and 5001, the coordinator on 5002", "专家在 5000 与 5001，协调者在 5002")),
    ] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help=say("where to listen; 0 = a free one", "监听端口；0 表示任一空闲端口"))
    ] = 5002,
    host: Annotated[
        str,
        typer.Option("--host", help=say("address to listen on; a public one needs ORCHESTRA_TOKEN", "监听地址；对外开放时需设置 ORCHESTRA_TOKEN")),
    ] = "127.0.0.1",
    guard: Guard = None,
    record: Annotated[
        bool,
        typer.Option("--record", help=say("keep every dialogue, and not only those whose client names its chat", "保存所有对话，而不仅是给出会话编号的")),
    ] = False,
    for_docker: Annotated[
        bool,
        typer.Option("--for-docker", help=say("containers reach it too; needs ORCHESTRA_TOKEN", "容器也可访问；需设置 ORCHESTRA_TOKEN")),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help=say("say where it listens, and no more", "只显示监听地址"))
    ] = False,
) -> None:
    """Everybody over HTTP."""
    if lesson:
        o.unused(context, "lesson", ["port", "persona", "coordinator", "expert", "expert-description", "for-docker"])
    if persona:
        o.unused(context, "persona", ["coordinator", "expert", "expert-description", "guard"])
    if for_docker:
        o.unused(context, "for-docker", ["host"])
    from orchestra.cli.serving import Served, serve_until_told

    served = Served(
        persona=persona, coordinator=coordinator, experts=tuple(expert or ()), descriptions=o.descriptions(expert_description),
        lesson=lesson, port=port, host=host, guard=guard, record=record, for_docker=for_docker, quiet=quiet,
    )  # fmt: skip
    serve_until_told(served, context.obj)
