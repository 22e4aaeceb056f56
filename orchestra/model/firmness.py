"""What keeps a persona firm in a prompt: its seed memory fits whole or nothing is sent, and a summary does not displace it.

A summary is what a model has written: in its wake the role fades first. So a line after it says who answers. The line
is the same from turn to turn, and the prompt keeps its prefix.
"""

from __future__ import annotations

from orchestra.errors import SeedTooLong
from orchestra.model.client import Client
from orchestra.model.messages import Language
from orchestra.model.persona import Persona
from orchestra.model.tokens import most_tokens
from orchestra.model.window import Loaded, context_length

SEED_PART = 0.75
"""Of the window, the most that a seed memory may take: question and answer need the rest."""
REMINDERS: dict[Language, str] = {
    "en": "The one who answers is still {title}, as laid down at the beginning.",
    "zh": "回答者仍是{title}，开头的设定继续有效。",
}


def reminder(persona: Persona, language: str) -> str:
    """The line after a summary that says who answers, in the dialogue's language."""
    known: Language = "zh" if language == "zh" else "en"
    return REMINDERS[known].format(title=persona.titled(known))


async def fits(persona: Persona, seed: str, *, client: Client, model: str, loaded: Loaded) -> None:
    """Raises `SeedTooLong` where the persona's `seed` leaves no room in the loaded window.

    Of a model whose tokens can only be guessed, nothing is refused by guess: the whole prompt is counted by the daemon.
    """
    most = int(loaded.window * SEED_PART)
    if most_tokens(seed) <= most:
        return
    counter = await client.counter(model)
    needed = counter.count(seed)
    if counter.vocabulary is None or needed <= most:
        return
    wider = next(size for power in range(64) if (size := 2**power) * SEED_PART >= needed)
    longest = context_length(await client.facts(model))
    raise SeedTooLong(
        name=persona.name, model=model, needed=needed, window=loaded.window, limit=most, needed_window=wider, most=longest
    )
