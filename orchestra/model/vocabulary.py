"""A model's own vocabulary: from what `/api/show` (verbose) says to the tokens of a text.

The merging is `tiktoken`'s, fed with ranks. It joins two neighbours whenever together they are a token, where the engine
joins only the pairs of the model's list. Both come to the same for the tokens that come out of their own bytes by that list:
whatever stands side by side in a longer text was made by the very steps that make it alone, so that the only pair that can
become such a token is the last step of its making. So each token is made once when a vocabulary is built, and its last step
is its rank; ids need not follow it. A token that the list never makes has no rank, and is found only as a whole word.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

from orchestra.model.pretokenizers import TABLE

NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
# Ends of a turn: the engine takes them for control tokens also where a file calls them ordinary ones.
ENDS = frozenset({"<|eot_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "<|eom_id|>"})
MOST_REMEMBERED, LONGEST_REMEMBERED = 50_000, 100
# The regular expressions' engine goes back through a run of blanks step by step, and the longer it is the slower each is.
LONG_BLANKS = 200
_LONG_BLANKS = re.compile(rf"\s{{{LONG_BLANKS}}}")


class Encoding(Protocol):
    """As much of `tiktoken.Encoding` as is used."""

    def encode_ordinary(self, text: str) -> list[int]: ...


class Unsuitable(ValueError):
    """A vocabulary that cannot be rebuilt exactly; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a vocabulary is made of. `data` are the tokens' bytes by id (a control token's are its name), `ranks` say when a
    token is made of two (-1 = never); `unmade` are those found only as whole words. `begin`, `end`: -1 = no such token.
    """

    family: str
    data: list[bytes]
    ranks: array[int]
    specials: list[int]
    unmade: list[int]
    begin: int = -1
    end: int = -1


def suitable(info: dict[str, Any]) -> bool:
    """Whether `show`'s `model_info`, also without its long lists, tells of a vocabulary that can be rebuilt."""
    return info.get("tokenizer.ggml.model") == "gpt2" and info.get("tokenizer.ggml.pre") in TABLE


def parts_of(info: dict[str, Any]) -> Parts:
    """The parts in a verbose `model_info`. Raises `Unsuitable`."""
    if not suitable(info):
        raise Unsuitable("its way of cutting texts is not known")
    tokens, kinds, merges = (info.get(f"tokenizer.ggml.{name}") for name in ("tokens", "token_type", "merges"))
    if not (isinstance(tokens, list) and isinstance(kinds, list) and isinstance(merges, list) and len(tokens) == len(kinds)):
        raise Unsuitable("its lists are not all there")
    letters = _letters()
    bytes_of = {letter: byte for byte, letter in enumerate(letters)}
    specials = [n for n, kind in enumerate(kinds) if kind in (UNKNOWN, CONTROL, USER_DEFINED) or tokens[n] in ENDS]
    apart = frozenset(specials)
    data, ids = [], {}
    for number, token in enumerate(map(str, tokens)):
        plain = number not in apart and all(letter in bytes_of for letter in token)
        data.append(bytes([bytes_of[letter] for letter in token]) if plain else token.encode("utf-8", "replace"))
        if plain:
            ids[token] = number
    if any(letter not in ids for letter in letters):
        raise Unsuitable("some bytes are no token of it")
    ranks = _ranked(ids, _pairs(merges, ids), len(tokens))
    rules = TABLE[info["tokenizer.ggml.pre"]]
    return Parts(
        family=info["tokenizer.ggml.pre"],
        data=data,
        ranks=ranks,
        specials=specials,
        unmade=[number for token, number in ids.items() if len(token) > 1 and ranks[number] < 0] if rules.whole else [],
        begin=_added(info, "bos", rules.begins),
        end=_added(info, "eos", False),
    )


def _letters() -> list[str]:
    """How the files write each byte: as itself where Latin-1 can show it, the rest in order from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = dict(zip(shown, map(chr, shown), strict=True))
    hidden = [byte for byte in range(0x100) if byte not in letters]
    letters.update((byte, chr(0x100 + place)) for place, byte in enumerate(hidden))
    return [letters[byte] for byte in range(0x100)]


def _added(info: dict[str, Any], name: str, usual: bool) -> int:
    """The token that is put around every prompt, "bos" or "eos"; -1 = none is."""
    wanted = info.get(f"tokenizer.ggml.add_{name}_token")
    number = info.get(f"tokenizer.ggml.{name}_token_id")
    return number if isinstance(number, int) and (usual if wanted is None else wanted is True) else -1


Pairs = dict[int, tuple[int, int]]  # two ids in one number -> the rank of their merge, and what it makes


def _pairs(merges: Sequence[Any], ids: dict[str, int]) -> Pairs:
    pairs: Pairs = {}
    for rank, merge in enumerate(map(str, merges)):
        cut = merge.find(" ", 1)
        left, right, made = ids.get(merge[:cut]), ids.get(merge[cut + 1 :]), ids.get(merge[:cut] + merge[cut + 1 :])
        if left is not None and right is not None and made is not None:
            pairs.setdefault(left << 32 | right, (rank, made))
    return pairs


def _ranked(ids: dict[str, int], pairs: Pairs, size: int) -> array[int]:
    """When each token is made of two others, if it ever is."""
    ranks = array("q", [-1]) * size
    for token, number in ids.items():
        if len(token) > 1:
            made, rank = _merged([ids[letter] for letter in token], pairs)
            if len(made) == 1:
                ranks[number] = rank
    return ranks


def _merged(numbers: list[int], pairs: Pairs) -> tuple[list[int], int]:
    """The tokens after all merges, the earliest of the list first and the leftmost of equals; and the last one's rank."""
    none = (len(pairs) * 2**32, -1)
    last = -1
    while len(numbers) > 1:
        steps = [pairs.get(left << 32 | right, none) for left, right in pairwise(numbers)]
        first = min(steps)
        if first is none:
            break
        last, made = first
        place = steps.index(first)
        numbers[place : place + 2] = [made]
    return numbers, last


class Vocabulary:
    """The tokens of texts, as the engine makes them; making one imports `tiktoken`."""

    def __init__(self, parts: Parts) -> None:
        rules = TABLE[parts.family]
        self.data = parts.data
        self.around = (parts.begin >= 0) + (parts.end >= 0)  # tokens that every prompt has beside its text
        self._specials = sorted(((parts.data[n].decode(), n) for n in parts.specials), key=lambda pair: -len(pair[0]))
        self._patterns = rules.patterns
        self._unmade = {parts.data[n]: n for n in parts.unmade}
        apart = frozenset(parts.specials)
        single = {data: n for n, data in enumerate(parts.data) if len(data) == 1 and n not in apart}
        self._ids = dict(enumerate(single[bytes([byte])] for byte in range(0x100)))
        self._ids.update((rank + 0x100, n) for n, rank in enumerate(parts.ranks) if rank >= 0)
        # a family with one rule is cut and merged in one go
        self._text = self._encoding(rules.patterns[0]) if len(rules.patterns) == 1 and not parts.unmade else None
        self._words: dict[str, tuple[int, ...]] = {}

    def _encoding(self, pattern: str) -> Encoding:
        import tiktoken

        ranks = {self.data[number]: rank for rank, number in self._ids.items()}
        return tiktoken.Encoding("model", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})

    @cached_property
    def _piece(self) -> Encoding:
        """Merges a word that was cut already."""
        return self._encoding("(?s:.+)")

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens; `<|...|>` names a control token, as it does for the daemon."""
        numbers: list[int] = []
        for part in self._parted(text):
            numbers.extend([part] if isinstance(part, int) else self._plain(part))
        return numbers

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        return sum(1 if isinstance(part, int) else self._number(part) for part in self._parted(text))

    def _parted(self, text: str) -> list[str | int]:
        """The text with its control tokens apart: the longest names first, wherever they stand."""
        parts: list[str | int] = [text]
        for name, number in self._specials:
            if name in text:
                parts = [each for part in parts for each in ([part] if isinstance(part, int) else _split(part, name, number))]
        return [part for part in parts if part != ""]

    def _number(self, text: str) -> int:
        if self._text is not None and not _blank(text):
            return len(self._text.encode_ordinary(text))
        return sum(map(len, map(self._word, _cut(self._patterns, text))))

    def _plain(self, text: str) -> Iterable[int]:
        if self._text is not None and not _blank(text):
            return map(self._ids.__getitem__, self._text.encode_ordinary(text))
        return (number for word in _cut(self._patterns, text) for number in self._word(word))

    def _word(self, word: str) -> tuple[int, ...]:
        known = self._words.get(word)
        if known is None:
            whole = self._unmade.get(word.encode()) if self._unmade else None
            made = self._piece.encode_ordinary(word) if whole is None else ()
            known = tuple(self._ids[rank] for rank in made) if whole is None else (whole,)
            if len(self._words) > MOST_REMEMBERED:
                self._words.clear()
            if len(word) <= LONGEST_REMEMBERED:
                self._words[word] = known
        return known


def _cut(patterns: Sequence[str], text: str) -> Iterator[str]:
    words: Iterator[str] = iter((text,))
    for pattern in patterns:
        words = _found(pattern, words)
    return words


def _split(text: str, name: str, number: int) -> Iterator[str | int]:
    for place, part in enumerate(text.split(name)):
        if place:
            yield number
        yield part


def _found(pattern: str, texts: Iterator[str]) -> Iterator[str]:
    """What the pattern finds in each of the texts, and what it leaves between."""
    import regex  # type: ignore[import-untyped]

    found = regex.compile(pattern)  # `concurrent`: other threads go on while it searches
    for text in texts:
        place = 0
        for match in found.finditer(text, concurrent=True):
            if match.start() > place:
                yield text[place : match.start()]
            if match.group():
                yield match.group()
            place = match.end()
        if place < len(text):
            yield text[place:]


def _blank(text: str) -> bool:
    """Whether there are too many blanks in a row for the encoding."""
    if len(text) < LONG_BLANKS:
        return False
    return _LONG_BLANKS.search(text) is not None
