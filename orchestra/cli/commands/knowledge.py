"""Commands about local documents: `knowledge ...`."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestra.cli import options as o
from orchestra.cli.words import say

Name = Annotated[str, typer.Option("--name", metavar="NAME", help=say("name of the knowledge base", "知识库名称"))]


def add(
    context: typer.Context,
    paths: Annotated[list[str] | None, typer.Argument(metavar="PATH...", help=say("files and folders", "文件与目录"))] = None,
    name: Name = "default",
    embed: Annotated[
        str,
        typer.Option("--embed", metavar="MODEL", help=say("embedding model, to find by meaning too", "嵌入模型，用于按语义查找")),
    ] = "",
    json: o.Json = False,
) -> None:
    """Take documents in."""
    from orchestra.cli.library import add as add_documents

    add_documents(paths or [], name=name, embed=embed, wish=context.obj)


def list_(context: typer.Context, json: o.Json = False) -> None:
    """List the knowledge bases."""
    from orchestra.cli.library import list_bases

    list_bases(context.obj)


def search(
    context: typer.Context,
    query: Annotated[list[str], typer.Argument(metavar="QUERY...", help=say("a question or words", "问题或词"))],
    name: Name = "default",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help=say("most hits", "最多结果数"))] = 5,
    json: o.Json = False,
) -> None:
    """Find the parts of documents that fit."""
    from orchestra.cli.library import search as find

    find(" ".join(query), name=name, limit=limit, wish=context.obj)


def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help=say("name of the knowledge base", "知识库名称"))],
    paths: Annotated[list[str] | None, typer.Argument(metavar="[PATH...]", help=say("only these files and folders", "仅这些文件与目录"))] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help=say("do not ask", "不再询问"))] = False,
    json: o.Json = False,
) -> int:
    """Take documents, or a whole knowledge base, out. The files themselves stay."""
    from orchestra.cli.library import remove as remove_documents

    return remove_documents(name, paths or [], yes=yes, wish=context.obj)
