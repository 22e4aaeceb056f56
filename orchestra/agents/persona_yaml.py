"""YAML of a persona file's front matter, without what makes it dangerous or ambiguous, and its faults in words of our own.

Anchors and aliases, tags, merge keys and the same key twice are refused, within limits of depth and size. PyYAML says
what it expected of its tokens, in English; whoever wrote the file reads here what stands there and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from orchestra.texts import Words

FIRST = 2
"""The line of the file on which the front matter begins, below the ---."""
DEEPEST = 10
MOST_NODES = 1000  # keys and values together; a thousand keys alone would take longer than the guard may
Places = dict[tuple[str, ...], int]
_MERGE_TAG = "tag:yaml.org,2002:merge"
_TAB = Words("a tab stands here; indent with spaces", "此处是制表符；请用空格缩进")
_INDENT = Words("the indent does not fit the lines above", "缩进与上面的行不一致")
_OPEN = Words(
    "the {bracket} that opens here is not closed, or something in it lacks a comma or quotes", "此处的 {bracket} 没有闭合，或其中缺少逗号或引号"
)
_QUOTE = Words("the quote that opens here is not closed", "此处的引号没有闭合")
_ESCAPE = Words("after \\ stands what is no escape; write \\\\, or take single quotes", "\\ 之后不是有效的转义；请写 \\\\，或改用单引号")
_BLOCK = Words("after | or > the text begins on the next line", "| 或 > 之后，文字应从下一行开始")
_SECOND = Words("a second document begins here; one is all there can be", "此处开始了第二个文档；只能有一个")
# how PyYAML's message begins, what we say, and whether it is where the thing began that it could not finish
_PROBLEMS: tuple[tuple[str, Words, bool], ...] = (
    ("could not find expected ':'", Words("a key without a colon", "键后面缺少冒号"), True),
    ("mapping values are not allowed", Words(
        "no colon can stand here: check the indent, or put the value in quotes", "此处不能有冒号：请检查缩进，或给值加引号"), False),
    ("sequence entries are not allowed", Words("no list item can stand here; check the indent", "此处不能是列表项；请检查缩进"), False),
    ("expected <block end>", _INDENT, False),
    ("expected ',' or", _OPEN, True),
    ("found unexpected end of stream", _QUOTE, True),
    ("found unexpected document separator", _QUOTE, True),
    ("found unknown escape", _ESCAPE, False),
    ("expected escape sequence", _ESCAPE, False),
    ("expected chomping or indentation", _BLOCK, False),
    ("expected indentation indicator", _BLOCK, False),
    ("expected a comment or a line break", _BLOCK, False),
    ("but found another document", _SECOND, False),
    ("expected '<document start>'", _SECOND, False),
)  # fmt: skip
_OTHER = Words("this is no YAML; a value with signs of its own goes in quotes", "不是合法的 YAML；含特殊符号的值请加引号")
_CONTROL = Words("a character that no text file has", "包含不允许的控制字符")
_UNHELD = Words("a number or a date that cannot be read; as a text it goes in quotes", "无法读取的数字或日期；如为文字请加引号")


class Refused(Exception):
    """What the front matter may not hold, or what keeps it from being read; `line` of the file and `column` count from 1."""

    def __init__(self, line: int, column: int, said: Words) -> None:
        super().__init__(said.en)
        self.line, self.column, self.said = line, column, said


def read(text: str) -> tuple[Any, Places]:
    """The values in the front matter, and the line of each by the way to it. Raises `Refused`."""
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return (None if node is None else loader.construct_document(node)), dict(_places(node, ()))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        raise Refused(before.count("\n") + FIRST, len(before) - before.rfind("\n"), _CONTROL) from None
    except yaml.MarkedYAMLError as error:
        raise _unreadable(error, text) from None


def _places(node: yaml.Node | None, way: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    for key, line, child in _children(node):
        yield (*way, key), line
        yield from _places(child, (*way, key))


def _children(node: yaml.Node | None) -> Iterator[tuple[str, int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((str(key.value), key.start_mark.line + FIRST, child) for key, child in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from ((str(number), child.start_mark.line + FIRST, child) for number, child in enumerate(node.value))


def line_of(place: tuple[Any, ...], places: Places) -> int:
    """The line of the value at `place`, or of the last part of the way to it that there is."""
    way = tuple(str(part) for part in place)
    return next((places[way[:end]] for end in range(len(way), 0, -1) if way[:end] in places), FIRST)


def _unreadable(error: yaml.MarkedYAMLError, text: str) -> Refused:
    problem, mark = str(error.problem or ""), error.problem_mark or error.context_mark
    if "'\\t'" in problem:
        return _refused(mark, _TAB)
    for begins, said, where_it_began in _PROBLEMS:
        if problem.startswith(begins):
            mark = error.context_mark if where_it_began and error.context_mark else mark
            bracket = text[mark.index : mark.index + 1] if mark else ""
            return _refused(mark, Words(*(each.replace("{bracket}", bracket) for each in said)))
    return _refused(mark, _OTHER)


def _refused(place: Any, said: Words) -> Refused:
    """`place` is a mark, or what begins at one."""
    mark = getattr(place, "start_mark", place)
    return Refused(mark.line + FIRST, mark.column + 1, said)


def _too_deep(place: Any) -> Refused:
    return _refused(place, Words(f"nested deeper than {DEEPEST} levels", f"嵌套超过 {DEEPEST} 层"))


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, without what a list of plain settings never needs."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def fetch_flow_collection_start(self, token: Any) -> None:
        # the scanner runs ahead of the nodes, and what it remembers of open brackets grows with their square
        if self.flow_level >= DEEPEST:
            raise _too_deep(self.get_mark())
        super().fetch_flow_collection_start(token)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refused(event, Words("anchors and aliases are not allowed", "不允许使用锚点和别名"))
        if getattr(event, "tag", None):
            raise _refused(event, Words("tags are not allowed", "不允许使用标签"))
        if self._depth >= DEEPEST:
            raise _too_deep(event)
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _refused(event, Words(f"more than {MOST_NODES} keys and values", f"键和值的数量超过 {MOST_NODES}"))
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError:  # a number or a date that YAML reads and Python cannot hold
            raise _refused(node, _UNHELD) from None

    @staticmethod
    def _check_keys(node: yaml.MappingNode) -> None:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE_TAG:
                raise _refused(key, Words("a key must be a plain word", "键必须是普通的词"))
            if first := seen.get(key.value):
                again = f"the key {key.value!r} stands twice; the first time on line {first}"
                raise _refused(key, Words(again, f"键 {key.value!r} 重复出现；第一次在第 {first} 行"))
            seen[key.value] = key.start_mark.line + FIRST
