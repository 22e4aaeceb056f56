"""Where the demo is shown: two panels side by side on a wide terminal, one under the other on a narrow one, plain in a pipe.

Words that were generated carry a bar at their left, and are dim where the stand-in made them: without colour, and
in a copy of the text, they still look like nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from orchestra.cli.terminal import harmless

SIDE_BY_SIDE = 100
WIDEST = 120
BAR = "┊ "
GOOD, BAD, QUIET = "green", "yellow", "dim"


class Quoted:
    """Generated words behind a bar; `lines` is the most that is shown, the last of them while they grow."""

    def __init__(self, text: str, *, dim: bool, lines: int = 0, tail: bool = False) -> None:
        self.text = harmless(text)
        self.dim, self.lines, self.tail = dim, lines, tail

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        style = QUIET if self.dim else ""
        width = max(8, options.max_width - cell_len(BAR))
        wrapped = [line.plain.rstrip() for line in Text(self.text.strip() or "…").wrap(console, width)]
        if self.lines and len(wrapped) > self.lines:
            cut = set_cell_size(wrapped[self.lines - 1], width - 2).rstrip() + " …"
            wrapped = wrapped[-self.lines :] if self.tail else [*wrapped[: self.lines - 1], cut]
        for line in wrapped:
            yield Segment(BAR, console.get_style("dim"))
            yield Segment(line, console.get_style(style) if style else None)
            yield Segment.line()


@dataclass(slots=True)
class Card:
    """One panel: a title, where its content comes from, and rows that may still grow. `live` is Orchestra's side."""

    title: str
    origin: str
    live: bool = False
    rows: list[RenderableType | tuple[str, str]] = field(default_factory=list)

    def fact(self, label: str, value: str) -> None:
        """A label and its value, aligned with the others."""
        self.rows.append((label, harmless(value)))

    def say(self, text: str, style: str = "") -> None:
        """A line of the demo's own."""
        self.rows.append(Text(harmless(text), style=style))

    def gap(self) -> None:
        """An empty line."""
        self.rows.append(Text(""))

    def quote(self, text: str, *, dim: bool, lines: int = 0, tail: bool = False) -> Callable[[str], None]:
        """Generated words; what is returned replaces them as they grow."""
        at = len(self.rows)
        self.rows.append(Quoted(text, dim=dim, lines=lines, tail=tail))

        def grow(text: str) -> None:
            self.rows[at] = Quoted(text, dim=dim, lines=lines, tail=tail)

        return grow

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Callable[[Sequence[Sequence[str]]], None]:
        """Numbers in columns; what is returned replaces the rows as they grow."""
        at = len(self.rows)
        self.rows.append(_columns(header, rows))

        def grow(rows: Sequence[Sequence[str]]) -> None:
            self.rows[at] = _columns(header, rows)

        return grow

    def verdict(self, good: bool, text: str) -> None:
        """What it comes to, in one line."""
        self.rows += [Text(""), Text.assemble(("✓ " if good else "✗ ", f"bold {GOOD if good else BAD}"), (text, "bold"))]

    def content(self) -> RenderableType:
        """The rows, the labels of all facts in one column."""
        width = max((cell_len(row[0]) for row in self.rows if isinstance(row, tuple)), default=0)
        return Group(*(_fact(row, width) if isinstance(row, tuple) else row for row in self.rows))


def _fact(row: tuple[str, str], width: int) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    grid.add_column(width=width, no_wrap=True, style=QUIET)
    grid.add_column(overflow="fold")
    grid.add_row(*row)
    return grid


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    grid = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style=QUIET, show_edge=False)
    for name in header:
        grid.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    return grid


@dataclass(slots=True)
class Stage:
    """A console, and how it is used: `boxed` draws panels, `live` redraws them as they grow, `pace` stretches pauses (0 = none)."""

    console: Console
    boxed: bool = False
    live: bool = False
    pace: float = 0.0

    @property
    def width(self) -> int:
        """Columns that are used."""
        return min(self.console.width, WIDEST)

    @property
    def wide(self) -> bool:
        """Whether two panels stand side by side."""
        return self.boxed and self.width >= SIDE_BY_SIDE

    def pause(self, seconds: float) -> None:
        """Time to read."""
        if self.pace:
            time.sleep(seconds * self.pace)

    def line(self, text: RenderableType = "") -> None:
        """A line of the demo's own, wrapped and set in a little."""
        self._print(Padding(text, (0, 0, 0, 1)))

    def heading(self, number: int, title: str) -> None:
        """The beginning of a scene."""
        self._print(Text())
        self._print(Text.assemble((f" {number} ", "bold reverse" if self.boxed else "bold"), (f" {title}", "bold")))

    @contextmanager
    def shown(self, *cards: Card) -> Iterator[Callable[[], None]]:
        """Shows cards; the last one may grow inside the block, and what is given redraws it."""
        rest = cards
        if self.live:
            rest = cards if self._beside(cards) else cards[-1:]
            for card in cards[: len(cards) - len(rest)]:
                self._print(self._arranged([card]))
            with Live(self._arranged(rest), console=self.console, auto_refresh=False, vertical_overflow="crop") as live:
                try:
                    yield lambda: live.update(self._arranged(rest), refresh=True)
                finally:
                    live.update(self._arranged(rest), refresh=True)
            return
        try:
            yield lambda: None
        finally:
            self._print(self._arranged(rest))

    def _beside(self, cards: Sequence[Card]) -> bool:
        return self.wide and len(cards) > 1

    def _arranged(self, cards: Sequence[Card]) -> RenderableType:
        if not self.boxed:
            return Group(*(_plain(card) for card in cards))
        if not self._beside(cards):
            return Group(*(_panel(card, self.width) for card in cards))
        width = (self.width - len(cards) + 1) // len(cards)
        options = self.console.options.update(width=width)
        height = max(len(self.console.render_lines(_panel(card, width), options)) for card in cards)
        grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
        for _ in cards:
            grid.add_column(width=width)
        grid.add_row(*(_panel(card, width, height) for card in cards))
        return grid

    def _print(self, renderable: RenderableType) -> None:
        if self.boxed:
            self.console.print(renderable, width=self.width)
            return
        # cells are filled up with blanks, which in a pipe are only in the way
        options = self.console.options.update(width=self.width)
        for line in self.console.render_lines(renderable, options, pad=False):
            self.console.print(Text("".join(segment.text for segment in line).rstrip()), soft_wrap=True)


def _plain(card: Card) -> RenderableType:
    return Padding(Group(Text(f"[{card.title} · {card.origin}]"), Padding(card.content(), (0, 0, 0, 2))), (1, 0, 0, 1))


def _panel(card: Card, width: int, height: int | None = None) -> Panel:
    title = Text.assemble((f" {card.title} ", "bold"), ("· ", QUIET), (f"{card.origin} ", QUIET))
    border = "cyan" if card.live else QUIET
    return Panel(card.content(), title=title, title_align="left", border_style=border, width=width, height=height, padding=(0, 1))
