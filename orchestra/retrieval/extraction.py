"""The text of a page: what its reader would see of it, in paragraphs, without menus.

Others wrote the page, perhaps to harm; so this runs in a process of its own (`python -m orchestra.retrieval.extraction`,
see worker.py), which has limits on time and memory and may die of any page. trafilatura finds the main text; where
it is not installed, or finds nothing, the page's paragraphs are read as they stand.
"""

from __future__ import annotations

import re
from typing import Any

from lxml import etree  # type: ignore[import-untyped]

from orchestra.retrieval.charset import decode
from orchestra.retrieval.hidden import bare
from orchestra.retrieval.markup import BLOCKS, parsed
from orchestra.retrieval.worker import limited, serve

TEXT_LIMIT = 300_000
"""Characters of a page's text that are kept."""
MEMORY = 2**30
"""Bytes of address space for the process."""
ELEMENTS = 20_000
"""Beyond so many trafilatura takes many seconds (the square of their number), and the paragraphs are read as they stand."""
SHORT = 200  # characters of main text that are believed to be all there is
_ASIDE = frozenset("nav footer aside form menu".split())
_CELLS = frozenset(["td", "th"])
_DATED = frozenset(
    "article:published_time og:published_time datepublished pubdate publishdate publish_date date dc.date dc.date.issued dcterms.created"
    " sailthru.date parsely-pub-date citation_publication_date".split()
)
_DATE = re.compile(r"\b((?:19|20)\d\d)[-/](0?[1-9]|1[0-2])[-/](0?[1-9]|[12]\d|3[01])(?!\d)")
_LINKED = re.compile(r'"datePublished"\s{0,9}:\s{0,9}"([^"]{8,40})"')


def extracted(data: bytes, *, declared: str, kind: str) -> dict[str, Any]:
    """`title`, `text`, `published` (YYYY-MM-DD) and whether the text was `cut`."""
    text = decode(data, declared=declared)
    if kind == "plain":
        return _page("", _tidy(text), "")
    tree = parsed(text)
    if tree is None:
        return _page("", "", "")
    published = _published(tree)
    title = _first(tree, "title")
    bare(tree)
    title = title or _first(tree, "h1")
    plain = blocks(tree)
    return _page(title[:300], _main(tree, plain), published)


def _first(tree: Any, name: str) -> str:
    return next((" ".join(found.text_content().split()) for found in tree.iter(name)), "")


def _page(title: str, text: str, published: str) -> dict[str, Any]:
    return {"title": title, "text": text[:TEXT_LIMIT], "published": published, "cut": len(text) > TEXT_LIMIT}


def _main(tree: Any, plain: str) -> str:
    """The main text by trafilatura (Barbaresi 2021, https://aclanthology.org/2021.acl-demo.15), else the paragraphs."""
    try:
        from trafilatura import bare_extraction
    except ImportError:
        return plain
    if sum(1 for _ in tree.iter()) > ELEMENTS:
        return plain
    found = bare_extraction(tree, fast=True, include_comments=False, include_tables=True)
    text = _tidy(str(getattr(found, "text", "") or ""))
    return text if len(text) >= min(SHORT, len(plain) // 4) else plain


def blocks(tree: Any) -> str:
    """The paragraphs of a page, or of its one main part, a line each, without its menus and forms."""
    mains = [element for name in ("main", "article") for element in tree.iter(name)]
    top = mains[0] if len(mains) == 1 and len(mains[0].text_content()) > SHORT else tree
    parts: list[str] = []
    aside = 0
    for event, element in etree.iterwalk(top, events=("start", "end")):
        started = event == "start"
        aside += (1 if started else -1) if element.tag in _ASIDE else 0
        if element.tag in BLOCKS:
            parts.append("\n")
        elif element.tag in _CELLS:
            parts.append(" ")
        words = element.text if started else element.tail if element is not top else ""
        if words and not aside:
            parts.append(_spaced(words))
    return _tidy("".join(parts))


def _spaced(words: str) -> str:
    """One line of it, with a blank where there was space at its ends."""
    return " " * words[0].isspace() + " ".join(words.split()) + " " * words[-1].isspace()


def _tidy(text: str) -> str:
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _published(tree: Any) -> str:
    for meta in tree.iter("meta"):
        name = (meta.get("property") or meta.get("name") or meta.get("itemprop") or "").lower()
        if name in _DATED and (date := _date(meta.get("content") or "")):
            return date
    for script in tree.iter("script"):
        if "json" in (script.get("type") or "") and (linked := _LINKED.search(script.text or "")) and (date := _date(linked[1])):
            return date
    return next((date for time in tree.iter("time") if (date := _date(time.get("datetime") or ""))), "")


def _date(text: str) -> str:
    found = _DATE.search(text[:80])
    return f"{found[1]}-{int(found[2]):02}-{int(found[3]):02}" if found else ""


if __name__ == "__main__":
    limited(MEMORY)
    extracted(b"<p>.", declared="", kind="html")  # loads what it takes: the time of a page is its own
    serve(extracted)
