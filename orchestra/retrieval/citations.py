"""Whether a cited source says what the sentence says.

A first, strict reading of words: `yes` only where every number and every name of the sentence stands in the
source, with most of its other words and the same sense of negation. It would rather call a good sentence weak
than a wrong one found: a number, a name or a "not" is what a model gets wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from orchestra.retrieval.passages import Citation, Found, Passage
from orchestra.retrieval.terms import COMMON, GRAMMAR, HAN, plain_number, plain_word, terms

MOST = 0.75
SOME = 0.4

_NUMBERS = r"\d{1,3}(?:\s*[,，、]\s*\d{1,3})*"
MARK = re.compile(rf"[\[【［]\s*({_NUMBERS})\s*[\]】］]")
_SPACED_MARK = re.compile(rf"(?<![ \t])[ \t]*{MARK.pattern}")  # from the first blank on, or each would be tried
# A sentence ends at its stop - a Latin one only before a space - and takes the marks behind it along.
_SENTENCE = re.compile(rf"(?:[^。！？!?.\n]|\.(?!\s|\Z|[\[【［]))*(?:[。！？!?.]+[\"'”’」』）)]*|\n|\Z)(?:[ \t]*[\[【［]\s*{_NUMBERS}\s*[\]】］])*")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*\s*[%％]?")
_NAME = re.compile(r"\b[^\W\d_]*[A-Z][\w'’-]*")
_HAN_CHARACTER = re.compile(f"[{HAN}]")
_NEGATION = re.compile(r"\b(?:not|no|never|none|neither|nor|without|cannot)\b|n['’]t\b|[不没無无未非勿莫否]", re.IGNORECASE)


def citations(text: str, passages: Sequence[Passage]) -> list[Citation]:
    """Every citation of `text` in its order, checked against `passages`, which are numbered from 1."""
    checked: list[Citation] = []
    bare = ""
    for sentence in sentences(text):
        # a mark on a line of its own belongs to what was said before
        bare = " ".join(_SPACED_MARK.sub("", sentence).split()) or bare
        for n in dict.fromkeys(_cited(sentence)):
            found = found_in(bare, passages[n - 1]) if 1 <= n <= len(passages) else "no"
            checked.append(Citation(n=n, sentence=bare, found=found))
    return checked


def sentences(text: str) -> list[str]:
    """The sentences of an answer, each with the citations that follow its stop."""
    return [found for match in _SENTENCE.finditer(text) if (found := match[0].strip())]


def _cited(sentence: str) -> Iterator[int]:
    for mark in MARK.finditer(sentence):
        yield from (int(number) for number in re.findall(r"\d+", mark[1]))


def found_in(sentence: str, passage: Passage) -> Found:
    """Whether `passage` says what `sentence` says: `yes`, `weak` (a part of it), `no`."""
    said = unicodedata.normalize("NFKC", sentence)
    source = unicodedata.normalize("NFKC", f"{passage.title}\n{passage.text}")
    wanted = set(terms(said))
    if not wanted:
        return "no"
    share = len(wanted & set(terms(source))) / len(wanted)
    if share >= MOST and _same_facts(said, source) and _same_sense(said, passage, wanted):
        return "yes"
    return "weak" if share >= SOME else "no"


def _same_facts(said: str, source: str) -> bool:
    """All numbers, names and Han characters of `said` stand in `source`: a new character is a new name or figure."""
    return (
        _numbers(said) <= _numbers(source)
        and _names(said) <= {plain_word(word) for word in re.findall(r"[\w'’-]+", source)}
        and set(_HAN_CHARACTER.findall(said)) - GRAMMAR <= set(source)
    )


def _numbers(text: str) -> set[str]:
    return {plain_number(number.replace(" ", "")) for number in _NUMBER.findall(text)}


def _names(text: str) -> set[str]:
    return {word for name in _NAME.findall(text) if (word := plain_word(name)) not in COMMON}


def _same_sense(said: str, passage: Passage, wanted: set[str]) -> bool:
    """The source's sentence that is nearest to `said` is negated as it is."""
    # the title's words belong to every sentence of the source and point to none
    telling = wanted - set(terms(passage.title)) or wanted
    nearest = max(sentences(passage.text), key=lambda sentence: len(telling & set(terms(sentence))), default="")
    return bool(_NEGATION.search(said)) == bool(_NEGATION.search(nearest))
