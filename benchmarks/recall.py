"""What a long dialogue still has of what was said once: 40 dialogues of 100 turns with planted facts, zh and en.

Recalled turns beside what else could stand in the same number of tokens: the last turns word for word, or a summary. The
summary is an extractive one - the sentences whose words say most, those with figures and names first - of as many tokens
as a summary of the model's may have. Tokens are the stand-in's. The last part of the facts was written last.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections import Counter as Frequencies
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from bounds import Row, shown

from orchestra import Message, Orchestra, StandIn
from orchestra.model.budget import LONGEST_RECALL, LONGEST_SUMMARY
from orchestra.model.messages import Language
from orchestra.sessions.cutting import entries
from orchestra.sessions.excerpts import material
from orchestra.sessions.fitting import RECALLED
from orchestra.sessions.recall import recalled, sentences
from orchestra.sessions.store import Store

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from planted import Planted, planted  # the dialogues are the tests' own

DIALOGUES = {"tuned": 6, "held_out": 7, "fresh": 7}  # in each language
BEST = 10
LONG = 1000
MISSED_BEST, MISSED_PROMPT = 2.0, 5.0  # per cent
MILLISECONDS = 5.0

Tokens = Callable[[str], int]


class Kept(NamedTuple):
    """Whether one fact is there: its turn among the best, its words in the prompt, in a window, in a summary."""

    language: str
    part: str
    best: bool
    prompt: bool
    window: bool
    summary: bool


def stored(store: Store, dialogue: Planted) -> str:
    """The dialogue in the store; the id of the turn that asks, after all of it."""
    said = [message for pair in [*dialogue.turns, ("?", "?")] for message in (Message("user", pair[0]), Message("assistant", pair[1]))]
    return store.history(store.create(dialogue.name, history=said).name, last=1)[0].id


def kept(store: Store, dialogue: Planted, part: str, tokens: Tokens) -> Iterator[Kept]:
    """What is left of each fact of a dialogue."""
    before = stored(store, dialogue)
    last, summary = window(dialogue, tokens), extract(dialogue, tokens)
    language: Language = "zh" if dialogue.language == "zh" else "en"
    for asked in dialogue.asked:
        found = recalled(store, before, asked.question, previous=asked.previous, limit=BEST)
        chosen = [turn for turn in found[:RECALLED] if turn.fits]
        text, _ = material(chosen, LONGEST_RECALL, tokens, language=language, speakers=("User", "Assistant"))
        if tokens(text) > LONGEST_RECALL:
            raise SystemExit("the recalled turns take more than their budget")
        best = asked.turn in [turn.number for turn in found]
        yield Kept(dialogue.language, part, best, asked.value in text, asked.value in last, asked.value in summary)


def window(dialogue: Planted, tokens: Tokens) -> str:
    """The last turns, as many as the budget of the recalled ones holds."""
    text = ""
    for question, answer in reversed(dialogue.turns):
        more = f"User: {question}\nAssistant: {answer}\n{text}"
        if tokens(more) > LONGEST_RECALL:
            break
        text = more
    return text


def extract(dialogue: Planted, tokens: Tokens) -> str:
    """A summary made of the dialogue's own sentences: the mean weight of a sentence's words, twice where it has figures or names."""
    parts = [part.strip() for turn in dialogue.turns for side in turn for part in sentences(side) if part.strip()]
    words = [list(entries(part)) for part in parts]
    spread = Frequencies(word for said in words for word in set(said))

    def weight(place: int) -> float:
        said = words[place]
        telling = any(letter.isdigit() for letter in parts[place]) or any(word[:1].isupper() for word in parts[place].split()[1:])
        return (1 + telling) * sum(math.log(1 + len(parts) / spread[word]) for word in said) / (len(said) or 1)

    chosen: list[str] = []
    size = 0
    for place in sorted(range(len(parts)), key=weight, reverse=True):
        cost = tokens(parts[place]) + 1
        if size + cost <= LONGEST_SUMMARY:
            chosen.append(parts[place])
            size += cost
    return "\n".join(chosen)


def milliseconds(store: Store) -> list[float]:
    """CPU of finding and reading in a dialogue of 1,000 turns, for each of its questions, once it has been read."""
    times = []
    for language in ("en", "zh"):
        dialogue = planted("fresh", language, 100, turns=LONG)
        before = stored(store, dialogue)
        for turns in range(6):
            for asked in dialogue.asked:
                started = time.thread_time()
                recalled(store, before, asked.question, previous=asked.previous)
                if turns:
                    times.append(1000 * (time.thread_time() - started))
    return times


def missed(found: list[Kept], which: str) -> float:
    """How many of the facts are not there, per cent."""
    return 100 * sum(not getattr(each, which) for each in found) / len(found)


def measured() -> list[Row]:
    """The shares that are missed, and the time."""
    with tempfile.TemporaryDirectory(prefix="orchestra-bench-") as home, StandIn() as daemon, Orchestra(host=daemon.url, home=home) as orchestra:
        tokens = counter(orchestra)
        found = [
            each
            for part, count in DIALOGUES.items()
            for language in ("en", "zh")
            for number in range(count)
            for each in kept(orchestra.store, planted(part, language, number), part, tokens)
        ]
        times = milliseconds(orchestra.store)
    rows = []
    for name, chosen in groups(found):
        facts = f"{len(chosen)} facts"
        rows += [
            Row(f"{name}: not among the ten best", missed(chosen, "best"), MISSED_BEST, unit=" %", detail=facts),
            Row(f"{name}: not in the prompt, recalled in {LONGEST_RECALL:,} tokens", missed(chosen, "prompt"), MISSED_PROMPT, unit=" %", detail=facts),
            Row(f"{name}: not in the last turns of as many tokens", missed(chosen, "window"), unit=" %"),
            Row(f"{name}: not in an extractive summary of {LONGEST_SUMMARY} tokens", missed(chosen, "summary"), unit=" %"),
        ]
    detail = f"95 of 100 within {quantiles(times, n=20)[-1]:.2f} ms"
    return [*rows, Row(f"CPU of one recall in {LONG:,} turns", median(times), MILLISECONDS, unit=" ms", detail=detail)]


def groups(found: list[Kept]) -> Iterator[tuple[str, list[Kept]]]:
    """By language; and the facts that were written last."""
    for language in ("en", "zh"):
        yield language, [each for each in found if each.language == language]
    yield "written last", [each for each in found if each.part == "fresh"]


def counter(orchestra: Orchestra) -> Tokens:
    """The stand-in's own counter."""
    return lambda text: orchestra.tokens(text, model="llama3").count


if __name__ == "__main__":
    began = time.perf_counter()
    rows = measured()
    shown(f"what {2 * sum(DIALOGUES.values())} dialogues of 100 turns still have ({time.perf_counter() - began:.0f} s)", rows)
