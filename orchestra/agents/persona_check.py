"""What a persona file says of others: experts that nobody is, knowledge bases that are not there, circles.

The loader looks at one file alone, so that a persona stays usable whatever becomes of the others; this is what
`personas check` finds beyond that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from orchestra.agents.persona_file import LANGUAGES, line_naming, parsed
from orchestra.agents.persona_template import template
from orchestra.agents.personas import Library
from orchestra.errors import PersonaInvalid, PersonaMissing
from orchestra.model.persona import Persona
from orchestra.retrieval.terms import HAN_CHARACTER
from orchestra.texts import Words

MOST_HAN, MOST_WORDS = 250, 160  # of a seed memory, beyond which it is remarked on; the window is not known here


class Remark(NamedTuple):
    """Something that is wrong between files, with its line; not `broken` where it may be made good without a change."""

    line: int
    said: Words
    broken: bool = True


def remarks(persona: Persona, path: Path, library: Library, has_base: Callable[[str], bool]) -> list[Remark]:
    """What is wrong with the experts and the knowledge that the persona in the file at `path` names; empty where nothing is."""
    found = [*_of_experts(persona, library), *_of_knowledge(persona, has_base), *_of_template(persona, path), *_of_length(persona)]
    return [Remark(line_naming(path, name), said, broken) for name, said, broken in found]


def _of_experts(persona: Persona, library: Library) -> Iterator[tuple[str, Words, bool]]:
    names = library.names()
    for name in persona.experts:
        if "://" in name:
            continue
        if name == persona.name:
            yield name, Words(f"the expert {name} is the persona itself", f"专家 {name} 就是该角色自己"), True
        elif name not in names:
            near = ", ".join(library.near(name))
            en, zh = (f"; there is: {near}", f"；相近的有：{near}") if near else ("", "")
            yield name, Words(f"the expert {name} is nobody{en}", f"没有名为 {name} 的专家{zh}"), True
        elif circle := _way(name, persona.name, library):
            way = " -> ".join(circle)
            yield name, Words(f"the experts ask each other in a circle: {way}", f"专家之间循环询问：{way}"), True


def _of_knowledge(persona: Persona, has_base: Callable[[str], bool]) -> Iterator[tuple[str, Words, bool]]:
    for name in persona.knowledge:
        if not has_base(name):
            yield name, Words(
                f"the knowledge base {name} is not there yet (orchestra knowledge add PATH --name {name})",
                f"知识库 {name} 尚不存在（orchestra knowledge add 路径 --name {name}）",
            ), False


def _of_template(persona: Persona, path: Path) -> Iterator[tuple[str, Words, bool]]:
    for said in unfilled(persona, path):
        yield "", said, False


def unfilled(persona: Persona, path: Path) -> Iterator[Words]:
    """What still stands in the persona's file as `personas new` wrote it."""
    for language in LANGUAGES:
        begun = parsed(template(persona.name, language), path)
        if any(persona.seed_memory.get(spoken) == text for spoken, text in begun.seed_memory.items()):
            yield Words("the seed memory is still the one that `personas new` wrote", "种子记忆仍是 `personas new` 写入的模板")
        elif set(begun.examples) & set(persona.examples) or set(begun.description.items()) & set(persona.description.items()):
            yield Words("description or examples are still those that `personas new` wrote", "说明或示例仍是 `personas new` 写入的模板")


def _of_length(persona: Persona) -> Iterator[tuple[str, Words, bool]]:
    """Each request sends the seed memory whole: a long one takes window and time from every question."""
    for language, seed in persona.seed_memory.items():
        han, words = len(HAN_CHARACTER.findall(seed)), len(seed.split())
        if language == "zh" and han > MOST_HAN:
            yield "", Words(f"the seed memory has {han} Han characters; {MOST_HAN} are enough", f"种子记忆有 {han} 个汉字；{MOST_HAN} 个足够"), False
        elif language != "zh" and words > MOST_WORDS:
            yield "", Words(f"the seed memory has {words} words; {MOST_WORDS} are enough", f"种子记忆有 {words} 个单词；{MOST_WORDS} 个足够"), False


def _way(name: str, goal: str, library: Library) -> tuple[str, ...]:
    """The shortest way along experts' experts from `name` back to `goal`; empty where there is none."""
    ways: dict[str, tuple[str, ...]] = {name: (goal, name)}
    open_ends = deque([name])
    while open_ends:
        here = open_ends.popleft()
        for following in _experts(here, library):
            if following == goal:
                return (*ways[here], goal)
            if following not in ways:
                ways[following] = (*ways[here], following)
                open_ends.append(following)
    return ()


def _experts(name: str, library: Library) -> tuple[str, ...]:
    try:
        return library.persona(name).experts
    except (PersonaInvalid, PersonaMissing):  # said where that file is looked at
        return ()
