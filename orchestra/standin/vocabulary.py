"""The stand-in's vocabulary: 512 byte-level tokens, cut as the daemon cuts them.

A client that counts tokens before it sends them can only be tested against counts that are true. So the
stand-in's model has the vocabulary of a real (tiny) llama-3 style model, and the same rules: the llama-3
pre-tokenizer, then byte pair merges, whole pieces that are tokens taken as they are, `<|...|>` control tokens parsed.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

CONTROL = 3
BEGIN, END_OF_TEXT, START_HEADER, END_HEADER, END_OF_TURN = range(5)
MOST_REMEMBERED = 50_000

_WHITESPACE = {*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}

# The standard library's `re` knows no \p{L} and \p{N}. So every character is first turned into a letter for its
# class, and the splitter runs over those: L letter, N number, _ space, / line end, . other whitespace, # the rest;
# the apostrophe and the letters of English contractions stand for themselves.
_LETTER, _SPACE = "[Lstmdrevl]", "[_/.]"
_SPLITTER = re.compile(
    "'(?:[stmd]|re|ve|ll)"
    f"|['#_.]?{_LETTER}+"
    "|N{1,3}"
    "|_?['#]+/*"
    f"|{_SPACE}*/+"
    f"|{_SPACE}+(?!['#LNstmdrevl])"
    f"|{_SPACE}+"
)


class _Classes(dict[int, str]):
    """The class of each character, found when it is first met: a table of all of Unicode costs too much to start with."""

    def __missing__(self, code: int) -> str:
        self[code] = kind = _class(chr(code))
        return kind


def _class(character: str) -> str:
    if character in "\r\n":
        return "/"
    if ord(character) in _WHITESPACE:
        return "_" if character == " " else "."
    if character == "'" or (character.isascii() and character.lower() in "stmdrevl"):
        return character.lower()
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "#"


def _byte_alphabet() -> list[str]:
    """One printable character for each byte, as GGUF writes them: itself where it is printable, else from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(0x100)]


class Vocabulary:
    """Tokens, merges and kinds as GGUF has them (`tokens` and `merges` in its alphabet of bytes), and what they do."""

    ends = frozenset({END_OF_TEXT, END_OF_TURN})

    def __init__(self, tokens: list[str], merges: list[str], kinds: list[int]) -> None:
        self.tokens, self.merges, self.kinds = tokens, merges, kinds
        alphabet = _byte_alphabet()
        byte_of = {character: byte for byte, character in enumerate(alphabet)}
        self._letters = {byte: alphabet[byte] for byte in range(0x100)}
        self._data = [
            b"" if kind == CONTROL else bytes(byte_of[character] for character in token)
            for token, kind in zip(tokens, kinds, strict=True)
        ]
        self._ids = {token: number for number, token in enumerate(tokens) if kinds[number] != CONTROL}
        self._controls = {token: number for number, token in enumerate(tokens) if kinds[number] == CONTROL}
        self._control = re.compile("(" + "|".join(map(re.escape, self._controls)) + ")")
        self._rank = {(a, b): rank for rank, (a, b) in enumerate(merge.split(" ") for merge in merges)}
        # Two neighbours that stand together in no token are in different tokens whatever the merges do: cutting there
        # first changes nothing, and leaves pieces (mostly single Chinese characters) short enough to be remembered.
        self._joined = {pair for token in self._ids for pair in pairwise(token)}
        self._classes = _Classes()
        self._remembered: dict[str, tuple[int, ...]] = {}

    def data(self, number: int) -> bytes:
        """The bytes that a token stands for; a control token has none."""
        return self._data[number]

    def text(self, numbers: Sequence[int]) -> str:
        """The text of some tokens; bytes that are no character become U+FFFD."""
        return b"".join(self._data[number] for number in numbers).decode("utf-8", "replace")

    def encode(self, text: str, special: bool = True) -> list[int]:
        """The tokens of `text`, without a begin-of-text. With `special`, `<|...|>` names a control token; else it is text."""
        numbers: list[int] = []
        for part in self._control.split(_sound(text)) if special else [_sound(text)]:
            control = self._controls.get(part) if special else None
            if control is not None:
                numbers.append(control)
            else:
                for match in _SPLITTER.finditer(part.translate(self._classes)):
                    numbers += self._word(part[match.start() : match.end()])
        return numbers

    def _word(self, word: str) -> tuple[int, ...]:
        known = self._remembered.get(word)
        if known is None:
            letters = word.encode().decode("latin-1").translate(self._letters)
            whole = self._ids.get(letters)
            known = (whole,) if whole is not None else self._cut(letters)
            if len(self._remembered) > MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[word] = known
        return known

    def _cut(self, letters: str) -> tuple[int, ...]:
        cuts = [place for place, pair in enumerate(pairwise(letters), 1) if pair not in self._joined]
        numbers: list[int] = []
        for start, end in pairwise([0, *cuts, len(letters)]):
            numbers += self._merged(letters[start:end])
        return tuple(numbers)

    def _merged(self, letters: str) -> list[int]:
        pieces = list(letters)
        while len(pieces) > 1:
            rank, pair = min((self._rank.get(pair, len(self._rank)), pair) for pair in pairwise(pieces))
            if rank == len(self._rank):
                break
            pieces = _join(pieces, pair)
        return [self._ids[piece] for piece in pieces]


def _join(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    joined, place = [], 0
    while place < len(pieces):
        if pieces[place] == pair[0] and pieces[place + 1 : place + 2] == [pair[1]]:
            joined.append(pair[0] + pair[1])
            place += 2
        else:
            joined.append(pieces[place])
            place += 1
    return joined


def _sound(text: str) -> str:
    """The text with each lone surrogate, which has no UTF-8, replaced as the daemon's JSON reader does."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def load() -> Vocabulary:
    """The vocabulary that the package carries."""
    stored = json.loads(Path(__file__).with_name("vocabulary.json").read_text(encoding="utf-8"))
    return Vocabulary(stored["tokens"], stored["merges"], stored["kinds"])
