"""Documents divided along their headings: Markdown as it stands, other formats as they are composed here.

A heading stands in the first chunk of what is below it, and the path to it ("Guide > Install") with every chunk.
One with nothing below it but another heading goes with that one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from orchestra.retrieval.knowledge.chunks import Content, Section

LONGEST_HEADING = 120
LONGEST_FRONT_MATTER = 100  # lines

_MARKED = re.compile(r"^ {0,3}(?:(#{1,6})(?![^ \t\n])|(`{3,}|~{3,})|(=+|-+)[ \t]*+$|(\|))", re.MULTILINE)
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*+$", re.MULTILINE)
_TABLE = re.compile(r"(?: {0,3}\|[^\n]*+\n?)++")
_FRONT = re.compile(r"(---|\+\+\+)[ \t]*\n")
_FRONT_TITLE = re.compile(r"^title[ \t]*[:=]([^\n]*)$", re.MULTILINE | re.IGNORECASE)
_NO_TITLE = re.compile(r"[ \t]*(?:[-*+>|]|\d{1,9}[.)])")


class Mark(NamedTuple):
    """A heading in a text: where it begins, where it ends, how deep it is."""

    at: int
    end: int
    level: int
    title: str


Spans = list[tuple[int, int]]


def divided(text: str, marks: Sequence[Mark], whole: Spans, *, begin: int = 0, lines: bool = False) -> Iterator[Section]:
    """The sections of a text from its headings and the spans that shall stay whole, both in their order."""
    trail: list[Mark] = []
    line, counted, body = 1, 0, begin
    spans = iter([*whole, (len(text), len(text))])
    span = next(spans)
    for mark in [*marks, Mark(len(text), len(text), 0, "")]:
        if text[body : mark.at].strip() or mark.at == len(text):
            line, counted = line + text.count("\n", counted, begin), begin
            kept = []
            while span[0] < mark.at:
                kept.append((span[0] - begin, span[1] - begin))
                span = next(spans)
            heading = " > ".join(each.title for each in trail if each.title)
            yield Section(text=text[begin : mark.at], heading=heading, line=line if lines else 0, whole=tuple(kept))
            begin = mark.at
        body = mark.end
        while trail and trail[-1].level >= mark.level:
            trail.pop()
        trail.append(mark)


def named(title: str) -> str:
    """A heading in one line of a readable length."""
    return " ".join(title.split())[:LONGEST_HEADING]


def title_of(marks: Sequence[Mark]) -> str:
    """The first heading of the highest level that comes before any deeper structure; empty without headings."""
    return min(marks, key=lambda mark: mark.level).title if marks else ""


# --- Markdown


def markdown(text: str) -> Content:
    """Markdown along its headings, with true lines; front matter is left out but for its title."""
    begin, title = _front_matter(text)
    marks: list[Mark] = []
    whole: Spans = []
    at = begin
    while match := _MARKED.search(text, at):
        at = _line_end(text, match.end())
        heading, fence, underline, _ = match.groups()
        if fence:
            at = _fenced(text, at, fence)
            whole.append((match.start(), at))
        elif heading:
            words = text[match.end() : at].strip().rstrip("#")
            marks.append(Mark(match.start(), at, len(heading), named(words)))
        elif underline:
            _underlined(text, match, marks, begin)
        elif rows := _TABLE.match(text, match.start()):
            at = rows.end()
            whole.append(rows.span())
    sections = divided(text, marks, whole, begin=begin, lines=True)
    return Content(title=title or title_of(marks), sections=tuple(sections))


def _front_matter(text: str) -> tuple[int, str]:
    """Where the text begins behind its front matter, and the title that it gives."""
    opening = _FRONT.match(text)
    if not opening:
        return 0, ""
    at = opening.end()
    for _ in range(LONGEST_FRONT_MATTER):
        end = _line_end(text, at)
        if text[at:end].rstrip() in (opening[1], "..."):
            found = _FRONT_TITLE.search(text, 0, at)
            return end, named(found[1].strip(" \t\"'")) if found else ""
        at = end
    return 0, ""


def _line_end(text: str, at: int) -> int:
    return text.find("\n", at) + 1 or len(text)


def _fenced(text: str, at: int, opening: str) -> int:
    """Behind the line that closes a block of code; one that is not closed goes on to the end."""
    for match in _FENCE.finditer(text, at):
        if match[1].startswith(opening):
            return _line_end(text, match.end())
    return len(text)


def _underlined(text: str, match: re.Match[str], marks: list[Mark], begin: int) -> None:
    """A heading whose mark stands in the line below it."""
    above = text.rfind("\n", 0, max(match.start() - 1, 0)) + 1
    words = text[above : match.start()]
    if above >= max(begin, marks[-1].end if marks else 0) and words.strip() and not _NO_TITLE.match(words):
        marks.append(Mark(above, _line_end(text, match.end()), 1 if match[3][0] == "=" else 2, named(words)))


# --- what has no text of its own to stand by


class Composer:
    """Puts a text together from headings and blocks, for formats that are not written in lines."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._marks: list[Mark] = []
        self._whole: Spans = []

    def heading(self, level: int, text: str) -> None:
        """A heading; 1 is the highest, above it there is only a title of the whole (0)."""
        begin = self._length
        if self._add(" ".join(text.split())):
            self._marks.append(Mark(begin, self._length, level, named(text)))

    def block(self, text: str, *, whole: bool = False) -> None:
        """A paragraph; a table or code is better not cut."""
        begin = self._length
        if self._add(text.strip("\n").rstrip()) and whole:
            self._whole.append((begin, self._length))

    def content(self, title: str = "") -> Content:
        """What was put together."""
        sections = divided("".join(self._parts), self._marks, self._whole)
        return Content(title=named(title) or title_of(self._marks), sections=tuple(sections))

    def _add(self, text: str) -> bool:
        if not text or text.isspace():
            return False
        self._parts.append(text + "\n\n")
        self._length += len(text) + 2
        return True
