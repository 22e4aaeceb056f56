"""Commands that show a model at work from outside: `render`, what it reads, and `compare`, how several answer."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say


def render(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help=say("what would be asked; - reads standard input", "要提问的内容；- 表示读取标准输入"))],
    model: o.Model = "",
    session: Annotated[
        str, typer.Option("--session", "-s", metavar="NAME", help=say("as the next turn of this stored dialogue", "作为该会话的下一轮"))
    ] = "",
    persona: o.Persona = "",
    ask: Annotated[bool, typer.Option("--ask", help=say("as `ask` puts it, with what was looked up", "按 `ask` 的方式，附上查到的资料"))] = False,
    search: Annotated[
        str,
        typer.Option(
            "--search", metavar="PROVIDER", help=say("look it up there first: a service, offline, none", "先在此处查找：搜索服务、offline 或 none")
        ),
    ] = "",
    knowledge: o.Knowledge = None,
    strategy: Annotated[Literal["auto", "direct", "draft"], typer.Option("--strategy", help=say("how it is looked up", "查找的方式"))] = "auto",
    base: o.Base = None,
    lang: o.Lang = None,
    json: o.Json = False,
) -> None:  # fmt: skip
    """The exact text that the model would see, part by part with its tokens; nothing is generated."""
    from orchestra.cli.rendering import Asked, show_rendition
    from orchestra.retrieval.places import LookupFields

    lookup = LookupFields()
    if ask or search or knowledge:
        o.unused(context, "ask", ["base"])
        lookup = LookupFields(search=search, knowledge=knowledge or (), strategy=strategy)
    asked = Asked(model=model, base=base, session=session, persona=persona, lookup=lookup, options=o.given(lang=lang))
    show_rendition(o.text_of(prompt), asked, context.obj)
