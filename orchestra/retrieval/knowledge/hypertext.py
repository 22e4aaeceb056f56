"""HTML files as text with headings. What a browser would not show is left out, and so is what leads to other pages."""

from __future__ import annotations

import re
from typing import Any

from orchestra.retrieval.hidden import bare
from orchestra.retrieval.knowledge.chunks import Content
from orchestra.retrieval.knowledge.outline import Composer
from orchestra.retrieval.markup import BLOCKS, parsed

_BLOCKS = BLOCKS - {"br"} | {"tbody", "td", "tfoot", "th", "thead"}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}


def html(text: str) -> Content:
    """An HTML page along its headings. It has no lines: those of a page's source are nobody's place."""
    from lxml import etree  # type: ignore[import-untyped]

    root = parsed(text)
    if root is None:
        return Content(title="")
    title = root.findtext(".//title") or ""
    etree.strip_elements(root, "nav", "title", with_tail=False)
    bare(root)
    walk = _Walk()
    steps = etree.iterwalk(root, events=("start", "end"))
    for event, element in steps:
        if event == "end":
            walk.leave(element)
        elif walk.enter(element):
            steps.skip_subtree()
    return walk.composer.content(title)


class _Walk:
    """Passes through the elements in their order; no depth of nesting costs it a call."""

    def __init__(self) -> None:
        self.composer = Composer()
        self._words: list[str] = []
        self._item = ""

    def enter(self, element: Any) -> bool:
        """Whether all of it has been read, with what is inside."""
        if element.tag in _BLOCKS:
            self._flush()
        if element.tag in _HEADINGS:
            self.composer.heading(_HEADINGS[element.tag], _all_of(element))
        elif element.tag == "pre":
            self.composer.block(_all_of(element), whole=True)
        elif element.tag == "table" and not _lays_out(element):
            self._table(element)
        else:
            self._item = "- " if element.tag == "li" else self._item
            self._words.append("\n" if element.tag == "br" else _blanks(element.text))
            return False
        return True

    def leave(self, element: Any) -> None:
        """Its end, and the text behind it."""
        if element.tag in _BLOCKS:
            self._flush()
        self._words.append(_blanks(element.tail))

    def _table(self, element: Any) -> None:
        rows = [[" ".join(_all_of(cell).split()) for cell in row if cell.tag in ("td", "th")] for row in element.iter("tr")]
        caption = element.find("caption")
        lines = [] if caption is None else [" ".join(_all_of(caption).split())]
        self.composer.block("\n".join(lines + [f"| {' | '.join(row)} |" for row in rows if any(row)]), whole=True)

    def _flush(self) -> None:
        lines = [" ".join(line.split()) for line in "".join(self._words).split("\n")]
        self._words.clear()
        text = "\n".join(line for line in lines if line)
        if text:
            self.composer.block(self._item + text)
            self._item = ""


def _all_of(element: Any) -> str:
    return "".join(element.itertext())


def _blanks(text: str | None) -> str:
    return " ".join(re.split(r"\s+", text)) if text else ""


def _lays_out(table: Any) -> bool:
    """Whether a table holds a page's parts rather than values."""
    return any(table.find(f".//{tag}") is not None for tag in ("table", "h1", "h2", "h3", "pre"))
