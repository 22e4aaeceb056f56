"""How a step is asked of a model: as calls of tools where it was trained on them, else in a JSON schema, else in lines (ReAct).

All say the same to the one loop: a thought, and calls or none. ReAct (Yao et al. 2022, arXiv 2210.03629) is text that has
to be parsed, and a small model gets it wrong in many ways; a schema in `format` makes most of them impossible. A call that
the daemon does not know for one - another name, arguments that are a text - comes as text, and is read as such. What
cannot be read all the same is no exception: it is a decision with a fault, which the model is told.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

from orchestra.agents.tool import QUESTION, Tool
from orchestra.errors import DaemonError, ModelUnsupported, OrchestraError
from orchestra.model.messages import Language, Options, Reply, ToolCall
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

    def options(self, options: Options, experts: Sequence[Tool]) -> Options:
        """`options` with what the daemon is to keep to."""

    def tools(self, experts: Sequence[Tool], language: Language) -> Sequence[Mapping[str, Any]]:
        """The experts as the daemon offers them to the model, where it does."""

    def rules(self, language: Language) -> str:
        """What the model is told about the form."""

    def decided(self, reply: Reply, experts: Sequence[Tool], language: Language) -> Decision:
        """What a step says. Raises nothing."""


_CALL_RULES = {
    "zh": "用工具调用来提问，可以同时调用几个。意见已经足够时，不再调用，只写：可以整合。",
    "en": "Ask by calling the experts as tools, several at once where you can. When enough has been said, call none and write only: ready.",
}
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


class Native:
    """Tools of the daemon's own, for models whose template has a place for them."""

    def options(self, options: Options, experts: Sequence[Tool]) -> Options:
        return options

    def tools(self, experts: Sequence[Tool], language: Language) -> Sequence[Mapping[str, Any]]:
        return [
            {"type": "function", "function": {"name": name, "description": told, "parameters": parameters}}
            for name, told, parameters in (
                (one.name, one.described(language) or one.titled(language), one.parameters) for one in experts
            )
        ]

    def rules(self, language: Language) -> str:
        return _CALL_RULES[language]

    def decided(self, reply: Reply, experts: Sequence[Tool], language: Language) -> Decision:
        """Calls; else what reads as some; else words, which say that enough has been said."""
        if reply.tool_calls:
            calls = [_native(call, experts) for call in reply.tool_calls[:MOST_CALLS]]
            good = tuple(call for call in calls if call is not None)
            return Decision(
                thought=visible(reply.text), calls=good, fault="" if len(good) == len(calls) else fault_of("unreadable", language)
            )
        decision = read(reply.text, language)
        words = reply.text.strip()
        if not decision.fault or not words or words.startswith(_BEGINS) or _LABEL.match(words):
            return decision
        return Decision(thought=visible(words))


class _Written:
    """A step that is written as text, without tools."""

    def tools(self, experts: Sequence[Tool], language: Language) -> Sequence[Mapping[str, Any]]:
        return ()

    def decided(self, reply: Reply, experts: Sequence[Tool], language: Language) -> Decision:
        return read(reply.text, language)


class Schema(_Written):
    """A JSON schema in `format`: a name that is no expert's cannot be written."""

    def options(self, options: Options, experts: Sequence[Tool]) -> Options:
        names = [one.name for one in experts]
        call = {
            "type": "object",
            "properties": {"expert": {"type": "string", "enum": names}, "question": {"type": "string", "maxLength": _QUESTION}},
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


class Lines(_Written):
    """ReAct as text, for daemons before 0.5.0, which know no schema."""

    def options(self, options: Options, experts: Sequence[Tool]) -> Options:
        return options

    def rules(self, language: Language) -> str:
        return _LINE_RULES[language]


def dialect_for(version: str, facts: Mapping[str, Any]) -> Dialect:
    """The dialect that a model with these `facts`, on a daemon of this version, keeps to."""
    capabilities = facts.get("capabilities")
    if isinstance(capabilities, list) and "tools" in capabilities:
        return Native()
    number = tuple(map(int, re.findall(r"\d{1,6}", version)[:3]))
    return Schema() if not number or number >= (0, 5, 0) else Lines()


def weaker(dialect: Dialect, error: OrchestraError) -> Dialect | None:
    """What is tried where the daemon refuses a step in `dialect`; None where another way would not help.

    A template that breaks on tools is the daemon's error in many words, a schema that it does not know is not.
    """
    if isinstance(dialect, Native) and isinstance(error, ModelUnsupported | DaemonError):
        return Schema()
    return Lines() if isinstance(dialect, Schema) and isinstance(error, ModelUnsupported) else None


# --- reading

_LABEL = re.compile(
    r"(thought|思考|想法|action[ \t]{0,3}input|行动输入|动作输入|输入|action|行动|动作|final[ \t]{0,3}answer|最终答案|最终回答|observation|观察)"
    r"[ \t*_]{0,4}\d{0,2}[ \t*_]{0,4}[:：]",
    re.IGNORECASE,
)
_KINDS = {"思考": "thought", "想法": "thought", "行动输入": "actioninput", "动作输入": "actioninput", "输入": "actioninput",
          "行动": "action", "动作": "action", "最终答案": "finalanswer", "最终回答": "finalanswer", "观察": "observation"}  # fmt: skip
_NAME = re.compile(r"[\w-]{1,64}")
_ASCII = str.maketrans("｛｝［］“”：，", '{}[]"":,')  # as a Chinese keyboard writes JSON
_BEGINS = ("{", "[", "```", "<")  # of something that was to be a call
# an object with none of these is a question's
_STEP = frozenset({"actions", "action", "expert", "name", "function", "tool_calls", "answer"})
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
    if "actioninput" in map(_kind, _LABEL.findall(text[: max(0, text.find("{"))])):  # what follows are arguments, whatever is in them
        return _from_lines(text, language)
    value = _object(text) or _objects(text) or _object(text.translate(_ASCII))
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


def _objects(text: str) -> Mapping[str, Any] | None:
    """Several JSON objects one after another, which stand for as many actions."""
    decoder, found, start = json.JSONDecoder(strict=False), list[Any](), text.find("{")
    while start >= 0 and len(found) <= MOST_CALLS:
        try:
            value, start = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            break
        found += value["actions"] if isinstance(value.get("actions"), list) else [value]
        start = text.find("{", start)
    return {"actions": found} if len(found) > 1 else None


def _from_object(value: Mapping[str, Any], language: Language) -> Decision:
    thought = value.get("thought")
    thought = thought if isinstance(thought, str) else ""
    actions = value.get("actions", value.get("action", value.get("tool_calls")))
    if isinstance(actions, Mapping):
        actions = [actions]
    if actions is None and ("expert" in value or "name" in value or "function" in value):
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
    if isinstance(function := action.get("function"), Mapping):
        action = function
    name = action.get("expert", action.get("name"))
    given = next((action[field] for field in _GIVEN if field in action), None)
    question = _text(given)
    return Call(name.strip(), question) if isinstance(name, str) and question is not None else None


_GIVEN = ("question", "arguments", "parameters", "input")


def _text(given: Any) -> str | None:
    """A question, also as a mapping with the question in it; any other mapping is the arguments of a function."""
    if isinstance(given, Mapping):
        given = given["question"] if "question" in given else json.dumps(given, ensure_ascii=False)
    return given.strip()[:LONGEST] if isinstance(given, str) else None


def _native(call: ToolCall, experts: Sequence[Tool]) -> Call | None:
    """A call of a tool: who takes a question gets it, a function its arguments as JSON."""
    if call.arguments is None:
        return None
    takers = [one for one in experts if plain_name(one.name) == plain_name(call.name)]
    named = takers[0].parameters.get("properties", {}) if takers else QUESTION["properties"]
    if set(named) == set(QUESTION["properties"]):
        question = call.arguments.get("question")
        return Call(visible(call.name), visible(question).strip()[:LONGEST]) if isinstance(question, str) else None
    try:
        written = json.dumps(call.arguments, ensure_ascii=False)
    except RecursionError:
        return None
    return Call(visible(call.name), written) if len(written) <= _READ else None


def _from_lines(text: str, language: Language) -> Decision:
    """ReAct in any of the ways it is written: Chinese labels and colons, fences, several calls in a line."""
    parts = _LABEL.split(text)
    thoughts: list[str] = []
    calls: list[Call] = []
    done = False
    for label, said in zip(parts[1::2], parts[2::2], strict=True):
        kind = _kind(label)
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


def _kind(label: str) -> str:
    kind = "".join(label.lower().split())
    return _KINDS.get(kind, kind)


def _named(said: str) -> Call:
    """`lawyer`, `lawyer(question)`, `lawyer[question]`."""
    name = _NAME.search(said)
    if name is None:
        return Call("", "")
    return Call(name[0], said[name.end() :].strip(" \t\r\n()[]（）【】`\"'")[:LONGEST])


def plain_name(name: str) -> str:
    """A name as it is compared: `Ｌawyer ` is `lawyer`."""
    return unicodedata.normalize("NFKC", name).casefold().strip()
