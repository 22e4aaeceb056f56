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
    window: o.Window = None,
    json: o.Json = False,
) -> None:  # fmt: skip
    """The exact text that the model would see, part by part with its tokens; nothing is generated."""
    from orchestra.cli.rendering import Asked, show_rendition
    from orchestra.retrieval.places import LookupFields

    lookup = LookupFields()
    if ask or search or knowledge:
        o.unused(context, "ask", ["base"])
        lookup = LookupFields(search=search, knowledge=knowledge or (), strategy=strategy)
    asked = Asked(model=model, base=base, session=session, persona=persona, lookup=lookup, options=o.given(lang=lang, window=window))
    show_rendition(o.text_of(prompt), asked, context.obj)


def compare(
    context: typer.Context,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PROMPT", help=say("what all are asked; - reads standard input", "向所有模型提出的内容；- 表示读取标准输入")),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="MODEL[,NAME=NUMBER]",
            help=say(
                "one that is compared, with options of its own: llama3,temperature=0 (2 to 26)",
                "参与比较的模型，可带自己的选项：llama3,temperature=0（2 到 26 个）",
            ),
        ),
    ] = None,
    prompts_from: Annotated[
        str, typer.Option("--prompts", metavar="FILE", help=say("more prompts, one a line", "更多提示词，每行一个"))
    ] = "",
    max_tokens: o.MaxTokens = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    top_k: o.TopK = None,
    seed: o.Seed = None,
    base: o.Base = None,
    lang: o.Lang = None,
    blind: Annotated[
        bool, typer.Option("--blind", help=say("vote without the names, which are told at the end", "匿名投票，最后才公布模型名称"))
    ] = False,
    save: Annotated[
        str, typer.Option("--save", metavar="FILE", help=say("keep each answer there, and go on from what is there", "逐条保存到该文件，并从已有内容继续"))
    ] = "",
    html: Annotated[str, typer.Option("--html", metavar="FILE", help=say("write a page of it, too", "同时写出一个网页"))] = "",
    json: o.Json = False,
) -> None:  # fmt: skip
    """The same prompts on several models, side by side: text, tokens, speed, why it ended."""
    from orchestra.cli.comparing import Asked, prompts_in, show_comparison

    given = o.given(max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, lang=lang)
    asked = Asked(models=model or (), base=base, options=given, save=save, html=html, blind=blind)
    texts = [*map(o.text_of, prompts or ()), *(prompts_in(prompts_from) if prompts_from else ())]
    if code := show_comparison(texts, asked, context.obj):
        raise typer.Exit(code)
