"""Recalled turns as a prompt shows them: word for word, beside the question, under the rules for other people's text.

What an answer said once was a model's, and what a user pasted was anybody's: both stand fenced in the last user message,
never as turns of their own. In a transcript, where a fence would be one more thing to go on with, each is a remark in
brackets on one line, so that it cannot begin a line with a speaker's label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from orchestra.model.messages import Language
from orchestra.model.untrusted import Entry, fenced, unmarked
from orchestra.sessions.cutting import folded
from orchestra.sessions.recall import Recalled, Word, sentences
from orchestra.sessions.records import timestamp

GAP = " [...] "
NONCES = 16  # tokens by which two fences may differ: a nonce is random, and so is how it is cut
MOST_SENTENCES = 20
LEAST = 24  # tokens: what is cut shorter says nothing
_LABELS: dict[Language, tuple[str, str]] = {
    "en": ("earlier in this conversation", "end of what was said earlier"),
    "zh": ("本次对话较早的内容", "较早内容结束"),
}
_TITLES: dict[Language, str] = {"en": "Turn {number} ({day})", "zh": "第{number}轮（{day}）"}

Tokens = Callable[[str], int]


def material(
    found: Sequence[Recalled], room: int, tokens: Tokens, *, language: Language, speakers: tuple[str, str], remarks: bool = False
) -> tuple[str, tuple[Recalled, ...]]:
    """The turns in at most `room` tokens, in the order in which they were said, and which of them are in it.

    The best one goes first where there is no room for all. One that is too long is cut around what matches, and that is marked.
    """
    for count in range(len(found), 0, -1):
        chosen = sorted(found[:count], key=lambda turn: turn.number)
        frame = tokens(_block([Entry(_title(turn, language), "") for turn in chosen], language, remarks=remarks))
        entries = []
        left = room - frame - NONCES
        for later, turn in zip(range(count - 1, -1, -1), chosen, strict=True):
            text = "\n".join(_said(turn, left // (later + 1), tokens, speakers))
            left -= tokens(text)
            entries.append(Entry(_title(turn, language), text))
        block = _block(entries, language, remarks=remarks)
        if all(entry.text for entry in entries) and tokens(block) <= room:
            return block, tuple(chosen)
    return "", ()


def excerpt(text: str, words: Sequence[Word], most: int, tokens: Tokens) -> str:
    """The text in at most so many tokens: whole, or the sentences that hold most of the words and those around them."""
    if tokens(text) <= most:
        return text
    parts = sentences(text)
    held = [sum(word.weight for word in words if word.stands_in(folded(part))) for part in parts]
    order = sorted((place for place, share in enumerate(held) if share), key=lambda place: (-held[place], place))
    kept: set[int] = set()
    for place in [place + step for step in (0, 1, -1) for place in order[:MOST_SENTENCES] if 0 <= place + step < len(parts)]:
        if tokens(_joined(parts, kept | {place})) <= most:
            kept.add(place)
    return _joined(parts, kept) if kept else ""


def _joined(parts: Sequence[str], kept: set[int]) -> str:
    """The parts that are kept, in their order; where some are missing stands a mark."""
    said: list[str] = []
    for place, part in enumerate(parts):
        if place in kept:
            said.append(part)
        elif not said or said[-1] != GAP:
            said[-1:] = [part.rstrip() for part in said[-1:]]
            said.append(GAP)
    return "".join(said).strip()


def _said(turn: Recalled, most: int, tokens: Tokens, speakers: tuple[str, str]) -> Iterator[str]:
    asks, answers = speakers
    called = any(word.stands_in(folded(turn.called_for)) for word in turn.words)
    for label, text in ((answers, turn.called_for if called else ""), (asks, turn.question), (answers, turn.answer)):
        left = most - tokens(f"{label}: \n")
        shown = excerpt(text, turn.words, left, tokens) if text and left >= LEAST else ""
        if shown:
            most = left - tokens(shown)
            yield f"{label}: {shown}"


def _title(turn: Recalled, language: Language) -> str:
    return _TITLES[language].format(number=turn.number, day=timestamp(turn.created)[:10])


def _block(entries: Sequence[Entry], language: Language, *, remarks: bool) -> str:
    if not remarks:
        return fenced(entries, *_LABELS[language], numbered=False)
    return "\n".join(f"({entry.title}: {' '.join(unmarked(entry.text).split())})" for entry in entries)
