"""The rules that need no model: does it need a search, can it stand alone, does it hang on today, was it refused."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from orchestra.model.messages import FinishReason, Message, Piece
from orchestra.retrieval.evidence import HELD, Opening, lacking, unsupported
from orchestra.retrieval.need import brief, hangs_on_today, leans_on_dialogue, needs_search
from orchestra.retrieval.passages import Citation, Passage
from orchestra.retrieval.queries import kept_words, with_keywords, with_last_words

NO_SEARCH = """
hi|Hello there!|Thanks, bye|thank you very much|How are you today?|who are you?|ok|Good morning!|yes please
你好|您好！|谢谢你|早上好|再见|你是谁？|好的|晚安|辛苦了|你叫什么名字
What is 2+2?|3*7=|calculate (3+4)*5|12 / 4|2^10|12乘以7等于多少？|计算 3.5 + 4|请帮我算一下 100 除以 8
Translate this into French: the cat sleeps|把“你好”翻译成英文|翻译：早上好|Please translate "good night" into Chinese
Rewrite the following text: we rest now|请把下面的话改写得更正式：我们要休息|润色这段话：今天很热|Summarize this: cats sleep
Write a poem about rain|写一首关于雨的诗|Tell me a joke|讲个笑话
"""
SEARCH = """
What is the capital of France?|Who translated the Iliad?|What does 'hello' mean in Hawaiian?|OK but what is RAG?|1984|42|How much is a Tesla?
Summarize the news about Ollama|Rewrite history of Rome|When was the Eiffel Tower built?|Why is the sky blue?|llama3 context length
What happened in 1789?|hello world in Rust|Thanks to whom was penicillin found?|Is 2024 a leap year?|Who wrote the poem Daffodils?
法国的首都是哪里？|谁是美国总统？|今天天气怎么样？|hello world 程序怎么写|什么是好的代码？|总结一下最近的人工智能新闻|你好酒店的电话是多少？|黑洞是怎样形成的？
谁翻译了《伊利亚特》？|早稻田大学在哪里？|1949年发生了什么？|束搜索|保修期多久？|再见二丁目的歌手是谁
"""
LEANS = """
And in Germany?|What about its population?|Why?|How much?|How old is he?|Who wrote it?|Which one is cheaper?|And the price?|Does the X200 have this?
What else?|How do they work?|Tell me more about the second.|How many people live there?|Is that true in winter as well?
那德国呢？|它的人口是多少？|那里有什么好玩的？|它是什么时候建成的？|价格呢|多少钱？|他叫什么名字？|其中最大的是哪个？|为什么？|还有呢？|这个怎么用？|后者更便宜吗？|继续
"""
ALONE = """
What is the capital of France?|Is there a city named Paris in Texas?|When was the Eiffel Tower built?|What is RAG?|How do black holes form?|How many moons are there?|Is Oslo a town and do many people live there?
What is the warranty period of the Lumo 3 lamp?|Which port does Ollama use by default?|Who is Marie Curie?
法国的首都是哪里？|什么是RAG？|该怎样避免人工智能伤害人类？|黑洞是怎样形成的？|束搜索是什么？|Ollama 的默认端口是多少？|谁发明了电话？
"""


def each(block: str) -> list[str]:
    return [question for line in block.strip().splitlines() for question in line.split("|")]


@pytest.mark.parametrize("question", each(NO_SEARCH))
def test_what_nobody_needs_to_look_up(question: str) -> None:
    assert not needs_search(question)


@pytest.mark.parametrize("question", each(SEARCH))
def test_what_is_looked_up(question: str) -> None:
    assert needs_search(question)


@pytest.mark.parametrize("question", each(LEANS))
def test_what_leans_on_the_dialogue(question: str) -> None:
    assert leans_on_dialogue(question)


@pytest.mark.parametrize("question", each(ALONE))
def test_what_stands_alone(question: str) -> None:
    assert not leans_on_dialogue(question)


def test_the_rules_on_the_evaluation_set() -> None:
    """The rules were made while looking at these questions: the figures say how they fit, not how they do elsewhere."""
    rows = [json.loads(line) for line in (Path(__file__).parent / "data/evaluation/questions.jsonl").read_text("utf-8").splitlines()]
    follow_ups = [row["question"] for row in rows if row["kind"] == "follow_up"]
    others = [row["question"] for row in rows if row["kind"] != "follow_up"]
    known = sum(map(leans_on_dialogue, follow_ups))
    mistaken = sum(map(leans_on_dialogue, others))
    print(f"follow-ups known: {known} of {len(follow_ups)}; others taken for one: {mistaken} of {len(others)}")
    assert known >= 0.8 * len(follow_ups)
    assert all(leans_on_dialogue(question) or brief(question) for question in follow_ups), "looked up with the words before, at least"
    assert mistaken <= 0.05 * len(others)
    assert all(map(needs_search, (row["question"] for row in rows)))


@pytest.mark.parametrize("question", ["What is the latest Ollama version?", "Who is the president now?", "今天星期几？", "最新的新闻", "他今年几岁？"])
def test_what_hangs_on_today(question: str) -> None:
    assert hangs_on_today(question)


@pytest.mark.parametrize("question", ["What is the capital of France?", "What is snow?", "黑洞是怎样形成的？", "Who knows Newton?"])
def test_what_is_the_same_tomorrow(question: str) -> None:
    assert not hangs_on_today(question)


# --- whether an answer says that its sources lack it

LACKING = """
The sources do not say.|The provided sources do not contain any information about bitcoin. [1]|Based on the sources, I could not find that in the given documents.
There is no mention of this in the provided sources.|Unfortunately, the text doesn't mention it|I'm sorry, I cannot answer.|I don't know.
No information about the price is given in these sources.|None of the sources mention the price.|The context provided lacks this detail.
资料中没有提到。|根据提供的资料，没有找到关于比特币价格的内容。|抱歉，资料里没有。|无法从资料中得知。|这份资料未提及保修期。|我不知道。|很遗憾，来源中并未说明。
"""
TELLING = """
The capital of France is Paris. [1]|The AI Act does not apply to the military. [1]|No licence is needed in the park. [2]|Ollama does not send data anywhere. [1]
The source of the Danube lies in Germany. [1]|Documents of open access can be read by all. [2]|It has not been rebuilt since 1937. [1]|Nothing in the box is toxic. [1]
法国的首都是巴黎。[1]|该市没有海港。[1]|未来的资料会更多。|巴黎没有海港，面积很小。|本产品不含糖。|未经许可不得进入。[1]|该功能不会上传信息。[1]
"""


@pytest.mark.parametrize("text", each(LACKING))
def test_what_says_that_the_sources_lack_it(text: str) -> None:
    assert lacking(text)
    assert lacking(text + " The weather is fine. [1]")


@pytest.mark.parametrize("text", each(TELLING))
def test_what_says_something(text: str) -> None:
    assert not lacking(text)
    assert not lacking(text + " The sources do not say more."), "the first sentence decides"


def opened(*texts: str) -> tuple[list[str], Opening]:
    """What an opening lets through at each piece."""
    opening = Opening()
    pieces = [*map(Piece, texts), Piece("", finish_reason=FinishReason.STOP)]
    return ["".join(ready.text for ready in opening.push(piece)) for piece in pieces], opening


def test_an_answer_is_held_back_until_its_first_sentence() -> None:
    shown, opening = opened("The capital ", "is Paris.", " It is large.")
    assert shown == ["", "The capital is Paris.", " It is large.", ""]
    assert not opening.lacking


def test_or_until_it_has_gone_on_for_a_line() -> None:
    shown, _ = opened(*["word " for _ in range(40)])
    assert shown[HELD // 5 - 1] == "word " * (HELD // 5)
    chinese, _ = opened(*"法" * 60)
    assert chinese[HELD // 2 - 1] == "法" * (HELD // 2)


def test_a_refusal_is_held_to_its_end() -> None:
    shown, opening = opened("The sources ", "do not say.", " They speak of bread.")
    assert shown == ["", "", "", ""]
    assert opening.lacking
    assert "".join(piece.text for piece in opening.held) == "The sources do not say. They speak of bread."
    assert opening.held[-1].finish_reason is FinishReason.STOP


def test_a_short_answer_without_a_stop_is_shown_at_its_end() -> None:
    assert opened("Paris")[0] == ["", "Paris"]


def test_thinking_is_not_held() -> None:
    opening = Opening()
    assert opening.push(Piece("Hm, the sources do not say.", "thinking"))
    assert not opening.push(Piece("Paris"))


ENGLISH, CHINESE = (Passage(text=text, title="", url="") for text in ("Bread is made of flour.", "面包由面粉制成。"))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], False),
        ([(1, "Towers shine.", "no")], True),
        ([(1, "Towers shine.", "no"), (1, "Bread is made of flour.", "weak")], False),
        ([(9, "Towers shine.", "no")], True),
        ([(2, "Towers shine.", "no")], False),
        ([(1, "高塔发光。", "no")], False),
    ],
)
def test_nothing_that_was_cited_stands_there(found: list[tuple[int, str, str]], expected: bool) -> None:
    citations = [Citation(n=n, sentence=sentence, found=grade) for n, sentence, grade in found]  # type: ignore[arg-type]
    assert unsupported(citations, [ENGLISH, CHINESE]) is expected


# --- words to look for


def test_keywords_are_cleaned() -> None:
    assert kept_words(["Paris", "paris", " capital\u200b of  France ", 7, "", "...", "x" * 41, '"site:evil.example" OR', "a", "b", "c", "d"]) == (
        "Paris", "capital of France", "site evil.example OR", "a", "b", "c"
    )  # fmt: skip


def test_queries_by_script() -> None:
    assert with_keywords("Q", ("法国", "Paris", "首都", "France")) == ("Q", "法国 首都", "Paris France")
    assert with_keywords("Q", ()) == ("Q",)


def test_the_last_question_lends_its_words() -> None:
    said = [Message("user", "What is the capital of France?"), Message("assistant", "Paris, of course."), Message("user", "法国的首都是哪里？")]
    assert with_last_words("And in winter?", said[:2]) == "And in winter? capital france"
    assert with_last_words("那里呢？", said) == "那里呢？ 法国 首都"
    assert with_last_words("Why?", []) == "Why?"


@pytest.mark.parametrize(
    ("before", "question", "query"),
    [
        ("What is the capital of France?", "And in Germany?", "And in Germany? capital"),
        ("What is the capital of France?", "What about Germany?", "What about Germany? capital"),
        ("法国的首都是哪里？", "那德国呢？", "那德国呢？ 首都"),
        ("去其他城市，住宿标准是多少？", "那一线城市呢？", "那一线城市呢？ 去其 住宿 宿标 标准"),
        ("What does the Lumo 3 cost in France?", "And in Germany?", "And in Germany? lumo 3 cost"),
        ("What does the Lumo 3 cost in France?", "And the Lumo 4?", "And the Lumo 4? cost france"),
        # what only says more about the same takes nothing away
        ("When is Ambrel open?", "And on Monday?", "And on Monday? ambrel open"),
        ("When is it hot in Ambrel?", "And in May?", "And in May? hot ambrel"),
        ("What may a night cost at Harbour & Pine?", "And in Port Alder?", "And in Port Alder? night cost harbour pine"),
        ("How much does the Velmora W9 wash?", "And how much can it dry?", "And how much can it dry? velmora w9 wash"),
        ("去鹿尾岛的轮渡多少钱？", "那小汽车呢？", "那小汽车呢？ 去鹿 鹿尾 尾岛 轮渡"),
    ],
)  # fmt: skip
def test_a_name_takes_the_place_of_the_one_before(before: str, question: str, query: str) -> None:
    assert with_last_words(question, [Message("user", before), Message("assistant", "Well.")]) == query


@pytest.mark.parametrize("unit", ["a", " ", "it ", "1+", "翻译", "please ", "把a", "\n", "that ", "资料", "not in the ", "hi "])
def test_rules_take_time_in_proportion(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    started = time.process_time()
    needs_search(text), leans_on_dialogue(text), hangs_on_today(text), lacking(text), kept_words([text]), json.dumps(text)
    assert time.process_time() - started < 2
