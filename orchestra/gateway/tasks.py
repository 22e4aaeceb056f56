"""Open WebUI's requests beside a chat - its title, its tags, what to ask next, what to search for - answered without a model.

They come to the same model as the chat itself, the title even before it: on one slot they would delay the first word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from orchestra.agents.topics import words_of_topics
from orchestra.model.language import language_of
from orchestra.model.messages import Language, Message, Role
from orchestra.model.untrusted import visible
from orchestra.retrieval.need import needs_search
from orchestra.retrieval.terms import HAN
from orchestra.texts import Words

Kind = Literal["title", "tags", "follow_ups", "queries"]
HEADER = "x-orchestra-task"  # the connection's own header; Open WebUI fills in {{TASK}}
HEADED: dict[str, Kind] = {
    "title_generation": "title", "tags_generation": "tags", "follow_up_generation": "follow_ups", "query_generation": "queries",
}  # fmt: skip
MOST_HAN, MOST_WORDS = 20, 6
MOST = 3  # tags, and questions
LONGEST_TITLE, LONGEST_QUERY, READ = 80, 300, 4000  # characters
_BEGINS = "### Task:"
_OPEN, _CLOSE = "<chat_history>", "</chat_history>"
_FORM = re.compile(r'\bJSON format:\s{0,8}\{\s{0,8}"(' + "|".join(get_args(Kind)) + r')"\s{0,2}:')
_SAID = re.compile(r"^(USER|ASSISTANT|SYSTEM): ", re.MULTILINE)
_UNIT = re.compile(rf"[{HAN}]|[^\s{HAN}]+")
_SENTENCE = re.compile(r"[。！？!?；;]|\.(?=\s)")
_MARKS = "#>_-~|'‘’ \t"  # around a line
_QUOTES = dict.fromkeys(map(ord, '*`"“”「」『』'))  # anywhere in it
_TOPICS = {
    "law": Words("Law", "法律"),
    "computing": Words("Technology", "技术"),
    "orders": Words("Orders", "订单"),
    "translation": Words("Translation", "翻译"),
    "research": Words("Research", "检索"),
    "standards": Words("Standards", "标准"),
}
_GENERAL, _NEW = Words("General", "综合"), Words("New chat", "新对话")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One such request: its `kind`, and the dialogue that it is about."""

    kind: Kind
    said: tuple[Message, ...] = ()

    @property
    def asked(self) -> list[str]:
        """What the user has said in that dialogue."""
        return [message.content for message in self.said if message.role == "user" and message.content.strip()]

    @property
    def language(self) -> Language:
        """The language of that dialogue, in which the answer is."""
        return language_of("\n".join(self.asked)[:READ])


def recognised(headers: Mapping[str, str], messages: Sequence[Message]) -> Task | None:
    """The task that a request is, None for a chat; the header decides, and where there is none the shape of the prompt.

    Such a prompt begins `### Task:`, says its JSON format before the dialogue, and ends with the dialogue. A message of a
    person that begins like it, or instructions about documents (which begin so as well), are a chat.
    """
    prompt = messages[-1].content.strip() if messages and messages[-1].role == "user" else ""
    told = headers.get(HEADER)
    if told is not None and not told.strip():  # Open WebUI says by it that this is a chat
        return None
    if kind := HEADED.get((told or "").strip()):
        return Task(kind=kind, said=_history(prompt) or tuple(messages))
    alone = [message.role for message in messages if message.role != "system"] == ["user"]
    if not (alone and prompt.startswith(_BEGINS) and prompt.endswith(_CLOSE)):
        return None
    form = _FORM.search(prompt.partition(_OPEN)[0])
    return Task(kind=_kind(form[1]), said=_history(prompt)) if form else None


def answer(task: Task, *, tags: Iterable[str] = (), examples: Iterable[str] = ()) -> str:
    """The JSON that the task wants; `tags` are those of whoever is asked, `examples` the questions to begin with."""
    given: str | list[str]
    if task.kind == "title":
        given = title(task.asked[0] if task.asked else "", task.language)
    elif task.kind == "tags":
        given = _tags(task, tags)
    elif task.kind == "follow_ups":
        given = _follow_ups(task, examples)
    else:
        given = [" ".join(visible(each).split())[:LONGEST_QUERY] for each in task.asked[-1:] if needs_search(each)]
    # Open WebUI reads from the last brace on: those within a text are written as JSON escapes
    value = json.dumps(given, ensure_ascii=False).replace("{", "\\u007b").replace("}", "\\u007d")
    return f'{{"{task.kind}": {value}}}'


def title(text: str, language: Language) -> str:
    """The first words of a text: of its first sentence at most 20 Han characters, or 6 words."""
    lines = (line.strip(_MARKS) for line in visible(text[:READ]).translate(_QUOTES).splitlines())
    line = next((line for line in lines if line), "")
    first = next((part.strip(_MARKS) for part in _SENTENCE.split(line) if part.strip(_MARKS)), "")
    units = list(_UNIT.finditer(first))
    most = MOST_HAN if language == "zh" else MOST_WORDS
    if len(units) > most:
        first = first[: units[most - 1].end()]
    return first[:LONGEST_TITLE].rstrip("，、：,:. " + _MARKS) or _NEW.text(language)


def _tags(task: Task, tags: Iterable[str]) -> list[str]:
    found = words_of_topics("\n".join(task.asked)[:READ])
    topics = sorted(found, key=lambda name: -len(found[name]))
    named = [*tags, *(_TOPICS[name].text(task.language) for name in topics if name in _TOPICS)]
    return list(dict.fromkeys(named))[:MOST] or [_GENERAL.text(task.language)]


def _follow_ups(task: Task, examples: Iterable[str]) -> list[str]:
    """Those in the language of the dialogue that were not asked in it."""
    asked = {each.strip() for each in task.asked}
    return [each for each in examples if each not in asked and language_of(each) == task.language][:MOST]


def _kind(name: str) -> Kind:
    return next(kind for kind in get_args(Kind) if kind == name)


def _history(prompt: str) -> tuple[Message, ...]:
    """The dialogue within a prompt: `USER: ...` and `ASSISTANT: ...`, each from the beginning of a line."""
    told = prompt.partition(_OPEN)[2].rpartition(_CLOSE)[0].strip()
    begun = list(_SAID.finditer(told))
    ends = [*(one.start() for one in begun[1:]), len(told)]
    return tuple(Message(_role(one[1]), told[one.end() : end].strip()) for one, end in zip(begun, ends, strict=False))


def _role(name: str) -> Role:
    return "user" if name == "USER" else "assistant" if name == "ASSISTANT" else "system"
