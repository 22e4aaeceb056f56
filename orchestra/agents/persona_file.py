"""Reading one persona file: YAML front matter, then the seed memory in sections by language.

A persona file may come from anybody, and its text will stand first in every request. So YAML is taken without
what makes it dangerous or ambiguous - anchors and aliases, tags, merge keys, the same key twice -, within limits
of size and depth, and what is not known is refused with its line. Nothing in a text is ever filled in or run.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from orchestra.agents.persona_faults import said
from orchestra.agents.personas import NAME
from orchestra.errors import PersonaInvalid
from orchestra.model.language import language_of
from orchestra.model.messages import Language, Options
from orchestra.model.persona import Limits, Persona

LARGEST_FILE = 64 * 1024
LONGEST_FRONT = 16 * 1024  # characters: YAML is read one by one, and reading shall take less than a tenth of a second
DEEPEST = 10
MOST_NODES = 1000  # keys and values together; a thousand keys alone would take longer than the guard may
_FENCE = "---"
_SECTION = re.compile(r"^<!--\s*([A-Za-z-]+)\s*-->[ \t]*$", re.MULTILINE)
_BASE = "knowledge: "
_SEARCH = "search"
LANGUAGES: tuple[Language, ...] = ("zh", "en")
_MERGE_TAG = "tag:yaml.org,2002:merge"


def _as_written(tool: Any) -> Any:
    """YAML reads the item `- knowledge: NAME` as a mapping; as a tool it is one name."""
    match tool:
        case {"knowledge": str(name), **others} if not others:
            return _BASE + name
    return tool


Text = Annotated[str, Field(min_length=1, max_length=2000)]
Name = Annotated[str, Field(pattern=rf"^{NAME.pattern}$")]
ADDRESS = r"https?://[!-~]{1,500}"
Expert = Annotated[str, Field(pattern=rf"^(?:{NAME.pattern}|{ADDRESS})$")]
Tool = Annotated[str, BeforeValidator(_as_written), Field(pattern=rf"^(?:{_BASE}\S.{{0,200}}|{NAME.pattern}|{ADDRESS})$")]
Texts = dict[Annotated[str, Field(pattern="^(zh|en)$")], Text]


class _Strict(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Sampling(_Strict):
    """A persona changes text and sampling, never how the model is loaded: no `num_ctx`. `language` is that of its answers."""

    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=5)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    stop: Annotated[list[Text], Field(max_length=16)] | None = None
    repeat_penalty: Annotated[float, Field(ge=0, le=5)] | None = None
    repeat_last_n: Annotated[int, Field(ge=-1, le=1_000_000)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    deadline: Annotated[float, Field(gt=0)] | None = None
    language: Literal["zh", "en"] | None = None


class _Limits(_Strict):
    steps: Annotated[int, Field(ge=0, le=100)] | None = None
    seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None
    tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None


class _FrontMatter(_Strict):
    name: Name
    title: Texts = {}
    description: Annotated[Texts, Field(min_length=1)]
    languages: Annotated[list[Literal["zh", "en"]], Field(min_length=1, max_length=2)] | None = None
    follows_language: bool = True
    examples: Annotated[list[Text], Field(max_length=100)] = []
    tools: Annotated[list[Tool], Field(max_length=16)] = []
    experts: Annotated[list[Expert], Field(max_length=16)] = []
    knowledge: Annotated[list[Text], Field(max_length=16)] = []
    model: Text | None = None
    options: _Sampling = _Sampling()
    limits: _Limits = _Limits()


def read(path: Path) -> Persona:
    """The persona in the file at `path`, whose name is the file's. Raises `PersonaInvalid` with the line."""
    return parsed(_content(path), path)


def parsed(text: str, path: Path) -> Persona:
    """The persona that `text` describes; `path` names the file for the errors."""
    above, below, begins = _divided(text, path)
    front = _front_matter(above, path)
    if front.name != path.stem:
        raise _fault(path, 2, f"the name {front.name!r} differs from the file's", f"name {front.name!r} 与文件名不一致")
    memory = _sections(below, path, begins)
    return Persona(
        name=front.name,
        seed_memory=memory,
        title=front.title,
        description=front.description,
        languages=tuple(front.languages or (language for language in LANGUAGES if language in memory)),
        follows_language=front.follows_language,
        examples=tuple(front.examples),
        search=_SEARCH in front.tools,
        knowledge=_once(front.knowledge, (tool.removeprefix(_BASE) for tool in front.tools if tool.startswith(_BASE))),
        experts=_once(front.experts, (tool for tool in front.tools if tool != _SEARCH and not tool.startswith(_BASE))),
        model=front.model,
        options=_options(front),
        limits=Limits(**front.limits.model_dump()),
    )


def _divided(text: str, path: Path) -> tuple[str, str, int]:
    """The front matter, what stands below it, and the line on which that begins."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    if lines[0].rstrip() != _FENCE:
        raise _fault(path, 1, "the first line must be ---", "第一行必须是 ---")
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == _FENCE), None)
    if end is None:
        raise _fault(path, 1, "the front matter has no closing ---", "文件头缺少结尾的 ---")
    above = "\n".join(lines[1:end])
    if len(above) > LONGEST_FRONT:
        raise _fault(path, 1, f"the front matter is longer than {LONGEST_FRONT} characters", f"文件头超过 {LONGEST_FRONT} 个字符")
    return above, "\n".join(lines[end + 1 :]), end + 2


def _once(*lists: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain(*lists)))


def _options(front: _FrontMatter) -> Options:
    sampling = front.options.model_dump()
    sampling["stop"] = sampling["stop"] and tuple(sampling["stop"])
    return Options(**sampling)


def _fault(path: Path, line: int, detail: str, detail_zh: str) -> PersonaInvalid:
    return PersonaInvalid(path=str(path), line=line, detail=detail, detail_zh=detail_zh)


def _content(path: Path) -> str:
    """The file's text. A link, a device or anything else that is no plain file is not opened."""
    if path.is_symlink():
        raise _fault(path, 0, "it is a link; a persona must be a file of its own", "这是一个链接；角色必须是独立的文件")
    try:
        # O_NOFOLLOW: between the look and the opening it may have become a link; O_NONBLOCK: a pipe would wait
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        raise _fault(path, 0, f"it cannot be read ({error.strerror})", f"无法读取（{error.strerror}）") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _fault(path, 0, "it is no plain file", "不是普通文件")
    with os.fdopen(handle, "rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise _fault(path, 0, f"it is larger than {LARGEST_FILE // 1024} KiB", f"文件超过 {LARGEST_FILE // 1024} KiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _fault(path, line, "it is not UTF-8", "不是 UTF-8 编码") from None


# --- the front matter


def _front_matter(text: str, path: Path) -> _FrontMatter:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        values = None if node is None else loader.construct_document(node)
    except _Refused as refused:
        raise _fault(path, refused.line, refused.detail, refused.detail_zh) from None
    except yaml.YAMLError as error:
        raise _unreadable(error, text, path) from None
    except ValueError as error:  # a number or a date that YAML reads and Python cannot hold
        why = str(error).partition(":")[0]  # what follows is for who programs in Python
        raise _fault(path, 2, f"a value cannot be read: {why}", f"有一个值无法读取：{why}") from None
    if not isinstance(values, dict):
        raise _fault(path, 2, "the front matter must be a list of `key: value` lines", "文件头应由 `键: 值` 组成")
    try:
        return _FrontMatter.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        line = _line_of(node, [str(part) for part in first["loc"]])
        raise _fault(path, line, *said(first, _fields(first["loc"]))) from None


def _fields(place: Sequence[int | str]) -> list[str]:
    """The fields that there are where `place` is."""
    parts: dict[str, type[_Strict]] = {"options": _Sampling, "limits": _Limits}
    return list((parts[str(place[0])] if place[1:] and place[0] in parts else _FrontMatter).model_fields)


class _Refused(Exception):
    def __init__(self, place: Any, detail: str, detail_zh: str) -> None:
        super().__init__(detail)
        self.line, self.detail, self.detail_zh = getattr(place, "start_mark", place).line + 2, detail, detail_zh


def _too_deep(place: Any) -> _Refused:
    return _Refused(place, f"nested deeper than {DEEPEST} levels", f"嵌套超过 {DEEPEST} 层")


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
            raise _Refused(event, "anchors and aliases are not allowed", "不允许使用锚点和别名")
        if getattr(event, "tag", None):
            raise _Refused(event, "tags are not allowed", "不允许使用标签")
        if self._depth >= DEEPEST:
            raise _too_deep(event)
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _Refused(event, f"more than {MOST_NODES} keys and values", f"键和值的数量超过 {MOST_NODES}")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
        return node

    @staticmethod
    def _check_keys(node: yaml.MappingNode) -> None:
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE_TAG:
                raise _Refused(key, "a key must be a plain word", "键必须是普通的词")
            if key.value in seen:
                raise _Refused(key, f"the key {key.value!r} stands twice", f"键 {key.value!r} 重复出现")
            seen.add(key.value)


def _unreadable(error: yaml.YAMLError, text: str, path: Path) -> PersonaInvalid:
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        problem = str(getattr(error, "problem", "") or "not YAML")
        return _fault(path, mark.line + 2, f"not YAML: {problem}", f"不是合法的 YAML：{problem}")
    place = getattr(error, "position", 0)
    return _fault(path, text.count("\n", 0, place) + 2, "a character that no text file has", "包含不允许的控制字符")


def _line_of(node: yaml.Node | None, place: list[str]) -> int:
    """The line of the value at `place`, or of the last part of the way to it that there is."""
    if node is None:
        return 2
    line = node.start_mark.line + 2
    if place:
        for key, key_line, child in _children(node):
            if key == place[0]:
                return max(key_line, _line_of(child, place[1:]) if place[1:] else key_line)
    return int(line)


def _children(node: yaml.Node) -> Iterator[tuple[str, int, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        yield from ((str(key.value), key.start_mark.line + 2, child) for key, child in node.value)
    elif isinstance(node, yaml.SequenceNode):
        yield from ((str(number), child.start_mark.line + 2, child) for number, child in enumerate(node.value))


def line_naming(path: Path, name: str) -> int:
    """The line of a sound file's front matter on which an expert, a tool or a knowledge base of this name stands; 1 where none does."""
    above, _, _ = _divided(_content(path), path)
    node = _Loader(above).get_single_node()
    for key, _, child in _children(node) if node else ():
        if key in ("experts", "tools", "knowledge"):
            for _, line, item in _children(child):
                spoken = [value.value for _, _, value in _children(item)] or [str(item.value).removeprefix(_BASE)]
                if name in spoken:
                    return line
    return 1


# --- the seed memory


def _sections(body: str, path: Path, first_line: int) -> dict[str, str]:
    """The seed memory by language; a body without sections is in one language, its own."""
    marks = list(_SECTION.finditer(body))
    if not marks:
        if not body.strip():
            raise _fault(path, first_line, "there is no seed memory below the front matter", "文件头下面没有种子记忆")
        return {language_of(body): body.strip()}
    if body[: marks[0].start()].strip():
        raise _fault(path, first_line, "there is text before the first section", "第一个语言分节之前有文字")
    found: dict[str, str] = {}
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        language, text = mark[1], body[mark.end() : following.start() if following else None].strip()
        line = first_line + body.count("\n", 0, mark.start())
        if language not in ("zh", "en"):
            raise _fault(path, line, f"a section is zh or en, not {language}", f"分节的语言应为 zh 或 en，而不是 {language}")
        if language in found:
            raise _fault(path, line, f"the section {language} stands twice", f"分节 {language} 重复出现")
        if not text:
            raise _fault(path, line, f"the section {language} is empty", f"分节 {language} 没有内容")
        found[language] = text
    return found
