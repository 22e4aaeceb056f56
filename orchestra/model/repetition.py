"""Loops: a text that repeats itself, exactly or nearly.

Exactly (`Periods`): where did the last characters stand before? The answer proposes a period, of whatever
length, and the text itself confirms it or not. Nearly (`Recurrence`): sentences are compared without their
numbers and their first words, and a loop is where the same ones make up nearly everything that was said lately.

Both look at fixed positions of the text, so that what they find does not depend on how it came in pieces.
"""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from orchestra.model import outline
from orchestra.model.outline import CJK, Line

STRIDE = 16
"""Far from a verdict the text is looked at every so many characters ..."""
STEP = 4
"""... and near one every so many, so that it comes within the bound."""
REACH = 4096
"""The longest period that is noticed, in characters."""

_GRAM = 12
_CANDIDATES = 4
_LONG_UNIT = 20
_SHORT_ROW = 8
_FIGURES = re.compile(r"[-=_*.~#%+|·•:—–─━═…\\/ \t\u2500-\u259f]+")
_LETTER = re.compile(r"[^\W\d_]")
_CLEAN_END = re.compile(r"[.!?…]+[\"'”’)*]*(?=\s|$)|[。！？…]+[”’』」）*]*|\n")
_JOINED = re.compile(rf"[^\W{CJK}]+[>)\]}}]*|[^\W{CJK}]?[>)\]}}]+")


class Periods:
    """Finds where the text began to repeat itself with some period."""

    def __init__(self) -> None:
        self._period = 0
        self._start = 0
        self._judged = (0, False)
        self._needed = 0
        self.near = False
        """Whether a verdict may come within the next stride."""

    def advance(self, text: str, before: int, fresh: int, fenced: bool) -> int | None:
        """Looks at the last `fresh` characters of `text`, which `before` others preceded.

        Returns how many characters of the whole are worth keeping once there is a loop, else None.
        """
        period = self._period
        if not period or text[-fresh:] != text[-fresh - period : -period]:
            period = self._propose(text, before)
            if not period:
                return None
        end = len(text)
        self.near = False
        length = before + end - self._start
        if length <= _usual(period) - STRIDE - STEP:
            return None
        if self._judged != (period, fenced):
            self._measure(text[end - period :], fenced)
        if length <= self._needed - STEP:
            self.near = length > self._needed - STRIDE - STEP
            return None
        turn = length % self._period
        unit = text[end - self._period :]
        return self._start + _clean(unit[self._period - turn :] + unit[: self._period - turn])

    def _propose(self, text: str, before: int) -> int:
        """The period that reaches back farthest, of the last places where the text's end stood before; or 0."""
        self._period, self._judged, self.near = 0, (0, False), False
        gram = text[-_GRAM:]
        limit = best = len(text)
        for _ in range(_CANDIDATES):
            found = text.rfind(gram, -REACH - _GRAM, limit - 1)
            if found < 0:
                break
            limit = found + _GRAM
            period = len(text) - limit
            beginning = _beginning(text, found, period)
            if beginning + period < best:
                best = beginning + period
                self._period, self._start = period, before + beginning
        return self._period

    def _measure(self, unit: str, fenced: bool) -> None:
        # a multiple of the true period may have been met first
        self._period = (unit + unit).find(unit, 1)
        self._judged = (self._period, fenced)
        self._needed = _needed(unit[-self._period :], fenced)


def _beginning(text: str, found: int, period: int) -> int:
    """How far back from `found` the text equals the text one period later."""
    low, step = found, STRIDE
    while low >= step and text[low - step : low] == text[low - step + period : low + period]:
        low -= step
        step *= 2
    while step:
        if low >= step and text[low - step : low] == text[low - step + period : low + period]:
            low -= step
        step //= 2
    return low


def _usual(period: int) -> int:
    return 3 * period if period >= _LONG_UNIT else max(64, 12 * period)


def _needed(unit: str, fenced: bool) -> int:
    """How long a run of `unit` has to be, in characters, before it counts as a loop."""
    period = len(unit)
    if fenced:
        return max(3000, 8 * period)
    usual = _usual(period)
    if _FIGURES.fullmatch(unit) and not unit.isspace():
        return max(usual, 240)
    if unit.isspace() and "\n" not in unit:
        return max(usual, 240)
    if "</" in unit:
        return max(600, 10 * period)
    cut = unit.find("\n") + 1
    if not cut or unit.isspace() or period < _SHORT_ROW:
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
    joined = _JOINED.match(unit[-1:] + unit)
    return len((unit + unit[: joined.end() - 1]).rstrip()) if joined and joined.end() <= len(unit) else len(whole)


# --- nearly the same

_TIMES = 8
_COUNTED = 12
"""Lines that end without a mark may be records: so many, each with a number that is one more, are a loop."""
_LONGEST_CYCLE = 8
_REMEMBERED = 160
_COVERAGE = 0.8
_ENOUGH = 24
_LISTED = "\n"
"""Before the key of an item, as no sentence has it."""

_CLAUSE_END = re.compile(r"[.!?…]+[\"'”’)*]*(?:\n+|\s)|[。！？；…]+[”’』」）*]*\n*|\n+")
_COMMA_END = re.compile(rf"{_CLAUSE_END.pattern}|，|,\s")
_BREATH = 200
"""A sentence that is longer and still goes on is taken apart at its commas."""
_NUMBERED = re.compile(r"\s*[(（]?(?:\d{1,4}|[a-zA-Z]|[ivxIVX]{1,5})[.)]\s")
_NUMBER_WORDS = (
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|"
    "eighteen|nineteen|twenty|thirty|forty|fifty|hundred|thousand|"
    "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth"
)
_ANY_NUMBER_WORD = frozenset(re.findall(r"\w+", _NUMBER_WORDS))
_NUMBER_WORD = re.compile(rf"\b(?:{_NUMBER_WORDS})\b(?:[- ](?:{_NUMBER_WORDS})\b)*")
_NUMBER = re.compile(r"[\d零〇一二三四五六七八九十百千万亿两]+(?:[.,:/]\d+)*(?:st|nd|rd|th)?")
_LEAD_IN = re.compile(rf"(?:[^,，:：{CJK}]{{1,24}}|[^,，:：]{{1,8}})[,，:：]\s*")
_FIRST_WORD = re.compile(
    "(?:首先|其次|再次|然后|接着|接下来|之后|随后|最后|此外|另外|同时|而且|因此|所以|但是|不过|于是|还有|并且|后来|终于|总之)"
    rf"|[^\s{CJK}]+\s+|[{CJK}#]{{2}}"
)
_DIGITS = re.compile(r"\d+(?:[.,:/]\d+)*")
_LABEL = re.compile(r"\*\*[^*\n]{0,24}?\d{1,4}[^*\n]{0,8}\*\*\s*[:：.-]?\s*")
"""The bold label of an item, with a number that only counts: `**Tip 3**:`."""


class _Clause(NamedTuple):
    key: str
    size: int
    before: int
    """Where the clause before this one ended: what is kept when this is the first too many."""
    figure: int
    """The one number that stands in a line without a mark at its end; else 0."""


class Recurrence:
    """Notices sentences that come back with only a number or a lead-in word changed."""

    def __init__(self) -> None:
        self._clauses: deque[_Clause] = deque()
        self._counts: dict[str, int] = {}
        self._parts: deque[tuple[str, int]] = deque(maxlen=_TIMES - 1)
        self._part = ""
        self._kind = Line.BLANK
        self._ended = 0
        self._next = 0
        self._seen = 0
        self._line = True
        self._breathless = False

    def advance(self, text: str, before: int) -> int | None:
        """Looks at what came of `text`, which `before` others preceded, since it was last called."""
        at = max(self._next, self._seen - 3) - before
        self._seen = before + len(text)
        while True:
            found = (_COMMA_END if self._breathless else _CLAUSE_END).search(text, max(at, 0))
            at = found.end() if found else len(text)
            if not self._breathless and before + at - self._next > _BREATH:
                self._breathless = True
                at = self._next - before
                continue
            if not found:
                return None
            if self._line and _NUMBERED.fullmatch(text, max(self._next - before, 0), at):
                continue
            keep = self._close(text, before, found)
            if keep is not None:
                return keep

    def reset(self, position: int) -> None:
        """Forgets what was said: a new part begins with the line at `position`."""
        self._clear()
        self._part = ""
        self._parts.clear()
        self._ended = self._next = self._seen = position
        self._line = True

    def _clear(self) -> None:
        self._clauses.clear()
        self._counts.clear()

    def _close(self, text: str, before: int, found: re.Match[str]) -> int | None:
        start, end = max(self._next - before, 0), found.end()
        said = text[start:end].rstrip()
        first, previous = self._line, self._ended
        self._next = before + end
        self._line = text[end - 1] == "\n"
        self._breathless = self._breathless and found.group()[0] in ",，"
        if not said:
            return None
        self._ended = before + start + len(said)
        if first:
            self._kind = outline.kind(said)
        if self._kind in (Line.BREAK, Line.ROW):
            self._clear()
            self._parted(previous)
            return None
        key = _item(said) if first and self._kind is Line.ITEM else _sentence(said)
        mark = found.group()
        self._clauses.append(_Clause(key, len(said), previous, _figure(said) if mark.isspace() else 0))
        if len(self._part) < REACH:
            self._part += key
        if len(self._parts) == self._parts.maxlen and self._returned():
            return self._parts[0][1]
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if len(self._clauses) > _REMEMBERED:
            gone = self._clauses.popleft().key
            self._counts[gone] -= 1
            if not self._counts[gone]:
                del self._counts[gone]
        return self._looping(key, said, mark) if count >= _TIMES else None

    def _parted(self, ended: int) -> None:
        """A heading, or a row of data: what was said since the last one is a part, which ended at `ended`."""
        if self._kind is Line.ROW:
            self._parts.clear()
        elif self._part:
            self._parts.append((self._part, ended))
        self._part = ""

    def _returned(self) -> bool:
        """Whether the parts under the last headings were all the same as the one that is being said."""
        return all(part == self._part for part, _ in self._parts) and _weight(self._part) >= _ENOUGH

    def _looping(self, key: str, said: str, mark: str) -> int | None:
        listed = key.startswith(_LISTED)
        weight = _weight(key)
        if listed and weight < _ENOUGH:
            return self._cycling(weight)
        # a sentence with many figures is a report of data; one without a mark at its end a verse or a record
        counted = not listed and mark.isspace()
        if weight < 0.75 * _ENOUGH or (not listed and len(_DIGITS.findall(said)) > 2):
            return None
        clauses = list(self._clauses)
        times = _COUNTED if counted else _TIMES
        same = [at for at, clause in enumerate(clauses) if clause.key == key][-times:]
        if len(same) < times or (counted and not _counting([clauses[at].figure for at in same])):
            return None
        span = clauses[same[0] :]
        again = sum(clause.size for clause in span if self._counts[clause.key] >= _TIMES // 2)
        return clauses[same[1]].before if again >= _COVERAGE * sum(clause.size for clause in span) else None

    def _cycling(self, weight: int) -> int | None:
        """Short items: one may come often (a rota, the answers to a test), but not for ever in the same order."""
        alone = _TIMES if weight >= _ENOUGH / 2 else 2 * _TIMES
        if weight < _ENOUGH / 4:
            return None
        keys = [clause.key for clause in self._clauses]
        for period in range(1, _LONGEST_CYCLE + 1):
            length = alone if period == 1 else 4 * _LONGEST_CYCLE
            if len(keys) >= length and keys[-length:-period] == keys[period - length :]:
                return self._clauses[period - length].before
        return None


def _weight(text: str) -> int:
    """Bytes of the letters: a Chinese character, three of them, says as much as three Latin letters."""
    return len("".join(_LETTER.findall(text)).encode())


def _figure(said: str) -> int:
    figures = re.findall(r"\d+", said)
    return int(figures[0][:9]) if len(figures) == 1 else 0


def _counting(figures: list[int]) -> bool:
    """Whether each number is one more than that before it."""
    return figures[0] > 0 and figures == list(range(figures[0], figures[0] + len(figures)))


def _item(said: str) -> str:
    """An item of a list: many differ only in a number and are meant to, so the number counts here."""
    body = outline.body(said).strip().lower()
    label = _LABEL.match(body)
    return _LISTED + (body[label.end() :] if label else body)


def _sentence(said: str) -> str:
    plain = _NUMBER.sub("#", said.strip(" \t\"'“”‘’*(（").lower())
    # the words are looked for only where there are some: a pattern of forty words costs more than all the rest
    if not _ANY_NUMBER_WORD.isdisjoint(plain.replace(",", "").replace("-", " ").split()):
        plain = _NUMBER_WORD.sub("#", plain)
    lead = _LEAD_IN.match(plain)
    key = plain[lead.end() :] if lead and 3 * (len(plain) - lead.end()) >= _ENOUGH else plain
    word = _FIRST_WORD.match(key)
    return key[word.end() :] if word else key
