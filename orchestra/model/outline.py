"""What kind of line this is: the criteria judge prose, and must not mistake a table for a loop.

Everything here is a guess from the looks of one line, made to err on the side of patience: a line taken for
structure is given more room before a repetition counts.
"""

from __future__ import annotations

import re
from enum import Enum, auto

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Han and kana, as the inside of a character class: scripts written without spaces between words."""


class Line(Enum):
    """The kinds of line that matter to the criteria."""

    BLANK = auto()
    PROSE = auto()
    ITEM = auto()
    BREAK = auto()
    """A heading, a rule, a caption: what follows is a new part."""
    ROW = auto()
    """Of a table, a log, a data file or a program without a fence."""


_NUMERAL = "[零〇一二三四五六七八九十百千\\d]"
_ITEM = re.compile(
    rf"""\s*(?:>\s+)?(?:
        [-*+•·▪◦‣–—]\s+(?:\[[ xX]\]\s*)?
      | [(（\[]?(?:\d{{1,4}}|[a-zA-Z]|[ivxIVX]{{1,5}})[.)）\]](?=\s|[{CJK}*])\s*
      | [(（]?(?:\d{{1,4}}|{_NUMERAL}{{1,4}})[、：:)）]\s*
      | 第{_NUMERAL}{{1,5}}[^\s，。]{{0,2}}[：:、，\s]\s*
      | (?:\*\*)?[A-Z][a-z]{{1,12}}\ \#?\d{{1,4}}(?:\*\*)?\s*[:.)-]\s*(?:\*\*)?
      | [\u2705\u2714\u2022\u25cf\u2b50\u27a1\u2192]\ufe0f?\s*
    )""",
    re.VERBOSE,
)
_HEADING = re.compile(r"\s{0,3}#{1,6}\s|[\W_]+$")
_CAPTION = re.compile(r"\s*(?:\*\*[^*]{1,80}\*\*[:：]?|[^。.!?！？]{1,40}[:：])\s*$")
_LOG = re.compile(
    r"""\s*(?:
        [\[(]?\d{1,4}[-/:.]\d{1,2}[-/:.]\d{1,4}
      | \[[\w\ :./-]+\]
      | (?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b
      | [A-Z][a-z]{2}\ +\d{1,2}\ \d\d:
    )""",
    re.VERBOSE,
)
_DATA = re.compile(r"\s*\||[^|]*\|[^|]*\||.*\S\t|[^,]+(?:,(?!\s|\d{3}\b)[^,]*){2,}$")
_CODE = re.compile(
    r"""(?:
        \ {4,}\S | \t
      | \s*(?://|/\*|<[/!a-zA-Z]|\$\ |>>>\ |\#\w|@\w|(?:import|from|def|class|return|print|echo|let|const|var)\b[ (])
      | .*(?:[;{}\[]|[)\]}],)\s*$
      | \s+(?:File\ ".*",\ line\ \d|at\ [\w.$<>]+\()
      | \s*[\w.\[\]]+\s*[-+*/]?=\s*\S+\s*$
    )""",
    re.VERBOSE,
)
# Most lines of Chinese: they begin with a character that numbers nothing, and hold no sign of anything else.
_PLAIN = re.compile(rf"(?![零〇一二三四五六七八九十百千第])[{CJK}][^|\t;{{}}\[\]=<>:：*,]*$")
_FENCE = re.compile(r"\s*(?:>\s*|[-*+]\s+|\d{1,3}[.)]\s+)*(`{3,}|~{3,})(.*)")


def kind(line: str) -> Line:
    """The kind of `line`, given without its line break; its first part will do where the rest is to come."""
    if _PLAIN.match(line):
        return Line.PROSE
    if not line or line.isspace():
        return Line.BLANK
    if _HEADING.match(line):
        return Line.BREAK
    if _ITEM.match(line):
        return Line.ITEM
    if _CAPTION.match(line):
        return Line.BREAK
    if _LOG.match(line) or _DATA.match(line) or _CODE.match(line):
        return Line.ROW
    return Line.PROSE


def body(line: str) -> str:
    """An item of a list without its bullet, number or label."""
    marker = _ITEM.match(line)
    return line[marker.end() :] if marker else line


def fence(line: str, opened: str) -> str:
    """The fence in force after `line`: the marks that opened it, or nothing outside of one."""
    found = _FENCE.match(line)
    if found is None:
        return opened
    marks, info = found.groups()
    if not opened:
        # "```x```" on one line is a piece of code within the line, and opens nothing
        return "" if marks[0] in info else marks
    closes = marks[0] == opened[0] and len(marks) >= len(opened) and not info.strip()
    return "" if closes else opened
