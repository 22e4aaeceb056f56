"""What every search service needs: a question made fit to be sent, an answer's hits made passages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from html import unescape
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from orchestra.errors import BadResponse, UsageError
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.web import OTHER_SHAPE

LONGEST_QUERY = 400  # characters: DuckDuckGo refuses more than 499
LONGEST_TEXT = 2000
LONGEST_TITLE = 300
LONGEST_ADDRESS = 2000
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>|<!--[^<>]{0,200}-->")
_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


class Hit(NamedTuple):
    """One result as a service gave it: any of these may be missing or of another kind."""

    title: Any
    url: Any
    text: Any
    published: Any = ""


def sendable(query: str) -> str:
    """The query as it is sent: in NFKC, in one line, without control characters, at most 400 characters.

    Raises `UsageError` where it has neither a letter nor a digit: nothing but quotes and operators asks for nothing.
    """
    text = _line(unicodedata.normalize("NFKC", query))
    if len(text) > LONGEST_QUERY:
        text = text[: LONGEST_QUERY + 1].rpartition(" ")[0] or text[:LONGEST_QUERY]
    if not any(map(str.isalnum, text)):
        raise UsageError(
            detail="the query has no word", detail_zh="查询中没有可搜索的词", fix="ask with at least one word", fix_zh="请至少输入一个词"
        )
    return text


def passages(provider: str, hits: Iterable[Hit], *, results: int) -> list[Passage]:
    """The hits that have an http(s) address and something to read, in the service's order: the first scores 1, the second 1/2."""
    found: list[Passage] = []
    for hit in hits:
        address, text, title = _address(hit.url), plain(hit.text, LONGEST_TEXT), plain(hit.title, LONGEST_TITLE)
        if address and (text or title):
            rank = len(found) + 1
            found.append(
                Passage(
                    text=text or title,
                    title=title or address,
                    url=address,
                    score=round(1 / rank, 4),
                    origin=provider,
                    published=_day(hit.published),
                )
            )
        if len(found) == results:
            break
    return found


def rows(provider: str, value: Any, *names: str) -> Iterator[Mapping[str, Any]]:
    """The objects in the list that stands below `names`; a missing one has none, another shape raises `BadResponse`."""
    for name in names:
        if value is None:
            return
        if not isinstance(value, dict):
            raise BadResponse(provider=provider, **OTHER_SHAPE)
        value = value.get(name)
    if value is None:
        return
    if not isinstance(value, list):
        raise BadResponse(provider=provider, **OTHER_SHAPE)
    yield from (row for row in value if isinstance(row, dict))


def plain(value: Any, longest: int) -> str:
    """Somebody's text without markup, in one line, cut to a length; nothing for what is no text."""
    if not isinstance(value, str):
        return ""
    text = _line(unescape(_TAG.sub("", value[: 8 * longest])))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _line(text: str) -> str:
    # half a surrogate pair, as JSON may escape one, cannot be stored
    whole = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(" " if unicodedata.category(each) == "Cc" else each for each in whole).split())


def _address(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_ADDRESS:
        return ""
    address = value.strip()
    try:
        parts = urlsplit(address)
        good = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return ""
    return address if good and not any(each.isspace() or not each.isprintable() for each in address) else ""


def _day(value: Any) -> str:
    """The day as YYYY-MM-DD where a date begins so."""
    found = _DATE.match(value) if isinstance(value, str) else None
    return found[0] if found else ""
