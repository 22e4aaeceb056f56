"""The command that measures speed: `bench`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say

Prompt = Annotated[
    str | None,
    typer.Argument(
        help=say("what is asked; without it a story to go on with; - reads standard input", "要提问的内容；省略则续写一则故事；- 表示读取标准输入")
    ),
]
Cold = Annotated[
    int,
    typer.Option(
        "--cold", min=0, max=20,
        help=say("first unload and load a daemon's model so often, for everybody who uses it", "先卸载并重新加载模型若干次（影响所有使用者）"),
    ),
]  # fmt: skip


def bench(
    context: typer.Context,
    prompt: Prompt = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help=say("a model of the daemon's (or several)", "Ollama 的模型（可多次）"))
    ] = None,
    daemon: Annotated[
        list[str] | None,
        typer.Option(
            "--daemon", metavar="NAME=URL#MODEL",
            help=say("another Ollama daemon with its model (or several)", "另一个 Ollama 及其模型（可多次）"),
        ),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--endpoint", metavar="NAME=URL",
            help=say("an OpenAI-compatible endpoint, as NAME=URL or NAME=URL#MODEL (or several)", "OpenAI 兼容端点：名称=URL 或 名称=URL#模型（可多次）"),
        ),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision", metavar="NAME=TEXT", help=say("what an endpoint's weights are in, e.g. hf=bf16", "某端点权重的精度，例如 hf=bf16")
        ),
    ] = None,
    tokens: Annotated[int, typer.Option("--tokens", "-n", min=2, max=100_000, help=say("longest answer in tokens", "回答的最大 token 数"))] = 64,
    runs: Annotated[int, typer.Option("--runs", min=1, max=100, help=say("answers that count, for each side", "每一方计入的回答次数"))] = 5,
    cold: Cold = 0,
    base: o.Base = None,
    html: Annotated[str, typer.Option("--html", metavar="FILE", help=say("write a page with plots, too", "同时写出带图的网页"))] = "",
    json: o.Json = False,
) -> None:  # fmt: skip
    """How fast models answer: load, first token, tokens a second, memory; Ollama daemons and OpenAI-compatible endpoints."""
    from orchestra.cli.benching import Asked, show_bench
    from orchestra.instruments.bench import PROMPT, Plan

    plan = Plan(prompt=PROMPT if prompt is None else o.text_of(prompt), tokens=tokens, runs=runs, cold=cold, base=base)
    asked = Asked(
        plan=plan, models=model or (), daemons=daemon or (), endpoints=endpoint or (), precisions=precision or (), html=html
    )
    show_bench(asked, context.obj)
