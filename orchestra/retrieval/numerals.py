"""Numbers that are written in words, as digits: `三千万` is `30000000`, `twenty-five` is `25`, `百分之五` is `5%`."""

from __future__ import annotations

import re

_SMALL = {
    **{word: n for n, word in enumerate((
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen").split())},
    **{word: 10 * n for n, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)},
}  # fmt: skip
_COUNTING = "|".join(sorted([*_SMALL, "hundred", "thousand"], key=len, reverse=True))
_WORDS = re.compile(rf"\b(?:{_COUNTING})(?:(?:-| and | )(?:{_COUNTING}))*\b", re.IGNORECASE)
_PRONOUN = re.compile(
    r"\b(?:no|any|every|each|this|that|the|another|which|some) one\b"
    r"|\bone (?:of|another|can|could|may|must|should|who|or|day|by|is|was|has)\b",
    re.IGNORECASE,
)
_NTH = {word: f"{n}th" for n, word in enumerate((
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth").split(), 1)}  # fmt: skip
_PART = re.compile(r"\b(?:(one|a|\d{1,3})[ -])?(half|third|quarter|fifth|tenth)(s?)\b(?= of\b)", re.IGNORECASE)
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fifth": 5, "tenth": 10}
# "second" after an article or a name's place is an ordinal; after a number it is a unit
_ORDINAL = re.compile(rf"\b(?<!\d )(?:{'|'.join(_NTH)})\b", re.IGNORECASE)
_TWICE = re.compile(r"\btwice\b", re.IGNORECASE)

_SPELLED = {*_SMALL, *_NTH, *_PARTS, "hundred", "thousand", "twice"} | {name + "s" for name in _PARTS}
_LETTERS = re.compile("[a-z]+")

_DIGITS = {**{c: n for n, c in enumerate("〇一二三四五六七八九")}, "零": 0, "两": 2}
_TENS = {"十": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10**4, "亿": 10**8}
_ANY = "[〇零一二三四五六七八九十百千万亿两]"
_PLAIN = "[〇零一二三四五六七八九]"
_RUN = re.compile(rf"(?<![\d.]){_ANY}{{1,20}}(?:点{_PLAIN}{{1,8}}(?!点))?")
_PERCENT = re.compile(rf"百分之({_ANY}{{1,20}}(?:点{_PLAIN}{{1,8}})?|\d{{1,12}}(?:\.\d{{1,8}})?)")
_SHARE = re.compile(rf"({_ANY}{{1,8}}|\d{{1,6}})分之({_ANY}{{1,8}}|\d{{1,6}})")
_HALF = re.compile(r"(?:(?<!\d)(\d{1,4})个)?半(?=个?小时|年|个月|天)")
# a single numeral is a number where something that is counted or measured follows
_COUNTED = frozenset(
    "年月日号天周岁时点分秒次条件台辆届章节页楼级头匹公里米克升吨元块度期阶倍成袋粒片盒瓶剂册艘架门组枚颗株棵斤尺亩小星勺人省国名个座家位部项种平英美欧厘毫州市县区支队段季张层"
)
_NO_NUMBER = frozenset("大些样起直定般切旦同致面方边人本段层")  # what makes another word of 一: 一些, 一样, 一直


def with_digits(text: str) -> str:
    """`text` with its numbers, shares and ordinals in digits."""
    if not text.isascii():
        text = _PERCENT.sub(lambda m: f"{_value(m[1])}%", text)
        text = _SHARE.sub(lambda m: f" {_value(m[2])}/{_value(m[1])} ", text)
        text = _RUN.sub(_converted, text)
        text = _HALF.sub(lambda m: f"{m[1] or 0}.5", text)
    if _SPELLED.isdisjoint(_LETTERS.findall(text.casefold())):
        return text
    text = _WORDS.sub(_counted, text)
    text = _PART.sub(_part, text)
    text = _ORDINAL.sub(lambda m: _NTH[m[0].casefold()], text)
    return _TWICE.sub("2 times", text)


def _counted(match: re.Match[str]) -> str:
    words = [word for word in re.split(r"[ -]", match[0].casefold()) if word != "and"]
    if words == ["one"] and _PRONOUN.search(match.string[max(match.start() - 9, 0) : match.end() + 9]):
        return match[0]
    whole = part = 0
    for word in words:
        if word == "thousand":
            whole, part = whole + max(part, 1) * 1000, 0
        elif word == "hundred":
            part = max(part, 1) * 100
        else:
            part += _SMALL[word]
    return str(whole + part)


def _part(match: re.Match[str]) -> str:
    count = match[1] if match[1] and match[1].isdigit() else "1"
    return f"{count}/{_PARTS[match[2].casefold()]}"


def _converted(match: re.Match[str]) -> str:
    run, text, end = match[0], match.string, match.end()
    following = text[end : end + 1]
    if run == "十" and following == "分" and text[end + 1 : end + 2] not in ("钟", "之"):
        return run  # 十分: very
    if len(run) == 1 and not _stands_alone(run, following, text[match.start() - 1 : match.start()]):
        return run
    if set(run) <= set(_LARGE) | {"百", "千"}:  # 千万: a scale, or "by all means"
        return run
    if len(run) == 2 and set(run) <= set(_DIGITS) and following != "年":
        return run  # 三四: some
    return _value(run)


def _stands_alone(numeral: str, following: str, before: str) -> bool:
    if before == "第":
        return True
    if numeral == "一":
        return following in _COUNTED and following not in _NO_NUMBER
    return numeral in _DIGITS | {"十": 10} and (following in _COUNTED or (numeral == "两" and bool(following)))


def _value(run: str) -> str:
    """The number that a run of Chinese numerals says, in digits."""
    if run[0].isdigit() and run[0].isascii():
        return run
    run, _, decimals = run.partition("点")
    tail = "." + "".join(str(_DIGITS[c]) for c in decimals) if decimals else ""
    if set(run) <= set(_DIGITS):
        return "".join(str(_DIGITS[c]) for c in run) + tail
    total = section = digit = 0
    for c in run:
        if c in _DIGITS:
            digit = _DIGITS[c]
        elif c in _TENS:
            section, digit = section + (digit or 1) * _TENS[c], 0
        else:
            below = section + digit
            total, section, digit = ((total + below) * _LARGE[c] if c == "亿" else total + (below or 1) * _LARGE[c]), 0, 0
    return str(total + section + digit) + tail
