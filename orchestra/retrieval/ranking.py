"""From what several searches found to what the prompt holds: merged, ranked, without doubles, cut to a budget.

The lists of several queries and places are fused by reciprocal rank, which needs no scores that can be compared
(Cormack, Clarke and Büttcher, SIGIR 2009). What is left out is told, each with its reason.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

from orchestra.retrieval.passages import Passage
from orchestra.retrieval.sentences import sentences
from orchestra.retrieval.terms import terms

K = 60  # of the paper: how little the first rank outweighs the next ones
ALIKE = 0.8  # Jaccard of two texts' character pairs, above which the second says nothing new
PER_ADDRESS = 2  # of the web's; a document of one's own may have the whole answer
LONGEST_COMPARED = 2000  # characters of a text in which a double shows

_TRACKING = re.compile(
    r"(?:utm_\w+|fbclid|gclid|gclsrc|dclid|msclkid|yclid|igshid|mc_[ce]id|_ga|_gl|spm|wt_mc|ref_src|vero_id)\Z", re.IGNORECASE
)
_PORTS = {"http": 80, "https": 443}


class Dropped(NamedTuple):
    """A passage that the prompt does not hold, and why."""

    passage: Passage
    why: str


class Chosen(NamedTuple):
    """The passages of the prompt, the best first, and those that were left out."""

    kept: tuple[Passage, ...]
    dropped: tuple[Dropped, ...]


def canonical(url: str) -> str:
    """The address by which two are the same: without case of scheme and host, default port, fragment and tracking parameters."""
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        return url.strip()
    if parts.scheme not in _PORTS or not host:
        return url.strip()
    host += f":{port}" if port and port != _PORTS[parts.scheme] else ""
    query = "&".join(pair for pair in parts.query.split("&") if pair and not _TRACKING.match(pair.partition("=")[0]))
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{host}{path}" + (f"?{query}" if query else "")


def merged(lists: Sequence[Sequence[Passage]]) -> list[Passage]:
    """All passages of several ranked lists, the best first; `score` is the fused one, one address of the web counts once."""
    found: dict[tuple[str, str], Passage] = {}
    scores: dict[tuple[str, str], float] = {}
    for ranked in lists:
        places = {key: rank for rank, key in reversed([*enumerate(map(_key, ranked), 1)])}  # the best place of each
        for key, rank in places.items():
            scores[key] = scores.get(key, 0.0) + 1 / (K + rank)
        for passage in ranked:
            key = _key(passage)
            found[key] = _together(found[key], passage) if key in found else passage
    order = sorted(found, key=lambda key: -scores[key])  # stable: between equals, the one that was found first
    return [replace(found[key], score=round(scores[key], 6)) for key in order]


def _key(passage: Passage) -> tuple[str, str]:
    """What makes two passages the same: the web's by address and place, a document's by its place or else its text."""
    address = canonical(passage.url)
    return address, passage.place if _web(address) or passage.place else passage.text


def _web(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _together(first: Passage, second: Passage) -> Passage:
    """One passage that was found twice, with the longer text and whatever is known of it."""
    return replace(
        first,
        text=max(first.text, second.text, key=len),
        title=first.title or second.title,
        published=first.published or second.published,
        stale=first.stale and second.stale,
    )


def chosen(passages: Sequence[Passage], *, most: int) -> Chosen:
    """The `most` best of ranked passages that say something new, at most two of one address of the web."""
    kept: list[Passage] = []
    pairs: list[frozenset[str]] = []
    dropped: list[Dropped] = []
    for passage in passages:
        own = _pairs(passage.text)
        address = canonical(passage.url)
        same = sum(address == canonical(other.url) for other in kept) if _web(address) else 0
        if len(kept) == most:
            why = f"beyond the {most} best"
        elif not passage.text.strip():
            why = "no text"
        elif same >= PER_ADDRESS:
            why = f"more than {PER_ADDRESS} of one address"
        elif any(_alike(own, other) > ALIKE for other in pairs):
            why = "nearly the same as a better one"
        else:
            kept.append(passage)
            pairs.append(own)
            continue
        dropped.append(Dropped(passage, why))
    return Chosen(tuple(kept), tuple(dropped))


def _pairs(text: str) -> frozenset[str]:
    plain = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text[:LONGEST_COMPARED]).casefold()))
    return frozenset(plain[place : place + 2] for place in range(len(plain) - 1)) or frozenset([plain])


def _alike(first: frozenset[str], second: frozenset[str]) -> float:
    return len(first & second) / len(first | second)


def fitted(passages: Sequence[Passage], question: str, *, budget: int, count: Callable[[str], int]) -> Chosen:
    """Passages within `budget` tokens, as `count` counts them: whole, or the whole sentences that are nearest to the question.

    Each has its share; what a short one leaves is the next one's.
    """
    wanted = frozenset(terms(question))
    kept: list[Passage] = []
    dropped: list[Dropped] = []
    left = budget
    for place, passage in enumerate(passages):
        share = left // (len(passages) - place)
        text = passage.text if count(passage.text) <= share else _nearest(passage.text, wanted, share, count)
        if not text:
            dropped.append(Dropped(passage, f"no room within {budget} tokens"))
            continue
        left -= count(text)
        kept.append(replace(passage, text=text))
    return Chosen(tuple(kept), tuple(dropped))


def _nearest(text: str, wanted: frozenset[str], room: int, count: Callable[[str], int]) -> str:
    """Neighbouring sentences around the one that has most of the wanted words; empty where not even that one has room."""
    parts = sentences(text)
    costs = [count(part) + 1 for part in parts]
    shared = [len(wanted & frozenset(terms(part))) for part in parts]
    fitting = [place for place, cost in enumerate(costs) if cost <= room]
    if not fitting:
        return ""
    first = last = max(fitting, key=lambda place: shared[place])
    left = room - costs[first]
    while True:
        after = last + 1 < len(parts) and costs[last + 1] <= left
        before = first > 0 and costs[first - 1] <= left
        if after and (not before or shared[last + 1] >= shared[first - 1]):
            last += 1
            left -= costs[last]
        elif before:
            first -= 1
            left -= costs[first]
        else:
            return _joined(parts[first : last + 1])


def _joined(parts: Sequence[str]) -> str:
    """Sentences as one text; Chinese ones without a space between."""
    text = parts[0]
    for part in parts[1:]:
        text += part if text.endswith(("。", "！", "？", "」", "”")) else f" {part}"
    return text


def last_best(count: int) -> list[int]:
    """In which order so many ranked passages stand in a prompt, as numbers from 0: the second first, the best at the end.

    What stands in the middle of a long prompt is overlooked most (Liu et al., arXiv:2307.03172).
    """
    return [*range(1, count), 0][:count]
