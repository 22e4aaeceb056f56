"""Help in Chinese, whole: a column cuts a word that is longer than it is wide, and Chinese writes no spaces between words."""

from __future__ import annotations

from collections.abc import Sequence

from rich.columns import Columns
from rich.text import Text
from typer import rich_utils


def fold_help() -> None:
    """From here on what does not fit on a line of help goes on in the next one."""
    vars(rich_utils)["Columns"] = folded


def folded(items: Sequence[Text]) -> Columns:
    """Texts beside each other, of which none is cut."""
    for item in items:
        if isinstance(item, Text):
            item.overflow = "fold"
    return Columns(items)
