"""Which earlier turns share most with a question: what a summary has lost is found again, word for word.

The store's full text says which turns of this dialogue's own chain hold the question's words; how much a word says is
counted in this dialogue alone (BM25's inverse document frequency; Robertson and Zaragoza, "The Probabilistic Relevance
Framework", 2009), numbers and names most. The best are then read sentence by sentence. Where too little is shared, nothing
is recalled: a turn that has nothing to do with the question is worse than none.
"""

from __future__ import annotations

import math
import re
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from orchestra.sessions.cutting import LONGEST_WORD, folded, pairs, runs
from orchestra.sessions.store import Store

READ = 24  # so many turns are read for the ranking
MOST_TURNS = 20_000  # of a longer dialogue the last so many are looked through
MOST_ROWS = 5_000  # a word that more messages have, of all dialogues told meanwhile, says nothing
MOST_WORDS = 40
FOLLOW_UP = 3  # a question with fewer words of its own is read together with the one before it
ENOUGH = 0.35  # the share of the question's words, by what they say, that a turn must have,
LITTLE = 0.2  # or, where it has several of them or an answer of the kind that is asked for
BESIDE_BEST = 0.5  # and of what the best turn has
NUMBER, NAME, BEFORE = 2.0, 1.5, 0.5  # what a word counts if it is one, or comes from the question before
ASKED, ANSWERED, CALLED_FOR = 0.6, 0.9, 0.8  # a sentence that asks, that the model said, that the turn replies to
UNSAID, UNSAID_PAIR = 0.8, 0.3  # a word that was never said speaks of something else; a pair of characters may be no word
IN_ONE = 0.5  # words that stand in one sentence count once more, by so much
OF_KIND = 1.25  # an answer of the kind that is asked for: an amount, a date, a name
COVERED = 0.4  # a word counts so much in the second turn where the first one has it
SHORT_REPLY = 80  # characters: what is said in so few is said to what went before
LONGEST_SENTENCE = 300  # characters
LONGEST_END = 1_000
LONGEST_SIDE = 20_000  # so much of a question or an answer is read

# words that hold a question together, and those by which people speak of remembering
_COMMON = frozenset(
    """a about again ago all also am an and any are as at be been before being but by call called can could did do does for from
    gave give given had has have he her him his how i if in into is it its just last let like long made may me mention mentioned
    might mine much many more most must my name named need no not now of off on one only or other our out over own please put
    said say see shall she should so some take taken tell than that the their them then there these they this those to told too
    up us use was we well were what when where which while who whom whose why will with would you your remember remind know
    want wanted wants go goes got get earlier mean hello hi thanks thank ok okay yes sure continue write explain describe example
    today tomorrow yesterday good s t re ll ve d m""".split()
)
_COMMON_HAN = re.compile(
    "什么时候|什么|多少|怎么样|怎么|怎样|如何|为什么|哪一个|哪一种|哪里|哪个|哪种|哪位|哪天|哪些|哪儿|几点|几个|多久|来着|"
    "请问|告诉|记得|提醒|帮我|一下|再说|一遍|之前|刚才|最后|最多|上次|以前|说过|给过|提到|我们|你们|他们|咱们|这个|那个|这边|那边|"
    "名字|叫做|可以|能够|需要|应该|知道|是不是|有没有|没有|不是|还是|以及|或者|因为|所以|但是|如果|已经|现在|一个|"
    "谢谢|你好|今天|明天|昨天|继续|接着|确定|解释|"
    "[的了是吗呢吧啊么和与或这那哪谁很我你他她它您在有要就都也还把被让给对叫说想会能去来到不没请几再做里好]"
)
# what kind of answer is asked for, and how a statement shows that it has one
_KINDS = (
    (r"how much|pay|cost|price|charge|fee|fare|budget|多少钱|价|花|费|预算", r"cost|price|charge|fee|euro|dollar|pound|[$€£¥]|[元块钱价]"),
    (r"phone|call|reach|contact|电话|手机|联系", r"\d[\d -]{5,20}\d"),
    (r"when|what time|date|deadline|time|几点|时候|哪天|几号|截止|日期", r"\d[:：]\d|\d ?(?:[月日号点]|o.clock|am|pm|[A-Z][a-z]{2,8}\b)"),
    (r"who|name|called|谁|叫|名", r"called|named|name|叫|[^.!?] [A-Z]"),
    (r"how many|number|code|pin|password|room|seat|cabin|gate|dose|reference|多少|几|号|码|剂量|座位", r"\d"),
)
_KINDS_OF_ANSWER = tuple((re.compile(asked, re.IGNORECASE), re.compile(told)) for asked, told in _KINDS)
_GOES_ON = re.compile(
    r"^\W{0,9}(?:and|or|but|then|also|what about|how about|那|还有|以及)|\b(?:it|its|that|there|they|them|those|this|one)\b|呢\W{0,9}$|[它这那]",
    re.IGNORECASE,
)
_NAME = re.compile(r"(?<=[^.!?。！？] )[A-Z][^\W_]*")
_SUFFIX = re.compile(r"(?<=.{4})(?:ings?|ions?|ies|ied|ers?|ic|ed|es|al|ly|or|e|y|s)$")
_ENDING = 5  # letters that may follow what a word begins with
_SENTENCE_END = re.compile(r"[。！？!?\n]+\s*|\.\s+|\Z")
_ASKS = ("?", "？")

_LAST = "SELECT p.seq, p.root, p.depth FROM turn t JOIN turn p ON p.seq = t.parent WHERE t.id = ?"
_NUMBER = "SELECT depth FROM turn WHERE id = ?"
_CHAIN = """
    WITH RECURSIVE chain(seq, parent) AS (
        SELECT seq, parent FROM turn WHERE seq = ?
        UNION ALL
        SELECT t.seq, t.parent FROM turn t JOIN chain c ON t.seq = c.parent AND t.seq < c.seq
        LIMIT ?)
    SELECT group_concat(seq) FROM chain"""
_READ = "SELECT substr(question, 1, ?), substr(answer, 1, ?), created FROM turn WHERE seq = ?"
_ROWS = "SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? LIMIT ?"


class Word(NamedTuple):
    """A word of a question as it is looked for: as it stands, or as the beginning of one; and what it counts.

    One that is not its `own` comes from the question before.
    """

    text: str
    begins: bool = False
    weight: float = 1.0
    own: bool = True

    def stands_in(self, text: str) -> bool:
        """Whether a text, folded, holds it."""
        at = text.find(self.text)
        if not self.text[0].isascii() or not self.text[0].isalnum():
            return at >= 0
        while at >= 0:
            end = at + len(self.text)
            last = end
            while last < len(text) and last <= end + _ENDING and text[last].isascii() and text[last].isalnum():
                last += 1
            before = at == 0 or not (text[at - 1].isascii() and text[at - 1].isalnum())
            if before and last - end <= (_ENDING if self.begins else 0):
                return True
            at = text.find(self.text, at + 1)
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """An earlier turn, with its number in the dialogue, what the turn before it had asked for, and the words it shares.

    `told` is False where these were only asked about.
    """

    number: int
    question: str
    answer: str
    called_for: str = ""
    created: float = 0.0
    score: float = 0.0
    told: bool = True
    fits: bool = True
    words: tuple[Word, ...] = ()


def recalled(
    store: Store, before: str, question: str, *, previous: str = "", standing: Collection[str] = (), limit: int = 2
) -> list[Recalled]:
    """The turns before the turn `before` (its id) that share most with the question, best first.

    `previous` is the question before this one, which a short one may refer to; the turns `standing` (ids) are none to be
    recalled. What shares too little has `fits` False.
    """
    if len(question) > 2 * LONGEST_END:  # what is asked stands at one end of what is pasted
        question = f"{question[:LONGEST_END]}\n{question[-LONGEST_END:]}"
    alone, together = words_of(question), words_of(question, previous[:LONGEST_END])
    # one that does not say that it goes on from the last may do so all the same
    attempts = [together] if _GOES_ON.search(question) or together == alone else [alone, together]

    def work(connection: sqlite3.Connection) -> list[Recalled]:
        found: list[Recalled] = []
        for words in attempts:
            found = _found(connection, before, question, words, standing) or found
            if any(turn.fits for turn in found):
                break
        return found[:limit]

    return store.database.read(work) if alone else []


def words_of(question: str, previous: str = "") -> tuple[Word, ...]:
    """The words of a question that say what it is about; of a short one's predecessor as well."""
    own = dict(_words(question))
    if previous and 0 < len(own) < FOLLOW_UP:
        for text, word in _words(previous):
            own.setdefault(text, word._replace(weight=BEFORE * word.weight, own=False))
    return tuple(own.values())[:MOST_WORDS]


def _words(text: str) -> Iterator[tuple[str, Word]]:
    names = {folded(name) for name in _NAME.findall(text)}
    for run, word in runs(text):
        if run:
            for part in _COMMON_HAN.split(run):
                yield from ((pair, Word(pair)) for pair in pairs(part))
                if len(part) == 1:
                    yield part, Word(part, begins=True)
        elif word not in _COMMON:
            yield word, _latin(word[:LONGEST_WORD], NAME if word in names else 1.0)


def _latin(word: str, weight: float) -> Word:
    if any(map(str.isdigit, word)):
        return Word(word, weight=NUMBER if len(word) > 2 else 1.0)
    stem = _SUFFIX.sub("", word) if len(word) > 4 else word
    return Word(stem, begins=len(stem) > 3, weight=weight)


def _found(
    connection: sqlite3.Connection, before: str, question: str, words: Sequence[Word], standing: Collection[str]
) -> list[Recalled]:
    numbers = _chain(connection, before)
    if not numbers:
        return []
    weights, scores = _weighed(connection, numbers, words)
    for turn in standing:
        (number,) = connection.execute(_NUMBER, (turn,)).fetchone() or (0,)
        scores.pop(int(number), None)
    best = sorted(scores, key=lambda number: (scores[number], number), reverse=True)[:READ]
    read = _read(connection, {number: seq for seq, number in numbers.items()}, best)
    kinds = [told for asked, told in _KINDS_OF_ANSWER if asked.search(question)]
    ranked = sorted((_ranked(turn, kinds, weights) for turn in read), key=_standing, reverse=True)
    if not ranked:
        return []
    first, *rest = ranked
    rest.sort(key=lambda turn: _adds(turn, first, weights), reverse=True)
    ranked = [first, *rest[:1], *sorted(rest[1:], key=_standing, reverse=True)]
    return [turn if turn.score >= BESIDE_BEST * first.score else replace(turn, fits=False) for turn in ranked]


def _chain(connection: sqlite3.Connection, before: str) -> dict[int, int]:
    """The rows of the turns that lead to a turn, without itself, and the turns' numbers."""
    found = connection.execute(_LAST, (before,)).fetchone()
    if found is None:
        return {}
    last, root, depth = map(int, found)
    if last - root + 1 == depth:  # as many rows as turns: nothing was said between them elsewhere, and all need not be walked through
        rows = list(range(max(root, last - MOST_TURNS + 1), last + 1))
    else:
        (joined,) = connection.execute(_CHAIN, (last, MOST_TURNS)).fetchone()
        rows = sorted(map(int, joined.split(",")))  # a row's number is greater than its parent's
    return dict(zip(rows, range(depth - len(rows) + 1, depth + 1), strict=True))


def _standing(turn: Recalled) -> tuple[float, int]:
    """The order of turns: of equals the later one, which may have corrected the other."""
    return turn.score, turn.number


def _adds(turn: Recalled, first: Recalled, weights: Mapping[Word, float]) -> tuple[float, int]:
    """What a second turn has that the first has not: two of a kind say little more than one, least two that only ask."""
    whole = sum(weights[word] for word in turn.words)
    fresh = sum(weights[word] * (COVERED if word in first.words else 1.0) for word in turn.words)
    return (turn.score * fresh / whole if whole else 0.0) * (1.0 if turn.told or first.told else COVERED), turn.number


def _weighed(
    connection: sqlite3.Connection, numbers: Mapping[int, int], words: Sequence[Word]
) -> tuple[dict[Word, float], dict[int, float]]:
    """What each word says in this dialogue, and for each turn (by its number) how much of the question it has."""
    first, last = 2 * min(numbers), 2 * max(numbers) + 1
    weights: dict[Word, float] = {}
    scores: dict[int, float] = defaultdict(float)
    newest = max(numbers.values())
    for word in words:
        rows = connection.execute(_ROWS, (f'"{word.text}"' + "*" * word.begins, first, last, MOST_ROWS)).fetchall()
        if len(rows) == MOST_ROWS:
            continue
        sides: dict[int, bool] = {}  # the turn's number -> whether its question has it
        for (row,) in rows:
            number = numbers.get(row // 2)
            if number is not None:
                sides[number] = sides.get(number, False) or row % 2 == 0
        weight = word.weight * math.log(1 + (len(numbers) - len(sides) + 0.5) / (len(sides) + 0.5))
        weights[word] = weight if sides else weight * (UNSAID if word.text.isascii() else UNSAID_PAIR)
        for number in sides:
            scores[number] += weight
        for number, asked in sides.items():
            if not asked and number < newest and number + 1 not in sides:  # the next turn may reply to it
                scores[number + 1] += CALLED_FOR * weight
    return weights, scores


def _read(connection: sqlite3.Connection, rows: Mapping[int, int], numbers: Sequence[int]) -> Iterator[Recalled]:
    texts: dict[int, tuple[str, str, float]] = {}
    for number in {number for chosen in numbers for number in (chosen, chosen - 1) if number in rows}:
        question, answer, created = connection.execute(_READ, (LONGEST_SIDE, LONGEST_SIDE, rows[number])).fetchone()
        texts[number] = (str(question), str(answer), float(created))
    for number in numbers:
        question, answer, created = texts[number]
        before = texts.get(number - 1)
        call = _call(before[1], question) if before else ""
        yield Recalled(number=number, question=question, answer=answer, called_for=call, created=created)


def _call(answer: str, reply: str) -> str:
    """What a turn replies to: the question that the answer before it ends with, for a short one its last sentence anyhow."""
    last = answer.rstrip()[-LONGEST_SENTENCE:]
    return sentences(last)[-1].strip() if last and (last.endswith(_ASKS) or len(reply) <= SHORT_REPLY) else ""


def _ranked(turn: Recalled, kinds: Sequence[re.Pattern[str]], weights: Mapping[Word, float]) -> Recalled:
    """The turn with its score: what its words say, most where they stand in one sentence that is no question."""
    parts = [(turn.called_for, CALLED_FOR)]
    parts += [(text, ASKED if text.rstrip().endswith(_ASKS) else 1.0) for text in sentences(turn.question)]
    parts += [(text, ANSWERED * (ASKED if text.rstrip().endswith(_ASKS) else 1.0)) for text in sentences(turn.answer)]
    best: dict[Word, float] = {}
    together, told = 0.0, False
    for text, counts in parts:
        plain = folded(text)
        here = [word for word in weights if word.stands_in(plain)]
        together = max(together, counts * sum(weights[word] for word in here))
        told = told or (bool(here) and counts > ASKED)
        for word in here:
            best[word] = max(best.get(word, 0.0), counts * weights[word])
    score = sum(best.values()) + IN_ONE * together
    of_kind = any(kind.search(turn.question + turn.answer) for kind in kinds)
    share = sum(weights[word] for word in best) / (sum(weights.values()) or 1.0)
    own = sum(word.own for word in best)
    fits = share >= (LITTLE if of_kind or own > 1 else ENOUGH) and (of_kind or own > 0)
    return replace(turn, score=score * (OF_KIND if of_kind else 1.0), told=told, fits=fits, words=tuple(best))


def sentences(text: str) -> list[str]:
    """A text's sentences, which together are the text; one of more than 300 characters comes in parts."""
    found, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        end = match.end()
        found += [text[at : min(end, at + LONGEST_SENTENCE)] for at in range(start, end, LONGEST_SENTENCE)]
        start = end
    return found
