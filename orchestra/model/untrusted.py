"""Text that others wrote, put where a model reads it as material: fenced, in the last user message.

It never stands in the system role. The fence has a nonce, so that no text can close it; numbers in brackets
inside a text are rewritten, so that none can pass for a source; characters that nobody can see are removed.
Control tokens are broken up by the wire, for every text alike.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

_MARK = re.compile(r"[\[【［]\s*([1-9０-９]\d{0,2})\s*[\]】］]")
_SELECTOR = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")


class Entry(NamedTuple):
    """One text of the material; without a `number` it has that of its place."""

    title: str
    text: str
    number: int = 0


def fenced(entries: Sequence[Entry], opening: str, closing: str, *, numbered: bool = True, nonce: str = "") -> str:
    """`entries`, from 1 where they are `numbered`, between two lines with the same random nonce.

    A `nonce` of the caller's must be as random; with it a list that grows keeps its beginning.
    """
    nonce = nonce or secrets.token_hex(8)
    numbers = [f"[{entry.number or place}] " if numbered else "" for place, entry in enumerate(entries, 1)]
    shown = [f"{number}{_line(entry.title)}\n{unmarked(entry.text)}" for number, entry in zip(numbers, entries, strict=True)]
    return "\n\n".join([f"----- {opening} {nonce} -----", *shown, f"----- {closing} {nonce} -----"])


def visible(text: str) -> str:
    """`text` without what nobody can see: zero-width and direction characters, tags, control characters but line ends."""
    kept = (c for c in _SELECTOR.sub("", text) if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    return "".join(kept)


def unmarked(text: str) -> str:
    """`text` as it stands in material: what can be seen of it, its own `[1]` as `(1)`."""
    return _MARK.sub(r"(\1)", visible(text).strip())


def _line(title: str) -> str:
    return " ".join(unmarked(title).split())
