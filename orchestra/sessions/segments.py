"""The segments of a dialogue that is led by whoever fits: the turns that one persona led, however often the topic came back.

What was said to the lawyer does not make the computer scientist's answers better, and it shakes who they are. So the prompt
of a turn has its own segment's turns, word for word, and of each other segment one line. The lines are made of the turns,
without a model: one in which nobody is talking stays the same, and the prompt keeps its prefix.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Literal, NamedTuple

from orchestra.errors import PersonaFault
from orchestra.model.messages import Language, Message
from orchestra.model.persona import Persona
from orchestra.model.untrusted import unmarked
from orchestra.sessions import turns
from orchestra.sessions.records import SessionRecord, Turn
from orchestra.sessions.store import Store

# in UTF-8 bytes, of which a token takes some three in either language: a line has at most 180, or 60 tokens
TITLE, SAID = 30, 54
REMEMBERED = 8  # turns that an expert knows of its own segment, as far as it has room for them
_LINES: dict[Language, str] = {
    "en": "Before, {title} on “{question}”, at last: “{answer}”",
    "zh": "此前由{title}回答“{question}”，最后说：“{answer}”",
}
_NOTHING: dict[Language, str] = {"en": "(no answer)", "zh": "（没有回答）"}
_MORE = "…"

Turned = Literal["", "to", "back"]  # how a turn's segment follows that of the turn before: the same, a new one, one of before


class Segment(NamedTuple):
    """All turns of one persona."""

    persona: str
    turns: list[Turn]


class View(NamedTuple):
    """A dialogue as one persona has it: its own turns, the segments of others, the one last talked in at the end.

    `reopened` are those of its turns (ids) with an answer before which somebody else was talked to, `turned` says whether
    that is so now.
    """

    own: list[Turn]
    others: list[Segment]
    reopened: frozenset[str]
    turned: Turned


def leaders(said: Sequence[Turn], *, now: str = "") -> list[str]:
    """Who led each turn. One that does not say goes on with the turn before it; the first ones are of who is the first to say.

    `now` leads the turn after them.
    """
    who = next((turn.persona for turn in said if turn.persona), now)
    found: list[str] = []
    for turn in said:
        who = turn.persona or who
        found.append(who)
    return found


def numbers(record: SessionRecord, said: Sequence[Turn]) -> list[int]:
    """The number of each turn's segment, from 1 in the order in which they began; a dialogue that nobody routes is one."""
    who = leaders(said) if record.auto else [""] * len(said)
    places = {name: number for number, name in enumerate(dict.fromkeys(who), 1)}
    return [places[name] for name in who]


def view(said: Sequence[Turn], persona: str) -> View:
    """What was said before a turn that `persona` leads."""
    of: dict[str, list[Turn]] = {}
    last, apart, reopened = persona, False, set[str]()
    for turn, last in zip(said, leaders(said, now=persona), strict=True):
        turns_of = of.pop(last, [])
        turns_of.append(turn)
        of[last] = turns_of  # whoever was talked to last stands last
        if last == persona and turn.answer and apart:
            reopened.add(turn.id)
        apart = last != persona or (apart and not turn.answer)
    own = of.pop(persona, [])
    turned: Turned = "" if last == persona else "back" if own else "to"
    return View(own, [Segment(*part) for part in of.items()], frozenset(reopened), turned)


def remembered(store: Store, session: str, persona: str) -> list[Message]:
    """The last of what was said to a persona in a dialogue (its id; empty: in none), for whoever asks it there as an expert."""
    said = store.history(session) if session else []
    answered = [turn for turn in view(said, persona).own if turn.answer]
    return [message for turn in answered[-REMEMBERED:] for message in turn.messages()]


def lines(others: Sequence[Segment], known: Callable[[str], Persona] | None, language: Language) -> tuple[str, ...]:
    """What stands of other segments: a line each, the one last talked in at the end. `known` finds a persona by its name."""
    return tuple(line(part, _title(part.persona, known, language), language) for part in others)


def line(part: Segment, title: str, language: Language) -> str:
    """Who answered, what was asked first, and how it ended."""
    answer = cut(part.turns[-1].answer, SAID) or _NOTHING[language]
    return _LINES[language].format(title=cut(title, TITLE), question=cut(part.turns[0].question, SAID), answer=answer)


def cut(text: str, most: int) -> str:
    """The beginning of a text in one line of at most `most` UTF-8 bytes."""
    whole = " ".join(unmarked(text[: 4 * most]).split())
    encoded = whole.encode("utf-8", "replace")
    if len(encoded) <= most and len(text) <= 4 * most:
        return whole
    return encoded[: most - len(_MORE.encode())].decode("utf-8", "ignore").rstrip() + _MORE


def _title(name: str, known: Callable[[str], Persona] | None, language: Language) -> str:
    if known is not None and name:
        with suppress(PersonaFault):  # whose file is gone has its name left
            return known(name).titled(language)
    return name


def lead(store: Store, session: str, turn: str, persona: str) -> None:
    """Writes who leads a turn (by its id) of a session that is led by whoever fits."""

    def work(connection: sqlite3.Connection) -> None:
        row = turns.session_row(connection, session)
        if row is not None:
            turns.lead(connection, turn, persona)
            turns.change_session(connection, row.seq, replace(row.record, persona=persona, auto=True))

    store.database.write(work)
