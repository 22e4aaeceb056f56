"""Whether the sources were enough, read off the answer itself: no request to the model is spent on it.

An answer that says that its sources lack what was asked shows it in its first sentence. So the beginning of an answer
that may still be replaced is held back until it has shown to be none of these: a reader never sees a refusal that is
taken back, and waits for a few words at most. That every citation is wrong shows only at the end; then the answer is cut
to nothing by a piece that says so, and another one follows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from orchestra.model.language import language_of
from orchestra.model.messages import Piece
from orchestra.retrieval.passages import Citation, Passage

HELD = 80  # columns of an answer's beginning, a Han character being two
_LOOKED_AT = 400  # characters of an answer in which it would say that it has none

_MATERIAL = r"(?:sources?|passages?|documents?|texts?|materials?|context|excerpts?|articles?|information (?:given|provided|available))"
_LACKING = re.compile(
    rf"\b{_MATERIAL}\b[^.!?\n]{{0,40}}?\b(?:do not|does not|did not|don['’]t|doesn['’]t|didn['’]t|cannot|can['’]t|lacks?|fails? to|"
    r"(?:has|have|contains?|provides?|gives?|offers?|mentions?|includes?) no(?:ne|thing)?|says? nothing|(?:is|are) silent)\b|"
    rf"\b(?:no|not|nothing|none|neither|cannot|can['’]t|could not|couldn['’]t|unable to|isn['’]t|is not)\b[^.!?\n]{{0,60}}?"
    r"\b(?:in|from|by|of|within)\s{1,3}(?:any of |all |either of )?(?:the|these|those|this|my|your|given|provided|available)\s{1,3}"
    rf"(?:\w{{1,20}}\s{{1,3}}){{0,2}}{_MATERIAL}\b|"
    r"^\s{0,5}(?:(?:I['’]m|I am|we['’]re) sorry|sorry|apologies|unfortunately|I (?:do not|don['’]t) (?:know|have)|"
    r"I (?:cannot|can['’]t|could not|couldn['’]t|am unable|was unable)|there is no (?:information|answer|mention))\b|"
    r"(?:资料|来源|文档|文章|原文|文中|材料|文本|上述内容|所给内容|提供的信息)[^。！？!?\n]{0,24}?(?:没有|未(?!来)|并未|不包含|不含|无法|无关|不足以|没提)|"
    r"(?:没有|未能|未(?!来)|无法|并未|找不到|查不到)[^。！？!?\n]{0,20}?(?:资料|来源|文档|文中|材料|相关信息|相关内容|答案)|"
    r"^\s{0,5}(?:很?抱歉|对不起|很?遗憾|我不知道|不清楚|无法(?:回答|确定|得知))",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[。！？!?\n]|\.(?=\s|\Z)")


def lacking(text: str) -> bool:
    """Whether an answer says that its sources lack what was asked: its first sentence does."""
    opening = text[:_LOOKED_AT].lstrip()
    end = _SENTENCE_END.search(opening)
    return bool(_LACKING.search(opening[: end.end()] if end else opening))


def unsupported(citations: Sequence[Citation], passages: Sequence[Passage]) -> bool:
    """Whether nothing that was cited was found where it was said to stand; words of another language than the source's say nothing."""
    told = [citation for citation in citations if not _translated(citation, passages)]
    return bool(told) and len(told) == len(citations) and all(citation.found == "no" for citation in told)


def _translated(citation: Citation, passages: Sequence[Passage]) -> bool:
    source = passages[citation.n - 1].text if 0 < citation.n <= len(passages) else citation.sentence
    return language_of(source) != language_of(citation.sentence)


class Opening:
    """The first pieces of an answer, held back until they show that the sources had something to say; all, where they had not."""

    def __init__(self) -> None:
        self.lacking = False
        self._held: list[Piece] = []
        self._text = ""
        self._decided = False

    def push(self, piece: Piece) -> Sequence[Piece]:
        """The pieces that may go on; none any more once the answer is `lacking`."""
        if self._decided and not self.lacking:
            return (piece,)
        if piece.kind == "thinking" and piece.keep is None:
            return (piece,)
        self._held.append(piece)
        self._text += piece.text
        if piece.keep is not None and piece.finish_reason is None:  # an earlier stage has begun anew
            self._text = self._text[: piece.keep]
        shown = piece.finish_reason is not None or _SENTENCE_END.search(self._text.strip()) or _columns(self._text) >= HELD
        if self._decided or not shown:
            return ()
        self._decided, self.lacking = True, lacking(self._text)
        return () if self.lacking else self._release()

    def _release(self) -> list[Piece]:
        ready, self._held = self._held, []
        return ready

    @property
    def held(self) -> list[Piece]:
        """What was held back and is the answer after all, should there be no other."""
        return self._held


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
