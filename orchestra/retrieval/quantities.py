"""Numbers, dates and measures of a text in one form: `3000万`, `三千万` and `30 million` are equal, and so are `km` and `公里`.

What a sentence counts or dates is what a model gets wrong most easily, and what can be compared exactly. A
kilometre is a thousand metres; a mile is not. Dates are compared as far as the sentence gives them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

# The unit in which a measure is compared: how many of it the spellings mean. Spellings in Latin letters are whole words.
_UNITS: dict[str, dict[str, str]] = {
    "m": {
        "1": "m metre metres meter meters 米 公尺", "1000": "km kilometre kilometres kilometer kilometers 公里 千米", "500": "里",
        "0.01": "cm centimetre centimetres centimeter centimeters 厘米", "0.001": "mm millimetre millimetres millimeter millimeters 毫米",
    },
    "mile": {"1": "mi mile miles 英里"}, "foot": {"1": "ft foot feet 英尺"}, "inch": {"1": "inch inches 英寸"},
    "g": {
        "1": "g gram grams gramme grammes 克", "1000": "kg kilogram kilograms kilo kilos 公斤 千克", "500": "斤",
        "0.001": "mg milligram milligrams 毫克", "1000000": "t tonne tonnes 吨",
    },
    "pound": {"1": "lb lbs pound pounds 磅"},
    "l": {"1": "l L litre litres liter liters 升", "0.001": "ml mL millilitre millilitres milliliter milliliters 毫升"},
    "s": {
        "1": "s sec second seconds 秒 秒钟", "60": "min mins minute minutes 分 分钟", "3600": "h hr hrs hour hours 小时 个小时 钟头",
        "0.001": "ms millisecond milliseconds 毫秒",
    },
    "day": {"1": "day days 天 日", "7": "week weeks 周 星期 个星期"},
    "month": {"1": "month months 月 个月", "12": "year years 年"},
    "m2": {"1": "m² m2 平方米", "10000": "ha hectare hectares 公顷", "1000000": "km² km2 平方公里 平方千米"},
    "km/h": {"1": "km/h kmh kph 公里/小时"}, "mph": {"1": "mph"},
    "%": {"1": "% percent", "10": "成"}, "point": {"1": "pp 个百分点 百分点"},
    "°C": {"1": "°C 摄氏度"}, "°F": {"1": "°F 华氏度"}, "degree": {"1": "° 度 degree degrees"},
    "byte": {
        "1": "byte bytes 字节", "1000": "kB KB kilobyte kilobytes", "1000000": "MB megabyte megabytes",
        "1000000000": "GB gigabyte gigabytes", "1000000000000": "TB terabyte terabytes",
    },
    "W": {"1": "W watt watts 瓦", "1000": "kW kilowatt kilowatts 千瓦", "1000000": "MW megawatt megawatts 兆瓦"},
    "Hz": {"1": "Hz hertz 赫兹", "1000000": "MHz", "1000000000": "GHz"}, "V": {"1": "V volt volts 伏"},
    "time": {"1": "times 倍"},
    "CNY": {"1": "yuan RMB CNY 元 块钱"}, "USD": {"1": "dollar dollars USD 美元"}, "EUR": {"1": "euro euros EUR 欧元"},
    "GBP": {"1": "GBP 英镑"}, "JPY": {"1": "yen JPY 日元"}, "HKD": {"1": "HKD 港元"}, "krone": {"1": "krone kroner kronor 克朗"},
}  # fmt: skip
_UNIT = {word: (unit, Decimal(size)) for unit, sizes in _UNITS.items() for size, words in sizes.items() for word in words.split()}
_SIGNS = {"$": "USD", "US$": "USD", "HK$": "HKD", "€": "EUR", "£": "GBP", "¥": "CNY"}
_SCALES = {"百": 2, "千": 3, "万": 4, "亿": 8, "hundred": 2, "thousand": 3, "million": 6, "billion": 9, "bn": 9, "trillion": 12}
_MONTHS = {name: n for n, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}


def _either(words: list[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_HAN = _either([word for word in _UNIT if not word[0].isalpha() or not word.isascii()])
_LATIN = _either([word for word in _UNIT if word[0].isalpha() and word.isascii()])
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|"
    r"Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_NTH = "(?:st|nd|rd|th)"
# The first alternative that fits takes the place; what it means is read from its span alone.
_QUANTITY = re.compile(
    r"(?=[\d前第$€£¥UHJFMASOND])(?:"
    rf"(?P<day>(?<!\d)\d{{4}}[-/]\d{{1,2}}[-/]\d{{1,2}}(?!\d))"
    rf"|(?P<year>前?(?<!\d)(?:\d{{3,4}}|(?<=前)\d{{1,2}})年(?!代)(?:\d{{1,2}}月(?:\d{{1,2}}[日号])?)?)"
    rf"|(?P<month>(?<!\d)\d{{1,2}}月(?:\d{{1,2}}[日号])?)"
    rf"|(?P<named>(?<!\d)\d{{1,2}}{_NTH}? (?:of )?{_MONTH}(?:,? \d{{4}}(?!\d))?"
    rf"|\b{_MONTH} \d{{1,2}}(?!\d){_NTH}?(?:,? \d{{4}}(?!\d))?|\b{_MONTH} (?:of )?\d{{4}}(?!\d)"
    rf"|\b(?!May\b|Mar\b|Dec\b){_MONTH}|(?<=[ni] )May\b)"
    rf"|(?P<decade>\d{{1,2}}世纪\d{{1,2}}年代|\d{{4}}(?:s\b|年代))"
    rf"|(?P<century>\d{{1,2}}(?:世纪|{_NTH}[ -]century))"
    rf"|(?P<time>(?<![\d:])\d{{1,2}}:\d{{2}}(?::\d{{2}})?(?![\d:])(?: ?[ap]\.?m\b)?)"
    rf"|(?P<score>(?<![\d.-])\d{{1,3}}(?:[-–]|比)\d{{1,3}}(?!\d|\.\d| ?(?:{_HAN})|[ -]?(?:{_LATIN})(?![A-Za-z\d])))"
    rf"|(?P<part>(?<![\d/])\d{{1,6}}/\d{{1,6}}(?![\d/]))"
    rf"|(?P<ordinal>第\d+|\d+{_NTH}\b)"
    rf"|(?P<plain>(?:(?:US|HK)?[$€£¥] ?)?\d+(?:\.\d+)*(?: ?[百千万亿]{{1,2}}|[ -]?(?:hundred|thousand|million|billion|trillion|bn)\b)?"
    rf"(?: ?[余多]?(?:{_HAN})|[ -]?(?:(?:{_LATIN})(?![A-Za-z\d])|per ?cent\b|percentage points?\b))?))"
)
_ANY = re.compile(r"\d|Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec")
_PLAIN = re.compile(r"(?P<sign>(?:US|HK)?[$€£¥])? ?(?P<value>[\d.]+)(?P<rest>.*)", re.DOTALL)
_SCALE = re.compile(rf"[ -]?([百千万亿]{{1,2}}|(?:{_either([s for s in _SCALES if s.isascii()])})\b)")
_SEPARATOR = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_IN_NAME = re.compile(r"(?<=[A-Za-z\d_.])\d")
_JOINED = re.compile(r" ?(?:[-–—~～至到或]|to|and|or) ?")
_EXACT_YEARS = re.compile(r"\d{4}")


class Quantity(NamedTuple):
    """A number with its unit, a date, a time, an ordinal or a score in the one form in which it is compared."""

    kind: str
    value: str
    place: int = 0  # where it stands in the text

    def implied(self) -> Iterator[tuple[str, str]]:
        """What it says, and what it says besides: a day lies in its month and in its year."""
        yield self.kind, self.value
        if self.kind == "date":
            year, month, day = self.value.split("|")
            for part in ((year, month, ""), (year, "", ""), ("", month, day), ("", month, "")):
                if any(part):
                    yield "date", "|".join(part)


def quantities(text: str) -> tuple[list[Quantity], str]:
    """The quantities of `text`, whose numbers are digits, in their order, and the text with blanks in their places."""
    if not _ANY.search(text):
        return [], text
    text = _SEPARATOR.sub("", text)
    found: list[Quantity] = []
    rest: list[str] = []
    end = 0
    bare: tuple[int, str] | None = None  # a number without a unit, of which the next one may tell the unit
    for match in _QUANTITY.finditer(text):
        kind, span = match.lastgroup or "", match[0]
        if kind == "plain" and _IN_NAME.match(text, match.start()):
            continue  # X2
        rest += [text[end : match.start()], " " * len(span)]
        quantity = _read(kind, span, match.start())
        if bare and quantity.kind == "number" and " " in quantity.value and _JOINED.fullmatch(text[end : match.start()]):
            found[bare[0]] = _measured(bare[1], _PLAIN.match(span), found[bare[0]].place)  # 80 to 120 kg
        bare = (len(found), span) if quantity.kind in ("number", "date") and span.strip().replace(".", "").isdigit() else None
        found.append(quantity)
        end = match.end()
    rest.append(text[end:])
    return found, "".join(rest)


def is_unit(word: str) -> bool:
    """Whether a word names a unit also where no number stands before it (`in megabytes`)."""
    return len(word) > 4 and (word in _UNIT or word + "s" in _UNIT)


def _read(kind: str, span: str, place: int) -> Quantity:
    digits = [number.lstrip("0") or "0" for number in re.findall(r"\d+", span)]
    if kind in ("day", "year", "month"):
        year, month, day = ["", *digits, ""][:3] if kind == "month" else [*digits, "", ""][:3]
        return Quantity("date", f"{'-' if span[0] == '前' else ''}{year}|{month}|{day}", place)
    if kind == "named":
        month = next(str(_MONTHS[name[:3].casefold()]) for name in re.findall("[A-Z][a-z]+", span))
        year = next((number for number in digits if len(number) == 4), "")
        return Quantity("date", f"{year}|{month}|{next((number for number in digits if len(number) < 3), '')}", place)
    if kind == "decade":
        value = digits[0] if len(digits) == 1 else f"{int(digits[0]) - 1}{digits[1]}"
        return Quantity("decade", value, place)
    if kind == "time":
        late = "p" in span and int(digits[0]) < 12
        return Quantity("time", ":".join([str(int(digits[0]) + 12) if late else digits[0], *digits[1:]]), place)
    if kind == "plain":
        return _measured(span, None, place)
    return Quantity(kind, "/".join(digits), place)


def _measured(span: str, like: re.Match[str] | None, place: int) -> Quantity:
    """The number with its unit; `like` is the number after it, whose unit it shares."""
    match = _PLAIN.match(span)
    assert match is not None
    rest = (like or match)["rest"]
    sign = (like or match)["sign"]
    value = match["value"].strip(".")
    power = 0
    if scale := _SCALE.match(rest):
        word, rest = scale[1], rest[scale.end() :]
        power = sum(_SCALES[c] for c in word) if word[0] in _SCALES and not word.isascii() else _SCALES[word]
    word = rest.strip(" -余多")
    unit, size = _UNIT.get(word, ("", Decimal(1)))
    if not unit and word:
        unit = "point" if word.startswith("percentage") else "%"
    unit = _SIGNS[sign] if sign else unit
    if not unit and not power:
        if _EXACT_YEARS.fullmatch(value) and value[0] in "12":
            return Quantity("date", f"{value}||", place)
        return Quantity("number", value, place)  # as it is written: version 3.10 is not 3.1
    if value.count(".") > 1:
        return Quantity("number", f"{value} {unit}", place)
    return Quantity("number", f"{_plain(Decimal(value) * size * 10**power)} {unit}".strip(), place)


def _plain(value: Decimal) -> str:
    whole = f"{value:f}"
    return whole.rstrip("0").rstrip(".") if "." in whole else whole
