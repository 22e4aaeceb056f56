"""The words of a text for comparing texts: Latin words in their plain form, pairs of Han characters.

Chinese writes no spaces between words. Most words have two characters, so each pair that holds no grammatical
character counts as a word; it needs no dictionary and finds the two-character words that people search for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
HAN_CHARACTER = re.compile(f"[{HAN}]")
_TOKEN = re.compile(rf"([{HAN}]+)|(\d+(?:[.,]\d+)*)|((?:(?![{HAN}])[^\W\d_])(?:(?![{HAN}])(?:[^\W_]|['’]))*)")
_SEPARATOR = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")

# Characters that hold a Chinese sentence together, and words of both languages that any text may have: they say
# nothing about what a text is about.
GRAMMAR = frozenset("的了是吗呢吧啊么和与或这那哪谁很")
_COMMON = """
a about all also am an and any are as at be been being but by can could did do does for from had has have he her him his
how i if in into is it its just may me might more most much my no not of on one only or other our out over please shall
she should so some such tell than that the their them then there these they this those to too up us was we were what
when where which while who whom whose why will with would you your called name named explain mean
什么 怎么 怎样 如何 哪里 哪些 多少 几个 为何 我们 你们 他们 没有 不是 一个 一下 解释 介绍 告诉 说明 问题 回答 叫做
可以 可能 应当 应该 因为 因此 所以 如果 但是 而且 请问
"""
COMMON = frozenset(_COMMON.split())
_COMMON_HAN = re.compile("|".join([word for word in COMMON if not word.isascii()] + ["请"]))


def terms(text: str) -> tuple[str, ...]:
    """The words that `text` is about, in order, with repetitions."""
    return tuple(
        term for term in _terms(unicodedata.normalize("NFKC", text)) if term not in COMMON and term not in GRAMMAR
    )


def _terms(text: str) -> Iterator[str]:
    for han, number, word in _TOKEN.findall(text):
        if han:
            yield from _pairs(han)
        elif number:
            yield plain_number(number)
        elif word.casefold() not in COMMON:  # "does", before it loses its s
            yield plain_word(word)


def _pairs(run: str) -> Iterator[str]:
    if len(run) == 1:
        yield run
    for part in _COMMON_HAN.split(run):
        for place in range(len(part) - 1):
            pair = part[place : place + 2]
            if GRAMMAR.isdisjoint(pair):
                yield pair


def plain_number(number: str) -> str:
    """A number as it is compared: without separators of thousands (`6,300` is `6300`)."""
    return _SEPARATOR.sub("", number).rstrip(".,")


def plain_word(word: str) -> str:
    """A Latin word as it is compared: lower case, without a possessive and a plural's s."""
    word = word.casefold().replace("’", "'").removesuffix("'s").strip("'")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word
