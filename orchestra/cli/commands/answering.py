"""Commands that answer: `generate` and `chat`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say


def generate(
    context: typer.Context,
    prompt: Annotated[str, typer.Argument(help=say("the text to go on from; - reads standard input", "要续写的文本；- 表示读取标准输入"))],
    model: o.Model = "",
    max_tokens: o.MaxTokens = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    top_k: o.TopK = None,
    seed: o.Seed = None,
    stop: o.Stop = None,
    repeat_penalty: o.RepeatPenalty = None,
    window: o.Window = None,
    deadline: o.Deadline = None,
    base: o.Base = None,
    schema: o.Schema = "",
    think: o.Think = None,
    lang: o.Lang = None,
    on_repetition: o.OnRepetition = None,
    json: o.Json = False,
    stream: o.Stream = False,
) -> None:
    """One completion. A base model (llama3:text) gets the text as it is."""
    from orchestra.cli.answering import generate_once

    wanted = o.given(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop=stop,
        repeat_penalty=repeat_penalty,
        window=window,
        deadline=deadline,
        schema=schema,
        think=think,
        lang=lang,
        on_repetition=on_repetition,
    )
    generate_once(o.text_of(prompt), model=model, base=base, options=wanted, wish=context.obj)


def chat(
    context: typer.Context,
    message: Annotated[str, typer.Argument(help=say("what to say; without it, an interactive dialogue", "要说的话；省略则进入交互式对话"))] = "",
    session: Annotated[str, typer.Option("--session", "-s", help=say("name of the dialogue", "会话名称"))] = "",
    last: Annotated[bool, typer.Option("--continue", "-c", help=say("go on with the last dialogue", "继续上一个会话"))] = False,
    persona: o.Persona = "",
    search: Annotated[bool, typer.Option("--search", help=say("look each question up before it is answered", "每次回答前先检索"))] = False,
    provider: o.Provider = "",
    knowledge: o.Knowledge = None,
    trace: o.Trace = False,
    model: o.Model = "",
    max_tokens: o.MaxTokens = None,
    temperature: o.Temperature = None,
    top_p: o.TopP = None,
    top_k: o.TopK = None,
    seed: o.Seed = None,
    stop: o.Stop = None,
    repeat_penalty: o.RepeatPenalty = None,
    window: o.Window = None,
    deadline: o.Deadline = None,
    base: o.Base = None,
    schema: o.Schema = "",
    think: o.Think = None,
    lang: o.Lang = None,
    on_repetition: o.OnRepetition = None,
    json: o.Json = False,
    stream: o.Stream = False,
) -> None:
    """A dialogue that is kept: with MESSAGE one turn, without it an interactive one."""
    from orchestra.cli.answering import Dialogue, converse

    wanted = o.given(
        max_tokens=max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, seed=seed, stop=stop, repeat_penalty=repeat_penalty,
        window=window, deadline=deadline, schema=schema, think=think, lang=lang, on_repetition=on_repetition,
    )  # fmt: skip
    lookup = o.looked_up(search=search, provider=provider, knowledge=knowledge)
    dialogue = Dialogue(
        session=session, last=last, persona=persona, model=model, base=base, options=wanted, lookup=lookup, trace=trace
    )
    converse(o.text_of(message), dialogue, context.obj)
