"""Beam search without a model: which of many continuations are kept, token by token.

The most likely text is not found by always taking the most likely token. Beam search keeps the `width` best beginnings at
each step; one that has ended leaves its place (Sutskever et al. 2014, arXiv:1409.3215, section 3.2). Longer texts multiply
more probabilities: at the end sums of log-probabilities are divided by length ** `length_penalty` (Wu et al. 2016,
arXiv:1609.08144, section 7, in the form that the Transformers library uses).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from orchestra.model.prediction import LONGEST_CHARACTER, Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """A beginning: its text, its tokens (the end is one), the sum of their natural log-probabilities.

    `missing` tokens are not in the sum, which is then the most that it can be. `part` counts the tokens of a character that
    is not whole yet, `before` is what stood before it.
    """

    text: str = ""
    logprob: float = 0.0
    tokens: int = 0
    missing: int = 0
    ended: bool = False
    part: int = 0
    before: Hypothesis | None = None

    def score(self, length_penalty: float) -> float:
        """What is compared in the end: 0 favours short texts, 1 compares the average token."""
        return float(self.logprob / max(1, self.tokens) ** length_penalty)

    def then(self, candidate: Candidate) -> Hypothesis:
        """This, and one token more."""
        grown = replace(self, logprob=self.logprob + candidate.logprob, tokens=self.tokens + 1)
        match candidate.kind:
            case "end":
                return replace(grown, ended=True)
            case "part":
                return replace(grown, part=1, before=self)
            case "text":
                return replace(grown, text=self.text + candidate.token, part=0, before=None)

    def untold(self) -> Hypothesis:
        """This, and a token more of which nothing is told: more of a character, else the end."""
        grown = replace(self, tokens=self.tokens + 1, missing=self.missing + 1)
        return replace(grown, part=self.part + 1) if self.part else replace(grown, ended=True)


class Beam:
    """The search: `live` are to be asked for what follows, then `advance` is told. Done when nothing is `live`."""

    def __init__(self, *, width: int, max_tokens: int, length_penalty: float = 1.0) -> None:
        self.live: list[Hypothesis] = [Hypothesis()]
        self._ended: list[Hypothesis] = []
        self._beaten: list[Hypothesis] = []
        self._width, self._most, self._penalty = width, max_tokens, length_penalty

    def advance(self, found: Sequence[Sequence[Candidate]]) -> None:
        """What may follow each of the `live`; nothing where that is not told."""
        grown: list[Hypothesis] = []
        for one, candidates in zip(self.live, found, strict=True):
            grown += _grown(one, candidates)
        if not grown:  # bytes that become no character
            self._close()
            return
        places = self._width - len(self._ended)
        best = sorted(_distinct(grown), key=lambda one: -one.logprob)[:places]
        self._ended += [one for one in best if one.ended]
        going = [one for one in best if not one.ended]
        self.live = [one for one in going if self._may_win(one)]
        self._beaten += [one for one in going if one not in self.live]
        if self.live and self.live[0].tokens >= self._most:
            self._close()

    def _close(self) -> None:
        self._ended += [one.before or one for one in self.live]  # a character that was begun is no text
        self.live = []

    def _may_win(self, one: Hypothesis) -> bool:
        """Whether it can still be the best: a sum only falls, and the average with it or as slowly as the length allows."""
        longest = self._most if self._penalty > 0 else one.tokens
        highest = one.logprob / max(1, longest) ** self._penalty
        return all(highest > ended.score(self._penalty) for ended in self._ended)

    def ranked(self) -> list[Hypothesis]:
        """What there is, best first; those that could not be the best any more stand where they were left."""
        there = [*self._ended, *(one.before or one for one in [*self.live, *self._beaten])]
        return sorted(_distinct(there), key=lambda one: -one.score(self._penalty))[: self._width]


def _grown(one: Hypothesis, candidates: Sequence[Candidate]) -> list[Hypothesis]:
    if not candidates:
        return [one.untold()] if one.part + 1 < LONGEST_CHARACTER else []
    # only the likeliest token can be followed into the rest of its character: a text cannot hold half of one
    return [one.then(each) for place, each in enumerate(candidates) if each.kind != "part" or place == 0]


def _distinct(many: Iterable[Hypothesis]) -> list[Hypothesis]:
    """The likeliest of those that say the same: the daemon, which is asked with texts, could not tell them apart."""
    best: dict[tuple[str, bool, int], Hypothesis] = {}
    for one in many:
        key = one.text, one.ended, one.part
        if key not in best or one.logprob > best[key].logprob:
            best[key] = one
    return list(best.values())
