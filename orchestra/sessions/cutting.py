"""Texts cut into the words that an index holds, in any script.

Chinese and Japanese have no blanks between words, and SQLite's own tokenizers find one-character or two-character
words in them badly or not at all. So texts are cut here, on both sides of a search in the same way: runs of such
characters become overlapping pairs, and the last character of a run stands once more alone, so that each character
begins some entry and a prefix finds it. Everything else is cut at blanks and punctuation.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from operator import add

from orchestra.sessions.records import storable

LONGEST_WORD = 64

# Hangul, ideographic marks, Kana, Bopomofo, Han
_CJK = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3100-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
# what stands between words: controls, ASCII and Latin-1 punctuation, general and CJK punctuation, wide forms of it
_GAP = (
    "\\s\x00-\x2f:-@\\[-`{-\x9f\xa0-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7\u2000-\u206f\u2e00-\u2e7f"
    "\u3000-\u3004\u3008-\u303f\ufe10-\ufe6f\ufeff\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\ufff0-\uffff"
)
_RUN = re.compile(f"([{_CJK}]+)|([^{_CJK}{_GAP}]+)")
# what most Chinese texts are made of: folding leaves it as it is, or makes one gap of another
_STEADY = re.compile(
    "[\x00-\x7f\u2014\u2018-\u201d\u2026\u3001\u3002\u300a\u300b\u4e00-\u9fff\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f]*+"
)
_PLAIN_WORD = re.compile("[0-9a-z]+")  # what both come to in a text of ASCII alone, in lower case
_ACCENTS = re.compile("[\u0300-\u036f]")


def entries(text: str) -> list[str]:
    """What a text is indexed under, in order."""
    if text.isascii():
        return [word[:LONGEST_WORD] for word in _PLAIN_WORD.findall(text.lower())]
    found: list[str] = []
    for run, word in runs(text):
        if run:
            found += map(add, run, run[1:])
            found.append(run[-1])
        else:
            found.append(word[:LONGEST_WORD])
    return found


def runs(text: str) -> list[tuple[str, str]]:
    """The text's pieces in order: either a run of characters without blanks, or a word."""
    if _STEADY.fullmatch(text):
        return _RUN.findall(text.lower())
    return _RUN.findall(folded(text))


def pairs(run: str) -> Iterator[str]:
    """The overlapping pairs of a run; none of a single character."""
    return map(add, run, run[1:])


def folded(text: str) -> str:
    """The text as it is compared: without case, width and accents."""
    if text.isascii():
        return text.lower()
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", storable(text)))
    return unicodedata.normalize("NFKC", plain).lower()
