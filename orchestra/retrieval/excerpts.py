"""In place of what a search said of a page: those parts of the page that have most to do with the question.

A part counts by the words it shares with the question, the rarer on this page the more; the words of the search's own
snippet count a little, since the service chose it for the question. A page that cannot be read keeps its snippet.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from orchestra.errors import PageFault
from orchestra.retrieval.knowledge.chunks import Section
from orchestra.retrieval.knowledge.cutting import chunks
from orchestra.retrieval.pages import Page, Pages
from orchestra.retrieval.passages import Attempt, Outcome, Passage
from orchestra.retrieval.terms import terms

PER_PAGE = 2
"""So many parts of one page may stand for it."""
SNIPPET = 0.3
"""What a word of the snippet counts, next to one of the question."""


async def enriched(
    passages: Sequence[Passage], *, query: str, pages: Pages, most: int = 3
) -> tuple[list[Passage], list[Attempt]]:
    """`passages` with the best parts of the first `most` web pages in place of their snippets, and what was tried for it.

    The best part of each page stands where its snippet stood, the second parts after all of them; a snippet that has
    more words of the question than any part stays. Pages are read side by side: the time of each attempt is that of all.
    """
    wanted = frozenset(terms(query))
    urls = list(dict.fromkeys(p.url for p in passages if p.url.partition(":")[0].lower() in ("http", "https")))[:most]
    started = time.monotonic()
    read = dict(zip(urls, await pages.read(urls), strict=True)) if urls else {}
    seconds = round(time.monotonic() - started, 6)
    first: list[Passage] = []
    second: list[Passage] = []
    hits: Counter[str] = Counter()
    for passage in passages:
        page = read.get(passage.url)
        parts = _parts(page, query, passage) if isinstance(page, Page) and not hits[passage.url] else []
        hits[passage.url] += len(parts)
        if parts and _shared(parts[0], wanted) >= _shared(passage, wanted):
            first.append(parts.pop(0))
        else:
            first.append(passage)
        second += parts
    return [*first, *second], [_attempt(url, page, hits[url], seconds) for url, page in read.items()]


def _shared(passage: Passage, wanted: frozenset[str]) -> int:
    return len(wanted & frozenset(terms(passage.text)))


def _parts(page: Page, query: str, passage: Passage) -> list[Passage]:
    """The parts of the page that share words with the question, the best first; empty where none does."""
    texts = [chunk.text for chunk in chunks([Section(text=page.text)])]
    worth = _worth(texts, query, passage.text)
    best = sorted((place for place in range(len(texts)) if worth[place] > 0), key=lambda place: -worth[place])[:PER_PAGE]
    return [
        replace(
            passage,
            text=texts[place],
            title=passage.title or page.title,
            published=passage.published or page.published,
            place=f"part {place + 1} of {len(texts)}",
        )
        for place in best
    ]


def _worth(texts: Sequence[str], query: str, snippet: str) -> list[float]:
    """How much each text has to do with the query: the sum of its shared words' inverse document frequencies."""
    words = [Counter(terms(text)) for text in texts]
    spread = Counter(word for own in words for word in own)
    wanted = dict.fromkeys(terms(snippet), SNIPPET) | dict.fromkeys(terms(query), 1.0)
    rarity = {word: weight * math.log(1 + len(texts) / spread[word]) for word, weight in wanted.items() if spread[word]}
    # said twice is more than once, but never twice as much
    return [sum(weight * own[word] / (own[word] + 0.5) for word, weight in rarity.items() if own[word]) for own in words]


def _attempt(url: str, page: Page | PageFault, hits: int, seconds: float) -> Attempt:
    if isinstance(page, Page):
        return Attempt(name="pages", query=url, outcome="found" if hits else "nothing", hits=hits, seconds=seconds)
    outcome: Outcome = "failed" if type(page) is PageFault else "skipped"  # its kinds are pages that are no good to us
    return Attempt(name="pages", query=url, outcome=outcome, seconds=seconds, error=page.message())
