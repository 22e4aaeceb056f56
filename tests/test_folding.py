"""Help in Chinese loses nothing in a narrow terminal."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from command_line import process
from rich.columns import Columns
from rich.console import Console
from rich.text import Text

from orchestra.cli.folding import folded

LONG = "说明自身未作介绍的服务有何用途（可多次）"


@pytest.mark.parametrize("arguments", [("integrate", "--help"), ("chat", "-h"), ("personas",), ("personas", "install", "--help"), ()])
def test_no_line_of_help_is_cut(arguments: tuple[str, ...]) -> None:
    said = process(*arguments, ORCHESTRA_LANG="zh", COLUMNS="80").out
    assert "用法：orchestra" in said
    assert "…" not in said
    assert not re.search(r"Usage|Show this|\[required\]|\[default|Arguments|Options|Commands|OPTIONS|ARGS|ompletion for", said)


def rendered(columns: Columns) -> str:
    page = StringIO()
    Console(file=page, width=16).print(columns)
    return "".join(page.getvalue().split())


def test_red_control_without_folding_the_end_is_missing() -> None:
    assert rendered(folded([Text(LONG)])) == LONG
    assert rendered(Columns([Text(LONG)])) != LONG
