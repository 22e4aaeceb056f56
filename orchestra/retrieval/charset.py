"""Bytes of unknown origin as text: pages and files that name a wrong character encoding, or none.

UTF-8 is believed before anything that a page says of itself, since other text is hardly ever valid UTF-8 by
accident. Then each encoding that is named or plausible reads a sample, and the readings are compared by how common
their characters are: text read in a wrong encoding is made of rare ones.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

# What pages mean by these names: the wider encoding that browsers take (https://encoding.spec.whatwg.org/#names-and-labels).
_LABELS = {
    "gb18030": "gb2312 gbk x-gbk gb_2312-80 chinese cp936 gb18030",
    "big5hkscs": "big5 big5-hkscs x-x-big5 cp950 big-5",
    "cp932": "shift_jis shift-jis sjis x-sjis windows-31j ms_kanji cp932",
    "euc_jp": "euc-jp x-euc-jp",
    "cp949": "euc-kr ks_c_5601-1987 ksc5601 windows-949 korean cp949",
    "cp1252": "iso-8859-1 iso8859-1 iso_8859-1 latin1 latin-1 l1 ascii us-ascii windows-1252 cp1252",
    "cp1254": "iso-8859-9 latin5 windows-1254",
    "cp874": "tis-620 windows-874",
    "hz": "hz-gb-2312",
    "iso2022_jp": "iso-2022-jp",
    "koi8_r": "koi8-r",
    "koi8_u": "koi8-u",
    "mac_roman": "macintosh",
    "utf_8": "utf-8 utf8",
    "utf_16_le": "utf-16 utf-16le unicode",
    "utf_16_be": "utf-16be",
    **{f"cp{n}": f"windows-{n}" for n in (1250, 1251, 1253, 1255, 1256, 1257, 1258)},
    **{f"iso8859_{n}": f"iso-8859-{n}" for n in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
}
ALIASES = {label: codec for codec, labels in _LABELS.items() for label in labels.split()}
GUESSES = ("gb18030", "big5hkscs", "cp932", "euc_jp", "cp949", "cp1252", "cp1251")
MARKS = (
    (codecs.BOM_UTF8, "utf_8"),
    (codecs.BOM_UTF32_LE, "utf_32_le"),  # begins like the next one
    (codecs.BOM_UTF16_LE, "utf_16_le"),
    (codecs.BOM_UTF16_BE, "utf_16_be"),
)
HEAD = 4096  # bytes in which a page says its encoding
SAMPLE = 6000  # bytes that each encoding reads
NAMED = 0.2  # how much better a guess has to read than what the page names

_SAYS = re.compile(rb"""<(?:meta|\?xml)\b[^>]{0,400}?(?:charset|encoding)\s{0,9}=\s{0,9}["']?\s{0,9}([\w.:-]{2,40})""", re.IGNORECASE)
_PLAIN = re.compile(rb"[\n\r<>\x00]+")  # bytes that are second to none of another character, in any of the encodings

# The most frequent characters of modern Chinese in both scripts, of Japanese, and syllables of Korean.
_HAN = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实"
    "日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东声提立及比员"
    "解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山金指克许统区保至队形社便空决治展马科司五基眼书非则听白却界达光放强即像难且权思王象"
    "完设式色路记南品住告类求据程北边死张该交规万取拉格望觉术领共确传师观清今切院让识候带导争运请网页版式服线首图片评论编辑阅读语言城市历史首都河流位于森林决定早晨阳光探险"
    "這個們來為國說時會對過發後裡種現當沒動開從實軍無與長機關點業將兩間問應戰頭體見產東聲員論處義氣題爾別變總電數報結務場計資許統區隊決馬書聽達強難權設記類據張該規萬覺術領確傳師觀讓識帶導爭運還進麼經樣學"
    "給話門樂歲兒寫讀車風飛買賣錢銀號線網頁圖評論編輯閱語於並產樣愛親請謝歷史臺灣灣際選舉"
    "気円社県駅際応発広図駆読売経済関東京対実転楽学総検続毎様変効歩価党営団労働択薬単戦帰帯弁沢込私達昔今朝夜何処"
)
_HANGUL = (
    "이다는을에의가고하한로기지사리서도인자시정대부스나은를수있어해일들과아그제적원보라마주전상여구게되선소장공성조관안유어동생국연"
    "면것만와비세회합니까입습우계신요경용문행업했었으며던때물말년월간발중히오각같미개방영화실내외치학교산주음식민족역사도시"
)
COMMON = frozenset(_HAN)
SYLLABLES = frozenset(_HANGUL)
_CYRILLIC = frozenset("оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё")
_JAPANESE = ("cp932", "euc_jp", "iso2022_jp")


def decode(data: bytes, *, declared: str = "") -> str:
    """`data` as text, whatever it is; `declared` is the encoding that came with it, believed where the text bears it out."""
    for mark, name in MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    named = [name for label in (declared, _said(data)) if (name := known(label))]
    sure = _wide(data, named) or _escaped(data, named) or _utf8(data)
    if sure:
        return data.decode(sure, "replace")
    sample = _sample(data)
    candidates = dict.fromkeys([*(name for name in named if name not in ("utf_16_le", "utf_16_be")), *GUESSES])
    scores = {name: plausibility(sample.decode(name, "replace"), name) + NAMED * (name in named) for name in candidates}
    return data.decode(max(scores, key=lambda name: scores[name]), "replace")


def known(label: str) -> str:
    """The codec that a page means by this name; empty for a name that is none, or that no page should use."""
    return ALIASES.get(label.strip(" \t\r\n\"';").lower(), "")


def plausibility(text: str, codec: str) -> float:
    """How much `text`, read with `codec`, looks like something written: the mean over its characters beyond ASCII."""
    total, count, before = 0.0, 0, " "
    for place, c in enumerate(text):
        if c > "\x7f":
            after = text[place + 1 : place + 2]
            count += 1
            total += _weight(c, before, after, codec)
        before = c
    return total / count if count else 0.0


def _weight(c: str, before: str, after: str, codec: str) -> float:
    code = ord(c)
    if c == "\ufffd" or code < 0xA0 or 0xE000 <= code < 0xF900:
        return -3.0  # no character, or one that nobody assigned
    if code < 0x250:
        return _latin(c, before, after)
    if 0x400 <= code < 0x460:
        return _cyrillic(c, before, after)
    if c in COMMON:
        return 1.0
    if 0x3041 <= code < 0x3100:  # written in Japanese; GB 2312 and Big5 have kana too
        return 0.9 if codec in _JAPANESE else -0.3
    if 0xAC00 <= code < 0xD7A4:
        return 1.0 if c in SYLLABLES else -0.2
    if 0x3400 <= code < 0xA000 or code >= 0x20000:
        # a Chinese character between Latin letters is an accented letter that was read together with its neighbour
        return -0.8 if _ascii_letter(before) and _ascii_letter(after) else -0.1
    if 0x3000 <= code < 0x3040 or 0xFF00 <= code < 0xFF5F:
        return 0.4
    return _other(c)


def _other(c: str) -> float:
    if "\uff61" <= c <= "\uff9f":  # half-width kana: what single bytes become in Shift-JIS
        return -0.8
    if "\u2010" <= c <= "\u2027" or c in "\u20ac\u2122":
        return 0.3
    return 0.6 if unicodedata.category(c).startswith("L") and c < "\u2000" else -0.4


def _latin(c: str, before: str, after: str) -> float:
    if not c.isalpha():
        return 0.1 if c in "\xa0«»°§·©®£" else -0.6
    if ord(before) > 0x7F or after > "\x7f":  # accented letters stand alone
        return -0.6
    return 0.8 if _ascii_letter(before) or _ascii_letter(after) else -0.4


def _cyrillic(c: str, before: str, after: str) -> float:
    if c.lower() not in _CYRILLIC or _ascii_letter(before) or _ascii_letter(after):
        return -0.4
    # a capital within a word: the letters of another Cyrillic encoding
    return -0.6 if c.isupper() and before.isalpha() and before.islower() else 0.6


def _ascii_letter(c: str) -> bool:
    return c.isascii() and c.isalpha()


def _said(data: bytes) -> str:
    found = _SAYS.search(data[:HEAD])
    return found[1].decode("ascii", "replace") if found else ""


def _wide(data: bytes, named: list[str]) -> str:
    """The byte order of text in two-byte units without a mark: a side where ASCII, or the blanks of it, leave zeros."""
    head = data[:HEAD]
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > 0.05 * (len(head) // 2 or 1) and max(even, odd) > 4 * min(even, odd):
        return "utf_16_be" if even > odd else "utf_16_le"
    return next((name for name in named if name.startswith("utf_16") and even + odd), "")


def _utf8(data: bytes) -> str:
    """UTF-8, where `data` is that, but for its end, where it may have been cut."""
    try:
        codecs.getincrementaldecoder("utf_8")().decode(data, final=False)
    except UnicodeDecodeError as error:
        # a stray byte among much that is right is an accident
        around = data[max(0, error.start - 32768) : error.start + 32768].decode("utf_8", "replace")
        right = sum(c > "\x7f" and c != "\ufffd" for c in around)
        return "utf_8" if right > 20 * around.count("\ufffd") else ""
    return "utf_8"


def _escaped(data: bytes, named: list[str]) -> str:
    """The encodings of seven bits, which nothing but their escapes gives away."""
    if b"\x1b$B" in data[:65536] and b"\x1b(" in data[:65536]:
        return "iso2022_jp"
    return "hz" if "hz" in named and b"~{" in data[:65536] else ""


def _sample(data: bytes) -> bytes:
    """Runs of `data` that hold bytes beyond ASCII, whole characters of them, until there is enough to judge."""
    parts: list[bytes] = []
    size = 0
    for run in _PLAIN.split(data[: 2**20]):
        if not run.isascii():
            parts.append(run[:SAMPLE])
            size += len(parts[-1])
        if size >= SAMPLE:
            break
    return b"\n".join(parts)
