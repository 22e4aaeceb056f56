"""The stand-in's engine: tokens out of a prompt, as a model would give them, in a process of its own size.

Nothing here understands anything. It is there so that the way of an answer through a client - sampling, counting,
streaming, stopping, citing, parsing - can be shown and tested on any machine, without a download and without a wait.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from orchestra.standin import vocabulary
from orchestra.standin.ngrams import Counts, Distribution, Model
from orchestra.standin.sampling import Sampler, Sampling
from orchestra.standin.vocabulary import END_HEADER, END_OF_TURN, Vocabulary

__all__ = ["Engine", "Sampling", "Token", "engine"]


class Token(NamedTuple):
    """One token that was said. Log-probabilities are natural, and the model's own: before penalties and temperature."""

    id: int
    data: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...]


class Engine:
    """A vocabulary, a model of the corpus in two languages, and what can be made of them."""

    def __init__(self, words: Vocabulary, corpus: str) -> None:
        self.vocabulary = words
        self._counts = Counts()
        head = [END_HEADER, *words.encode("\n\n")]
        for paragraph in corpus.split("\n\n"):
            if paragraph.strip():
                self._counts.learn([*head, *words.encode(paragraph.strip()), END_OF_TURN])
        self._model = Model(words, [self._counts])

    def generate(
        self, prompt: Sequence[int], sampling: Sampling, *, text: str = "", format: str | dict[str, Any] | None = None
    ) -> Iterator[Token]:
        """The tokens that follow `prompt`, without a bound, until an end token, which comes with no bytes."""
        said = list(prompt)
        sampler = Sampler(sampling, said, size=len(self.vocabulary.tokens))
        while True:
            distribution = self._model.distribution(said)
            number = sampler.draw(distribution)
            yield self._token(number, distribution, sampling)
            if number in self.vocabulary.ends:
                return
            sampler.accept(number)
            said.append(number)

    def _token(self, number: int, distribution: Distribution, sampling: Sampling) -> Token:
        data = self.vocabulary.data
        top = tuple((other, data(other), logprob) for logprob, other in distribution.top(sampling.top_logprobs))
        return Token(number, data(number), math.log(distribution.probability(number)), top)

    def embed(self, text: str, size: int = 256) -> list[float]:
        """A vector of length 1 for `text`; texts with many pieces in common are near each other."""
        vector = [0.0] * size
        padded = f" {' '.join(text.lower().split())} "
        for length in (1, 2, 3):
            for place in range(len(padded) - length + 1):
                code = zlib.crc32(padded[place : place + length].encode("utf-8", "replace"))
                vector[code % size] += length if code & 0x10000 else -length
        norm = math.sqrt(math.fsum(value * value for value in vector))
        return [value / norm for value in vector] if norm else [1.0, *vector[1:]]


_lock = Lock()
_built: OrderedDict[str, Engine] = OrderedDict()


def engine() -> Engine:
    """The engine of this process, built when it is first asked for."""
    with _lock:
        if not _built:
            corpus = Path(__file__).with_name("corpus.txt").read_text(encoding="utf-8")
            _built[""] = Engine(vocabulary.load(), corpus)
        return _built[""]
