"""As much of Go's template language as the templates of models use: what the daemon makes of one can be made here too.

Fields, variables, `if`, `with`, `range`, comparisons, `len`, `slice`, `index`. Anything else is `Unknown` and not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_STEPS = 100_000


class Unknown(Exception):
    """Something in a template that is not understood here."""


@dataclass(slots=True)
class Branch:
    """An `if`, `with` or `range`: its condition, what is done where it holds, and what else."""

    kind: str
    test: list[str]
    then: list[Node] = field(default_factory=list)
    otherwise: list[Node] = field(default_factory=list)
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """An expression that is printed, or whose value gets a name."""

    words: list[str]
    name: str = ""
    new: bool = True


Node = str | Action | Branch

_ACTION = re.compile(r"\{\{(?:-(?=\s))?(?:\s*/\*.*?\*/\s*|((?:\"(?:\\.|[^\"\\])*\"|`[^`]*`|(?!\}\}).)*?))(?:(?<=\s)-)?\}\}", re.DOTALL)
_WORD = re.compile(r"\s*(\"(?:\\.|[^\"\\])*\"|`[^`]*`|\$?\w*(?:\.\w+)+|\$\w*|\.|-?\d+\b|\w+|:=|=|[(),|])")
_ENDS = {"\\n": "\n", "\\t": "\t", '\\"': '"', "\\\\": "\\", "\\r": "\r"}
_BLANKS = " \t\r\n"


def parsed(source: str) -> list[Node]:
    """The nodes of a template. Raises `Unknown`."""
    if "{%" in source or "{#" in source:  # another language, which has {{ }} too
        raise Unknown("it is no Go template")
    tokens = _tokens(source)
    nodes, end = _block(tokens)
    if end:
        raise Unknown(f"{{{{ {' '.join(end)} }}}} without a beginning")
    return nodes


def _tokens(source: str) -> Iterator[str | list[str]]:
    """Text as it is, actions as their words; blanks beside `{{-` and `-}}` are gone."""
    place, trim = 0, False
    for match in _ACTION.finditer(source):
        text = source[place : match.start()]
        text = text.lstrip(_BLANKS) if trim else text
        yield text.rstrip(_BLANKS) if source.startswith("{{-", match.start()) else text
        place, trim = match.end(), match[0].endswith("-}}") and not match[0].endswith("{{-}}")
        if match[1] is not None:
            yield _split(match[1])
    text = source[place:]
    if "{{" in text:
        raise Unknown("an action that does not end")
    yield text.lstrip(_BLANKS) if trim else text


def _split(text: str) -> list[str]:
    words, place = [], 0
    text = text.rstrip()
    while place < len(text):
        match = _WORD.match(text, place)
        if match is None:
            raise Unknown(text[place : place + 40])
        words.append(match[1])
        place = match.end()
    if not words:
        raise Unknown("an empty action")
    return words


def _block(tokens: Iterator[str | list[str]], inside: bool = False) -> tuple[list[Node], list[str]]:
    """Nodes up to an `end` or `else`, and that one's words."""
    nodes: list[Node] = []
    for token in tokens:
        if isinstance(token, str):
            if token:
                nodes.append(token)
        elif token[0] in ("end", "else"):
            return nodes, token
        elif token[0] in ("if", "with", "range"):
            nodes.append(_branch(token, tokens))
        elif token[0] in ("define", "template", "block", "break", "continue"):
            raise Unknown(token[0])
        else:
            nodes.append(_action(token))
    if inside:
        raise Unknown("a block that does not end")
    return nodes, []


def _branch(words: list[str], tokens: Iterator[str | list[str]]) -> Branch:
    test = words[1:]
    names: tuple[str, ...] = ()
    if ":=" in test:
        cut = test.index(":=")
        names, test = tuple(word for word in test[:cut] if word != ","), test[cut + 1 :]
    branch = Branch(words[0], test, names=names)
    branch.then, end = _block(tokens, inside=True)
    if end[0] == "else":
        if len(end) > 1:  # else if: a branch of its own, which takes this one's end
            branch.otherwise = [_branch(end[1:], tokens)]
            return branch
        branch.otherwise, end = _block(tokens, inside=True)
        if end[0] != "end":
            raise Unknown("a second else")
    return branch


def _action(words: list[str]) -> Action:
    if len(words) > 2 and words[1] in (":=", "=") and words[0].startswith("$"):
        return Action(words[2:], words[0], words[1] == ":=")
    return Action(words)


def mentions(nodes: Sequence[Node], name: str) -> bool:
    """Whether any expression of a template has the field `name`."""
    return any(name in word.split(".")[1:] for words in _expressions(nodes) for word in words)


def _expressions(nodes: Sequence[Node]) -> Iterator[list[str]]:
    for node in nodes:
        if isinstance(node, Action):
            yield node.words
        elif isinstance(node, Branch):
            yield node.test
            yield from _expressions(node.then)
            yield from _expressions(node.otherwise)


def cut_after(nodes: Sequence[Node], name: str) -> tuple[list[Node], bool]:
    """The template up to the place where the field `name` is printed, and whether there is one."""
    kept: list[Node] = []
    for node in nodes:
        if isinstance(node, Branch):
            then, found = cut_after(node.then, name)
            if found and node.otherwise:
                raise Unknown(f"{name} before an else")
            otherwise, found = (node.otherwise, True) if found else cut_after(node.otherwise, name)
            kept.append(Branch(node.kind, node.test, then, otherwise, node.names))
            if found:
                return kept, True
        else:
            kept.append(node)
            if isinstance(node, Action) and mentions([node], name):
                return kept, True
    return kept, False


class Rendering:
    """One run of a template over its data."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._scope: dict[str, Any] = {"$": data}
        self._text: list[str] = []
        self._steps = 0

    def run(self, nodes: Sequence[Node]) -> str:
        """The text. Raises `Unknown`."""
        self._run(nodes, self._scope["$"])
        return "".join(self._text)

    def _run(self, nodes: Sequence[Node], dot: Any) -> None:
        outside = self._scope
        self._scope = _Inner(outside)
        for node in nodes:
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise Unknown("too long")
            if isinstance(node, str):
                self._text.append(node)
            elif isinstance(node, Branch):
                self._branch(node, dot)
            elif node.name:
                _named(self._scope, node.name, self._value(node.words, dot), new=node.new)
            else:
                self._text.append(_printed(self._value(node.words, dot)))
        self._scope = outside

    def _branch(self, node: Branch, dot: Any) -> None:
        value = self._value(node.test, dot)
        if not _true(value):
            self._run(node.otherwise, dot)
        elif node.kind != "range":
            self._within(node, dot if node.kind == "if" else value, (value,))
        elif not isinstance(value, list):
            raise Unknown("a range over something else than a list")
        else:
            for index, item in enumerate(value):
                self._within(node, item, (index, item)[-len(node.names) :])

    def _within(self, node: Branch, dot: Any, values: Sequence[Any]) -> None:
        outside = self._scope
        self._scope = _Inner(outside)
        for name, value in zip(node.names, values, strict=False):
            _named(self._scope, name, value, new=True)
        self._run(node.then, dot)
        self._scope = outside

    def _value(self, words: list[str], dot: Any) -> Any:
        """A pipeline: each command gets the value of the one before it as its last argument."""
        value: list[Any] = []
        for command in _parted(words):
            value = [self._command(command, dot, value)]
        return value[0]

    def _command(self, words: list[str], dot: Any, piped: list[Any]) -> Any:
        operands = list(_operands(words))
        first = operands[0] if operands else Unknown
        if isinstance(first, str) and first in _FUNCTIONS:
            values = [self._operand(each, dot) for each in operands[1:]] + piped
            try:
                return _FUNCTIONS[first](*values)
            except (TypeError, IndexError, KeyError) as error:
                raise Unknown(f"{first}: {error}") from None
        if len(operands) != 1 or piped:
            raise Unknown(" ".join(words))
        return self._operand(operands[0], dot)

    def _operand(self, operand: Any, dot: Any) -> Any:
        if isinstance(operand, list):
            return self._value(operand, dot)
        if operand[0] in "\"`":
            return _literal(operand)
        if operand.lstrip("-").isdigit():
            return int(operand)
        if operand in ("true", "false"):
            return operand == "true"
        start, *path = operand.split(".")
        if start and not start.startswith("$"):
            raise Unknown(operand)
        value = self._scope[start] if start else dot
        for name in filter(None, path):
            value = _field(value, name)
        return value


class _Inner(dict[str, Any]):
    """The names of a block, over those of the blocks around it."""

    def __init__(self, outer: dict[str, Any]) -> None:
        super().__init__()
        self.outer = outer

    def __missing__(self, name: str) -> Any:
        return self.outer[name]


def _named(scope: dict[str, Any], name: str, value: Any, *, new: bool) -> None:
    while not new and name not in scope and isinstance(scope, _Inner):
        scope = scope.outer
    if not new and name not in scope:
        raise Unknown(name)
    scope[name] = value


def _parted(words: list[str]) -> Iterator[list[str]]:
    depth, command = 0, list[str]()
    for word in words:
        depth += (word == "(") - (word == ")")
        if word == "|" and not depth:
            yield command
            command = []
        else:
            command.append(word)
    yield command


def _operands(words: list[str]) -> Iterator[Any]:
    """The words, what stands in brackets as one list."""
    place = 0
    while place < len(words):
        if words[place] != "(":
            yield words[place]
            place += 1
            continue
        start, depth = place + 1, 1
        while depth:
            place += 1
            if place >= len(words):
                raise Unknown("a bracket that does not close")
            depth += (words[place] == "(") - (words[place] == ")")
        yield words[start:place]
        place += 1


def _literal(word: str) -> str:
    if word[0] == "`":
        return word[1:-1]

    def character(match: re.Match[str]) -> str:
        if match[0] not in _ENDS:
            raise Unknown(match[0])
        return _ENDS[match[0]]

    return re.sub(r"\\.", character, word[1:-1])


def _field(value: Any, name: str) -> Any:
    if not isinstance(value, Mapping) or name not in value:
        raise Unknown(f".{name}")
    return value[name]


def _true(value: Any) -> bool:
    return bool(value)


def _printed(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return str(value)
    raise Unknown("a value that is printed in Go's way")


def _all(*values: Any) -> Any:
    return next((value for value in values if not _true(value)), values[-1])


def _any(*values: Any) -> Any:
    return next((value for value in values if _true(value)), values[-1])


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _all,
    "or": _any,
    "not": lambda value: not _true(value),
    "eq": lambda value, *others: value in others,
    "ne": lambda value, other: value != other,
    "lt": lambda value, other: value < other,
    "le": lambda value, other: value <= other,
    "gt": lambda value, other: value > other,
    "ge": lambda value, other: value >= other,
    "len": len,
    "slice": lambda value, start=0, end=None: value[start:end],
    "index": lambda value, place: value[place],
}
