"""Commands about stored dialogues: `sessions ...`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say

Name = Annotated[str, typer.Argument(metavar="NAME", help=say("name of the dialogue", "会话名称"))]
Last = Annotated[str, typer.Argument(metavar="[NAME]", help=say("name of the dialogue; without it, the last one", "会话名称；省略则为最近的会话"))]
New = Annotated[str, typer.Argument(metavar="NEW", help=say("the new name", "新名称"))]


class Form(Enum):
    """How a dialogue is written into a file."""

    JSONL = "jsonl"
    MD = "md"


def list_(context: typer.Context, json: o.Json = False) -> None:
    """List the dialogues, newest first."""
    from orchestra.cli.archive import list_sessions

    list_sessions(context.obj)


def show(
    context: typer.Context,
    name: Last = "",
    trace: Annotated[
        bool, typer.Option("--trace", help=say("with who was asked what before each answer", "同时显示每个回答之前询问了谁、问了什么"))
    ] = False,
    json: o.Json = False,
) -> None:
    """Show a dialogue."""
    from orchestra.cli.archive import show as show_session

    show_session(name, context.obj, trace=trace)


def search(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(metavar="WORD...", help=say("words to look for", "要查找的词"))],
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help=say("most hits", "最多结果数"))] = 20,
    json: o.Json = False,
) -> None:
    """Find what was said."""
    from orchestra.cli.archive import search as find

    find(" ".join(words), limit, context.obj)


def fork(
    context: typer.Context,
    name: Name,
    new: Annotated[str, typer.Argument(metavar="[NEW]", help=say("name of the copy", "副本的名称"))] = "",
    at: Annotated[int | None, typer.Option("--at", min=0, help=say("only the first so many turns", "只包含前若干轮"))] = None,
    json: o.Json = False,
) -> None:
    """Go on in a copy that shares the past."""
    from orchestra.cli.archive import fork as fork_session

    fork_session(name, new, at, context.obj)


def rename(context: typer.Context, old: Name, new: New, json: o.Json = False) -> None:
    """Give a dialogue another name."""
    from orchestra.cli.archive import rename as rename_session

    rename_session(old, new, context.obj)


def export(
    context: typer.Context,
    name: Name,
    form: Annotated[Form, typer.Option("--format", "-f", help=say("JSON lines, or Markdown to read", "JSON 行或 Markdown"))] = Form.JSONL,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help=say("a new file", "新文件"))] = "",
    json: o.Json = False,
) -> None:
    """Write a dialogue out."""
    from orchestra.cli.archive import export as export_session

    export_session(name, form.value, output, context.obj)


def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help=say("an exported file; - reads standard input", "导出的文件；- 表示标准输入"))],
    name: Annotated[str, typer.Option("--name", help=say("name of the dialogue", "会话名称"))] = "",
    json: o.Json = False,
) -> None:
    """Bring an exported dialogue back."""
    from orchestra.cli.archive import restore

    restore(file, name, context.obj)


def backup(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help=say("a new file", "新文件"))],
    json: o.Json = False,
) -> None:
    """Copy the whole store into one file."""
    from orchestra.cli.archive import backup as copy_store

    copy_store(file, context.obj)


def delete(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help=say("names of the dialogues", "会话名称"))],
    yes: Annotated[bool, typer.Option("--yes", "-y", help=say("do not ask", "不再询问"))] = False,
    json: o.Json = False,
) -> int:
    """Remove dialogues."""
    from orchestra.cli.archive import delete as delete_sessions

    return delete_sessions(names, yes=yes, wish=context.obj)
