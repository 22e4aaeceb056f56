"""HTML from anywhere as a tree of elements.

Whoever wrote it, it is read as it came: nothing is fetched for it, and what it says of its own encoding counts no more
once its bytes have become text.
"""

from __future__ import annotations

from typing import Any

BLOCKS = frozenset(
    "address article aside blockquote body br caption center dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 h4 h5"
    " h6 header hr li main ol p pre section summary table tr ul".split()
)
"""The elements that begin and end a line."""


def parsed(text: str) -> Any:
    """The tree of a page, without its comments; None where there is no element in it."""
    from lxml import etree, html  # type: ignore[import-untyped]

    # encoded anew: the parser must not follow what the page says of its encoding
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, no_network=True, huge_tree=False)
    try:
        return etree.fromstring(text.encode("utf-8", "replace"), parser)
    except etree.XMLSyntaxError:  # nothing at all, or nothing but comments
        return None
