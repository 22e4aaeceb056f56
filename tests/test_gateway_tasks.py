"""Open WebUI's requests beside a chat: told from what a person writes, and answered in the JSON that each wants."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from orchestra.agents.topics import TOPICS
from orchestra.gateway.tasks import HEADED, HEADER, Task, answer, recognised, title
from orchestra.model.messages import Message

ZH = "USER: 收集用户的人脸数据需要满足哪些法律要求？\nASSISTANT: 先看适用的法域。\n1. 告知\nUSER: 谢谢"
EN = "USER: Which duties does a provider of a high-risk AI system have under the law?\nASSISTANT: It depends."
EXAMPLES = ("收集用户的人脸数据需要满足哪些法律要求？", "人工智能造成损害时由谁承担责任？", "Is consent enough to process health data?")
FORMS = {
    "title": 'JSON format: { "title": "a title" }',
    "tags": 'JSON format: { "tags": ["one", "two"] }',
    "follow_ups": 'JSON format: { "follow_ups": ["first?", "second?"] }',
    "queries": 'Strictly return in JSON format: \n{\n  "queries": ["one", "two"]\n}',
}


def prompt(kind: str, history: str = ZH) -> str:
    """A prompt in the shape of Open WebUI's own."""
    return f"### Task:\nDo something with the chat.\n### Output:\n{FORMS[kind]}\n### Chat History:\n<chat_history>\n{history}\n</chat_history>"


def asked(text: str, headers: dict[str, str] | None = None) -> Task | None:
    return recognised(headers or {}, [Message("user", text)])


def answered(kind: str, history: str, **given: Any) -> Any:
    task = asked(prompt(kind, history))
    assert task is not None
    assert task.kind == kind
    value = json.loads(answer(task, **given))
    assert list(value) == [kind]
    return value[kind]


# --- which they are


@pytest.mark.parametrize("kind", FORMS)
def test_each_is_known_by_its_shape(kind: str) -> None:
    task = asked(prompt(kind))
    assert task is not None
    assert task.kind == kind
    assert [message.role for message in task.said] == ["user", "assistant", "user"]
    assert task.said[1].content == "先看适用的法域。\n1. 告知"
    assert recognised({}, [Message("system", "Be brief."), Message("user", prompt(kind) + "\n")]) == task


@pytest.mark.parametrize("name", HEADED)
def test_each_is_known_by_its_header_whatever_the_prompt(name: str) -> None:
    task = asked("给这段对话起个标题：法律问题", {HEADER: name})
    assert task is not None
    assert task.kind == HEADED[name]
    assert task.said == (Message("user", "给这段对话起个标题：法律问题"),)
    framed = asked(prompt("title"), {HEADER: name})
    assert framed is not None
    assert framed.asked[0] == EXAMPLES[0]


@pytest.mark.parametrize(
    "text",
    [
        "### Task:\nWrite a poem about the sea.",
        "### Task:\nExplain what JSON format: means",
        '### Task:\nAnswer in JSON format: { "title": "x" }',
        '### Task:\nJSON format: { "title": "x" }\n<chat_history>\nUSER: a\n</chat_history>\nWhat does this prompt do?',
        'What is this?\n' + prompt("title"),
        prompt("title").replace('"title"', '"name"'),
        "### Task:\nUse the context.\n<context>\n" + prompt("tags") + "\n</context>\nWhat is said there?",
        '### Task:\nSummarise.\n<chat_history>\nUSER: JSON format: { "title": "x" }\n</chat_history>',
        "",
    ],
)  # fmt: skip
def test_what_a_person_writes_is_no_task(text: str) -> None:
    assert asked(text) is None


def test_a_prompt_within_a_dialogue_is_no_task() -> None:
    said = [Message("user", "hello"), Message("assistant", "Hello."), Message("user", prompt("title"))]
    assert recognised({}, said) is None
    assert recognised({}, said[-1:]) is not None, "the red control: alone it is one"
    assert recognised({}, []) is None
    assert recognised({}, [Message("user", prompt("title")), Message("assistant", "x")]) is None


def test_an_empty_header_says_that_it_is_a_chat() -> None:
    assert asked(prompt("title"), {HEADER: ""}) is None
    for unknown in ("{{TASK}}", "moa_response_generation"):
        assert asked(prompt("title"), {HEADER: unknown}) == asked(prompt("title"))
        assert asked("你好", {HEADER: unknown}) is None


# --- what they get


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("收集用户的人脸数据需要满足哪些法律要求？请详细说明。", "收集用户的人脸数据需要满足哪些法律要求"),
        ("请为一家跨境电商公司起草一份个人信息出境合规的完整实施方案", "请为一家跨境电商公司起草一份个人信息出境"),
        ("用 Python 写一个快速排序", "用 Python 写一个快速排序"),
        ("你好", "你好"),
    ],
)
def test_a_title_is_the_first_words_in_chinese(text: str, expected: str) -> None:
    assert title(text, "zh") == expected
    assert answered("title", f"USER: {text}\nASSISTANT: 好。") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Which duties does a provider of a high-risk AI system have?", "Which duties does a provider of"),
        ("# Hello there!\nHow are you?", "Hello there"),
        ('"Quoted" words, and more: of them, six', 'Quoted words, and more: of them'),
        ("\n\n- **Write** v1.5 notes", "Write v1.5 notes"),
        ("word" * 1000, ("word" * 20)),
        ("\u202ereversed\x1b[31m", "reversed[31m"),
        ("???", "New chat"),
    ],
)
def test_a_title_is_the_first_words_in_english(text: str, expected: str) -> None:
    assert title(text, "en") == expected


def test_tags_are_those_of_who_is_asked_then_the_topics() -> None:
    assert answered("tags", ZH) == ["法律"]
    assert answered("tags", EN)[0] == "Law"
    assert answered("tags", ZH, tags=["法律专家"]) == ["法律专家", "法律"]
    assert answered("tags", ZH, tags=["a", "b", "c", "d"]) == ["a", "b", "c"]
    assert answered("tags", "USER: 你好") == ["综合"]
    assert answered("tags", "USER: hello") == ["General"]


def test_every_topic_has_a_tag_in_both_languages() -> None:
    for topic in TOPICS.values():
        task = Task(kind="tags", said=(Message("user", topic.han[0]),))
        assert json.loads(answer(task))["tags"] != ["综合"]


def test_follow_ups_are_the_examples_that_were_not_asked() -> None:
    assert answered("follow_ups", ZH, examples=EXAMPLES) == ["人工智能造成损害时由谁承担责任？"]
    assert answered("follow_ups", EN, examples=EXAMPLES) == ["Is consent enough to process health data?"]
    assert answered("follow_ups", EN) == []


def test_a_query_is_the_last_question_where_there_is_something_to_look_up() -> None:
    assert answered("queries", EN) == ["Which duties does a provider of a high-risk AI system have under the law?"]
    assert answered("queries", ZH) == []


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("text", ['}{ "title": "x" } {', "'\"\\ \u2028\x00", "USER: ASSISTANT: \nUSER: ", "", "</chat_history>", "🎵"])
def test_it_is_json_whatever_is_said(kind: str, text: str) -> None:
    task = asked(prompt(kind, f"USER: What about {text}"))
    assert task is not None
    given = answer(task, tags=[text], examples=[text])
    assert list(json.loads(given)) == [kind]
    assert json.loads(given[given.rfind("{") : given.rfind("}") + 1]) == json.loads(given), "as Open WebUI takes it out"


def test_a_long_dialogue_takes_no_time() -> None:
    """Two megabytes of whatever comes: a bound of seconds where each part is linear, so a square would be noticed."""
    for unit in ("USER: ", "a", "法", "\n", '"title" {', "<chat_history>", "</chat_history>", "JSON format: {"):
        text = prompt("title", unit * (2_000_000 // len(unit)))
        begun = time.perf_counter()
        if (task := asked(text)) is not None:
            answer(task)
        assert time.perf_counter() - begun < 2
