"""Sections cut into chunks: as long as a search finds best, ended where a reader would pause.

A chunk weighs at most `LIMIT`; a Han character weighs two, so that the same number holds for about 400 Chinese
characters and for about 800 Latin ones. (On DRCD and XQuAD, at a fixed size of the prompt, these lengths found the
answer most often, cut along paragraphs and sentences with an overlap of 15 %.) Of the places where the second half
of a chunk could end the strongest is taken: a blank line, the end of a sentence or of a list's item, of a line, of
a clause. The text of a chunk is the section's own, character by character.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from orchestra.retrieval.knowledge.chunks import Chunk, Section

LIMIT = 800
OVERLAP = 120

# How well a text is cut at a place. Lines of code and of a wrapped paragraph end anywhere; sentences do not.
CLAUSE, LINE, SENTENCE, ITEM, BLANK, TOP = range(6)

_HAN = re.compile("[\u1100-\u11ff\u2e80-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\U00020000-\U0003ffff]+")
_BREAK = re.compile(
    r"\n[ \t\n]*+"
    r"|[。！？；…]++[”’」』）》】\"')\]]*+"
    r"|(?<![.!?])[.!?]++[\"'”’)\]]*+(?=[ \t]++[^a-z\s])"
)
_CLAUSE = re.compile(r"[，、：,;:]++|\s++")
_ITEM = re.compile(r"[ \t]*+(?:[-*+•·] |\d{1,3}[.)、] ?|[(（]\d{1,3}[)）]|[一二三四五六七八九十]{1,3}、|\|)")
_SENTENCE_ENDS = frozenset(".!?。！？；…”」")


class _Places(NamedTuple):
    """Where a chunk may end and the next begin: how well each suits, and the weight of all that stands before it."""

    at: list[int]
    strength: list[int]
    weight: Sequence[int]


def chunks(sections: Sequence[Section]) -> Iterator[Chunk]:
    """The chunks of a document in their order. No two sections share one; together they hold every visible character."""
    for section in sections:
        yield from _chunks(section)


def weight(text: str) -> int:
    """The length that counts: a Han character, kana or hangul is two."""
    return len(text) if text.isascii() else len(text) + sum(map(len, _HAN.findall(text)))


def _chunks(section: Section) -> Iterator[Chunk]:
    text, line, counted = section.text, section.line, 0
    for begin, end in _spans(section):
        begin, end = _trimmed(text, begin, end)
        if begin == end:
            continue
        line += text.count("\n", counted, begin) if section.line else 0
        counted = begin
        part = text[begin:end]
        last = line + part.count("\n") if section.line else 0
        yield Chunk(text=part, heading=section.heading, start=line, end=last, page=section.page)


def _trimmed(text: str, begin: int, end: int) -> tuple[int, int]:
    """The span without blanks around it; the first line keeps its indentation."""
    part = text[begin:end]
    bare = part.lstrip()
    first = begin + len(part) - len(bare)
    line = text.rfind("\n", 0, first) + 1
    if not bare or line < begin:
        return first, first + len(bare.rstrip())
    return line, first + len(bare.rstrip())


def _spans(section: Section) -> Iterator[tuple[int, int]]:
    text = section.text
    if weight(text) <= LIMIT:
        yield 0, len(text)
        return
    places = _placed(section)
    first, last = 0, len(places.at) - 1
    while True:
        end = max(first + 1, bisect_right(places.weight, places.weight[first] + LIMIT) - 1)
        if end < last:
            half = bisect_left(places.weight, places.weight[first] + LIMIT // 2, first + 1, end)
            end = max(range(half, end + 1), key=lambda n: (places.strength[n], n))
        yield places.at[first], places.at[end]
        if end >= last:
            return
        first = _overlapping(places, first, end)


def _overlapping(places: _Places, first: int, end: int) -> int:
    """Where the next chunk begins: some whole sentences before `end`, if there is room for them."""
    least = max(places.weight[end] - OVERLAP, places.weight[end + 1] - LIMIT)
    room = range(max(first + 1, bisect_left(places.weight, least)), end)
    best = max(room, key=lambda n: (places.strength[n], -n), default=end)
    return best if places.strength[best] >= SENTENCE else end


def _placed(section: Section) -> _Places:
    """All places from the beginning to the end, no two further apart than a chunk is long."""
    text = section.text
    ats, strengths = [0], [TOP]

    def add(at: int, strength: int) -> None:
        if at > ats[-1]:
            ats.append(at)
            strengths.append(strength)

    for at, strength in _kept(section):
        if at - ats[-1] > LIMIT // 2 and weight(text[ats[-1] : at]) > LIMIT:
            for end in (*(match.end() for match in _CLAUSE.finditer(text, ats[-1], at)), at):
                for hard in range(ats[-1] + LIMIT // 2, end, LIMIT // 2):
                    add(hard, CLAUSE)
                add(end, CLAUSE if end < at else strength)
        else:
            add(at, strength)
    weights = ats if text.isascii() else [*accumulate((weight(text[a:b]) for a, b in pairwise(ats)), initial=0)]
    return _Places(ats, strengths, weights)


def _kept(section: Section) -> Iterator[tuple[int, int]]:
    """The places of a section but for those within a span that stays whole."""
    spans = [(begin, end) for begin, end in section.whole if weight(section.text[begin:end]) <= LIMIT]
    if not spans:
        yield from _found(section.text)
        return
    number = 0
    for at, strength in _found(section.text):
        while number < len(spans) and spans[number][1] <= at:
            number += 1
        if number == len(spans) or at <= spans[number][0]:
            yield at, strength


def _found(text: str) -> Iterator[tuple[int, int]]:
    """Where text may be cut, and how well."""
    for match in _BREAK.finditer(text):
        begin, end = match.span()
        if text[begin] != "\n":
            yield end, SENTENCE
            continue
        if end - begin > 1:
            last = text.rindex("\n", begin, end)
            if last > begin:
                yield last + 1, TOP if last + 1 == end else BLANK
                continue
        ended = begin and text[begin - 1] in _SENTENCE_ENDS
        yield begin + 1, ITEM if ended or _ITEM.match(text, begin + 1) else LINE
    yield len(text), TOP
