"""Loops: a text that repeats itself, exactly or nearly.

Exactly (`Periods`): where did the last characters stand before? One n-gram in eight characters is remembered
with its position; every n-gram that comes is looked up. A hit proposes a period, of whatever length, and the
text itself then confirms it. Nearly (`Recurrence`): sentences are compared without their numbers and their
first words, and a loop is where the same ones make up nearly everything that was said lately.

Both work at fixed positions of the text, so that what they find does not depend on how it came in pieces.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from orchestra.model import outline
from orchestra.model.outline import CJK, Line

HOP = 8
"""The text is looked at every so many characters."""
GRAM = 12
"""Length of the n-grams; more than `HOP`, so that one of them covers any seam between two repetitions."""
REACH = 4096
"""The longest period that is noticed, in characters."""

_LONG_UNIT = 20
_FIGURES = re.compile(r"[-=_*.~#+|·•:—–─━═…\\/ \t\u2500-\u259f]+")
_LETTER = re.compile(r"[^\W\d_]")
_CLEAN_END = re.compile(r"[.!?…]+[\"'”’)*]*(?=\s|$)|[。！？…]+[”’』」）*]*|\n")  # noqa: RUF001
_WORD_CHARACTER = re.compile(rf"[^\W{CJK}]")


class Periods:
    """Finds where the text began to repeat itself with some period."""

    def __init__(self) -> None:
        self._index: dict[str, int] = {}
        self._period = 0
        self._start = 0
        self._judged = (0, False)
        self._needed = 0

    def advance(self, text: str, before: int, fenced: bool) -> int | None:
        """Looks at the last `HOP` characters of `text`, which `before` others preceded.

        Returns how many characters of the whole are worth keeping once there is a loop, else None.
        """
        end = len(text)
        period = self._period
        if not period or text[end - HOP :] != text[max(end - HOP - period, 0) : end - period]:
            period = self._period = self._find(text, before)
        if end >= GRAM:
            self._index[text[end - GRAM :]] = before + end
        if not period or before + end - self._start < _least(period):
            return None
        return self._judge(text, before, fenced)

    def forget(self, before: int) -> None:
        """Drops what refers to text earlier than position `before`."""
        self._index = {gram: at for gram, at in self._index.items() if at - GRAM >= before}

    def _find(self, text: str, before: int) -> int:
        end = len(text)
        seen = self._index.get
        for at in range(max(end - HOP + 1, GRAM), end + 1):
            earlier = seen(text[at - GRAM : at])
            if earlier is not None:
                period = before + at - earlier
                first = at - GRAM - period
                if first >= 0 and text[at:end] == text[at - period : end - period]:
                    self._start = before + _beginning(text, at - GRAM, period) - period
                    return period
        return 0

    def _judge(self, text: str, before: int, fenced: bool) -> int | None:
        end = len(text)
        if self._judged != (self._period, fenced):
            unit = text[end - self._period :]
            # a multiple of the true period may have been met first
            shortest = (unit + unit).find(unit, 1)
            self._period = shortest
            self._judged = (shortest, fenced)
            self._needed = _needed(unit[-shortest:], fenced)
        length = before + end - self._start
        # less than one hop is left to the bound: at the next look it would be behind us
        if length <= self._needed - HOP:
            return None
        turn = (length % self._period) or self._period
        unit = text[end - turn :] + text[end - self._period : end - turn]
        return self._start + _clean(unit)


def _least(period: int) -> int:
    return (3 * period if period >= _LONG_UNIT else max(64, 12 * period)) - HOP + 1


def _beginning(text: str, low: int, period: int) -> int:
    """How far back from `low` the text equals itself one period earlier."""
    step = HOP
    while low - period >= step and text[low - step : low] == text[low - step - period : low - period]:
        low -= step
        step *= 2
    while step:
        if low - period >= step and text[low - step : low] == text[low - step - period : low - period]:
            low -= step
        step //= 2
    return low


def _needed(unit: str, fenced: bool) -> int:
    """How long a run of `unit` has to be, in characters, before it counts as a loop."""
    period = len(unit)
    if fenced:
        return max(3000, 8 * period)
    usual = 3 * period if period >= _LONG_UNIT else max(64, 12 * period)
    if _FIGURES.fullmatch(unit) and not unit.isspace():
        return max(usual, 240)
    if unit.isspace() and "\n" not in unit:
        return max(usual, 240)
    cut = unit.find("\n") + 1
    if not cut or unit.isspace() or period < HOP:
        return usual
    if not _LETTER.search(unit):
        return max(1000, 12 * period)
    kinds = {outline.kind(line) for line in (unit[cut:] + unit[:cut]).split("\n")} - {Line.BLANK}
    return max(600, 10 * period) if Line.ROW in kinds and Line.PROSE not in kinds else usual


def _clean(unit: str) -> int:
    """How much of `unit unit unit ...` reads as one finished occurrence, in characters."""
    whole = unit.rstrip()
    if not whole:
        return 0
    ended = [found.end() for found in _CLEAN_END.finditer(whole)]
    if (ended and ended[-1] == len(whole)) or "\n" in unit[len(whole) :]:
        return len(whole)
    rest = _CLEAN_END.search(unit)
    if rest:
        return len((unit + unit[: rest.end()]).rstrip())
    joined = 0
    if _WORD_CHARACTER.match(unit[-1]):
        while joined < len(unit) and _WORD_CHARACTER.match(unit[joined]):
            joined += 1
        joined %= len(unit)
    return len((unit + unit[:joined]).rstrip())


# --- nearly the same

_TIMES = 8
_SHORT_TIMES = 16
_REMEMBERED = 160
_COVERAGE = 0.8
_ENOUGH = 20

_CLAUSE_END = re.compile(r"[.!?…]+[\"'”’)*]*\s|[。！？；…]+[”’』」）*]*|\n")  # noqa: RUF001
_NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|"
    "seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|hundred|thousand|"
    "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth"
)
_NUMBER = re.compile(
    rf"\d+(?:[.,:/]\d+)*(?:st|nd|rd|th)?|\b(?:{_NUMBER_WORDS})\b(?:[- ]?\b(?:{_NUMBER_WORDS})\b)*"
    r"|[零〇一二三四五六七八九十百千万亿两]+"
)
_LEAD_IN = re.compile(rf"(?:[^,，:：{CJK}]{{1,24}}|[^,，:：]{{1,8}})[,，:：]\s*")  # noqa: RUF001
_FIRST_WORD = re.compile(
    "(?:首先|其次|再次|然后|接着|接下来|之后|随后|最后|此外|另外|同时|而且|因此|所以|但是|不过|于是|还有|并且|后来|终于|总之)"
    rf"|[^\s{CJK}]+\s+|[{CJK}#]{{2}}"
)
_DIGITS = re.compile(r"\d+(?:[.,:/]\d+)*")


class _Clause(NamedTuple):
    key: str
    size: int
    before: int
    """Where the clause before this one ended: what is kept when this is the first too many."""
    times: int
    """How often it has to come to count as a loop; 0 = it never does."""


class Recurrence:
    """Notices sentences that come back with only a number or a lead-in word changed."""

    def __init__(self) -> None:
        self._clauses: deque[_Clause] = deque(maxlen=_REMEMBERED)
        self._ended = 0
        self._next = 0
        self._line = 0
        self._first = True

    def advance(self, text: str, before: int) -> int | None:
        """Looks at the last `HOP` characters of `text`, which `before` others preceded; see `Periods.advance`."""
        # a mark and the space after it may fall into two hops, hence the characters looked at again
        at = max(self._next - before, len(text) - HOP - 3, 0)
        while found := _CLAUSE_END.search(text, at):
            at = found.end()
            keep = self._close(text, before, found)
            if keep is not None:
                return keep
        return None

    def reset(self, position: int) -> None:
        """Forgets what was said: a new part begins at `position`."""
        self._clauses.clear()
        self._ended = self._next = self._line = position
        self._first = True

    def _close(self, text: str, before: int, found: re.Match[str]) -> int | None:
        start, end = max(self._next - before, 0), found.end()
        marked = len(found.group().rstrip()) > 0
        said = text[start:end].rstrip()
        kind = outline.kind(text[max(self._line - before, 0) : end].rstrip("\n"))
        first, previous = self._first, self._ended
        self._next = before + end
        self._first = found.group().endswith("\n")
        if self._first:
            self._line = self._next
        if kind in (Line.BREAK, Line.ROW):
            self._clauses.clear()
            self._ended = before + start + len(said)
            return None
        if not said.strip():
            return None
        self._ended = before + start + len(said)
        if first and kind is Line.ITEM:
            clause = _item(said, previous)
        else:
            clause = _sentence(said, previous, marked)
        self._clauses.append(clause)
        return self._looping(clause)

    def _looping(self, clause: _Clause) -> int | None:
        if not clause.times:
            return None
        clauses = list(self._clauses)
        same = [at for at, other in enumerate(clauses) if other.key == clause.key]
        if len(same) < clause.times:
            return None
        span = clauses[same[-clause.times] :]
        if clause.times == _SHORT_TIMES:
            covered = len(span) == _SHORT_TIMES
        else:
            counts: dict[str, int] = {}
            for other in span:
                counts[other.key] = counts.get(other.key, 0) + 1
            again = sum(other.size for other in span if counts[other.key] >= _TIMES // 2)
            covered = again >= _COVERAGE * sum(other.size for other in span)
        return clauses[same[1 - clause.times]].before if covered else None


def _weight(text: str) -> float:
    """Letters, where a Chinese character says as much as two and a half Latin ones."""
    return sum(2.5 if letter >= "\u3040" else 1.0 for letter in _LETTER.findall(text))


def _item(said: str, previous: int) -> _Clause:
    """An item of a list: many differ only in a number and are meant to, so the number counts here."""
    key = outline.body(said).strip().lower()
    weight = _weight(key)
    times = _TIMES if weight >= _ENOUGH else _SHORT_TIMES if weight >= _ENOUGH / 4 else 0
    return _Clause("- " + key, len(said), previous, times)


def _sentence(said: str, previous: int, marked: bool) -> _Clause:
    plain = _NUMBER.sub("#", said.strip(" \t\"'“”‘’*(（").lower())  # noqa: RUF001
    key = _LEAD_IN.sub("", plain, count=1) if _LEAD_IN.match(plain) else plain
    if _weight(key) < _ENOUGH:
        key = plain
    word = _FIRST_WORD.match(key)
    key = key[word.end() :] if word else key
    # a sentence with many figures is a report of data; one without a mark at its end is a verse or a record
    telling = marked and _weight(key) >= _ENOUGH * 0.75 and len(_DIGITS.findall(said)) <= 2
    return _Clause(key, len(said), previous, _TIMES if telling else 0)
