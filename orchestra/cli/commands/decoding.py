"""Commands that show how a model chooses its words: `next` and `decode`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say

Prompt = Annotated[str, typer.Argument(help=say("the text to go on from; - reads standard input", "要续写的文本；- 表示读取标准输入"))]
Instruct = Annotated[
    bool,
    typer.Option("--instruct", help=say("ask it as a question, in the model's template", "作为问题放入模型的模板，而不是直接续写")),
]


def next_(
    context: typer.Context,
    prompt: Prompt,
    model: o.Model = "",
    top: Annotated[int, typer.Option("--top", min=1, max=20, help=say("how many candidates are shown", "显示的候选数"))] = 10,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps", min=1, max=1000, help=say("how many tokens; by default one after those of --choose", "步数；默认为 --choose 之后的一步")
        ),
    ] = None,
    choose: Annotated[
        list[str] | None,
        typer.Option(
            "--choose", metavar="TOKEN",
            help=say("what if it had said this: force the first token (or several)", "假如它这样说：指定第一个 token（可多次）"),
        ),
    ] = None,
    heat: Annotated[
        bool, typer.Option("--heat", help=say("the answer alone, each token by how likely it was", "只显示回答，按概率标出每个 token"))
    ] = False,
    instruct: Instruct = False,
    html: Annotated[str, typer.Option("--html", metavar="FILE", help=say("write a page of it, too", "同时写出一个网页"))] = "",
    window: o.Window = None,
    json: o.Json = False,
) -> None:  # fmt: skip
    """How likely each next token is, step by step: the model's own probabilities, before temperature and penalties."""
    from orchestra.cli.prediction import Asked, show_next

    asked = Asked(model=model, top=top, steps=steps, choose=choose or (), instruct=instruct, heat=heat, html=html, window=window)
    show_next(o.text_of(prompt), asked, context.obj)


def decode(
    context: typer.Context,
    prompt: Prompt,
    model: o.Model = "",
    strategies: Annotated[
        str,
        typer.Option(
            "--strategies", metavar="NAMES",
            help=say("which, in this order: greedy, sample, beam", "按此顺序：greedy 贪心、sample 采样、beam 束搜索"),
        ),
    ] = "greedy,sample,beam",
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", "-n", min=1, max=1000, help=say("longest text in tokens", "文本的最大 token 数"))
    ] = 32,
    beam_width: Annotated[
        int, typer.Option("--beam-width", min=1, max=20, help=say("how many beginnings are kept", "束宽：保留的候选数"))
    ] = 4,
    length_penalty: Annotated[
        float,
        typer.Option("--length-penalty", min=-5, max=5, help=say("0 compares sums, 1 the average token", "0 比较总和，1 比较每个 token 的平均")),
    ] = 1.0,
    temperature: o.Temperature = None,
    top_k: o.TopK = None,
    top_p: o.TopP = None,
    min_p: Annotated[
        float | None,
        typer.Option("--min-p", min=0, max=1, help=say("least share of the likeliest token's probability", "相对最大概率的最低比例")),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help=say("what sampling draws with", "采样的种子"))] = 1,
    instruct: Instruct = False,
    window: o.Window = None,
    json: o.Json = False,
) -> None:  # fmt: skip
    """Greedy search, sampling and beam search side by side, with the log-probability of each text."""
    from orchestra.cli.decoding import show_decoded
    from orchestra.model.decoding import DecodeFields

    names = [name.strip() for name in strategies.split(",") if name.strip()]
    fields = DecodeFields(
        strategies=names, max_tokens=max_tokens, beam_width=beam_width, length_penalty=length_penalty, temperature=temperature,
        top_k=top_k, top_p=top_p, min_p=min_p, seed=seed,
    )  # fmt: skip
    show_decoded(o.text_of(prompt), model=model, instruct=instruct, fields=fields, wish=context.obj, window=window)
