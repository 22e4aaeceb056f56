"""What the stand-in has to say: the paragraphs of corpus.txt, and which of them belong to a prompt.

A paragraph is an answer as it stands, without the question that it may begin with. In a dialogue - lines that begin
with a speaker's name - each line answers the one before it.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from orchestra.standin import extract

_SPEAKER = re.compile(r"^\w{2,20}(?:: |：)")
_QUESTION = re.compile(r"[^.。!！\n]+?(?:\? |？)")
NEAR = 0.6
"""A paragraph belongs to a prompt if it shares at least this much of what the best one shares."""

NEAR_ITS_OWN = 0.9
"""The same where a system text says who answers: two that are not alike shall not say the same."""

MOST = 3
OF_ITS_OWN = 2.0
"""How much the nearness of a paragraph grows where it is what the system text speaks of most."""


class Paragraph(NamedTuple):
    """A text of the corpus: what it answers (or is about), the answer, and the whole as it stands."""

    language: str
    cue: str
    answer: str
    whole: str


def read() -> list[Paragraph]:
    """The corpus that the package carries."""
    text = Path(__file__).with_name("corpus.txt").read_text(encoding="utf-8")
    return [paragraph for block in text.strip().split("\n\n") for paragraph in _paragraphs(block)]


def _paragraphs(block: str) -> list[Paragraph]:
    lines = block.split("\n")
    language = extract.language(block)
    if not all(map(_SPEAKER.match, lines)):
        question = _QUESTION.match(block)
        return [Paragraph(language, block, block[question.end() :] if question else block, block)]
    spoken = [_SPEAKER.sub("", line) for line in lines]
    return [Paragraph(language, cue, answer, block) for cue, answer in pairwise(spoken)]


def related(paragraphs: list[Paragraph], prompt: str, system: str = "") -> tuple[int, ...]:
    """The places of the few paragraphs, in the prompt's language, that share most with it; none where nothing is shared.

    Among them those come first that share something with the system text too: who answers makes a difference.
    """
    language = extract.language(prompt)
    places = [place for place, paragraph in enumerate(paragraphs) if paragraph.language == language]
    own = {place: extract.shared(system, paragraphs[place].whole) if system else 0.0 for place in places}
    most = max(own.values()) or 1.0
    scores = [
        (_nearness(prompt, paragraphs[place].cue) * (1 + OF_ITS_OWN * own[place] / most), place) for place in places
    ]
    best = max(scores)[0]
    if not best:
        return ()
    near = NEAR_ITS_OWN if system else NEAR
    ranked = sorted(((-score, place) for score, place in scores if score >= near * best))
    return tuple(sorted(place for _, place in ranked[:MOST]))


def _nearness(prompt: str, cue: str) -> float:
    """The words that are shared, at twice their weight where they are all that the cue has: a short question is meant so."""
    shared = extract.shared(prompt, cue)
    return shared * (1 + shared / extract.shared(cue, cue)) if shared >= extract.CONTENT else 0.0
