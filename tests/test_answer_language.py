"""The answer comes in the question's language: what is asked for, what is heard, and asking once more (promise 7)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Line, line  # noqa: F401 - a fixture
from runtimes import RUNTIMES, run

from orchestra import Orchestra, StandIn, StreamTruncated
from orchestra.agents.persona_file import parsed
from orchestra.model import language as module
from orchestra.model.language import FIRMER, LINES, Heard, held_to, insisting, language_of, wanted, without_line
from orchestra.model.messages import Message, Piece
from orchestra.standin.script import Scripted

LABELLED = [json.loads(row) for row in (Path(__file__).parent / "data" / "languages.jsonl").read_text(encoding="utf-8").splitlines()]
QUESTION = "中国的首都是哪里？"
ENGLISH = "The capital of China is Beijing, a city of twenty million."
CHINESE = "中国的首都是北京。"


def right() -> list[dict[str, str]]:
    return [row for row in LABELLED if language_of(row["text"]) == row["language"]]


def test_the_language_of_a_hundred_questions() -> None:
    found = right()
    by_kind = {kind: sum(row["kind"] == kind for row in found) for kind in {row["kind"] for row in LABELLED}}
    print(f"\nlanguage right: {len(found)} of {len(LABELLED)}; {by_kind}")
    assert len(LABELLED) == 100
    assert {row["language"] for row in LABELLED} == {"zh", "en"}
    assert len(found) >= 95


def test_red_code_and_addresses_hide_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(right())
    monkeypatch.setattr(module, "_NO_PROSE", module._TRANSLATION)
    assert len(right()) < before


# --- what the line asks for


@pytest.mark.parametrize(
    ("question", "line"),
    [
        (QUESTION, "zh"),
        ("Where is it?", "en"),
        ("请用英文回答：法国的首都是哪里？", "en"),
        ("用英语解释一下黑洞", "en"),
        ("Answer in Chinese: what is a token?", "zh"),
        ("Please reply to this customer in Chinese.", "zh"),
        ("用中文回答：What is RAG?", "zh"),
        ("把下面的句子翻译成英文：今天天气很好", None),
        ("请翻译：Good morning", None),
        ("翻译：早上好", None),
        ("“谢谢”用日语怎么说", None),
        ("Translate this to Chinese: good morning", None),
        ("Can you translate 早上好?", None),
        ("Say hello in French", None),
        ("写一封英文邮件给客户", None),
        ("机器翻译的历史是什么？", "zh"),
        ("What is machine translation?", "en"),
        ("翻译这个职业有前途吗", None),
        ("他的英语很好，对吗？", "zh"),
    ],
)
def test_a_question_that_names_a_language_is_heeded(question: str, line: str | None) -> None:  # noqa: F811
    assert wanted(question) == line
    assert wanted(question, "zh") == "zh", "who was told knows better"


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (f"{QUESTION}\n\n{LINES['zh']}", "zh"),
        (f"{QUESTION}", None),
        (f"Where?\n\n{LINES['en']}", None),
        (f"写一个排序的 Python 函数\n\n{LINES['zh']}", None),
        (f"用 JSON 列出三个城市\n\n{LINES['zh']}", None),
        (f"给我一段代码\n\n{LINES['zh']}", None),
        (f"{QUESTION}\n\n{'资料' * 400} JSON\n\n{LINES['zh']}", "zh"),
    ],
)
def test_an_answer_is_held_to_chinese_but_not_where_code_is_wanted(text: str, held: str | None) -> None:
    assert held_to(text) == held
    assert held_to([Message("system", "x"), Message("user", text), Message("assistant", "y")]) == held


def test_the_firmer_line_stands_in_place_of_the_first() -> None:
    asked = [Message("system", "s"), Message("user", f"{QUESTION}\n\n{LINES['zh']}")]
    firm = insisting(asked, "zh")
    assert [message.content for message in firm if isinstance(message, Message)] == ["s", f"{QUESTION}\n\n{FIRMER['zh']}"]
    assert insisting("hm", "en") == f"hm\n\n{FIRMER['en']}"
    assert without_line(LINES["en"]) == ""
    assert held_to([]) is None


# --- what is heard


@pytest.mark.parametrize(
    ("text", "decided", "foreign"),
    [
        (CHINESE, True, False),
        ("OK，中国", True, False),
        ("Beijing", False, False),
        ("x" * 23, False, False),
        ("x" * 24, True, True),
        ("The capital is 北", True, False),
        ("```python\n", True, False),
        ('{"a": 1}', True, False),
        ("1234567890. " * 20, True, False),
        ("Столица Китая — Пекин, большой город", True, True),
    ],
)
def test_the_script_of_an_answer_is_heard(text: str, decided: bool, foreign: bool) -> None:
    for size in (1, 4, len(text)):
        heard = Heard()
        for at in range(0, len(text), size):
            heard.push(text[at : at + size])
        assert (heard.decided, heard.foreign) == (decided, foreign)


def told(daemon: StandIn, question: str = QUESTION, **fields: Any) -> Any:
    with Orchestra(host=daemon.url) as orchestra:
        return orchestra.generate(question, **fields)


def test_an_answer_in_another_language_is_asked_for_once_more() -> None:
    with StandIn(replies=[ENGLISH, CHINESE]) as daemon:
        reply = told(daemon)
        first, second = daemon.asked("/api/generate")[-2:]
        assert daemon.cancelled + daemon.active <= 1
    assert reply.text == CHINESE
    assert reply.receipt.calls == 2
    assert reply.receipt.loads == 1, "also what the first request took"
    assert reply.receipt.notes == ("asked_again",)
    assert first["prompt"].endswith(LINES["zh"])
    assert second["prompt"].endswith(FIRMER["zh"])
    assert {**first, "prompt": "", "options": 0} == {**second, "prompt": "", "options": 0}


def test_never_more_than_once_and_then_it_is_said() -> None:
    with StandIn(replies=[ENGLISH, ENGLISH]) as daemon:
        reply = told(daemon)
    assert reply.text == ENGLISH
    assert reply.receipt.calls == 2
    assert reply.receipt.notes == ("asked_again", "other_language")


@pytest.mark.parametrize("kind", RUNTIMES)
def test_nothing_of_the_first_answer_is_streamed(kind: str) -> None:
    async def work(client: Any) -> list[Piece]:
        asked = [Message("user", f"{QUESTION}\n\n{LINES['zh']}")]
        return [piece async for piece in client.chat(asked, model="llama3")]

    with StandIn(replies=[ENGLISH, CHINESE]) as daemon:
        pieces = run(kind, work, host=daemon.url)
    assert "".join(piece.text for piece in pieces) == CHINESE
    assert all(piece.keep is None for piece in pieces)


@pytest.mark.parametrize(
    ("reply", "fields"),
    [
        (CHINESE, {}),
        ("Beijing", {}),
        ("42", {}),
        (ENGLISH, {"question": "Where is it?"}),
        (ENGLISH, {"question": "请用英文回答：法国的首都是哪里？"}),
        (ENGLISH, {"question": "把这句话翻译成英文：中国的首都是北京。"}),
        (ENGLISH, {"question": "写一个函数，返回中国的首都"}),
        (ENGLISH, {"language": "en"}),
        (ENGLISH, {"model": "llama3:text"}),
        ('{"answer": "the capital of China is Beijing"}', {"format": "json"}),
        ("```\nthe capital of China is Beijing\n```", {}),
    ],
)
def test_one_request_is_enough(reply: str, fields: dict[str, Any]) -> None:
    with StandIn(replies=[reply]) as daemon:
        found = told(daemon, **fields)
    assert found.text == reply
    assert found.receipt.calls == 1


def test_a_language_that_is_told_wins() -> None:
    with StandIn(replies=[ENGLISH, CHINESE]) as daemon:
        reply = told(daemon, "Where is it?", language="zh")
        assert daemon.asked("/api/generate")[-2]["prompt"].endswith(LINES["zh"])
    assert reply.text == CHINESE


def test_a_persona_may_say_which_language_it_speaks(tmp_path: Path) -> None:
    front = "name: teacher\ndescription:\n  en: Teaches English.\noptions:\n  language: en\n"
    persona = parsed(f"---\n{front}---\nYou teach English.\n", tmp_path / "teacher.md")
    assert persona.options.language == "en"
    with StandIn(replies=[ENGLISH]) as daemon, Orchestra(host=daemon.url) as orchestra:
        assert orchestra.session("lesson", persona=persona).ask(QUESTION).text == ENGLISH
        assert daemon.asked("/api/chat")[0]["messages"][-1]["content"].endswith(LINES["en"])


@pytest.mark.parametrize("way", ["session", "ask", "integrate"])
def test_every_way_of_asking_is_guarded(way: str) -> None:
    replies = [ENGLISH, CHINESE] * (2 if way == "integrate" else 1)
    with StandIn(replies=replies) as daemon, Orchestra(host=daemon.url) as orchestra:
        if way == "session":
            text = orchestra.session("a").ask(QUESTION).text
        elif way == "ask":
            text = orchestra.ask(QUESTION).text
        else:
            text = orchestra.integrate(QUESTION, experts=["lawyer"], panel=True).text
    assert CHINESE in text
    assert "capital" not in text


def test_the_stream_waits_for_the_first_han_character_and_no_longer() -> None:
    with StandIn(replies=[Scripted(["OK，", "北", *["京"] * 200], pace=0.05)]) as daemon, Orchestra(host=daemon.url) as orchestra:
        stream = orchestra.stream(QUESTION)
        first = next(stream)
        speaking = daemon.active
        stream.close()
    assert first.text.startswith("OK，")
    assert speaking == 1, "the answer had ended before it was shown"


def test_an_answer_that_breaks_off_before_its_script_shows_is_streamed_all_the_same() -> None:
    with StandIn(replies=[Scripted("Bei", end="nothing")]) as daemon, Orchestra(host=daemon.url) as orchestra:
        stream = orchestra.stream(QUESTION)
        assert next(stream).text == "Bei"
        with pytest.raises(StreamTruncated):
            next(stream)


def test_thinking_may_be_in_any_language() -> None:
    with StandIn(replies=["<think>The user asks for the capital of China.</think>" + CHINESE]) as daemon:
        reply = told(daemon)
    assert reply.text == CHINESE
    assert reply.receipt.calls == 1


def test_red_without_the_stage_an_english_answer_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.model.client.held_to", lambda subject: None)
    with StandIn(replies=[ENGLISH]) as daemon:
        assert told(daemon).text == ENGLISH


def test_red_a_limit_that_is_too_low_asks_again_for_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FOREIGN_LETTERS", 3)
    with StandIn(replies=["Beijing 是首都。", CHINESE]) as daemon:
        assert told(daemon).receipt.calls == 2


def test_the_command_line_says_the_language(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with StandIn(replies=[CHINESE, CHINESE, CHINESE, CHINESE, ENGLISH, CHINESE]) as daemon:
        monkeypatch.setenv("OLLAMA_HOST", daemon.url)
        for words in (["generate"], ["chat"], ["ask"], ["integrate", "--panel", "--expert", "lawyer"]):
            assert line(*words, "Where is it?", "--lang", "zh").code == 0
            sent = (daemon.asked("/api/chat") + daemon.asked("/api/generate"))[-1]
            assert LINES["zh"] in str(sent), words
        assert "en" in line("generate", "x", "--lang", "fr").err


def test_a_real_daemon_is_asked_in_chinese(real_daemon: str, real_model: str) -> None:
    with Orchestra(host=real_daemon) as orchestra:
        reply = orchestra.generate(QUESTION, model=real_model, max_tokens=60, seed=1)
    assert reply.receipt.calls in (1, 2)
    assert ("asked_again" in reply.receipt.notes) is (reply.receipt.calls == 2)
