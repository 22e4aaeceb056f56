"""Whether a cited source says what the sentence says.

What stands there word for word is found. Else a strict reading of words: `yes` only where a passage of one or two
neighbouring sentences has every quantity, name and direction of the sentence, most of its other words, and denies what
it denies. It would rather call a good sentence weak than a wrong one found: a number, a name or a "not" is what a model
gets wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from orchestra.retrieval.facts import FUNCTIONAL, MANY, Clause, clauses, opposed, poles, union
from orchestra.retrieval.passages import Citation, Found, Passage
from orchestra.retrieval.sentences import marked, sentences
from orchestra.retrieval.terms import HAN, HAN_CHARACTER

MOST = 0.8  # the share of a sentence's words that its source must have: of Latin ones,
MOST_HAN = 0.6  # ... and of pairs of Han characters, of which a change of order breaks several
SOME = 0.4
NEAR = 0.2  # of its letters in short: a sentence of a source that has fewer is not read
# what a source that has the words says otherwise, and not only elsewhere or not at all
CONTRARY = ("other facts", "denied", "opposed")

_NO_STATEMENT = re.compile(r"\s*(?:#{1,6}\s|[|:\s-]*\Z|[-*_=]{3,}\s*\Z|\*\*[^*\n]*\*\*:?\s*\Z)|.*[:：?？][*_\s]*\Z", re.DOTALL)
SHORTEST = 2  # words or pairs of characters that a sentence must have to state something
_PASSIVE = re.compile(r"\b(?:is|are|was|were|been|being) \w+ by\b|被")
_SHORT = re.compile(rf"\b[a-z]{{4}}|(?![〇零一二三四五六七八九十百千万亿两分之成年月日])[{HAN}]")
_BEGINS = re.compile(r"[-*+•·>|#`~]|\d{1,3}[.)、]|[（(]\d{1,3}[）)]")  # a line that goes on with nothing
_BULLET = re.compile(r"\A(?:[-*+•·>] ){1,4}")
_BLANK_AT_HAN = re.compile(f"(?<=[{HAN}，。、；：]) (?=[{HAN}])")  # where a line was broken
_QUOTES = str.maketrans("“”‘’", "\"\"''")


def citations(text: str, passages: Sequence[Passage]) -> list[Citation]:
    """Every citation of `text` in its order, checked against `passages`, which are numbered from 1.

    A sentence with several citations may stand in all of them together: where each of its clauses was found in one of
    them, those in which a clause was found are `yes` (as ALCE counts them: Gao et al. 2023, "Enabling Large Language
    Models to Generate Text with Citations").
    """
    checked: list[Citation] = []
    for bare, marks in marked(text):
        cited = {n: passages[n - 1] if 1 <= n <= len(passages) else None for n in marks}
        found: dict[int, Found] = {n: found_in(bare, passage) if passage else "no" for n, passage in cited.items()}
        if len(found) > 1 and "yes" not in found.values():
            found |= dict.fromkeys(_together(bare, {n: passage for n, passage in cited.items() if passage}), "yes")
        checked += [Citation(n=n, sentence=bare, found=verdict) for n, verdict in found.items()]
    return checked


def uncited(text: str) -> list[str]:
    """The sentences of an answer that state something and name no source; headings, questions and what introduces a list do not."""
    return [
        bare
        for bare, marks in marked(text)
        if not marks and not _NO_STATEMENT.match(bare) and sum(len(clause.items) for clause in clauses(bare)) >= SHORTEST
    ]


class _Reading(NamedTuple):
    """A sentence, or a stretch of a source, as a whole."""

    clauses: tuple[Clause, ...]
    content: frozenset[str]
    known: frozenset[tuple[str, str]]
    words: frozenset[str]
    characters: frozenset[str]
    directions: frozenset[str]
    relations: frozenset[tuple[str, str]]
    text: str


def _reading(parts: Sequence[Clause]) -> _Reading:
    return _Reading(
        clauses=tuple(parts),
        content=union([part.content for part in parts]),
        known=union([part.known for part in parts]),
        words=union([part.words for part in parts]),
        characters=union([part.characters for part in parts]),
        directions=union([part.directions for part in parts]),
        relations=union([part.relations for part in parts]),
        text="".join(part.text for part in parts),
    )


@lru_cache(maxsize=64)
def _outline(text: str) -> tuple[tuple[str, frozenset[str]], ...]:
    """The sentences of a source, each with its letters in short: reading all of it would take most of the time."""
    return tuple((sentence, _in_short(sentence)) for sentence in sentences(text))


def _in_short(text: str) -> frozenset[str]:
    return frozenset(_SHORT.findall(text.casefold()))


def _near(sentence: str, text: str) -> Iterator[tuple[Clause, ...]]:
    """The sentences of a source, each alone and with the next one, that may say what `sentence` says."""
    wanted = _in_short(sentence)
    outline = _outline(text)
    for n, (one, letters) in enumerate(outline):
        if len(wanted & letters) >= NEAR * len(wanted):
            yield clauses(one)
        if n + 1 < len(outline) and len(wanted & (letters | outline[n + 1][1])) >= NEAR * len(wanted):
            yield clauses(one) + clauses(outline[n + 1][0])


def found_in(sentence: str, passage: Passage) -> Found:
    """Whether `passage` says what `sentence` says: `yes`; `no` also where it says the contrary; else `weak`."""
    bare = _folded(sentence)
    if bare in _flat(passage.text) and bare in _verbatim(passage.text):
        return "yes"
    said = _reading(clauses(sentence))
    if not said.content or len(said.clauses) > MANY:
        return "no"
    if _foreign(sentence, passage.text):
        return _across(said, passage)
    title = _reading(clauses(passage.title))
    ranked = sorted(
        ((share, parts) for parts in _near(sentence, passage.text) if (share := _share(said, parts, title)) >= SOME),
        key=lambda pair: -pair[0],
    )
    nearest = ""
    for _, parts in ranked:
        reason = why_not(said, _reading(parts), title)
        if not reason:
            return "yes"
        nearest = nearest or reason
    return "no" if not nearest or nearest in CONTRARY else "weak"


@lru_cache(maxsize=64)
def _verbatim(text: str) -> frozenset[str]:
    """The whole sentences of a source: one that runs over several lines is put together, so that no half of it is found."""
    blocks: list[list[str]] = [[]]
    for line in text.split("\n"):
        bare = line.strip()
        if not bare or _BEGINS.match(bare):
            blocks.append([])
        blocks[-1].append(bare)
        if bare.startswith(("#", "`", "~")):
            blocks.append([])
    joined = "\n".join(" ".join(block) for block in blocks)
    return frozenset(_folded(bare) for bare, _ in marked(joined)) - {""}


@lru_cache(maxsize=64)
def _flat(text: str) -> str:
    """A whole source as its sentences are folded: what does not stand in it need not be looked for among them."""
    return _folded(text)


def _folded(sentence: str) -> str:
    """A sentence as two are the same: whatever their width, quotes, blanks and last stop."""
    line = " ".join(unicodedata.normalize("NFKC", sentence).translate(_QUOTES).split())
    return _BLANK_AT_HAN.sub("", _BULLET.sub("", line)).rstrip(".。 ")


def _together(sentence: str, cited: dict[int, Passage]) -> set[int]:
    """The sources in which a clause of the sentence was found, where each clause was found in one of them."""
    said = clauses(sentence)
    supporting: set[int] = set()
    for clause in said:
        found = {n for n, passage in cited.items() if _holds(clause, said[0], passage)}
        if not found:
            return set()
        supporting |= found
    return supporting


def _holds(clause: Clause, first: Clause, passage: Passage) -> bool:
    """Whether a source says what one clause says, and speaks of what its sentence begins with."""
    title = _reading(clauses(passage.title))
    read = [_reading(parts) for parts in _near(clause.text, passage.text)]
    about = title.content.union(*(stretch.content for stretch in read))
    spoken_of = not about.isdisjoint(first.items[:1])
    return spoken_of and any(not why_not(_reading((clause,)), stretch, title) for stretch in read)


def _foreign(sentence: str, source: str) -> bool:
    return bool(HAN_CHARACTER.search(sentence)) != bool(HAN_CHARACTER.search(source))


def _across(said: _Reading, passage: Passage) -> Found:
    """In two languages only quantities and Latin names can be compared: never more than weak."""
    parts = clauses(passage.title) + sum((clauses(sentence) for sentence in sentences(passage.text)), ())
    whole = _reading(parts)
    facts = {(fact.kind, fact.value) for clause in said.clauses for fact in clause.facts}
    shared = any(clause.names & whole.words for clause in said.clauses)
    return "weak" if (facts or shared) and facts <= whole.known else "no"


def _share(said: _Reading, parts: Sequence[Clause], title: _Reading) -> float:
    missing = said.content.difference(title.content, *[part.content for part in parts])
    if any(item.startswith("date ") for item in missing):  # the source may give a date to the day
        missing -= {" ".join(fact) for part in parts for fact in part.known}
    return 1 - len(missing) / len(said.content)


def why_not(said: _Reading, stretch: _Reading, title: _Reading) -> str:
    """The first reason why a stretch of a source does not say what was said; "" where it does."""
    if _too_few(said, stretch.content | title.content):
        return "words"
    facts = {(fact.kind, fact.value) for clause in said.clauses for fact in clause.facts}
    if missing := facts - stretch.known - title.known - _articles(stretch):
        return "other facts" if missing == facts else "facts"
    if not all(_named(name, stretch, title) for clause in said.clauses for name in clause.names):
        return "names"
    if said.characters - FUNCTIONAL - stretch.characters - title.characters:
        return "characters"
    if not said.relations <= stretch.relations:
        return "relations"
    turned = ((n, _turned(clause, stretch, title)) for n, clause in enumerate(said.clauses))
    contrary = next((why for n, why in turned if why and not (why == "denied" and _stands(n, said.clauses, stretch.clauses))), "")
    if contrary:
        return contrary
    return "" if poles(said.directions) <= poles(stretch.directions | title.directions) else "directions"


def _articles(stretch: _Reading) -> set[tuple[str, str]]:
    """"one" is often no more than "a", unless its source counts something else."""
    counts = any(kind == "number" and value.isdigit() and len(value) < 3 and value != "1" for kind, value in stretch.known)
    return set() if counts else {("number", "1")}


def _too_few(said: _Reading, have: frozenset[str]) -> bool:
    words = {item for item in said.content if " " not in item}
    pairs = {item for item in words if HAN_CHARACTER.match(item)}
    return any(len(wanted & have) < most * len(wanted) for wanted, most in ((pairs, MOST_HAN), (words - pairs, MOST)))


def _named(name: str, stretch: _Reading, title: _Reading) -> bool:
    if HAN_CHARACTER.search(name):
        return name in stretch.text or name in title.text
    return name in stretch.words or name in title.words


def _turned(clause: Clause, stretch: _Reading, title: _Reading) -> str:
    """How one clause says something else than the clauses that have its words."""
    cover = _cover(clause, stretch.clauses)
    if clause.negations != sum(part.negations for part in cover if not _names_only(part, clause, cover)):
        return "denied"
    if any(opposed(clause, part) for part in cover):
        return "opposed"
    if crossed(clause, cover, title):
        return "crossed"
    return "swapped" if swapped(clause, cover) else ""


def _stands(n: int, said: Sequence[Clause], parts: Sequence[Clause]) -> bool:
    """Whether clause `n` denies in so many words what a clause of the source does, and goes on from the same one: "and no more"."""
    if n == 0:
        return any(_alike(part, said[0]) for part in parts)
    before = said[n - 1]
    best = _cover(before, parts)[:1]
    return any(_alike(then, said[n]) and (_alike(one, before) or [one] == best) for one, then in pairwise(parts))


def _alike(one: Clause, other: Clause) -> bool:
    return one.content == other.content and one.text.split() == other.text.split()


def _names_only(part: Clause, clause: Clause, cover: Sequence[Clause]) -> bool:
    """Whether a clause of the source only names what the next one speaks of: what it denies is something else."""
    others = union([other.content for other in cover if other is not part])
    return bool(others) and (part.content & clause.content) - others <= set(part.items[:1])


def _cover(clause: Clause, parts: Sequence[Clause]) -> list[Clause]:
    """The clauses of a source that together have what `clause` says, the one that has most first."""
    left = set(clause.content)
    cover: list[Clause] = []
    while left:
        best = max(parts, key=lambda part: len(left & part.content), default=None)
        if best is None or not left & best.content:
            break
        cover.append(best)
        left -= best.content
    return cover


def _kind(item: str, clause: Clause) -> str:
    if " " in item:
        kind, _, value = item.partition(" ")
        return kind if kind != "number" else "number " + value.partition(" ")[2]
    return "name" if item in clause.names else ""


def crossed(clause: Clause, cover: Sequence[Clause], title: _Reading) -> bool:
    """Whether what was said is put together from clauses that speak of different things."""
    if not cover:
        return False
    main = cover[0]
    first, own = clause.items[0], next((item for item in main.items if " " not in item), "")
    elsewhere = own and own not in clause.content and " " not in first and first not in main.content
    if elsewhere and (first not in title.content or own in main.names):  # else the title says whom it is about
        return True
    for i, one in enumerate(cover):
        for other in cover[i + 1 :]:
            if _rivals(clause, one, other) or _rivals(clause, other, one):
                return True
            if one.content & other.content & clause.content and one.content - clause.content and other.content - clause.content:
                return True
    return False


def _rivals(clause: Clause, one: Clause, other: Clause) -> bool:
    """Whether `one` has a value of its own of the kind that was taken from `other`."""
    taken = {_kind(item, other) for item in (other.content & clause.content) - one.content} - {""}
    return bool(taken & {_kind(item, one) for item in one.content - clause.content})


def swapped(clause: Clause, cover: Sequence[Clause]) -> bool:
    """Whether who did something and to whom it was done have changed places."""
    source: dict[str, int] = {}
    for place, item in enumerate(item for part in cover for item in part.items):
        source.setdefault(item, place)
    items = [item for item in clause.items if item in source and " " not in item]
    if len(items) < 3 or not cover:
        return False
    names = [n for n, item in enumerate(items) if item in clause.names]
    ends = [(0, len(items) - 1)] if HAN_CHARACTER.match(items[0]) else list(pairwise(names))
    turned = [
        any(source[items[a]] > source[items[m]] > source[items[b]] for m in range(a + 1, b) if items[m] not in clause.names)
        for a, b in ends
    ]
    if bool(_PASSIVE.search(clause.text)) != bool(_PASSIVE.search(cover[0].text)):
        return bool(names[1:]) and not any(source[items[a]] > source[items[b]] for a, b in ends)
    return any(turned)
