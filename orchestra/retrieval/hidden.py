"""What stands in a page and nobody who reads it sees: taken out before a model could read it.

Comments, scripts and forms; elements that an attribute, their own style or a simple rule of the page's style sheet
hides: by `display`, `visibility`, `opacity`, a size of zero, a place outside the page, or the colour of the ground.
Rules with combinations of selectors are read by their last part, so that rather too much is taken out than too little.
Style sheets that a page links to are not fetched, and what its scripts would hide is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

SILENT = frozenset(
    "script style noscript template iframe object embed applet canvas svg math audio video map datalist select option textarea input"
    " button title link meta base frame frameset noframes noembed dialog param source track".split()
)
_COMMENT = re.compile(r"/\*.*?(?:\*/|\Z)", re.DOTALL)
_LAST = re.compile(r"(?:^|[\s>+~,])([a-z0-9]*)([.#])([\w-]{1,100})\Z", re.IGNORECASE)
_HIDES = re.compile(
    r"(?:^|;) ?(?:"
    r"display:none|visibility:(?:hidden|collapse)|content-visibility:hidden|opacity:0?\.?0*(?:%|;|!| |\Z)|"
    r"(?:text-indent|left|right|top|bottom|margin|margin-left|margin-top):-\d{3}|transform:scale[xy]?\( ?0 ?[,)]|"
    r"clip:rect\( ?(?:0|1px|auto)|clip-path:(?:inset\( ?(?:50|100)%|circle\( ?0)|"
    r"(?:-webkit-text-fill-)?color:(?:transparent|rgba\([^)]{0,40}[, ]0?\.?0* ?\)))"
)
_FONT = re.compile(r"(?:^|;) ?font(?:-size)?:(\d{0,9}\.?\d{0,9})([a-z%]*)")
_READABLE = {"": 0.01, "px": 1.5, "pt": 1.5, "em": 0.1, "rem": 0.1, "%": 10.0}  # below this size nobody reads it
_FLAT = re.compile(r"(?:^|;) ?(?:max-)?(?:height|width):[01](?:px)? ?(?:[;!]|\Z)")
_CUT = re.compile(r"overflow(?:-[xy])?:(?:hidden|clip)")
_COLOUR = re.compile(r"(?:^|;) ?color:([^;!]{1,60})")
_GROUND = re.compile(r"(?:^|;) ?background(?:-color)?:([^;!]{1,60})")
_ESCAPE = re.compile(r"\\([0-9a-f]{1,5}) ?")
_WHITE = {"white", "#fff", "#ffffff", "rgb(255,255,255)", "rgba(255,255,255,1)", "snow", "#fefefe", "#fffffe"}


def bare(tree: Any) -> None:
    """Takes out of `tree` all that its reader would not see."""
    names = _hidden_names(tree)
    gone = [element for element in tree.iter() if _hidden(element, names)]
    for element in gone:
        parent = element.getparent()
        if parent is not None:
            _keep_tail(element, parent)
            parent.remove(element)


def _keep_tail(element: Any, parent: Any) -> None:
    """The text after an element belongs to its parent."""
    tail, before = element.tail, element.getprevious()
    element.tail = None
    if tail and before is not None:
        before.tail = (before.tail or "") + tail
    elif tail:
        parent.text = (parent.text or "") + tail


def _hidden(element: Any, names: frozenset[str]) -> bool:
    tag = element.tag
    if not isinstance(tag, str):  # a comment, a processing instruction
        return True
    if tag in SILENT or element.get("hidden") is not None or (element.get("aria-hidden") or "").strip().lower() == "true":
        return True
    style = element.get("style")
    if (style and (hides(style) or _whitened(style))) or _pale(element):
        return True
    if not names:
        return False
    marks = ["." + name for name in (element.get("class") or "").split()]
    marks += ["#" + name for name in (element.get("id") or "").split()]
    return any(mark in names or tag + mark in names for mark in marks)


def hides(style: str) -> bool:
    """Whether these CSS declarations make an element invisible."""
    style = _normal(style)
    if _HIDES.search(style) or (_FLAT.search(style) and _CUT.search(style)):
        return True
    if (font := _FONT.search(style)) and _size(font[1]) < _READABLE.get(font[2], 0.0):
        return True
    colour, ground = _COLOUR.search(style), _GROUND.search(style)
    return colour is not None and ground is not None and _plain(colour[1]) == _plain(ground[1])


def _normal(style: str) -> str:
    style = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), style.lower())
    return " ".join(_COMMENT.sub("", style).split()).replace(" :", ":").replace(": ", ":")


def _size(number: str) -> float:
    return float(number) if number.strip(".") else 1000.0


def _whitened(style: str) -> bool:
    """White letters, on a ground that this style does not set: taken to be a white one."""
    style = _normal(style)
    colour = _COLOUR.search(style)
    return colour is not None and not _GROUND.search(style) and _plain(colour[1]) in _WHITE


def _pale(element: Any) -> bool:
    if element.tag != "font":
        return False
    return _plain(element.get("color") or "") in _WHITE or (element.get("size") or "").strip() == "0"


def _plain(colour: str) -> str:
    return "".join(colour.split()).lower()


def _hidden_names(tree: Any) -> frozenset[str]:
    """Classes and ids (`.x`, `#x`, `p.x`) that the page's own style sheets hide."""
    names: set[str] = set()
    for sheet in tree.iter("style"):
        for selectors, style in _rules(_COMMENT.sub("", "".join(sheet.itertext()))):
            if hides(style):
                found = (_LAST.search(selector[-300:].rstrip()) for selector in selectors.split(","))
                names.update(f"{last[1].lower()}{last[2]}{last[3]}" for last in found if last)
    return frozenset(names)


def _rules(sheet: str) -> Iterator[tuple[str, str]]:
    for rule in sheet.split("}"):
        selectors, _, style = rule.rpartition("{")
        yield selectors.rpartition("{")[2], style
