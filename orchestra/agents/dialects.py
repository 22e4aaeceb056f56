"""How a step is asked of a model: a JSON schema where the daemon keeps to one, else lines of text (ReAct).

Both say the same to the one loop: a thought, and calls or none. ReAct (Yao et al. 2022, arXiv 2210.03629) is text that has
to be parsed, and a small model gets it wrong in many ways; a schema in `format` makes most of them impossible. What cannot
be read all the same is no exception: it is a decision with a fault, which the model is told.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from orchestra.model.messages import Language, Options
from orchestra.model.untrusted import visible

MOST_CALLS = 8  # in one step; more is a model that lists
LONGEST = 2000  # characters of a question
_READ = 50_000  # characters of a step that are read
_THOUGHT, _QUESTION = 120, 240  # characters in a schema: a string without an end would be cut, and no JSON


class Call(NamedTuple):
    """A question for one expert."""

    expert: str
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a model wants next: calls, or with none of them and no `fault` the answer."""

    thought: str = ""
    calls: tuple[Call, ...] = ()
    fault: str = ""


class Dialect(Protocol):
    """One way to ask for a step."""

    def options(self, options: Options, names: Sequence[str]) -> Options:
        """`options` with what the daemon is to keep to."""

    def rules(self, language: Language) -> str:
        """What the model is told about the form."""


_OBJECT_RULES = {
    "zh": '只写一个 JSON 对象：{"thought": "简短的思考", "actions": [{"expert": "名称", "question": "问题"}]}。意见已经足够时，actions 写 []。',
    "en": 'Write one JSON object only: {"thought": "brief", "actions": [{"expert": "name", "question": "..."}]}. '
    "When enough has been said, actions is [].",
}
_LINE_RULES = {
    "zh": "按以下格式写，一行一项：\nThought: 简短的思考\nAction: 专家名称\nAction Input: 问题\n"
    "意见已经足够时，改写一行：\nFinal Answer: 可以整合",
    "en": "Write in this form, one item a line:\nThought: brief\nAction: name of an expert\nAction Input: the question\n"
    "When enough has been said, write instead:\nFinal Answer: ready",
}


class Schema:
    """A JSON schema in `format`: a name that is no expert's cannot be written."""

    def options(self, options: Options, names: Sequence[str]) -> Options:
        call = {
            "type": "object",
            "properties": {"expert": {"type": "string", "enum": list(names)}, "question": {"type": "string", "maxLength": _QUESTION}},
            "required": ["expert", "question"],
            "additionalProperties": False,
        }
        thought = {"type": "string", "maxLength": _THOUGHT}
        return replace(options, format={
            "type": "object",
            "properties": {"thought": thought, "actions": {"type": "array", "items": call, "maxItems": max(1, len(names))}},
            "required": ["thought", "actions"],
            "additionalProperties": False,
        })  # fmt: skip

    def rules(self, language: Language) -> str:
        return _OBJECT_RULES[language]


class Lines:
    """ReAct as text, for daemons before 0.5.0, which know no schema."""

    def options(self, options: Options, names: Sequence[str]) -> Options:
        return options

    def rules(self, language: Language) -> str:
        return _LINE_RULES[language]


def dialect_for(version: str) -> Dialect:
    """The dialect that a daemon of this version keeps to."""
    number = tuple(map(int, re.findall(r"\d{1,6}", version)[:3]))
    return Schema() if not number or number >= (0, 5, 0) else Lines()


# --- reading

_LABEL = re.compile(
    r"(thought|思考|想法|action[ \t]{0,3}input|行动输入|动作输入|输入|action|行动|动作|final[ \t]{0,3}answer|最终答案|最终回答|observation|观察)"
    r"[ \t*_]{0,4}\d{0,2}[ \t*_]{0,4}[:：]",
    re.IGNORECASE,
)
_KINDS = {"思考": "thought", "想法": "thought", "行动输入": "actioninput", "动作输入": "actioninput", "输入": "actioninput",
          "行动": "action", "动作": "action", "最终答案": "finalanswer", "最终回答": "finalanswer", "观察": "observation"}  # fmt: skip
_NAME = re.compile(r"[\w-]{1,64}")
_STEP = frozenset({"actions", "action", "expert", "name", "answer"})  # an object with none of them is a question's
_FAULTS = {
    "unreadable": {"zh": "上一步的格式无法识别。", "en": "The last step could not be read."},
    "unknown": {"zh": "没有名为“{name}”的专家。", "en": "There is no expert called {name}."},
    "empty": {"zh": "给 {name} 的问题为空。", "en": "The question to {name} is empty."},
    "own": {"zh": "不能问自己（{name}）。", "en": "Nobody asks itself ({name})."},
}


def fault_of(kind: str, language: Language, name: str = "") -> str:
    """A fault of a step in words for the model, names cut to what can be a name."""
    return _FAULTS[kind][language].format(name=visible(name)[:64].strip())


def read(text: str, language: Language) -> Decision:
    """What a step says, in whichever dialect it is written. Raises nothing: what cannot be read is a `fault`."""
    text = visible(text[:_READ])
    value = _object(text)
    if value is not None and not _STEP.isdisjoint(value):
        return _from_object(value, language)
    return _from_lines(text, language)


def _object(text: str) -> Mapping[str, Any] | None:
    """The JSON object in a text, between fences or words; a list stands for its actions."""
    for first, last in (("{", "}"), ("[", "]")):
        start, end = text.find(first), text.rfind(last)
        if start < 0 or end <= start or (first == "[" and "{" not in text):
            continue
        try:
            value = json.loads(text[start : end + 1], strict=False)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
        if isinstance(value, list):
            return {"actions": value}
    return None


def _from_object(value: Mapping[str, Any], language: Language) -> Decision:
    thought = value.get("thought")
    thought = thought if isinstance(thought, str) else ""
    actions = value.get("actions", value.get("action"))
    if isinstance(actions, Mapping):
        actions = [actions]
    if actions is None and ("expert" in value or "name" in value):
        actions = [value]
    if not isinstance(actions, list):
        done = value.get("answer") is not None and actions is None
        return Decision(thought=thought, fault="" if done else fault_of("unreadable", language))
    calls = [_call(action) for action in actions[:MOST_CALLS]]
    good = tuple(call for call in calls if call is not None)
    return Decision(thought=thought, calls=good, fault="" if len(good) == len(calls) else fault_of("unreadable", language))


def _call(action: Any) -> Call | None:
    """One action, also as models trained on tools write it: `{"name", "arguments"}`."""
    if not isinstance(action, Mapping):
        return None
    name = action.get("expert", action.get("name"))
    given = action.get("question", action.get("arguments", action.get("input")))
    question = _text(given)
    return Call(name.strip(), question) if isinstance(name, str) and question is not None else None


def _text(given: Any) -> str | None:
    """A question, also as a mapping with the question in it; any other mapping is the arguments of a function."""
    if isinstance(given, Mapping):
        given = given["question"] if "question" in given else json.dumps(given, ensure_ascii=False)
    return given.strip()[:LONGEST] if isinstance(given, str) else None


def _from_lines(text: str, language: Language) -> Decision:
    """ReAct in any of the ways it is written: Chinese labels and colons, fences, several calls in a line."""
    parts = _LABEL.split(text)
    thoughts: list[str] = []
    calls: list[Call] = []
    done = False
    for label, said in zip(parts[1::2], parts[2::2], strict=True):
        kind = "".join(label.lower().split())
        kind = _KINDS.get(kind, kind)
        said = said.strip(" \t\r\n`*\"'“”")
        if kind == "observation":  # nobody has answered yet: it and what follows is made up
            break
        if kind == "thought":
            thoughts.append(said)
        elif kind == "finalanswer":
            done = True
        elif kind == "action":
            calls.append(_named(said))
        elif calls:
            given = _object(said)
            calls[-1] = calls[-1]._replace(question=(_text(given) if given else said[:LONGEST]) or "")
    readable = bool(calls) or done
    return Decision(
        thought=" ".join(thoughts), calls=tuple(calls[:MOST_CALLS]), fault="" if readable else fault_of("unreadable", language)
    )


def _named(said: str) -> Call:
    """`lawyer`, `lawyer(question)`, `lawyer[question]`."""
    name = _NAME.search(said)
    if name is None:
        return Call("", "")
    return Call(name[0], said[name.end() :].strip(" \t\r\n()[]（）【】`\"'")[:LONGEST])


def plain_name(name: str) -> str:
    """A name as it is compared: `Ｌawyer ` is `lawyer`."""
    return unicodedata.normalize("NFKC", name).casefold().strip()
