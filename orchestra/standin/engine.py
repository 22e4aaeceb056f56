"""The stand-in's engine: tokens out of a prompt, as a model would give them, in a process of its own size.

Nothing here understands anything. It is there so that the way of an answer through a client - sampling, counting,
streaming, stopping, citing, parsing - can be shown and tested on any machine, without a download and without a wait.
"""

from __future__ import annotations

import math
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from random import Random
from threading import Lock
from typing import Any, NamedTuple

from orchestra.standin import corpus, extract, grammar, vocabulary
from orchestra.standin.ngrams import ORDER, Counts, Distribution, Floors, Model
from orchestra.standin.sampling import Sampler, Sampling
from orchestra.standin.vocabulary import END_HEADER, END_OF_TURN, Vocabulary

__all__ = ["Engine", "Sampling", "Token", "engine"]

OPENING = 6
WEIGHT_OF_OPENING, WEIGHT_OF_RELATED = 200.0, 3.0
"""How often the first tokens and the rest of a paragraph that belongs to the prompt are counted; others count once."""

PATIENCE, LONGEST = 60, 180
"""From so many tokens on, an answer may end at the end of any sentence; ever more likely, up to the second number.

Before, it ends only with a paragraph, and a text that is no turn in a dialogue not even there."""

SURE_TO_END = 0.9

TIMES_THE_SAME = 2
"""The same `ORDER` tokens are followed by the same one this often in an answer: without a limit, a greedy one has no end."""

LOOK_BACK = 2000
MODELS_KEPT = 32
_SENTENCE_ENDS = tuple(mark.encode() for mark in (".", "!", "?", "。", "！", "？"))


class Token(NamedTuple):
    """One token that was said. Log-probabilities are natural, and the model's own: before penalties and temperature."""

    id: int
    data: bytes
    logprob: float
    top: tuple[tuple[int, bytes, float], ...]


class Engine:
    """A vocabulary, a model of the corpus in two languages, and what can be made of them. Threads may share one."""

    def __init__(self, words: Vocabulary, paragraphs: list[corpus.Paragraph]) -> None:
        self.vocabulary = words
        self._paragraphs = paragraphs
        self._closing = {number for number in range(len(words.tokens)) if _closes(words.data(number))}
        self._head = [END_HEADER, *words.encode("\n\n")]
        self._all = {
            language: self._counts([paragraph for paragraph in paragraphs if paragraph.language == language])
            for language in ("en", "zh")
        }
        self._floors = {language: Floors(words, counts) for language, counts in self._all.items()}
        self._models: OrderedDict[tuple[str, tuple[int, ...]], Model] = OrderedDict()
        self._lock = Lock()

    def generate(
        self, prompt: Sequence[int], sampling: Sampling, *, text: str = "", format: str | dict[str, Any] | None = None
    ) -> Iterator[Token]:
        """The tokens that follow `prompt` (`text` is the same as text), without a bound, until an end token, which has no bytes.

        `format` is "json" or a JSON Schema; ValueError at once for a schema that cannot be followed.
        """
        text = text or self.vocabulary.text(prompt)
        said = [*prompt] or [*self._head]
        model = self.model(extract.last_turn(text)[-LOOK_BACK:], extract.system_text(text)[:LOOK_BACK])
        forced = self._written(format, text, model, sampling) if format else extract.answer(text)
        if forced is None:
            return self._drawn(model, said, sampling)
        return self._given(model, said, self.vocabulary.encode(forced, special=False), sampling)

    def embed(self, text: str, size: int = 256) -> list[float]:
        """A vector of length 1 for `text`; texts with many pieces in common are near each other."""
        vector = [0.0] * size
        padded = f" {' '.join(text.lower().split())} "
        for length in (1, 2, 3):
            for place in range(len(padded) - length + 1):
                code = zlib.crc32(padded[place : place + length].encode("utf-8", "replace"))
                vector[(code >> 8) % size] += length if code & 1 else -length
        norm = math.sqrt(math.fsum(value * value for value in vector))
        return [value / norm for value in vector] if norm else [1.0, *vector[1:]]

    def _counts(self, paragraphs: list[corpus.Paragraph]) -> Counts:
        counts = Counts()
        for paragraph in paragraphs:
            counts.learn(self._answer(paragraph), self._closing)
            if paragraph.whole != paragraph.answer:
                whole = self.vocabulary.encode(f"\n{paragraph.whole}")
                counts.learn([*whole, END_OF_TURN], self._closing)
        return counts

    def _related(self, paragraphs: list[corpus.Paragraph]) -> Counts:
        counts = Counts()
        for paragraph in paragraphs:
            answer = self._answer(paragraph)
            counts.learn(answer, self._closing, WEIGHT_OF_RELATED)
            counts.learn(answer[: len(self._head) + OPENING], self._closing, WEIGHT_OF_OPENING)
        return counts

    def _answer(self, paragraph: corpus.Paragraph) -> list[int]:
        return [*self._head, *self.vocabulary.encode(paragraph.answer), END_OF_TURN]

    def model(self, prompt: str, system: str = "") -> Model:
        """The model for a prompt: its language's half of the corpus, and the related paragraphs once more."""
        key = extract.language(prompt), corpus.related(self._paragraphs, prompt, system)
        with self._lock:
            model = self._models.get(key)
            if model is None:
                language, places = key
                related = self._related([self._paragraphs[place] for place in places])
                model = self._models[key] = Model(self._floors[language], [self._all[language], related])
                if len(self._models) > MODELS_KEPT:
                    self._models.popitem(last=False)
            self._models.move_to_end(key)
        return model

    def _drawn(self, model: Model, said: list[int], sampling: Sampling) -> Iterator[Token]:
        sampler = Sampler(sampling, said, size=len(self.vocabulary.tokens))
        start, turns = len(said), END_HEADER in said
        followed: dict[tuple[int, ...], list[int]] = {}
        while True:
            distribution = model.distribution(said)
            after = followed.setdefault(tuple(said[-ORDER:]), [])
            never = {number for number in after if after.count(number) >= TIMES_THE_SAME}
            if self._sentence_is_over(said):
                length = len(said) - start
                if length > PATIENCE:
                    distribution = distribution.leaning(END_OF_TURN, _haste(length))
                elif not turns:
                    never |= self.vocabulary.ends
            if never:
                distribution = distribution.without(never)
            number = sampler.draw(distribution)
            yield self._token(number, distribution, sampling)
            if number in self.vocabulary.ends:
                return
            sampler.accept(number)
            said.append(number)
            after.append(number)

    def _given(self, model: Model, said: list[int], numbers: list[int], sampling: Sampling) -> Iterator[Token]:
        for number in [*numbers, END_OF_TURN]:
            yield self._token(number, model.distribution(said), sampling)
            said.append(number)

    def _written(self, format: str | dict[str, Any], text: str, model: Model, sampling: Sampling) -> str:
        seed = 0 if sampling.temperature <= 0 else None if sampling.seed == -1 else sampling.seed
        random = Random(seed)
        quoted = [answer] if (answer := extract.answer(text)) else []

        def say() -> str:
            if quoted:
                return quoted.pop()
            drawn = self._drawn(model, [*self._head], Sampling(seed=random.getrandbits(32)))
            return b"".join(token.data for token in drawn).decode("utf-8", "replace")

        return grammar.write(format, say, cue=extract.last_turn(text), random=random)

    def _sentence_is_over(self, said: list[int]) -> bool:
        return _closes(b"".join(self.vocabulary.data(number) for number in said[-3:]))

    def _token(self, number: int, distribution: Distribution, sampling: Sampling) -> Token:
        data = self.vocabulary.data
        top = tuple((other, data(other), logprob) for logprob, other in distribution.top(sampling.top_logprobs))
        return Token(number, data(number), math.log(distribution.probability(number)), top)


def _closes(data: bytes) -> bool:
    return data.rstrip(b"\n").endswith(_SENTENCE_ENDS)


def _haste(length: int) -> float:
    return SURE_TO_END * min(1.0, (length - PATIENCE) / (LONGEST - PATIENCE))


_building = Lock()


def engine() -> Engine:
    """The engine of this process, built when it is first asked for."""
    with _building:
        return _engine()


@lru_cache(maxsize=1)
def _engine() -> Engine:
    return Engine(vocabulary.load(), corpus.read())
