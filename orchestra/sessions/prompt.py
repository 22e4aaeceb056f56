"""A dialogue as the model is shown it: composed, and measured before it is sent.

An instruct model gets messages; a base model gets a transcript ("Customer: ... / Support: ...") that stops at the
next speaker's label, as in the lesson. Older turns may stand as a summary: in the first user message, because what
a model has written must not speak with the system's voice.
"""

from __future__ import annotations

import unicodedata
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import NamedTuple

from orchestra.model.budget import Shares
from orchestra.model.language import language_of, wanted, with_language, without_line
from orchestra.model.messages import Language, Message, Options, Piece
from orchestra.model.tokens import PER_MESSAGE, Counter, most_tokens
from orchestra.model.untrusted import visible
from orchestra.model.window import Loaded
from orchestra.sessions.grounding import Ground
from orchestra.sessions.records import Compaction, SessionRecord, Turn
from orchestra.sessions.segments import Turned

SPEAKERS = {"en": ("User", "Assistant"), "zh": ("用户", "助手")}
LONGEST_GAP = 20  # characters that may stand around a label at the beginning of a line
BEFORE: dict[Language, str] = {"en": "What was said before: ", "zh": "之前说过的内容："}


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """Where the prompts of a turn have to fit: the model as it is loaded, who answers, and how long.

    `answer` is in tokens, `template` the text that the model puts around messages; `thinks` says that it may be told not to.
    `reserve` are the tokens set aside in each turn for what stands beside the question, `beside` those that this one's takes;
    `ground` gives material to stand there. `reminder` is the line after a summary that says who answers. `follows`: the
    answer is asked for in the question's language.
    """

    record: SessionRecord
    model: str
    loaded: Loaded
    base: bool = False
    thinks: bool = False
    seed: str = ""
    reminder: str = ""
    template: str = ""
    answer: int
    options: Options
    reserve: int = 0
    beside: int = 0
    ground: Ground | None = None
    follows: bool = True

    def shares(self, fixed: int) -> Shares:
        """How the window is shared out where `fixed` tokens stand in each prompt."""
        return Shares(window=self.loaded.window, fixed=fixed, answer=self.answer, passages=self.reserve)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What was said before: the turns that have an answer, and the summary in which the first `start` of them stand.

    `tried` is how many turns the last attempt at a further summary was to cover, where that failed. In a dialogue with
    segments these are the turns of one of them: `others` has a line for each other one, `reopened` are the turns (ids)
    before which somebody else had been talked to, and `turned` says whether that is so now. What a client wishes of each
    answer stands first among `others`.
    """

    turns: tuple[Turn, ...] = ()
    compaction: Compaction | None = None
    start: int = 0
    tried: int = 0
    others: tuple[str, ...] = ()
    reopened: frozenset[str] = frozenset()
    turned: Turned = ""

    @classmethod
    def of(cls, history: Sequence[Turn], compactions: Sequence[Compaction], model: str) -> Past:
        """The dialogue of a chain of turns; of the compactions those count whose turn lies in it."""
        answered = tuple(turn for turn in history if turn.answer)
        places = {turn.id: place for place, turn in enumerate(answered, start=1)}
        found = [(places[each.turn], each) for each in compactions if each.turn in places]
        start, compaction = max(
            ((place, each) for place, each in found if each.fault is None), key=lambda pair: pair[0], default=(0, None)
        )
        tried = max((place for place, each in found if each.fault is not None and each.model == model), default=0)
        return cls(turns=answered, compaction=compaction, start=start, tried=tried if tried > start else 0)

    @property
    def standing(self) -> tuple[Turn, ...]:
        """The turns that stand word for word."""
        return self.turns[self.start :]

    @property
    def headed(self) -> bool:
        """Whether something stands before the turns."""
        return self.compaction is not None or bool(self.others)

    @property
    def summarised(self) -> int:
        """How many turns stand as a summary."""
        return self.compaction.turns if self.compaction else 0


class Sizes(NamedTuple):
    """A prompt's parts in tokens: persona and template, what stands before the turns, these word for word, question."""

    fixed: int
    head: int
    turns: tuple[int, ...]
    question: int

    @property
    def history(self) -> int:
        """Summary and turns."""
        return self.head + sum(self.turns)


def bounded(frame: Frame, past: Past, text: str) -> Sizes:
    """The most that each part can take, without a tokenizer: as the daemon counted it before, else the bound in bytes."""
    labels = sum(map(most_tokens, labels_of(frame.record))) if frame.base else 0
    template = 0 if frame.base else most_tokens(frame.template)
    costs = _costs(past.turns, frame.model, labels, past.reopened)
    head = PER_MESSAGE + most_tokens(_head(frame, past)) if past.headed else 0
    if past.compaction is not None and past.compaction.tokens is not None and past.compaction.model == frame.model:
        said = most_tokens(past.compaction.text)
        head += min(said, past.compaction.tokens + PER_MESSAGE) - said
    seed = most_tokens(frame.seed)
    # the smallest prompt that the daemon has counted held the template as well, and perhaps another persona
    prompts = [prompt for turn in past.turns if turn.model == frame.model and (prompt := _told_tokens(turn)[0]) is not None]
    return Sizes(
        fixed=seed + min([template + 6 * PER_MESSAGE, *prompts]),
        head=head,
        turns=tuple(costs[past.start :]),
        question=most_tokens(with_language(text, language_of(text))) + labels,
    )


def counted(frame: Frame, past: Past, text: str, counter: Counter) -> Sizes:
    """The same by the model's own counter, where that says less; parts counted apart may take a token more than together."""
    most = bounded(frame, past, text)
    one = [Message("user", "x")]
    if frame.base:
        around = sum(counter.count(f"\n{label}: ") + 1 for label in labels_of(frame.record))
        fixed = counter.count(frame.seed) + PER_MESSAGE
    elif counter.exact:
        around = counter.rendered([*one, Message("assistant", "x"), *one]) - counter.rendered(one) - 2 * counter.count("x")
        fixed = counter.rendered([*([Message("system", frame.seed)] if frame.seed else []), *one])
    else:
        around, fixed = 2 * PER_MESSAGE, most.fixed - most_tokens(frame.seed) + counter.count(frame.seed)

    def cost(question: str, answer: str) -> int:
        asked = question if frame.base or not question else _lined(frame, question)
        return counter.count(asked) + counter.count(answer) + around + 2

    return Sizes(
        fixed=min(most.fixed, fixed),
        head=min(most.head, cost("", _head(frame, past))) if past.headed else 0,
        turns=tuple(min(turn, cost(said.question, said.answer)) for turn, said in zip(most.turns, past.standing, strict=True)),
        question=min(most.question, cost(text, "")),
    )


def _costs(turns: Sequence[Turn], model: str, labels: int = 0, reopened: Collection[str] = ()) -> list[int]:
    """The most tokens that each turn can take in a prompt: as the daemon counted them for `model`, else the bound in bytes.

    Two turns in a row, the prompt of the second holding the whole first: the difference of their totals is what
    the second added. A turn's cost never changes once it is finished, so that the same turns are dropped each time.
    `labels` is what the speakers' labels take, in each turn of a transcript. Before the turns `reopened` the lines of
    other segments may have changed, so that nothing follows from the difference.
    """
    costs: list[int] = []
    before: tuple[int, tuple[int, int]] | None = None
    for turn in turns:
        question = most_tokens(with_language(turn.question, language_of(turn.question)))
        answer = most_tokens(turn.answer)
        receipt = turn.receipt or {}
        prompt, completion = _told_tokens(turn)
        now = None
        if turn.status == "done" and turn.model == model and prompt is not None and completion is not None:
            now = (prompt + completion, (int(receipt.get("dropped") or 0), int(receipt.get("compacted") or 0)))
            answer = min(answer, completion + PER_MESSAGE)
        bound = question + answer + 2 * PER_MESSAGE + labels
        if now and completion is not None:
            bound = min(bound, now[0] + PER_MESSAGE)  # the whole prompt held the question
            if before and now[1] == before[1] and turn.id not in reopened:
                # never below the answer alone: the persona may have been another one at the turn before
                bound = min(bound, max(now[0] - before[0], completion) + PER_MESSAGE)
        costs.append(bound)
        before = None if receipt.get("beside") else now  # what stood beside its question is in its total and in no later one
    return costs


def _told_tokens(turn: Turn) -> tuple[int | None, int | None]:
    """Prompt and completion as the daemon counted them."""
    usage = turn.usage or {}
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return prompt if isinstance(prompt, int) else None, completion if isinstance(completion, int) else None


def messages(frame: Frame, past: Past, text: str, *, start: int, beside: str = "") -> tuple[Message, ...]:
    """Persona, other segments and summary, the turns from `start` on, question, and what stands beside it for this once.

    Each question ends with its language line, always the same: the prefix stays.
    """
    said: list[Message] = []
    for turn in past.turns[start:]:
        if turn.question:
            said.append(Message("user", _lined(frame, turn.question)))
        said.append(Message("assistant", turn.answer))
    said.append(Message("user", _lined(frame, text, beside)))
    if past.headed:
        before = _head(frame, past)
        # in the message that follows, since some templates refuse two of one role in a row
        first = said.pop(0).content if said[0].role == "user" else ""
        said.insert(0, Message("user", f"{before}\n\n{first}" if first else before))
    return (*((Message("system", frame.seed),) if frame.seed else ()), *said)


def transcript(frame: Frame, past: Past, text: str, *, start: int, beside: str = "") -> str:
    """The dialogue as a text to be continued. What stands beside the question comes before it: after it comes the answer."""
    labels = labels_of(frame.record)
    lines = [*told(frame, past, start=start), *([unlabelled(beside, labels)] if beside else [])]
    return "\n".join([*lines, f"{labels[0]}: {unlabelled(text, labels)}", f"{labels[1]}:"])


def told(frame: Frame, past: Past, *, start: int) -> list[str]:
    """The lines of a transcript up to the question."""
    asks, answers = labels = labels_of(frame.record)
    lines = [frame.seed, ""] if frame.seed else []
    if past.headed:
        lines += [unlabelled(_head(frame, past), labels), ""]
    for turn in past.turns[start:]:
        if turn.question:
            lines.append(f"{asks}: {unlabelled(turn.question, labels)}")
        lines.append(f"{answers}: {unlabelled(turn.answer.strip(), labels)}")
    return lines


def unlabelled(text: str, labels: Sequence[str]) -> str:
    """The text without a line that begins like a turn of the transcript: such a line goes on from the one before.

    Else whoever writes "Support: ..." on a line of its own has said something in the other's name. It costs no token more.
    """
    if ":" not in text and "：" not in text:
        return text
    heads = [_begins(label) for label in labels]
    kept: list[str] = []
    for line in text.splitlines(keepends=True):
        bare = line.lstrip()
        if any(_begins(bare[: len(label) + LONGEST_GAP]).startswith(head + ":") for label, head in zip(labels, heads, strict=True)):
            while kept and not kept[-1].strip():
                kept.pop()
            if kept:
                kept[-1] = kept[-1].rstrip() + " "
            line = bare
        kept.append(line)
    return "".join(kept)


def _begins(text: str) -> str:
    """What a line begins with, as a reader takes it: without blanks, case, width and what nobody can see."""
    return "".join(unicodedata.normalize("NFKC", visible(text)).casefold().split())


def labels_of(record: SessionRecord) -> tuple[str, str]:
    """The labels of a transcript: who asks, who answers."""
    asks, answers = record.speakers[:2] if len(record.speakers) >= 2 else SPEAKERS["en"]
    return asks, answers


def stops(frame: Frame) -> tuple[str, ...]:
    """The labels that end the answer of a transcript; none for messages, which have their own end."""
    return tuple(f"\n{label}:" for label in labels_of(frame.record)) if frame.base else ()


async def unindented(pieces: AsyncGenerator[Piece]) -> AsyncGenerator[Piece]:
    """A base model's answer begins with the space after the label; it is no part of what was said."""
    cut: int | None = None
    async with aclosing(pieces):
        async for piece in pieces:
            if cut is None and piece.text:
                text = piece.text.lstrip(" ")
                cut = len(piece.text) - len(text)
                piece = piece._replace(text=text)
            if piece.keep is not None:
                piece = piece._replace(keep=max(0, piece.keep - (cut or 0)))
            yield piece


def _head(frame: Frame, past: Past) -> str:
    """A line for each other segment; then the summary, and who goes on answering. The same until one of these changes."""
    others = "\n".join(past.others)
    if past.compaction is None:
        return others
    said = BEFORE[language_of(past.compaction.text)] + past.compaction.text
    return "\n\n".join(part for part in (others, said, frame.reminder) if part)


def _lined(frame: Frame, question: str, beside: str = "") -> str:
    """The question with its language line at the end, after what stands beside it; one that has a line keeps it."""
    own = without_line(question)
    if own != question.rstrip():
        return f"{own}\n\n{beside}{question.rstrip()[len(own) :]}" if beside else question
    default: Language = "zh" if frame.record.language == "zh" else "en"
    told = frame.options.language
    line = wanted(question, told, default) if frame.follows else told
    return with_language(f"{question}\n\n{beside}" if beside else question, line)
