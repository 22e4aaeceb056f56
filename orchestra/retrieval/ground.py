"""A dialogue that looks things up: the ground of a session, made of the same two halves as `ask`.

Before a turn's answer the question is looked up - a follow-up as a question of its own - and its passages stand in the
last user message; after it the sources, the checked citations and the ledger are kept with the turn. A turn has one
answer: where its sources are not enough it says so, and no second round replaces it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import asdict
from functools import partial
from typing import Any

from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Options, Piece, Receipt, Reply, gathered
from orchestra.model.untrusted import unmarked
from orchestra.retrieval.ledger import NO_SOURCES, NOT_SEARCHED
from orchestra.retrieval.links import linkless
from orchestra.retrieval.looking import Looking, Lookup, Prepared, Room
from orchestra.retrieval.pipeline import NOTICE, Answer, answered, lacks, noted
from orchestra.retrieval.prompt import BESIDE, UNGROUNDED, beside
from orchestra.sessions.grounding import Inquiry, Material, as_they_are

AROUND = 80  # tokens: the two lines of the fence and the day
_DRAFT = {
    "zh": "看资料之前的草稿如下；与资料不一致时，以资料为准：\n",
    "en": "A draft from before the sources were read; where they differ, the sources are right:\n",
}


class SearchGround:
    """Gives a session's turns what `lookup` finds for them; `prepared` is what the last turn was given."""

    def __init__(self, client: Client, lookup: Lookup, options: Options | None = None) -> None:
        self.prepared: Prepared | None = None
        self._client = client
        self._lookup = lookup
        self._options = options or Options()

    async def __call__(self, inquiry: Inquiry) -> Material:
        """The material for one turn; what the model was asked for it is in `calls`."""
        options = self._options.over(Options(language=inquiry.language))
        around = inquiry.tokens(BESIDE[inquiry.language]) + inquiry.tokens(_DRAFT[inquiry.language]) + AROUND
        room = Room(max(0, inquiry.room - around), inquiry.tokens)
        looking = Looking(self._client, inquiry.model, self._lookup, options, room=room)
        self.prepared = made = await looking.prepared(inquiry.question, inquiry.said)
        notes = () if made.passages else (NO_SOURCES if made.searched else NOT_SEARCHED,)
        return Material(
            text=_text(made),
            calls=made.book.receipt.calls,
            usage=made.book.usage,
            notes=notes,
            notice=NOTICE[made.asked.language] if made.searched and not made.passages else "",
            stage=partial(linkless, sources=[passage.url for passage in made.passages]) if made.searched else as_they_are,
            kept=partial(kept, made=made),
        )


async def turn(pieces: AsyncGenerator[Piece], ground: SearchGround) -> AsyncGenerator[Piece | Answer]:
    """One turn of a session that has `ground`: its pieces, then the `Answer`; what the session does after that is done then."""
    told: list[Piece] = []
    async with aclosing(pieces):
        async for piece in pieces:
            told.append(piece)
            if piece.finish_reason is None:
                yield piece
                continue
            piece = piece._replace(ground=None)  # the `Answer` has it
            told[-1] = piece = noted(piece, ground.prepared, gathered(told).text) if ground.prepared else piece
            yield piece
            yield _answer(gathered(told), ground)


def _answer(reply: Reply, ground: SearchGround) -> Answer:
    if ground.prepared is not None:
        return answered(reply, ground.prepared)
    # given again as it was stored, or its ground failed
    return Answer(text=reply.text, finish_reason=reply.finish_reason, model=reply.model, usage=reply.usage, receipt=reply.receipt)


def _text(made: Prepared) -> str:
    asked = made.asked
    if not made.searched:
        return ""
    if not made.passages:
        return UNGROUNDED[asked.language]
    text = beside(made.passages, asked.language, asked.today)
    draft = made.book.ledger.draft
    if not draft:
        return text
    made.book.refines()
    return f"{text}\n\n{_DRAFT[asked.language]}{unmarked(draft)}"


def kept(answer: str, made: Prepared) -> Mapping[str, Any]:
    """What is stored with a turn, as plain JSON values: sources, citations, ledger; nothing where nothing was looked up."""
    if not made.searched:
        return {}
    for note in lacks(made, answer) if answer else ():
        made.book.noted(note)
    receipt = Receipt(calls=made.book.receipt.calls + 1)
    whole = asdict(answered(Reply(text=answer, finish_reason=FinishReason.STOP, receipt=receipt), made))
    return {name: whole[name] for name in ("sources", "citations", "ledger")}
