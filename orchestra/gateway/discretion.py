"""A seed memory leaves only as what a model says: errors, some of which hold the daemon's own words, are given without it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from orchestra.errors import OrchestraError
from orchestra.model.persona import Persona
from orchestra.texts import Words

SHORTEST = 6  # characters of a sentence that is one persona's and no phrase of everybody's
_SENTENCE = re.compile(r"[^。！？!?.\n]+")
_WITHHELD = Words("(left out: it repeats a seed memory)", "（已略去：其中复述了种子记忆）")


def discreet(text: str, personas: Iterable[Persona], language: str) -> str:
    """`text`, or in its place that it was left out, where it repeats a sentence of a seed memory, as it is or as JSON writes it."""
    return _WITHHELD.text(language) if any(piece in text for piece in _pieces(personas)) else text


def in_one_line(error: OrchestraError, personas: Iterable[Persona], language: str) -> str:
    """What happened and what to do, for a protocol that has room for one text."""
    hint = " ".join(error.hint(language).split())
    return f"{discreet(error.message(language), personas, language)} ({hint})"


def _pieces(personas: Iterable[Persona]) -> Iterator[str]:
    for seed in (seed for persona in personas for seed in persona.seed_memory.values()):
        for sentence in _SENTENCE.findall(seed):
            if len(piece := sentence.strip()) >= SHORTEST:
                yield piece
                yield json.dumps(piece)[1:-1]
