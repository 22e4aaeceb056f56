"""Reading one persona file: YAML front matter, then the seed memory in sections by language.

A persona file may come from anybody, and its text will stand first in every request. So what is not known is refused
with its line, within limits of size, and of several faults each is told. Nothing in a text is ever filled in or run.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from orchestra.agents import persona_yaml
from orchestra.agents.persona_faults import said
from orchestra.agents.personas import NAME
from orchestra.errors import PersonaInvalid
from orchestra.errors.system import why
from orchestra.model.language import language_of
from orchestra.model.messages import Language, Options
from orchestra.model.persona import Limits, Persona
from orchestra.texts import Words

LARGEST_FILE = 64 * 1024
LONGEST_FRONT = 16 * 1024  # characters: YAML is read one by one, and reading shall take less than a tenth of a second
MOST_TOLD = 20  # faults of one file; the others are counted
_FENCE = "---"
_SECTION = re.compile(r"^<!--\s*([A-Za-z-]+)\s*-->[ \t]*$", re.MULTILINE)
_BASE = "knowledge: "
_SEARCH = "search"
LANGUAGES: tuple[Language, ...] = ("zh", "en")


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
    front, faults = _front_matter(above, path.stem)
    memory, others = _sections(below, begins)
    if front is None or faults or others:
        raise _refusal(path, sorted([*faults, *others], key=lambda fault: fault.line))
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


class _Fault(NamedTuple):
    line: int
    said: Words
    column: int = 0


def _refusal(path: Path, faults: Sequence[_Fault]) -> PersonaInvalid:
    """The first fault of a file, with the others; beyond `MOST_TOLD` they are only counted."""
    told = [
        PersonaInvalid(path=str(path), line=fault.line, column=fault.column, detail=fault.said.en, detail_zh=fault.said.zh)
        for fault in faults[:MOST_TOLD]
    ]
    return PersonaInvalid.first_of(told, len(faults))


def _fault(path: Path, line: int, detail: str, detail_zh: str) -> PersonaInvalid:
    return _refusal(path, [_Fault(line, Words(detail, detail_zh))])


def _content(path: Path) -> str:
    """The file's text. A link, a device or anything else that is no plain file is not opened."""
    if path.is_symlink():
        raise _fault(path, 0, "it is a link; a persona must be a file of its own", "这是一个链接；角色必须是独立的文件")
    try:
        # O_NOFOLLOW: between the look and the opening it may have become a link; O_NONBLOCK: a pipe would wait
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        reason = why(error)
        raise _fault(path, 0, f"it cannot be read ({reason.en})", f"无法读取（{reason.zh}）") from None
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


def _front_matter(text: str, stem: str) -> tuple[_FrontMatter | None, list[_Fault]]:
    try:
        values, places = persona_yaml.read(text)
    except persona_yaml.Refused as refused:
        return None, [_Fault(refused.line, refused.said, refused.column)]
    if not isinstance(values, dict):
        whole = Words("the front matter must be a list of `key: value` lines", "文件头应由 `键: 值` 组成")
        return None, [_Fault(persona_yaml.FIRST, whole)]
    front, faults = None, []
    try:
        front = _FrontMatter.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        faults = [_Fault(persona_yaml.line_of(each["loc"], places), _told(each, n)) for n, each in enumerate(found)]
    name = values.get("name")
    if isinstance(name, str) and NAME.fullmatch(name) and name != stem:
        differs = Words(f"the name {name!r} differs from the file's", f"name {name!r} 与文件名不一致")
        faults.append(_Fault(persona_yaml.line_of(("name",), places), differs))
    return front, faults


def _told(error: Any, number: int) -> Words:
    # the neighbours of a thousand misspelt keys would take a second to find
    return said(error, _fields(error["loc"]) if number < MOST_TOLD else ())


def _fields(place: Sequence[int | str]) -> list[str]:
    """The fields that there are where `place` is."""
    parts: dict[str, type[_Strict]] = {"options": _Sampling, "limits": _Limits}
    return list((parts[str(place[0])] if place[1:] and place[0] in parts else _FrontMatter).model_fields)


def line_naming(path: Path, name: str) -> int:
    """The line of a sound file's front matter on which an expert, a tool or a knowledge base of this name stands; 1 where none does."""
    above, _, _ = _divided(_content(path), path)
    values, places = persona_yaml.read(above)
    for key in ("experts", "tools", "knowledge"):
        for number, item in enumerate(values.get(key) or ()):
            if name == str(_as_written(item)).removeprefix(_BASE):
                return persona_yaml.line_of((key, number), places)
    return 1


# --- the seed memory


def _sections(body: str, first_line: int) -> tuple[dict[str, str], list[_Fault]]:
    """The seed memory by language; a body without sections is in one language, its own."""
    marks = list(_SECTION.finditer(body))
    if not marks:
        if not body.strip():
            return {}, [_Fault(first_line, Words("there is no seed memory below the front matter", "文件头下面没有种子记忆"))]
        return {language_of(body): body.strip()}, []
    faults = []
    if body[: marks[0].start()].strip():
        faults.append(_Fault(first_line, Words("there is text before the first section", "第一个语言分节之前有文字")))
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        language, text = mark[1], body[mark.end() : following.start() if following else None].strip()
        line = first_line + body.count("\n", 0, mark.start())
        if wrong := _section_fault(language, text, lines):
            faults.append(_Fault(line, wrong))
        found.setdefault(language, text)
        lines.setdefault(language, line)
    return found, faults


def _section_fault(language: str, text: str, lines: Mapping[str, int]) -> Words | None:
    if language not in LANGUAGES:
        return Words(f"a section is zh or en, not {language}", f"分节的语言应为 zh 或 en，而不是 {language}")
    if first := lines.get(language):
        return Words(f"the section {language} stands twice; the first time on line {first}", f"分节 {language} 重复出现；第一次在第 {first} 行")
    return None if text else Words(f"the section {language} is empty", f"分节 {language} 没有内容")
