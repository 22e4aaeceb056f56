"""Long dialogues with planted facts: what was said once, among much else and beside others of its kind, is asked for at the end.

The texts stand in tests/data/recall: on `tuned` the ranking was tuned; `held_out` was written before that and looked at by its
figures alone, which led to two rules; `fresh` was written last, and led to one.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

DATA = Path(__file__).resolve().parent / "data" / "recall"
PARTS = ("tuned", "held_out", "fresh")
FACTS = 6  # in each dialogue
NEAR = 2  # and for each so many others of its kind


class Asked(NamedTuple):
    """A question at the end, the one before it, the turn that has the answer (from 1), and the words that are the answer."""

    question: str
    previous: str
    turn: int
    value: str


class Planted(NamedTuple):
    """A dialogue, question and answer by turn, and what is asked about it."""

    name: str
    language: str
    turns: list[tuple[str, str]]
    asked: list[Asked]


@cache
def texts(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text("utf-8"))


def planted(part: str, language: str, number: int, turns: int = 100) -> Planted:
    """The dialogue of this number; the same each time."""
    chance = random.Random(f"{part} {language} {number}")
    facts = chance.sample(texts(part)[language], FACTS)
    runs: list[list[tuple[str, str]]] = []
    wanted: dict[int, tuple[str, str, str]] = {}  # run -> question, previous question, value
    for fact in facts:
        value, *others = _different(chance, fact["value"], 1 + NEAR)
        wanted[len(runs)] = (fact["asked"], "", value)
        runs.append(_filled(fact["said"], v=value))
        runs += [_filled([pair], d=other) for pair in fact["near"] for other in others]
        runs += [_filled([pair]) for pair in fact["about"]]
        if "then" in fact:
            more = fact["then"]
            own = _value(chance, more["value"])
            wanted[len(runs)] = (more["asked"], fact["asked"], own)
            runs.append(_filled(more["said"], v=own))
    while sum(map(len, runs)) < turns:
        runs.append([_filler(chance, language)])
    order = list(range(len(runs)))
    chance.shuffle(order)
    said: list[tuple[str, str]] = []
    asked = []
    for place in order:
        said += runs[place]
        if place in wanted:
            question, previous, value = wanted[place]
            turn = next(len(said) - back for back in range(len(runs[place])) if value in said[-1 - back][0])
            asked.append(Asked(question, previous, turn, value))
    # a question that begins something new comes after whatever was said last
    asked = [each if each.previous else each._replace(previous=said[-1][0]) for each in asked]
    return Planted(f"{part}-{language}-{number}", language, said, asked)


def _different(chance: random.Random, kind: str | list[str], count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[_value(chance, kind)] = None
    return list(found)


def _value(chance: random.Random, kind: str | list[str]) -> str:
    if isinstance(kind, list):
        return chance.choice(kind)
    digits = iter([str(chance.randrange(1, 10)), *(str(chance.randrange(10)) for _ in kind)])
    return "".join(next(digits) if letter == "#" else letter for letter in kind)


def _filled(pairs: list[list[str]], **values: str) -> list[tuple[str, str]]:
    return [(asked.format(**values), answered.format(**values)) for asked, answered in pairs]


def _filler(chance: random.Random, language: str) -> tuple[str, str]:
    filler = texts("filler")[language]
    subject = chance.choice(filler["subjects"])
    question, answers = chance.choice(filler["asks"]), chance.sample(filler["answers"], chance.randint(1, 3))
    between = "" if language == "zh" else " "
    answer = between.join(text.format(s=subject, n=chance.randrange(2, 400)) for text in answers)
    return question.format(s=subject, n=chance.randrange(2, 30)), answer
