"""The sentences of a text, and the sources that each of them cites: `[1]`, `[1, 2]`, `【3】`.

A full stop ends a sentence unless it stands in a number, an abbreviation or an address; the marks behind it belong to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NUMBERS = r"\d{1,3}(?:\s*[,，、]\s*\d{1,3})*"
_MARK = re.compile(rf"[\[【［]\s*({_NUMBERS})\s*[\]】］]")
# from the first blank on, or each would be tried; an index in code is no citation
_MARK_OR_CODE = re.compile(rf"(`[^`\n]*`)|(?<![ \t])[ \t]*{_MARK.pattern}")
_FENCE = re.compile(r"[ \t]{0,3}(?:```|~~~)")
# A sentence takes the marks behind its stop along; a Latin stop is one only before a blank, the end or a mark.
_STOP = re.compile(rf"(?:[。！？]+|[.!?…]+)[\"'”’」』）)*_]*(?P<marks>(?:[ \t]*[\[【［]\s*{_NUMBERS}\s*[\]】］])*)")
_NEVER_LAST = frozenset("mr mrs ms dr prof st vs e.g i.e fig figs vol pp approx ca cf gen col sen rep gov capt lt eq sec chap".split())
_SELDOM_LAST = frozenset("inc ltd co corp jr sr etc u.s u.k a.m p.m al ph.d".split())
_LAST_WORD = re.compile(r"[^\s(\[\"'“‘]{1,12}\Z")


def sentences(text: str) -> list[str]:
    """The sentences of an answer, each with the citations that follow its stop; blocks of code have none."""
    found: list[str] = []
    fenced = False
    for line in text.split("\n"):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            found += _of_line(line)
    return found


def _of_line(line: str) -> Iterator[str]:
    begin = 0
    for stop in _STOP.finditer(line):
        if _ends(line, begin, stop):
            if sentence := line[begin : stop.end()].strip():
                yield sentence
            begin = stop.end()
    if sentence := line[begin:].strip():
        yield sentence


def _ends(line: str, begin: int, stop: re.Match[str]) -> bool:
    following = line[stop.end() : stop.end() + 1]
    if stop[0][0] in "。！？" or stop["marks"]:
        return True
    if following.strip():
        return False  # 3.5, example.org, ?a=b
    if stop[0][0] != ".":
        return True
    last = _LAST_WORD.search(line, max(begin, stop.start() - 13), stop.start())
    word = last[0] if last else ""
    if word.isdigit() and not line[begin : stop.start() - len(word)].strip(" \t-*#>"):
        return False  # the number of a list's item
    if word in ("No", "no", "Nos", "nos") and line[stop.end() :].lstrip()[:1].isdigit():
        return False
    if word.casefold() in _NEVER_LAST or (len(word) == 1 and word.isupper()):
        return False
    return word.casefold() not in _SELDOM_LAST or not line[stop.end() :].lstrip()[:1].islower()


def marked(text: str) -> list[tuple[str, list[int]]]:
    """The sentences without their marks, and the sources that each names; a mark on a line of its own belongs to the one before."""
    found: list[tuple[str, list[int]]] = []
    for sentence in sentences(text):
        marks = [mark[2] for mark in _MARK_OR_CODE.finditer(sentence) if mark[2]]
        numbers = list(dict.fromkeys(int(number) for mark in marks for number in re.findall(r"\d+", mark)))
        bare = " ".join(_MARK_OR_CODE.sub(lambda mark: mark[1] or "", sentence).split())
        if found and not bare:
            found[-1][1].extend(n for n in numbers if n not in found[-1][1])
        else:
            found.append((bare, numbers))
    return found
