"""Garbage: text that no reader would take for an answer, though it need not repeat itself.

A model that was damaged, cut from its template or driven too hot emits replacement characters, control
characters, punctuation without words, or letters of many scripts in one word. Sound text has a little of
each, so every measure here is a share that has to hold for a while. Fenced code is not looked at.
"""

from __future__ import annotations

import re
import zlib
from collections import deque
from functools import cache
from typing import Any

from orchestra.model import outline
from orchestra.model.outline import CJK, Line

BLOCK = 32
"""The text is measured in blocks of so many characters."""

_BARE_BLOCKS = 8
_SOLID_BLOCKS = 96
_ODD_LIMIT = 8.0
_JOINT_LIMIT = 10.0
_SWITCH_LIMIT = 24.0
_PACKED = 2048
"""Prose is compressed so many characters at a time ..."""
_PACKED_LIMIT = 6.0
"""... and says nothing new where it shrinks to less than a sixth. Sound prose stays below 4.5, poems and songs too."""
_DOUBTS = 64
_DOUBT_LIMIT = -5.0
"""The mean logarithm of the probability of so many tokens: they might as well have been drawn by lot."""

_LATIN = "A-Za-z\u00c0-\u024f\u1e00-\u1eff"
_HANGUL = "\u1100-\u11ff\uac00-\ud7af"
_SCRIPTS = (
    "\u0400-\u052f",
    "\u0531-\u0587\u10a0-\u139f",
    "\u05d0-\u06ff\u0750-\u077f",
    "\u0900-\u0dff",
    "\u0e00-\u109f\u1780-\u17ff",
)
_ODD = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd\ue000-\uf8ff\ufdd0-\ufdef\ufff0-\ufffb\ufffe\uffff]"
    "|[\u0300-\u036f]{3}"
)
_RARE = re.compile(f"[{''.join(_SCRIPTS)}{_HANGUL}]")
_SWITCH = re.compile(f"(?<=[{_LATIN}])[{CJK}]|(?<=[{CJK}])[{_LATIN}]")
_WORD = re.compile(
    f"[{_LATIN}]{{3}}|\\d{{2}}|[{CJK}]{{2}}|[{''.join(_SCRIPTS)}{_HANGUL}]{{2}}"
    "|[\u0370-\u03ff\u2190-\u2bff\U0001f000-\U0001faff]"
)
_SOLID = re.compile(r"[A-Za-z0-9+/=_-]+")
_UNSOLID = re.compile(r"[^A-Za-z0-9+/=_-]")
_SYMBOL = re.compile(r"[^\w\s]|_")


@cache
def _joint() -> re.Pattern[str]:
    """Two letters side by side of scripts that no writer puts into one word; Latin beside Han, kana or Greek is usual.

    Made on first use: it takes 20 ms to compile, and most answers have no letter that it could match.
    """
    pairs = []
    for script in _SCRIPTS:
        other = "".join(s for s in _SCRIPTS if s != script) + _LATIN + CJK + _HANGUL
        pairs.append(f"(?<=[{other}])[{script}]|(?<=[{script}])[{other}]")
    return re.compile("|".join(pairs) + f"|(?<=[{CJK}])[{_HANGUL}]|(?<=[{_HANGUL}])[{CJK}]")


class Quality:
    """Keeps the measures of the text that is coming."""

    def __init__(self) -> None:
        self._odd = 0.0
        self._joints = 0.0
        self._switches = 0.0
        self._bare = 0
        self._solid = 0
        self._blocks = 0

    def advance(self, text: str, before: int) -> int | None:
        """Measures the last `BLOCK` characters of `text`, which `before` others preceded.

        Returns how many characters of the whole are worth keeping once the text is garbage, else None.
        """
        block = text[-BLOCK:]
        self._odd = self._odd / 2 + len(_ODD.findall(block))
        if self._odd >= _ODD_LIMIT:
            return _onset(_ODD, text, before, 4 * BLOCK)
        self._bare = 0 if _WORD.search(block) else self._bare + 1
        if self._bare >= _BARE_BLOCKS and _absurd(text[-BLOCK * _BARE_BLOCKS :]):
            return _since(_WORD, text, before, BLOCK * self._bare)
        self._solid = self._solid + 1 if _SOLID.fullmatch(block) else 0
        if self._solid >= _SOLID_BLOCKS:
            return _since(_UNSOLID, text, before, BLOCK * self._solid)
        self._blocks += 1
        if not self._blocks * BLOCK % _PACKED and _empty(text[-_PACKED:]):
            start = len(text) - _PACKED
            said = _SAID.search(text, start)
            return before + (said.end() if said else start)
        return None if block.isascii() else self._mixed(text, before, block)

    def _mixed(self, text: str, before: int, block: str) -> int | None:
        self._joints = self._joints / 2 + (len(_joint().findall(block)) if _RARE.search(block) else 0)
        if self._joints >= _JOINT_LIMIT:
            return _onset(_joint(), text, before, 4 * BLOCK)
        self._switches = self._switches / 2 + len(_SWITCH.findall(block))
        if self._switches >= _SWITCH_LIMIT:
            return _onset(_SWITCH, text, before, 4 * BLOCK)
        return None


class Doubt:
    """Follows how likely the model itself held what it said, where that was asked for."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_DOUBTS)

    def push(self, entries: Any) -> bool:
        """Takes the `logprobs` of a piece; whether the model has lost its way."""
        for entry in entries if isinstance(entries, list) else ():
            value = entry.get("logprob") if isinstance(entry, dict) else None
            if isinstance(value, int | float):
                self._last.append(value)
        return len(self._last) == _DOUBTS and sum(self._last) < _DOUBT_LIMIT * _DOUBTS


def _empty(text: str) -> bool:
    """Prose that could be said in a sixth of it; data, lists and programs repeat themselves with reason."""
    packed = text.encode("utf-8", "replace")
    packer = zlib.compressobj(1, zlib.DEFLATED, 13, 5)  # in 48 KB; the usual settings take 256 KB for this little text
    if len(packed) < _PACKED_LIMIT * len(packer.compress(packed) + packer.flush()):
        return False
    return not any(outline.kind(line) in (Line.ROW, Line.ITEM) for line in text.split("\n")[1:-1] or [text])


_SAID = re.compile(r"[.!?。！？\n]")


def _absurd(text: str) -> bool:
    """No words, hardly a space, and many different signs: a drawing, a rule or Morse code has few."""
    spaces = sum(map(str.isspace, text))
    signs = _SYMBOL.findall(text)
    return spaces < len(text) * 0.1 and len(signs) >= len(text) * 0.3 and len(set(signs)) >= 10


def _onset(pattern: re.Pattern[str], text: str, before: int, within: int) -> int:
    """Where the first of the bad characters stands, of the last `within`."""
    found = pattern.search(text, max(len(text) - within, 0))
    return before + (found.start() if found else len(text) - BLOCK)


def _since(pattern: re.Pattern[str], text: str, before: int, garbage: int) -> int:
    """Where the last sound match ends, in the block before the `garbage`."""
    begin = max(len(text) - garbage, 0)
    last = begin
    for found in pattern.finditer(text, max(begin - BLOCK, 0), begin):
        last = found.end()
    return before + last
