"""Which language a text is in, and the line that asks for an answer in it."""

from __future__ import annotations

import time

import pytest

from orchestra.model import language as module
from orchestra.model.language import language_of, line_for, wanted, with_language

CHINESE = [
    "请解释一下黑洞的形成",
    "法国的首都是哪里？",
    "在一个阳光明媚的早晨，Alice决定去森林里探险。",
    "制定人工智能合规标准，避免人工智能伤害人类",
    "我的订单 #12345 能加急吗？",
    "你好",
    "嗯",
    "什么是 RAG？",
    "Ollama 怎么设置上下文窗口？",
    "为什么 llama3 用英文回答中文问题？",
    "iPhone 15 Pro 多少钱，什么时候发货？",
    "Tyler 和 Alice 在北京见面，聊了很久。",
    "「token」は何ですか、請用中文說明這個詞",
    "這是繁體中文的問題",
    "這段話裡有罕見字：𠮷野家",
    "这段代码是什么意思？\n```python\nfor name in names:\n    print(name.capitalize())\n```",
    "请看 https://example.org/a/very/long/address/in/latin/letters?with=queries 讲的是什么",
    "写信到 somebody.with.a.long.name@example.org 可以吗",
    "`orchestra integrate --json` 会输出什么？",
    "OK，明白了",
]
ENGLISH = [
    "What is the capital of France?",
    "Can you please expedite the delivery?",
    "hello",
    "I",
    "Where is Beijing (北京)?",
    "Translate 你好 for me, and say how it is pronounced.",
    "The word 黑洞 means black hole in Chinese, does it not?",
    "def capital(country: str) -> str: return CAPITALS[country]",
    "```python\nprint('hello')\n```",
    "https://example.org/index.html",
    "My order is #12345, sent on 2024-06-01.",
    "Alice met Zhang Wei (张伟) at the station in the morning.",
    "Café, naïve, Übung: what do the marks do?",
    "Сколько стоит доставка?",
    "ok 👍",
    "```\n打印\n```\nWhat does this print on the terminal?",
]
NO_LETTERS = ["", "   \n", "12345", "3.14 + 2 = 5.14", "？！……", "👍👍", "#12345 2024-06-01 10:30", "→ ← ↑"]


@pytest.mark.parametrize("text", CHINESE)
def test_chinese(text: str) -> None:
    assert language_of(text) == "zh"


@pytest.mark.parametrize("text", ENGLISH)
def test_english(text: str) -> None:
    assert language_of(text, default="zh") == "en"


@pytest.mark.parametrize("text", NO_LETTERS)
def test_a_text_without_letters_takes_the_default(text: str) -> None:
    assert language_of(text) == "en"
    assert language_of(text, default="zh") == "zh"


def test_the_limit_is_a_fifth_of_the_letters() -> None:
    assert language_of("中" + "a" * 4) == "en", "exactly a fifth is not more than a fifth"
    assert language_of("中" + "a" * 3) == "zh"


def test_red_control_the_share_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HAN_SHARE", 0.9)
    assert [text for text in CHINESE if language_of(text) == "en"], "a broken limit must show in the texts above"


def test_the_line_ends_the_message_once() -> None:
    once = with_language("法国的首都是哪里？\n", "zh")
    assert once == "法国的首都是哪里？\n\n请用中文回答。"
    assert with_language(once, "zh") == once
    assert with_language("Where?", "en").endswith("\n\nAnswer in English.")
    assert with_language("", "en") == line_for("en")


def test_the_line_is_not_taken_for_a_word_inside_the_text() -> None:
    assert with_language("Translate: Answer in English.", "en").count("Answer in English.") == 2


def test_a_text_without_end_is_read_at_its_ends() -> None:
    blank = " " * 2_000_000
    before = time.monotonic()
    assert (language_of(f"x{blank}x"), wanted(f"x{blank}x")) == ("en", "en")
    assert time.monotonic() - before < 1  # all of it took four times as long
    assert wanted(f"问题{blank}Please answer in English.") == "en"
    assert language_of(f"{blank}这是一个问题") == "zh"
