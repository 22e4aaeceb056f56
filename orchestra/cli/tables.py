"""Rows for people: a table on a terminal, aligned columns in a pipe; never a control sequence of what is in them."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime

from orchestra.cli.terminal import colourful, harmless, write

LONGEST_NAME = 48


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print the rows under their headers; each cell in one line."""
    cells = [[" ".join(harmless(cell).split()) for cell in row] for row in rows]
    if colourful(sys.stdout):
        _drawn(headers, cells)
        return
    for line in aligned([headers, *cells]):
        write(line + "\n")


def _drawn(headers: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for number, header in enumerate(headers):
        # the first is a name, to be copied: it stays whole where the others are broken into lines
        least = max([width(header), *(width(row[0]) for row in cells)]) if number == 0 else None
        drawn.add_column(header, no_wrap=number == 0, min_width=least and min(least, LONGEST_NAME), overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(drawn)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows with their columns one below the other; a Chinese character takes two places."""
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell + " " * (most - width(cell)) for cell, most in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def width(text: str) -> int:
    """The places that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def size(number: int) -> str:
    """Bytes as people say them, in powers of ten as the daemon's own command does."""
    value = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def moment(seconds: float) -> str:
    """Seconds since 1970 as a local time to the minute."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M") if seconds else ""
