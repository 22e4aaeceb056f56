"""Commands about who answers: `personas ...`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say


def list_(context: typer.Context, json: o.Json = False) -> None:
    """List the personas."""
    from orchestra.cli.characters import list_personas

    list_personas(context.obj)


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=say("name of the persona", "角色名称"))],
    json: o.Json = False,
) -> None:
    """Show a persona and its seed memory."""
    from orchestra.cli.characters import show_persona

    show_persona(name, context.obj)


def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=say("name of the persona", "角色名称"))],
    json: o.Json = False,
) -> None:
    """Begin a persona of one's own."""
    from orchestra.cli.characters import new_persona

    new_persona(name, context.obj)


def check(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME|FILE]...", help=say("without any, all of them", "省略则检查全部"))
    ] = None,
    json: o.Json = False,
) -> int:
    """Check persona files."""
    from orchestra.cli.characters import check_personas

    return check_personas(names or (), context.obj)


def drift(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=say("name of the persona", "角色名称"))],
    turns: Annotated[int, typer.Option("--turns", help=say("turns of the dialogue, from 4 to 200", "对话轮数（4 到 200）"))] = 20,
    lang: Annotated[
        Literal["zh", "en"] | None, typer.Option("--lang", "--language", help=say("language of the dialogue", "对话的语言"))
    ] = None,
    model: o.Model = "",
    judge: Annotated[
        str, typer.Option("--judge", metavar="MODEL", help=say("the model that judges (else the one that answers)", "担任裁判的模型，默认与回答者相同"))
    ] = "",
    json: o.Json = False,
) -> None:
    """Measure how firm a persona is."""
    from orchestra.cli.drifting import measure_persona

    measure_persona(name, turns=turns, language=lang, model=model, judge=judge, wish=context.obj)


def install(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help=say("without any, all of them", "省略则安装全部"))
    ] = None,
    lang: Annotated[
        Literal["zh", "en"] | None, typer.Option("--lang", help=say("language of the seed memory", "种子记忆的语言"))
    ] = None,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help=say("the name that the model gets", "模型的名称"))] = "",
    force: Annotated[
        bool, typer.Option("--force", help=say("replace a model that Orchestra did not make", "覆盖并非由 Orchestra 创建的模型"))
    ] = False,
    modelfile: Annotated[
        bool, typer.Option("--modelfile", help=say("print the Modelfile instead; needs no daemon", "仅输出 Modelfile，无需 Ollama"))
    ] = False,
    json: o.Json = False,
) -> None:
    """Make models of personas, for plain `ollama run`."""
    from orchestra.cli import installing

    if modelfile:
        installing.print_modelfile(names or (), language=lang or "", name=name)
    else:
        installing.install_personas(names or (), context.obj, language=lang or "", name=name, force=force)


def uninstall(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help=say("names of the models", "模型名称"))],
    yes: Annotated[bool, typer.Option("--yes", "-y", help=say("do not ask", "不再询问"))] = False,
    json: o.Json = False,
) -> int:
    """Remove models that `install` made."""
    from orchestra.cli.installing import uninstall_personas

    return uninstall_personas(names, context.obj, yes=yes)
