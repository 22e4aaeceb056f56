"""A search that needs no network: over the short texts that come with Orchestra, or a folder of one's own.

It compares words, nothing more, and gives nothing rather than something that hardly fits: an answer without
sources says so, an answer with wrong ones does not.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from orchestra.model.language import language_of
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.terms import terms

TEXTS = Path(__file__).with_name("texts")
# The share of the question's words, weighted by how rare they are, that a passage must have to count as found.
ENOUGH = 0.4
# What a passage is worth that shares words - names, mostly - but is in another language.
OTHER_LANGUAGE = 0.7
_HEADING = re.compile(r"^# +(.+)$")


class _Entry(NamedTuple):
    passage: Passage
    language: str
    terms: frozenset[str]
    titled: frozenset[str]


class _Index(NamedTuple):
    entries: list[_Entry]
    rarity: dict[str, float]
    unknown: float

    def weight(self, words: frozenset[str]) -> float:
        """How much words say together: the fewer passages have one, the more it says."""
        return sum(self.rarity.get(word, self.unknown) for word in words)


class Offline:
    """Searches the paragraphs of the Markdown files in `folder`; the shipped texts where none is named."""

    name = "offline"
    leaves = False

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or TEXTS

    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        """The paragraphs that have most of the query's words, the best first; none where no paragraph has enough."""
        files = tuple((path, path.stat().st_mtime_ns) for path in sorted(self.folder.glob("*.md")))
        return _matching(_index(files), query, results)


def matching(passages: Sequence[Passage], query: str, *, results: int) -> list[Passage]:
    """Those of `passages` that have most of the query's words, by the same measure."""
    return _matching(_of(passages), query, results)


def _matching(index: _Index, query: str, results: int) -> list[Passage]:
    wanted = frozenset(terms(query))
    language = language_of(query)
    whole = index.weight(wanted)
    hits = []
    for entry in index.entries:
        share = index.weight(wanted & entry.terms) / whole if whole else 0.0
        if share >= ENOUGH:
            score = share if entry.language == language else OTHER_LANGUAGE * share
            # between equals the one whose title is what was asked for
            hits.append((score, index.weight(wanted & entry.titled), entry.passage))
    hits.sort(key=lambda hit: (-hit[0], -hit[1]))
    return [replace(passage, score=round(score, 4)) for score, _, passage in hits[:results]]


@lru_cache(maxsize=8)
def _index(files: tuple[tuple[Path, int], ...]) -> _Index:
    """The paragraphs of files, which are named with their time of change: a changed file is read again."""
    return _of([passage for path, _ in files for passage in _paragraphs(path)])


def _of(passages: Sequence[Passage]) -> _Index:
    entries = [_entry(passage) for passage in passages]
    spread = Counter(term for entry in entries for term in entry.terms)
    rarity = {term: math.log(1 + len(entries) / count) for term, count in spread.items()}
    return _Index(entries, rarity, math.log(1 + len(entries)))


def _entry(passage: Passage) -> _Entry:
    titled = frozenset(terms(passage.title))
    return _Entry(passage, language_of(passage.text), titled | frozenset(terms(passage.text)), titled)


def _paragraphs(path: Path) -> Iterator[Passage]:
    title = path.stem
    for block in path.read_text("utf-8", "replace").split("\n\n"):
        text = block.strip()
        if heading := _HEADING.match(text):
            title = heading[1]
        elif text:
            yield Passage(text=text, title=title, url=f"orchestra:{path.parent.name}/{path.name}", origin=Offline.name)
