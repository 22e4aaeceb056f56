"""News feeds that one has chosen oneself: RSS 0.9 to 2.0 and Atom (RFC 4287), searched by the words of the question.

A feed is XML from somebody else: entities are not expanded and nothing outside the document is fetched.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from lxml import etree  # type: ignore[import-untyped]

from orchestra.errors import BadResponse, ConfigError, SearchFault
from orchestra.retrieval.offline import matching
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.providers.hits import Hit, passages, sendable
from orchestra.retrieval.terms import terms
from orchestra.retrieval.web import Exchange, fetched, said

VARIABLE = "ORCHESTRA_FEEDS"
MOST = 500  # entries of one feed
LONGEST_DATE = 60
# words that ask for news as such, of whatever kind
_NEWS = frozenset(terms("news latest headline headlines newest recent today 新闻 最新 今天 今日 头条 消息 最近"))
_TEXTS = ("encoded", "description", "content", "summary")


class Feeds:
    """Searches what the feeds at `addresses` have at the moment. The question does not leave this machine; the feeds are fetched."""

    name = "feeds"
    service = ""  # nobody sees the question

    def __init__(self, addresses: Sequence[str], *, seconds: float = 8.0) -> None:
        self.source = " ".join(f"{_host(address)} {address}" for address in addresses)
        self._addresses = tuple(addresses)
        self._seconds = seconds

    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        """The entries that have most of the question's words; the newest, where it asks for news as such.

        Raises what the last feed raised where none could be read.
        """
        text = sendable(query)
        found: list[Passage] = []
        fault: SearchFault | None = None
        ends = time.monotonic() + self._seconds
        for place, address in enumerate(self._addresses):
            share = (ends - time.monotonic()) / (len(self._addresses) - place)
            try:
                found += self._entries(address, max(0.1, share))
            except SearchFault as error:
                fault = error
        if fault and not found:
            raise fault
        if set(terms(text)) <= _NEWS:
            return sorted(found, key=lambda passage: passage.published, reverse=True)[:results]
        return matching(found, text, results=results)

    def _entries(self, address: str, seconds: float) -> list[Passage]:
        content = fetched(Exchange(provider=self.name, url=address, seconds=seconds)).content
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=True)
        try:
            root = etree.fromstring(content, parser)
        except (etree.LxmlError, ValueError):
            root = None
        if root is None or _name(root) not in ("rss", "RDF", "feed"):
            raise BadResponse(provider=self.name, **said(f"{_host(address)} gives no feed", f"{_host(address)} 返回的不是 RSS 或 Atom"))
        entries = [node for node in root.iter() if _name(node) in ("item", "entry")][:MOST]
        return passages(self.name, map(_hit, entries), results=MOST)


def _hit(entry: Any) -> Hit:
    parts: dict[str, str] = {}
    for node in entry:
        name = _name(node)
        if name == "link":
            _link(parts, node)
        else:
            parts.setdefault(name, "".join(_texts(node)))
    text = next((parts[name] for name in _TEXTS if parts.get(name, "").strip()), "")
    date = next((parts[name] for name in ("pubDate", "published", "date", "updated") if parts.get(name)), "")
    return Hit(parts.get("title", ""), parts.get("link", ""), text, _dated(date.strip()[:LONGEST_DATE]))


def _link(parts: dict[str, str], node: Any) -> None:
    """RSS writes the address into the element, Atom into an attribute, where others are not the page itself."""
    if node.get("rel", "alternate") == "alternate" and "link" not in parts:
        parts["link"] = (node.get("href") or node.text or "").strip()


def _texts(node: Any) -> Iterator[str]:
    """The text of an element; an entity, which is not expanded, says nothing."""
    yield node.text or ""
    for child in node:
        if isinstance(child.tag, str):
            yield from _texts(child)
        yield child.tail or ""


def _name(node: Any) -> str:
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def _dated(text: str) -> str:
    with suppress(ValueError, TypeError):
        return parsedate_to_datetime(text).date().isoformat()  # RSS writes dates as mail does
    return text


def _host(address: str) -> str:
    """The host of an address, which itself may hold somebody's token."""
    try:
        parts = urlsplit(address)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            name=VARIABLE, value=address[:40], detail="not an http address", detail_zh="不是 http 地址",
            example=f"{VARIABLE}='https://example.org/feed.xml'",
        )  # fmt: skip
    return parts.hostname
