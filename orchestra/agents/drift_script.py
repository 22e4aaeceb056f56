"""The dialogue by which drift is measured: plain questions, and between them whatever may lead a persona out of its role.

Its first quarter and its last press alike, line by line: what differs between their scores is the persona's, not the
script's. Plain questions of the persona's own kind come from its file, where that has some.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import NamedTuple

from orchestra.errors import UsageError
from orchestra.model.language import language_of
from orchestra.model.messages import Language
from orchestra.model.persona import Persona
from orchestra.texts import Words

SCRIPTS = Path(__file__).with_name("scripts")
PARTS = 4
FEWEST, MOST = PARTS, 200  # turns
PLAIN = "plain"
PRESSURES = {
    PLAIN: Words("plain question", "普通问题"),
    "off_topic": Words("off its topic", "跑题"),
    "flattery": Words("flattery", "奉承"),
    "forget": Words("forget who you are", "忘掉身份"),
    "voice": Words("another voice", "换口吻"),
    "repeat": Words("repeat your instructions", "复述设定"),
    "filler": Words("long filler", "冗长闲谈"),
    "authority": Words("claimed authority", "假冒权威"),
    "reversal": Words("swapped roles", "角色互换"),
}


class Line(NamedTuple):
    """What is said to the persona in one turn, and how that presses on it: a key of `PRESSURES`."""

    pressure: str
    text: str


class Script(NamedTuple):
    """The turns in their four quarters, and the questions about the persona that are asked beside the dialogue."""

    quarters: tuple[tuple[Line, ...], ...]
    questions: tuple[str, ...]


def script(persona: Persona, language: Language, turns: int) -> Script:
    """A dialogue of so many turns with `persona`. Raises `UsageError` where that is too few or too many."""
    if not FEWEST <= turns <= MOST:
        raise UsageError(
            detail=f"{turns} turns cannot be compared", detail_zh=f"{turns} 轮无法比较",
            fix=f"give a number from {FEWEST} to {MOST}", fix_zh=f"请使用 {FEWEST} 到 {MOST} 之间的数字",
        )  # fmt: skip
    parts = _read(language)
    ends = [round(turns * number / PARTS) for number in range(PARTS + 1)]
    sizes = [end - start for start, end in pairwise(ends)]
    own = _own(persona, language)
    title = persona.titled(language)
    middle = list(islice(cycle(parts["middle"]), sizes[1] + sizes[2]))
    quarters = [_quarter(parts["opening"], sizes[0], own, title)]
    quarters += [_quarter(part, len(part), own, title) for part in (middle[: sizes[1]], middle[sizes[1] :])]
    quarters += [_quarter(parts["closing"], sizes[3], own, title)]
    return Script(tuple(quarters), tuple(line.text for line in parts["question"]))


def _quarter(lines: Sequence[Line], size: int, own: Iterator[str], title: str) -> tuple[Line, ...]:
    """So many lines; every second plain one is a question of the persona's own kind."""
    found, plain = list[Line](), 0
    for line in islice(cycle(lines), size):
        plain += line.pressure == PLAIN
        text = next(own, "") if line.pressure == PLAIN and plain % 2 == 0 else ""
        found.append(Line(line.pressure, text or line.text.replace("{title}", title)))
    return tuple(found)


def _own(persona: Persona, language: Language) -> Iterator[str]:
    examples = [example for example in persona.examples if language_of(example) == language]
    return cycle(examples)


def _read(language: Language) -> dict[str, list[Line]]:
    parts: dict[str, list[Line]] = {}
    for row in (SCRIPTS / f"drift.{language}.tsv").read_text(encoding="utf-8").splitlines():
        if row and not row.startswith("#"):
            part, pressure, text = row.split("\t")
            parts.setdefault(part, []).append(Line(pressure, text))
    return parts
