"""The stand-in's model: how often one token followed others in the corpus, as proper distributions.

It knows nothing, but what it says has a true next-token distribution, so that temperature, seeds, penalties, and
log-probabilities have real effects for a client to work with. Every order is mixed into the next higher one
(Witten-Bell), down to an even share for each token; so no token is impossible, except those that nobody should
ever see: control tokens that are no end, and bytes that would break a character.
"""

from __future__ import annotations

import codecs
import heapq
import math
from collections.abc import Collection, Container, Iterable, Sequence

from orchestra.standin.vocabulary import CONTROL, Vocabulary

ORDER = 6
"""Tokens of context that the longest row looks back."""

SMOOTHING = 0.2
"""How much weight the shorter context keeps, in counts for each different token that followed the longer one."""

EVEN_SHARE = 0.02
"""The count of a token that the corpus does not have."""

MOST_REMEMBERED = 4000

Row = dict[int, float]


class Counts:
    """What followed each context of 0 to `ORDER` tokens, in everything that was learned."""

    def __init__(self) -> None:
        self.rows: dict[tuple[int, ...], Row] = {}

    def learn(self, numbers: Sequence[int], ends: Container[int] = (), weight: float = 1.0) -> None:
        """Count one text, in which the tokens `ends` close a sentence; its first token is only context."""
        first = 0
        for place in range(1, len(numbers)):
            if numbers[place - 1] in ends:
                first = place - 1
            # Only the longest context looks back into the sentence before: so the next one may be the one that stands
            # there or any other. All lengths together would leave no choice.
            starts = {max(0, place - ORDER), *range(max(first, place - ORDER), place + 1)}
            self._count(numbers, place, starts, weight)

    def _count(self, numbers: Sequence[int], place: int, starts: Iterable[int], weight: float) -> None:
        for start in starts:
            row = self.rows.setdefault(tuple(numbers[start:place]), {})
            row[numbers[place]] = row.get(numbers[place], 0.0) + weight


class Distribution:
    """The probabilities of the next token: a few that the context raises, over a floor that is the same for many contexts."""

    def __init__(self, raised: Row, scale: float, floor: Floor) -> None:
        self._raised, self._scale, self._floor = raised, scale, floor
        self._top: tuple[list[tuple[float, int]], bool] = [], False

    def probability(self, number: int) -> float:
        """Of one token; 0 only for a muted one."""
        return self._raised.get(number, 0.0) + self._scale * self._floor.shares[number]

    def top(self, count: int) -> list[tuple[float, int]]:
        """The `count` likeliest tokens as (natural log-probability, token), best first; those with none are left out."""
        found, whole = self._top
        if len(found) < count and not whole:
            numbers = {*self._raised, *self._floor.order[: count + len(self._raised)]}
            ranked = [(-probability, number) for number in numbers if (probability := self.probability(number)) > 0]
            best = sorted(ranked) if count >= len(ranked) else heapq.nsmallest(count, ranked)
            found = [(math.log(-negative), number) for negative, number in best]
            self._top = found, len(found) < count  # at once: threads share this
        return found[:count]

    def without(self, numbers: Collection[int]) -> Distribution:
        """The same where some tokens cannot come."""
        left = 1 - math.fsum(self.probability(number) for number in numbers)
        scale = self._scale / left
        raised = {other: value / left for other, value in self._raised.items()}
        # Exactly what takes the floor's share away again.
        raised.update({number: -(scale * self._floor.shares[number]) for number in numbers})
        return Distribution(raised, scale, self._floor)

    def leaning(self, number: int, share: float) -> Distribution:
        """The same with `share` of everything given to one token."""
        raised = {other: value * (1 - share) for other, value in self._raised.items()}
        raised[number] = raised.get(number, 0.0) + share
        return Distribution(raised, self._scale * (1 - share), self._floor)


class Floor:
    """How common each token is after bytes that wait for the rest of their character."""

    def __init__(self, vocabulary: Vocabulary, waiting: bytes, common: Row) -> None:
        numbers = range(len(vocabulary.tokens))
        weights = [
            common.get(number, 0.0) + EVEN_SHARE if _may_follow(vocabulary, waiting, number) else 0.0
            for number in numbers
        ]
        total = math.fsum(weights)
        self.shares = [weight / total for weight in weights]
        self.order = sorted((number for number in numbers if weights[number]), key=lambda number: -weights[number])


class Floors:
    """The floor for each beginning of a character, out of how common the tokens are in one half of the corpus."""

    def __init__(self, vocabulary: Vocabulary, counts: Counts) -> None:
        self._vocabulary, self._common = vocabulary, counts.rows.get((), {})
        self._known: dict[bytes, Floor] = {}

    def after(self, context: Sequence[int]) -> Floor:
        """The floor after some tokens."""
        waiting = pending(b"".join(self._vocabulary.data(number) or b"\n" for number in context[-3:]))
        floor = self._known.get(waiting)
        if floor is None:
            floor = self._known[waiting] = Floor(self._vocabulary, waiting, self._common)
        return floor


def _may_follow(vocabulary: Vocabulary, waiting: bytes, number: int) -> bool:
    if vocabulary.kinds[number] == CONTROL:
        return number in vocabulary.ends and not waiting
    data = vocabulary.data(number)
    if data[0] & 0xC0 != 0x80 if waiting else data.isascii():
        return not waiting
    return _unfinished(waiting + data) is not None


def pending(data: bytes) -> bytes:
    """The bytes at the end of `data` that begin a character and do not finish it."""
    for length in range(1, min(3, len(data)) + 1):
        if data[-length] >= 0xC0:
            return _unfinished(data[-length:]) or b""
        if data[-length] < 0x80:
            break
    return b""


def _unfinished(data: bytes) -> bytes | None:
    """What waits for more bytes after all whole characters; None if `data` cannot become UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return None
    waiting = decoder.getstate()[0]
    # The decoder notices a surrogate only at its third byte, when there is no way out any more.
    return None if waiting[:1] == b"\xed" and waiting[1:2] >= b"\xa0" else waiting


class Model:
    """Next-token distributions out of one or more counts, each remembered once it was asked for."""

    def __init__(self, floors: Floors, counts: Iterable[Counts]) -> None:
        self._floors, self._counts = floors, list(counts)
        self._known: dict[tuple[int, ...], Distribution] = {}

    def distribution(self, context: Sequence[int]) -> Distribution:
        """What may come after `context`."""
        key = tuple(context[-ORDER:])
        known = self._known.get(key)
        if known is None:
            if len(self._known) > MOST_REMEMBERED:
                self._known.clear()
            known = self._known[key] = self._mixed(key)
        return known

    def _mixed(self, context: tuple[int, ...]) -> Distribution:
        floor = self._floors.after(context)
        raised: Row = {}
        scale = 1.0
        for start in range(len(context) - 1, -1, -1):
            row = self._row(context[start:], floor)
            if not row:
                continue
            total = math.fsum(row.values())
            kept = SMOOTHING * len(row) / (total + SMOOTHING * len(row))
            scale *= kept
            raised = {number: value * kept for number, value in raised.items()}
            for number, value in row.items():
                raised[number] = raised.get(number, 0.0) + value / total * (1 - kept)
        return Distribution(raised, scale, floor)

    def _row(self, context: tuple[int, ...], floor: Floor) -> Row:
        row: Row = {}
        for counts in self._counts:
            for number, value in counts.rows.get(context, {}).items():
                if floor.shares[number]:
                    row[number] = row.get(number, 0.0) + value
        return row
