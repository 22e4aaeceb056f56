"""How the stand-in chooses a token: the options of a request, in the order in which llama.cpp applies them.

Penalties, top_k, top_p, min_p, temperature, then one draw. Each changes what a client can observe, so that a
client that forgets to send one, or sends it wrong, is noticed.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from orchestra.standin.ngrams import Distribution

LOGIT_OF_CERTAINTY = 12.0
"""Logits are known up to a constant, and `repeat_penalty` divides them: about where a model's best token stands."""

NEVER = -math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The sampling options, named and valued as the daemon has them; `seed` None or -1 is another one each time."""

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    seed: int | None = None
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int = 0

    @property
    def penalises(self) -> bool:
        """Whether any penalty is in force."""
        penalties = (self.repeat_penalty, self.presence_penalty, self.frequency_penalty)
        return self.repeat_last_n != 0 and penalties != (1.0, 0.0, 0.0)


class Sampler:
    """Draws one answer's tokens; it remembers the last ones for the penalties."""

    def __init__(self, sampling: Sampling, prompt: Iterable[int], *, size: int) -> None:
        self._sampling, self._size = sampling, size
        self._random = Random(None if sampling.seed in (None, -1) else sampling.seed)
        last = sampling.repeat_last_n
        self._recent: deque[int] = deque(prompt, maxlen=last if last >= 0 else None)
        self._times = Counter(self._recent)

    def accept(self, number: int) -> None:
        """Take note of a token that was said."""
        if not self._sampling.penalises:
            return
        if len(self._recent) == self._recent.maxlen:
            oldest = self._recent[0]
            self._times[oldest] -= 1
            if not self._times[oldest]:
                del self._times[oldest]
        self._recent.append(number)
        self._times[number] += 1

    def draw(self, distribution: Distribution) -> int:
        """One token out of the distribution."""
        sampling = self._sampling
        greedy = sampling.temperature <= 0
        wanted = 1 if greedy else sampling.top_k if sampling.top_k > 0 else self._size
        candidates = self._penalised(distribution, wanted) if sampling.penalises else distribution.top(wanted)
        if greedy or len(candidates) == 1:
            return candidates[0][1]
        best = candidates[0][0]
        weights = [math.exp(logit - best) for logit, _ in candidates]
        weights = weights[: self._cut(weights)]
        if sampling.temperature != 1:
            weights = [weight ** (1 / sampling.temperature) for weight in weights]
        mark = self._random.random() * math.fsum(weights)
        for weight, (_, number) in zip(weights, candidates, strict=False):
            mark -= weight
            if mark < 0:
                return number
        return candidates[len(weights) - 1][1]

    def _penalised(self, distribution: Distribution, wanted: int) -> list[tuple[float, int]]:
        logits = {number: logit for logit, number in distribution.top(min(self._size, wanted + len(self._times)))}
        for number, times in self._times.items():
            logit = logits.get(number)
            if logit is None:
                probability = distribution.probability(number)
                if not probability:
                    continue
                logit = math.log(probability)
            logits[number] = self._less(logit, times)
        return sorted(((logit, number) for number, logit in logits.items()), key=_best_first)[:wanted]

    def _less(self, logit: float, times: int) -> float:
        sampling = self._sampling
        raised = logit + LOGIT_OF_CERTAINTY
        raised = raised / sampling.repeat_penalty if raised > 0 else raised * sampling.repeat_penalty
        return raised - LOGIT_OF_CERTAINTY - times * sampling.frequency_penalty - sampling.presence_penalty

    def _cut(self, weights: list[float]) -> int:
        """How many of the candidates' weights (the best is 1) stay after top_p and min_p; at least one."""
        sampling = self._sampling
        count = len(weights)
        if sampling.top_p < 1:
            enough = sampling.top_p * math.fsum(weights)
            reached = 0.0
            for count, weight in enumerate(weights, 1):  # noqa: B007
                reached += weight
                if reached >= enough:
                    break
        if sampling.min_p > 0:
            while count > 1 and weights[count - 1] < sampling.min_p:
                count -= 1
        return count


def _best_first(candidate: tuple[float, int]) -> tuple[float, int]:
    return -candidate[0], candidate[1]
