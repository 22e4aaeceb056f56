"""An answer on its way to the reader: Markdown on a terminal, plain text in a pipe, objects with --json."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from orchestra.cli.outcome import Wish, shown
from orchestra.cli.running import Patience, cancelled, footer
from orchestra.cli.terminal import Cleaner, as_line, colourful, harmless, write
from orchestra.model.messages import Piece, Reply, gathered

CUT = "\n\n⋯\n\n"  # stands between what is no part of the answer any more and what is
COMPACTING = "compacting"  # the note of a receipt whose answer is followed by a summary


async def show(
    pieces: AsyncGenerator[Piece], wish: Wish, patience: Patience, *, stored: Callable[[], str] = str,
    instead: Callable[[], str] = str, **beside: Any,
) -> Reply:  # fmt: skip
    """Show an answer as it comes; the reply. What `beside` says stands in the JSON object too.

    Whoever leaves it in the middle is told in which session it is `stored`, and shown what there is `instead` of its
    first word. Where older turns are summarised after the answer, it is shown to its end before that. Ctrl-C then leaves
    at once, and in order: the answer is whole.
    """
    collected: list[Piece] = []
    page = _page(wish)
    reply: Reply | None = None
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                collected.append(piece)
                page.push(piece)
                if piece.receipt is not None and COMPACTING in piece.receipt.notes:
                    reply = _whole(collected, page, wish, patience, beside)
    except BaseException as error:
        patience.clear()
        if reply is not None and not isinstance(error, Exception):
            return reply
        page.close()
        if not isinstance(error, Exception) and not isinstance(error, GeneratorExit):
            said = "".join(piece.text for piece in collected if piece.kind == "text")
            if not wish.json and not said.strip() and (text := instead()):
                write(harmless(text) + "\n")
            cancelled(said, wish, stored=stored(), **_now(beside))
        raise
    patience.clear()
    return reply or _whole(collected, page, wish, patience, beside)


def _whole(collected: list[Piece], page: Page, wish: Wish, patience: Patience, beside: dict[str, Any]) -> Reply:
    """The end of an answer: nothing more will be shown of it."""
    patience.clear()
    page.close()
    reply = gathered(collected)
    if wish.json:
        write(as_line({**shown(reply), **_now(beside)}) + "\n")
    footer(reply, wish)
    sys.stdout.flush()
    return reply


def _now(beside: dict[str, Any]) -> dict[str, Any]:
    """Values that are known only once the answer has begun are given as functions."""
    return {name: value() if callable(value) else value for name, value in beside.items()}


def _page(wish: Wish) -> Page:
    if wish.json:
        return Objects() if wish.stream else Page()
    return Rendered() if colourful(sys.stdout) else Plain()


class Page:
    """Where pieces are shown; this one shows nothing."""

    def push(self, piece: Piece) -> None:
        """Show one piece."""

    def close(self) -> None:
        """Show what is left and leave the cursor at the beginning of a line."""


class Objects(Page):
    """One JSON object a line for each piece; the whole reply follows as the last."""

    def push(self, piece: Piece) -> None:
        if piece.text:
            write(as_line({"text": piece.text, "kind": piece.kind}) + "\n")
        elif piece.keep is not None and piece.finish_reason is None:
            write(as_line({"keep": piece.keep, "kind": piece.kind}) + "\n")


class Plain(Page):
    """The text as it comes; thinking is not part of the answer and is left out."""

    def __init__(self) -> None:
        self._cleaner = Cleaner()
        self._last = ""  # the last character that was written

    def push(self, piece: Piece) -> None:
        if piece.keep is not None and piece.finish_reason is None and piece.kind == "text" and self._last:
            write(CUT)  # what was written cannot be taken back
        elif piece.kind == "text" and (text := self._cleaner.push(piece.text)):
            self._last = text[-1]
            write(text)

    def close(self) -> None:
        if self._last not in ("", "\n"):
            write("\n")


class Rendered(Page):
    """Markdown, a block at a time: the block being written is shown as it grows, then in its final form."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(highlight=False)
        self._live = Live(console=self._console, transient=True, refresh_per_second=12, vertical_overflow="crop")
        self._cleaner = Cleaner()
        self._block = ""
        self._started = False
        self._thinking = False

    def push(self, piece: Piece) -> None:
        from rich.text import Text

        text = self._cleaner.push(piece.text)
        if piece.keep is not None and piece.finish_reason is None:
            self._cut(piece)
            return
        if piece.kind == "thinking":
            self._console.print(Text(text, style="dim"), end="", soft_wrap=True)
            self._thinking = self._thinking or bool(text)
            return
        if self._thinking and text:
            self._console.print("\n")
            self._thinking = False
        if not self._started and text:
            self._live.start()
            self._started = True
        self._block += text
        while (cut := block_end(self._block)) is not None:
            self._final(self._block[:cut])
            self._block = self._block[cut:].lstrip("\n")
        if self._started:
            tail = self._block.splitlines()[-(max(4, self._console.height - 4)) :]
            self._live.update(Text("\n".join(tail)))

    def _cut(self, piece: Piece) -> None:
        """What was shown last is no part of the answer: thinking is shown as such, a loop is left behind a mark."""
        from rich.text import Text

        if piece.kind == "thinking":
            self._live.update("", refresh=self._started)
            self._console.print(Text(self._block, style="dim"))
            self._block = ""
        else:
            self._block += CUT

    def _final(self, block: str) -> None:
        from rich.markdown import Markdown

        if block.strip():
            self._live.update("", refresh=True)
            self._console.print(Markdown(block, hyperlinks=False))

    def close(self) -> None:
        if self._thinking:
            self._console.print()
            self._thinking = False
        if self._started:
            self._live.update("", refresh=True)
            self._live.stop()
            self._started = False
        self._final(self._block)
        self._block = ""


def block_end(text: str) -> int | None:
    """Where the first finished Markdown block of `text` ends: at a blank line outside of a code fence."""
    fence = begun = False
    position = 0
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith(("```", "~~~")):
            fence = not fence
        position += len(line)
        blank = not line.strip()
        if blank and begun and not fence:
            return position
        begun = begun or not blank
    return None
