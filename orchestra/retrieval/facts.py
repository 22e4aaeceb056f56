"""What of a sentence must stand in its source: quantities, names, negations, directions - and the words around them.

Text is read clause by clause, because a negation, a number or a name belongs to what is said beside it. The reading
is of words, not of meaning: no dictionary, no model, and the same for Chinese and English.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple, TypeVar

from orchestra.retrieval.numerals import with_digits
from orchestra.retrieval.quantities import Quantity, is_unit, quantities
from orchestra.retrieval.terms import COMMON, HAN, HAN_CHARACTER, plain_word, terms

T = TypeVar("T")
MANY = 40  # clauses of one sentence; of more, none is compared: a page may be written to take time
# A comma between groups of digits or in a list of single words is no border; a full-width one is.
_FULL_WIDTH = str.maketrans({"，": "; ", "；": "; ", "：": "; ", "！": "。", "？": "。", "（": " (", "）": ") "})
_CLAUSE = re.compile(r"[;。!?\n()]|,(?!\d| \d{4}\b)|:(?!\d)| - | — |\b(?:and|while|but|whereas|although|unless|except)\b|而|但")
_BETWEEN = re.compile(r"\bbetween (\d{1,12}(?:[.,]\d{1,12})?) and (?=\d)")
_WORD = re.compile(rf"[`'\"]?((?:(?![{HAN}])[^\W_])(?:(?![{HAN}])\w|[.'’+#-](?=(?![{HAN}])\w))*)")
_NAME = re.compile(r"\d*[^\W\d_]*[A-Z]|.*[\d_]")
_TITLE = re.compile(rf"《([^《》\n]{{1,40}})》|([{HAN}]{{1,12}}(?:[·・][{HAN}]{{1,12}}){{1,4}})")

# what denies, in both languages; a prohibition denies too, so that "allowed" cannot stand for "prohibited"
_BOUNDS = re.compile(
    r"(?=[nau不至最非无未否是能莫没除])(?:(?P<most>\b(?:no|not) more than\b|\bat most\b|\bup to\b|\bnot exceed(?:ing)?\b|不得?超过|不高于|不多于|不得多于|不大于|至多|最多)"
    r"|(?P<least>\b(?:no|not) (?:less|fewer) than\b|\bat least\b|不得?少于|不得?低于|不小于|至少|最少)"
    r"|(?P<other>\bnot only\b|\bno doubt\b|不仅|不但|不过|不同|不少|不断|不久|不锈钢|不良|非常|非洲|无论|不管|未来|否则|"
    r"是否|能否|无线|莫斯科|没收|除非|无锡))"
)
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|without|cannot|nobody|nothing|unlike|unable|"
    r"fails? to|failed to|refuse[ds]?|den(?:y|ies|ied)|lack(?:s|ed|ing)?|"
    r"prohibit(?:s|ed)?|bann?(?:ed|s)?|forbid(?:s|den)?|reject(?:s|ed)?|hardly|barely)\b|n['’]t\b|"
    r"并非|没有|否认|拒绝|禁止|严禁|禁用|不|没|未|无|非|勿|莫|禁",
    re.IGNORECASE,
)
_AXES = """
increase increased increases increasing rise rose risen rises rising grow grew grown grows climb climbed raise raised higher 增加 增长 上升 提高 上涨
| decrease decreased decreases decreasing fall fell fallen falls falling drop dropped decline declined reduce reduced lower 减少 下降 降低 下跌
gain gained gains win won wins | lose lost loses loss
before prior earlier 之前 以前 | after following later 之后 以后
more over above exceed exceeds exceeded larger greater 高于 超过 多于 大于 以上 | less under below fewer smaller 低于 少于 小于 不足 不到 以下
last final 最后 末次 | initial
maximum max 最大 最高 最长 | minimum min 最小 最低 最短
all every each both 所有 全部 | some few several 部分 有些
must required 必须 | may might optional
most 最多 | least fewest 最少
accept accepted allow allowed permit permitted 允许 可以 准许 | disallow disallowed
enable enabled enables 启用 开启 打开 | disable disabled disables 停用 关闭
open opened opens 开放 | close closed closes 闭馆
longer 更长 | shorter 更短
early 提前 | late delayed 推迟 延迟 延后
import imports imported 进口 | export exports exported 出口
buy bought | sell sold
north northern | south southern
east eastern | west western
left | right
true | false
hot warm | cold
start started begin began | end ended
active | inactive
always | never
only 只 仅 只有 |
"""
# Han characters of which one turned into the other turns the sentence
_OPPOSITES = {c: d for a, b in (pair.split("/") for pair in (
    "前/后 上/下 高/低 大/小 多/少 长/短 增/减 升/降 涨/跌 快/慢 新/旧 东/西 南/北 左/右 内/外 早/晚 首/末 热/冷 买/卖 开/关 男/女 进/出 正/负 胜/败 先/后").split())
    for c, d in ((a, b), (b, a))}  # fmt: skip
# Characters that hold a sentence together, whoever it speaks of: a new one is no new name.
FUNCTIONAL = frozenset("的了是吗呢吧啊么和与或这那哪谁很有在于为以及其之而且也都将从到对等并就还又再所因则若但能会可要被把个只位名座项件种约共全该此每一已曾时中由使后来这些人天年月日")
_RELATIONS = re.compile(r"\b(than|instead of|rather than|unlike|into|from)\b")
_HAN_RELATIONS = frozenset("比由被把从")
_ENDINGS = ("ations", "ation", "ings", "ing", "ions", "ion", "ied", "ies", "ed", "es", "ly", "er", "e", "s")


def _axes() -> dict[str, tuple[int, bool]]:
    poles: dict[str, tuple[int, bool]] = {}
    for number, line in enumerate(_AXES.replace("\n|", " |").strip().splitlines()):
        for pole, words in enumerate(line.split("|")):
            poles |= {word: (number, bool(pole)) for word in words.split()}
    return poles


_POLES = _axes()
_DIRECTION = re.compile("|".join(sorted((word for word in _POLES if not word.isascii()), key=len, reverse=True)))


class Clause(NamedTuple):
    """What one clause says. `items` has everything that is compared, in its order; the sets have what must agree."""

    items: tuple[str, ...]  # stems of words, pairs of Han characters, names and quantities as they are compared
    content: frozenset[str]
    facts: tuple[Quantity, ...]
    known: frozenset[tuple[str, str]]  # the quantities and all that they imply
    names: frozenset[str]
    words: frozenset[str]  # every Latin word in its plain form: where a name may be found
    characters: frozenset[str]
    directions: frozenset[str]
    bounds: frozenset[str]
    relations: frozenset[tuple[str, str]]
    negations: int
    text: str


def normal(text: str) -> str:
    """`text` in the one form in which it is read: width of characters, quotes, numbers in digits."""
    digits = with_digits(unicodedata.normalize("NFKC", text.translate(_FULL_WIDTH)).replace("’", "'"))
    return _BETWEEN.sub(r"\1 to ", digits)


@lru_cache(maxsize=2048)
def clauses(sentence: str) -> tuple[Clause, ...]:
    """The clauses of a sentence that say anything; a list's members stay in the clause that begins it."""
    groups: list[list[Clause]] = []
    for part in _parts(normal(sentence)):
        clause = _clause(part)
        if not clause.items and not clause.negations and not clause.directions:
            continue
        if groups and len(clause.items) <= 1 and (clause.facts or clause.names) and not clause.negations:
            groups[-1].append(clause)
        else:
            groups.append([clause])
    return tuple(_joined(group) if group[1:] else group[0] for group in groups[: MANY + 1])


def _parts(text: str) -> list[str]:
    parts, end = [], 0
    for border in _CLAUSE.finditer(text):
        parts.append(text[end : border.start()])
        end = border.end() if border[0].isascii() and not border[0].isalpha() else border.start()
    return [part for part in (*parts, text[end:]) if part.strip()]


def _joined(parts: Sequence[Clause]) -> Clause:
    return Clause(
        items=tuple(item for part in parts for item in part.items),
        content=union([part.content for part in parts]),
        facts=tuple(fact for part in parts for fact in part.facts),
        known=union([part.known for part in parts]),
        names=union([part.names for part in parts]),
        words=union([part.words for part in parts]),
        characters=union([part.characters for part in parts]),
        directions=union([part.directions for part in parts]),
        bounds=union([part.bounds for part in parts]),
        relations=union([part.relations for part in parts]),
        negations=parts[0].negations,
        text=" ".join(part.text for part in parts),
    )


def union(parts: Sequence[frozenset[T]]) -> frozenset[T]:
    """All that stands in one of the sets."""
    return frozenset[T]().union(*parts)


def _clause(text: str) -> Clause:
    facts, rest = quantities(text)
    bounds = frozenset(match.lastgroup or "" for match in _BOUNDS.finditer(rest))
    without = _BOUNDS.sub(_blank, rest) if bounds else rest
    bare, negations = _NEGATION.subn(_blank, without)
    han = not bare.isascii()
    directions = {match[0] for match in _DIRECTION.finditer(bare)} if han else set()
    plain = _DIRECTION.sub(_blank, bare) if directions else bare
    placed: list[tuple[int, str]] = [(fact.place, f"{fact.kind} {fact.value}") for fact in facts]
    names, words = set(), set()
    for match in _WORD.finditer(bare):
        word, plain_form, item, named = _word(match[1])
        words.add(plain_form)
        if word in _POLES:
            directions.add(word)
        elif item:
            placed.append((match.start(), item))
            if named:
                names.add(plain_form)
    pairs: list[str] = []
    if han:
        names.update(match[1] or match[2] for match in _TITLE.finditer(rest))
        pairs = [term for term in terms(plain) if len(term) == 2 and HAN_CHARACTER.match(term)]
    placed += _placed(pairs, plain)
    items = tuple(item for _, item in sorted(placed))
    return Clause(
        items=items,
        content=frozenset(items),
        facts=tuple(facts),
        known=frozenset(part for fact in facts for part in fact.implied()),
        names=frozenset(names),
        words=frozenset(words),
        characters=frozenset(HAN_CHARACTER.findall(plain) if han else ()),
        directions=frozenset(directions),
        bounds=bounds - {"other"},
        relations=_relations(bare, pairs),
        negations=negations,
        text=text,
    )


@lru_cache(maxsize=4096)
def _word(text: str) -> tuple[str, str, str, bool]:
    """A Latin word in lower case, in its plain form, as it is compared ("" where any text may have it), and whether it is a name."""
    plain = plain_word(text)
    named = bool(_NAME.match(text)) or is_unit(plain)
    item = "" if plain in COMMON else plain if named else stem(plain)
    return text.casefold(), plain, item, named


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _placed(pairs: list[str], text: str) -> list[tuple[int, str]]:
    placed, place = [], 0
    for pair in pairs:
        place = max(text.find(pair, place), place)
        placed.append((place, pair))
    return placed


def _relations(text: str, pairs: list[str]) -> frozenset[tuple[str, str]]:
    """What stands behind a word of comparison or of agency: exchanged, the sentence says something else."""
    found = {(pair[0], pair[1]) for pair in pairs if pair[0] in _HAN_RELATIONS}
    for match in _RELATIONS.finditer(text):
        for following in islice(_WORD.finditer(text, match.end()), 4):  # an article or two may stand between
            word = plain_word(following[1])
            if word not in COMMON:
                found.add((match[1], stem(word)))
                break
    return frozenset(found)


def stem(word: str) -> str:
    """A Latin word without the ending of its form: `finished` and `finishing` are one."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def poles(directions: frozenset[str]) -> set[tuple[int, bool]]:
    """What the words of direction mean: the axis, and which way."""
    return {_POLES[word] for word in directions}


def opposed(said: Clause, found: Clause) -> bool:
    """Whether a direction of `said` is turned round in `found`: more for less, before for after."""
    turned = poles(found.directions - said.directions)
    if any((axis, not pole) in turned for axis, pole in poles(said.directions - found.directions)):
        return True
    if {"most", "least"} & said.bounds and {"most", "least"} & found.bounds and said.bounds != found.bounds:
        return True
    return any(_OPPOSITES[c] in found.characters and c not in found.characters for c in said.characters & _OPPOSITES.keys())
