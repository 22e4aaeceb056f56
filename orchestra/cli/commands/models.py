"""Commands about models: `models`, `pull`, `show`, and `standin`, a daemon without any."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say

Name = Annotated[str, typer.Argument(metavar="NAME", help=say("a model, for example llama3", "模型名称，例如 llama3"))]


def models(
    context: typer.Context,
    recommend: Annotated[bool, typer.Option("--recommend", help=say("which model for which work", "推荐模型"))] = False,
    work: Annotated[str, typer.Option("--for", help="chat, complete, search, agents")] = "chat",
    lang: Annotated[str, typer.Option("--lang", help=say("language of the work: zh or en", "使用的语言：zh 或 en"))] = "",
    size: Annotated[
        int | None, typer.Option("--context", min=16, max=10_000_000, help=say("memory at this many tokens (8192)", "按该上下文计算内存（8192）"))
    ] = None,
    unload: Annotated[str, typer.Option("--unload", metavar="NAME", help=say("take a model out of memory", "从内存中卸载模型"))] = "",
    json: o.Json = False,
) -> None:
    """List the installed models."""
    from orchestra.cli import installed, words

    if unload:
        installed.unload_model(unload, context.obj)
    elif recommend:
        installed.recommend(context.obj, work=work, language=lang or words.LANGUAGE, context=size)
    else:
        installed.list_models(context.obj, context=size or 8192)


def show(context: typer.Context, name: Name, json: o.Json = False) -> None:
    """Show what matters of a model."""
    from orchestra.cli.installed import show_model

    show_model(name, context.obj)


def pull(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=say("a model, for example llama3", "模型名称，例如 llama3"))] = "",
    origin: Annotated[str, typer.Option("--from", help="library, modelscope, hf")] = "library",
    gguf: Annotated[str, typer.Option("--gguf", metavar="FILE", help=say("make a model of this file", "由该文件创建模型"))] = "",
    short: Annotated[str, typer.Option("--as", metavar="NAME", help=say("the name that it gets", "模型的新名称"))] = "",
    base: Annotated[bool, typer.Option("--base", help=say("with --gguf: no template but the text itself", "配合 --gguf：不使用对话模板"))] = False,
    json: o.Json = False,
) -> None:
    """Bring a model in."""
    from orchestra.cli import pulling

    if gguf:
        pulling.pull_file(gguf, context.obj, name=short or name, base=base)
    elif name:
        pulling.pull_model(name, context.obj, origin=origin, short=short)
    else:
        raise typer.BadParameter(say("a NAME, or --gguf FILE --as NAME", "请给出名称，或 --gguf 文件 --as 名称"))


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
