"""Where a prompt brings numbered passages, the stand-in answers out of them, and says which.

What a pipeline does with citations can only be tested against an answer that has some. So the passages' own
sentences are the answer: the one or two that share most words with the question, each with its number.
The same comparison of words chooses what the corpus has to say to a prompt, and the member of an enumeration.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

SILENT = {"en": "The sources do not say.", "zh": "资料中没有提到。"}
"""The answer where no sentence has a word of the question."""

SHARE_OF_HAN = 0.2
CONTENT, LOOSE, COMMON = 1.0, 0.2, 0.05
SECOND = 0.7
"""A second sentence is quoted as well when it scores at least this much of the best."""

SHORT = 120
"""Characters of a last paragraph that may be the asker's: which language to answer in, for instance."""

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_HAN_RUN = re.compile(f"[{_HAN}]+")
_WORD = re.compile(rf"(?:(?![{_HAN}])[^\W_])+")
_LETTERS = re.compile(r"[^\W\d_]")
_TURN = "<|start_header_id|>user<|end_header_id|>\n\n"
_SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\n"
_CONTROL = re.compile(r"<\|[a-z_]+\|>")
_PASSAGE = re.compile(r"^\[(\d{1,3})\][ \t]+", re.MULTILINE)
_SENTENCE = re.compile(
    r"[^\n]+?(?:[。！？]+[”’」』）]*"
    r"|(?<!\bMr)(?<!\bMrs)(?<!\bDr)(?<!\bSt)(?<!\b[A-Z])[.!?]+[\"')\]”’]*(?=\s+[^a-z\s]|\s*(?:\n|\Z))"
    r"|(?=\n|\Z))"
)
_FINISHED = re.compile(r"[.!?。！？][\"')\]”’」』）]*\Z")
_FENCE = re.compile(r"^-{3,} .* -{3,}[ \t]*$", re.MULTILINE)
_LABEL = re.compile(r"^[ \t]*(?:question|问题|q)[ \t]*[:：][ \t]*(.+)$", re.IGNORECASE | re.MULTILINE)
_ASKING = re.compile(r"[^\n.。!！?？]*[?？]")

_COMMON_WORDS = frozenset(
    "a about all also an and any are as at be been but by can could did do does for from give had has have he her him "
    "his how i if in into is it its just like me may might more most much my no not of on one only or other our out "
    "over please s say she should so some such t tell than that the their them then there these they this those to up "
    "us was we were what when where which who whom whose why will with would you your "
    "什么 怎么 怎样 如何 为什 哪里 哪个 哪些 是什 多少 请问 我们 你们 他们 可以 一个 这个 那个 没有 就是 是不 不是 有什".split()
)
_LOOSE_HAN = frozenset("的是了在和有不也吗呢吧把被很我你他她它这那哪")


class Passage(NamedTuple):
    """One numbered passage of a prompt."""

    number: int
    text: str


def language(text: str) -> str:
    """"zh" where more than a fifth of the letters are Han characters, else "en"."""
    han = sum(map(len, _HAN_RUN.findall(text)))
    return "zh" if han > SHARE_OF_HAN * len(_LETTERS.findall(text)) else "en"


def last_turn(text: str) -> str:
    """What the user said last in a rendered prompt; all of it, without control tokens, where no turns are marked."""
    _, marked, turn = text.rpartition(_TURN)
    return turn.partition("<|eot_id|>")[0] if marked else _CONTROL.sub(" ", text)


def system_text(text: str) -> str:
    """The system's turn in a rendered prompt, which says who answers; empty where there is none."""
    _, marked, turn = text.partition(_SYSTEM)
    return turn.partition("<|eot_id|>")[0] if marked else ""


@lru_cache(maxsize=1024)
def words(text: str) -> frozenset[str]:
    """The words of a text for comparing: Latin ones in lower case without a plural's s, and pairs of Han characters."""
    found = {_stem(word.lower()) for word in _WORD.findall(text)}
    for run in _HAN_RUN.findall(text):
        found.update([run[place : place + 2] for place in range(len(run) - 1)] or [run])
    return frozenset(found)


def _stem(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def weight(word: str) -> float:
    """How much a shared word says: 1, or less for one that stands in every text."""
    if word in _COMMON_WORDS:
        return COMMON
    return LOOSE if len(word) < 3 and not _LOOSE_HAN.isdisjoint(word) else CONTENT


def shared(first: str, second: str) -> float:
    """How many words two texts share, each by its weight."""
    return math.fsum(weight(word) for word in words(first) & words(second))


def sentences(text: str) -> list[str]:
    """The sentences of a text in either script, without the space around them."""
    return [sentence for match in _SENTENCE.finditer(text) if (sentence := match[0].strip())]


def passages(turn: str) -> tuple[str, list[Passage]]:
    """The question and the numbered passages of a user's turn; no passages where there are no lines that begin with `[1] `."""
    marks = list(_PASSAGE.finditer(turn))
    if not marks:
        return turn, []
    ends = [mark.start() for mark in marks[1:]] + [len(turn)]
    texts = [turn[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
    texts[-1], after = _apart(texts[-1])
    found = [Passage(int(mark[1]), text) for mark, text in zip(marks, texts, strict=True)]
    return _question(_FENCE.sub("", turn[: marks[0].start()]), after), found


def _apart(last: str) -> tuple[str, str]:
    """The last passage's text, and what stands apart after it: behind a fence, or a question or a short line by itself."""
    fence = _FENCE.search(last)
    if fence:
        return last[: fence.start()].strip(), last[fence.end() :].strip()
    body, apart, after = last.rpartition("\n\n")
    if apart and (len(after) <= SHORT or _LABEL.search(after) or _ASKING.search(after)):
        return body, after
    return last, ""


def _question(before: str, after: str) -> str:
    both = f"{before}\n{after}"
    found = _LABEL.findall(both) or _ASKING.findall(both) or [before.strip() or after]
    return "\n".join(found).strip()


def answer(text: str) -> str | None:
    """An answer out of the numbered passages in a rendered prompt's last user turn; None where it has none, or no question."""
    question, found = passages(last_turn(text))
    if not found or not question:
        return None
    quoted = [f"{sentence} [{passage.number}]" for sentence, passage in _best(question, found)]
    return " ".join(quoted) if quoted else SILENT[language(question)]


def _best(question: str, found: list[Passage]) -> list[tuple[str, Passage]]:
    wanted = words(question)
    candidates: list[tuple[str, Passage]] = []
    for passage in found:
        every = sentences(passage.text)
        # A heading or an address is quoted only where a passage has nothing else.
        whole = [sentence for sentence in every if _FINISHED.search(sentence)]
        candidates += [(sentence, passage) for sentence in whole or every]
    common = Counter(word for sentence, _ in candidates for word in words(sentence) & wanted)
    rarity = {word: math.log(1 + len(candidates) / times) * weight(word) for word, times in common.items()}

    def score(candidate: tuple[str, Passage]) -> float:
        sentence, passage = candidate
        if shared(question, sentence) < CONTENT:
            return 0.0
        own = math.fsum(rarity[word] for word in words(sentence) & wanted)
        around = math.fsum(rarity.get(word, 0.0) for word in words(passage.text) & wanted)
        return own + 0.1 * around - 0.001 * len(sentence)

    ranked = sorted(candidates, key=score, reverse=True)
    best = [candidate for candidate in ranked[:1] if score(candidate) > 0]
    for other in ranked[1:]:
        if best and score(other) >= SECOND * score(best[0]) and words(other[0]) != words(best[0][0]):
            return [*best, other]
    return best
