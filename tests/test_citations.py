"""Whether a source says what a sentence says: the labelled pairs, each kind of fact, and the sentences of an answer."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from evaluation import documents

from orchestra.retrieval import citations as checks
from orchestra.retrieval import facts
from orchestra.retrieval.citations import citations, found_in, uncited
from orchestra.retrieval.passages import Found, Passage
from orchestra.retrieval.sentences import sentences

PAIRS = Path(__file__).with_name("data") / "citations.jsonl"
PRECISION, RECALL = 0.95, 0.6


def source(text: str, title: str = "A title") -> Passage:
    return Passage(text=text, title=title, url="a:b")


class Pair(NamedTuple):
    """One labelled pair and what was found."""

    label: str
    altered: str | None
    lang: str
    held: bool
    paraphrase: bool
    found: Found


def judged() -> list[Pair]:
    rows: list[dict[str, Any]] = [json.loads(line) for line in PAIRS.read_text("utf-8").splitlines()]
    return [
        Pair(
            row["label"], row["altered"], row["lang"], row.get("held", False), row.get("paraphrase", False),
            found_in(row["sentence"], source(row["source"], row["title"])),
        )
        for row in rows
    ]  # fmt: skip


def precision(pairs: list[Pair]) -> float:
    """Of the pairs found `yes`, the share that is supported."""
    said_yes = [pair for pair in pairs if pair.found == "yes"]
    return sum(pair.label == "supported" for pair in said_yes) / len(said_yes)


def recall(pairs: list[Pair]) -> float:
    """Of the supported pairs, the share found `yes`."""
    supported = [pair for pair in pairs if pair.label == "supported"]
    return sum(pair.found == "yes" for pair in supported) / len(supported)


# --- the labelled pairs


def test_the_set_is_as_described() -> None:
    pairs = judged()
    assert len(pairs) >= 430
    assert sum(pair.held for pair in pairs) >= 130
    assert sum(pair.altered is not None for pair in pairs) >= len(pairs) / 3
    for lang in ("zh", "en"):
        assert sum(pair.lang == lang for pair in pairs) >= 0.45 * len(pairs)
    assert {pair.altered for pair in pairs} == {None, "number", "name", "negation", "unit", "date"}


@pytest.mark.parametrize("held", [False, True], ids=["developed on", "held out"])
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_yes_is_precise(held: bool, lang: str) -> None:
    pairs = [pair for pair in judged() if pair.held == held and pair.lang == lang]
    altered = [pair for pair in pairs if pair.altered]
    shared = [pair for pair in pairs if not pair.paraphrase]
    wrongly = sum(pair.found == "yes" for pair in altered) / len(altered)
    wrongly_no = sum(pair.found == "no" for pair in pairs if pair.label == "supported")
    print(
        f"\n{lang}, {'held out' if held else 'developed on'}: {len(pairs)} pairs; precision of yes {precision(pairs):.3f}; "
        f"altered and yes {wrongly:.3f} of {len(altered)}; recall {recall(pairs):.2f}, with shared words {recall(shared):.2f}; "
        f"supported and no: {wrongly_no}"
    )
    assert precision(pairs) >= PRECISION
    assert wrongly <= 1 - PRECISION
    assert recall(shared) >= RECALL
    assert not any(pair.found == "yes" for pair in pairs if pair.label in ("unrelated", "partial"))


@pytest.mark.parametrize(
    ("module", "name", "broken", "altered"),
    [
        (facts, "quantities", lambda text: ([], re.sub("[0-9]", " ", text)), "number"),
        (checks, "_named", lambda name, stretch, title: True, "name"),
        (checks, "_turned", lambda clause, stretch, title: "", "negation"),
    ],
    ids=["numbers", "names", "negations"],
)
def test_red_control_each_kind_of_fact_decides(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, broken: Any, altered: str) -> None:
    monkeypatch.setattr(module, name, broken)
    facts.clauses.cache_clear()
    wrong = sum(pair.found == "yes" for pair in judged() if pair.altered == altered)
    facts.clauses.cache_clear()
    assert wrong >= 3


# --- facts


EQUAL = [
    ("1949年10月1日成立。", "一九四九年十月一日成立。"),
    ("人口为3000万。", "人口为三千万。"),
    ("人口为3000 万。", "人口为30,000,000。"),
    ("The population is 30 million.", "The population is 30,000,000."),
    ("It cost 4.2 billion dollars.", "It cost $4.2bn."),
    ("占百分之五。", "占5%。"),
    ("占一成。", "占10%。"),
    ("The share is 5 per cent.", "The share is 5%."),
    ("共有两百人参加。", "共有200人参加。"),
    ("共有十二人参加。", "共有12人参加。"),
    ("It opened on 3 May 2024.", "It opened on 2024-05-03."),
    ("It opened on May 3, 2024.", "It opened on 3 May 2024."),
    ("于2024年5月3日开放。", "于2024-05-03开放。"),
    ("It opened in May 2024.", "It opened on 3 May 2024."),
    ("The road is 5 km long.", "The road is 5 kilometres long."),
    ("The road is 5000 m long.", "The road is 5 km long."),
    ("公路长5公里。", "公路长5km。"),
    ("Rest for half an hour, 30 minutes.", "Rest for half an hour, 0.5 hours."),
    ("Store at 25 °C.", "Store at 25℃."),
    ("It weighs 80 to 120 kg.", "It weighs 80–120 kg."),
    ("It weighs between 80 and 120 kg.", "It weighs 80 kg to 120 kg."),
    ("The 12th edition appeared.", "The twelfth edition appeared."),
    ("It was built in the 19th century.", "It was built in the nineteenth century."),
    ("建于20世纪60年代。", "建于1960年代。"),
    ("最低不少于3人。", "最低不得少于三人。"),
    ("The office opens at 9:00.", "The office opens at 09:00."),
    ("It takes four and a half days, 25 steps.", "It takes four and a half days, twenty-five steps."),
]


@pytest.mark.parametrize(("said", "text"), EQUAL)
def test_one_fact_in_two_forms_is_the_same(said: str, text: str) -> None:
    assert found_in(said, source(text)) == "yes"


CONTRARY = [
    ("The trail is 12 km long.", "The trail is 12 miles long."),
    ("The dose is 5 mg.", "The dose is 5 g."),
    ("He earned 3 million dollars.", "He earned 3 billion dollars."),
    ("出口额为3亿元。", "出口额为3万元。"),
    ("It costs 20 euros.", "It costs 20 pounds."),
    ("This is version 3.1 of the library.", "This is version 3.10 of the library."),
    ("The vote passed 52-48.", "The vote passed 48-52."),
    ("The meeting is at 3:00 pm.", "The meeting is at 3:00 am."),
    ("他出生于5月3日。", "他出生于3月5日。"),
    ("It opened in the 19th century.", "It opened in the 18th century."),
    ("The third edition appeared in 1920.", "The second edition appeared in 1920."),
    ("The company has one factory.", "The company has two factories."),
    ("公司有一个工厂。", "公司有两个工厂。"),
    ("The revenue rose 8% in 2023.", "Revenue rose 5% in 2023 and 8% in 2024."),
    ("The A1 costs $5 and the B2 costs $8.", "The A1 costs $8 and the B2 costs $5."),
    ("The drug fails to lower blood pressure.", "The drug lowers blood pressure."),
    ("The drug lowers blood pressure.", "The drug fails to lower blood pressure."),
    ("The law applies in all member states.", "The law does not apply in all member states."),
    ("The law applies in all member states.", "The law never applies in all member states."),
    ("The soup is made with salt.", "The soup is made without salt."),
    ("Like Mars, Venus has an atmosphere.", "Unlike Mars, Venus has an atmosphere."),
    ("The minister confirmed the report.", "The minister denied the report."),
    ("部长承认收受贿赂。", "部长否认收受贿赂。"),
    ("该药是处方药。", "该药并非处方药。"),
    ("该药是处方药。", "该药不是处方药。"),
    ("设备已经检修。", "设备尚未检修。"),
    ("2023年产量高于2022年。", "2023年产量低于2022年。"),
    ("Sales increased in spring.", "Sales decreased in spring."),
    ("产量增加了。", "产量减少了。"),
    ("The bridge was built before the war.", "The bridge was built after the war."),
    ("He was the last president of the club.", "He was the first president of the club."),
    ("最高温度为35度。", "最低温度为35度。"),
    ("All patients recovered.", "Some patients recovered."),
    ("The river flows from north to south.", "The river flows from south to north."),
    ("The mushroom is edible.", "The mushroom is inedible."),
    ("Paris is the capital of Germany.", "Paris is the capital of France and Berlin of Germany."),
    ("巴黎是德国的首都。", "巴黎是法国的首都，柏林是德国的首都。"),
    ("Germany beat France.", "France beat Germany."),
    ("张三借给李四五万元。", "李四借给张三五万元。"),
    ("Alton was acquired by Brix in March.", "Alton acquired Brix in March."),
    ("Mercury is larger than Mars.", "Mars is larger than Mercury."),
    ("甲公司比乙公司大。", "乙公司比甲公司大。"),
    ("约翰·史密斯创办了该公司。", "约翰·布朗创办了该公司，史密斯是他的朋友。"),
    ("华为公司在深圳成立。", "中兴公司在深圳成立。"),
    ("他写了《骆驼祥子》。", "他写了《茶馆》，演员们喜欢骆驼祥子。"),
    ("Tom Lee directed the film.", "The film was produced by Tom Lee and directed by Ann Wu."),
    ("小明的父亲是医生，母亲是教师。", "小明的父亲是教师，母亲是医生。"),
    ("He was born in London and died in Rome.", "He was born in Rome and died in London."),
    ("Anna married Peter in 1999.", "Anna married Paul in 1999. Peter was the priest."),
    ("The option log_file is required.", "The option log_level is required."),
]


@pytest.mark.parametrize(("said", "text"), CONTRARY)
def test_another_fact_is_never_found(said: str, text: str) -> None:
    assert found_in(said, source(text)) != "yes"
    assert found_in(text, source(text)) == "yes", "the source's own sentence is"


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("Paris is the capital of France.", "Paris is the capital of France and Berlin of Germany."),
        ("France borders Germany.", "France borders Spain, Italy, Switzerland, Germany and Belgium."),
        ("法国与德国接壤。", "法国与西班牙、意大利、德国和比利时接壤。"),
        ("Brix was acquired by Alton in March.", "Alton acquired Brix in March."),
        ("The city has an airport.", "The city has no port, but it has an airport."),
        ("The tower, finished in 1889, is 330 m high.", "The tower is 330 m high. It was finished in 1889."),
    ],
)
def test_what_stands_beside_other_facts_is_found(said: str, text: str) -> None:
    assert found_in(said, source(text)) == "yes"


@pytest.mark.parametrize(
    ("said", "text", "found"),
    [
        ("Paris had 2.1 million inhabitants in 2020.", "巴黎2020年有人口210万。", "weak"),
        ("Paris had 3.1 million inhabitants in 2020.", "巴黎2020年有人口210万。", "no"),
        ("巴黎的人口为210万。", "Paris had 2.1 million inhabitants.", "weak"),
        ("巴黎的人口为310万。", "Paris had 2.1 million inhabitants.", "no"),
        ("巴黎很美。", "Paris had 2.1 million inhabitants.", "no"),
    ],
)
def test_across_languages_it_is_weak_at_most(said: str, text: str, found: Found) -> None:
    assert found_in(said, source(text)) == found


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("The tower is 300 m high.", "no"),
        ("The tower is not 330 m high.", "no"),
        ("The tower is 330 m high and was painted green by students.", "weak"),
        ("Bananas grow in the tropics.", "no"),
    ],
)
def test_contrary_is_no_and_a_part_is_weak(said: str, found: Found) -> None:
    assert found_in(said, source("The tower is 330 m high. It was finished in 1889.")) == found


# --- several sources for one sentence


FRANCE = source("Paris is the capital of France. The city lies on the Seine.", "Paris")
CROWD = source("In 2020, Paris had 2,102,650 inhabitants.", "Population of Paris")
BERLIN = source("Berlin has 3,600,000 inhabitants.", "Berlin")


@pytest.mark.parametrize(
    ("text", "passages", "expected"),
    [
        ("Paris is the capital of France and had 2,102,650 inhabitants [1][2].", [FRANCE, CROWD], ["yes", "yes"]),
        ("Paris is the capital of France [1] and had 2,102,650 inhabitants [2].", [FRANCE, CROWD], ["yes", "yes"]),
        ("Paris is the capital of France [1][2].", [FRANCE, BERLIN], ["yes", "no"]),
        ("Paris is the capital of France and has 3,600,000 inhabitants [1][2].", [FRANCE, BERLIN], ["weak", "weak"]),
        ("Paris is the capital of Spain and had 2,102,650 inhabitants [1][2].", [FRANCE, CROWD], ["weak", "weak"]),
        ("Paris is the capital of France and had 2,102,650 inhabitants [1].", [FRANCE, CROWD], ["weak"]),
    ],
)
def test_a_sentence_may_stand_in_its_sources_together(text: str, passages: list[Passage], expected: list[Found]) -> None:
    assert [citation.found for citation in citations(text, passages)] == expected


# --- the sentences of an answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dr. Smith met Mr. Lee. They talked.", ["Dr. Smith met Mr. Lee.", "They talked."]),
        ("The U.S. economy grew, e.g. by 3.5%. So it did.", ["The U.S. economy grew, e.g. by 3.5%.", "So it did."]),
        ("J. R. Smith wrote it. Good.", ["J. R. Smith wrote it.", "Good."]),
        ("He works at Acme Inc. She does not.", ["He works at Acme Inc.", "She does not."]),
        ("See https://example.org/a.b?c=d. It is there!", ["See https://example.org/a.b?c=d.", "It is there!"]),
        ("1. First item\n2. Second item.", ["1. First item", "2. Second item."]),
        ("# A heading\n\nText [1].", ["# A heading", "Text [1]."]),
        ("Run:\n```python\na[1] = 2. + b[3]\n```\nDone [1].", ["Run:", "Done [1]."]),
        ("“真的。”他说。好！", ["“真的。”", "他说。", "好！"]),
        ("Version 2.4.1 is out. [1] Next", ["Version 2.4.1 is out. [1]", "Next"]),
        ("Yahoo!Mail? no. Really?! Yes.", ["Yahoo!Mail?", "no.", "Really?!", "Yes."]),
        ("", []),
    ],
)
def test_where_a_sentence_ends(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_an_index_in_code_is_no_citation() -> None:
    assert citations("Use `a[1]` here.\n\n```\nb[2]\n```\n", [FRANCE]) == []
    assert [citation.n for citation in citations("Use `a[2]` here [1].", [FRANCE])] == [1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Paris is the capital of France [1]. It has two million inhabitants.", ["It has two million inhabitants."]),
        ("巴黎是法国的首都[1]。巴黎有两百万人口。", ["巴黎有两百万人口。"]),
        ("Paris is the capital of France.\n\n[1]", []),
        ("# The capital of France\n\nThese are its three largest cities:\n- Paris is the largest one [1]", []),
        ("Is Paris the capital of France?", []),
        ("Sure!", []),
    ],
)
def test_what_states_something_and_cites_nothing(text: str, expected: list[str]) -> None:
    assert uncited(text) == expected


# --- what stands in its source word for word


def verdicts() -> Counter[Found]:
    """Every sentence of the evaluation's documents, checked against the document that it stands in."""
    found: Counter[Found] = Counter()
    for whole in documents().values():
        title, body = whole.split("\n", 1)
        passage = source(body.strip(), title.removeprefix("# "))
        found.update(found_in(sentence, passage) for sentence in sentences(body) if not sentence.startswith("#"))
    return found


def test_every_sentence_is_found_in_its_own_document() -> None:
    found = verdicts()
    print(f"\nsentences checked against their own document: {dict(found)}")
    assert sum(found.values()) > 1200
    assert found["no"] == 0
    assert found["yes"] >= 0.995 * sum(found.values())


def test_the_rules_alone_find_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_verbatim", lambda text: frozenset())
    found = verdicts()
    assert found["no"] == 0
    assert found["yes"] >= 0.995 * sum(found.values())


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ("Yes, we do.", "Is it open? Yes, we do. Come in."),
        ("A, b, c and d, and no more", "Nothing. A, b, c and d, and no more."),
        ("脆而不酸", "洗澡菜：\n\n脆而不酸。"),
        ("他说：“可以，但不必。”", "起初。\n他说：\"可以,但不必。\"\n然后走了。"),
        ("It runs over two lines, and on.", "It runs over\ntwo lines, and on.\nThen it stops."),
        ("它一直写到\n下一行为止。", "它一直写到\n下一行为止。"),
        ("Shut the lid.", "- Shut the lid.\n- Open it."),
        ("Shut the lid.", "Shut the lid.[3] Open it."),
    ],
)  # fmt: skip
def test_word_for_word_is_found(sentence: str, text: str) -> None:
    assert found_in(sentence, source(text, "")) == "yes"


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ("true.", "This is not true."),
        ("the lid may be opened.", "Under no circumstances, they say, the lid may be opened."),
        ("The lid may be opened.", "The lid may be opened?"),
        ("the lid is open.", "It is wrong that\nthe lid is open."),
        ("The lid is open", "The lid is open\nonly on Mondays, and never before."),
        ("可以打开盖子。", "无论如何都不\n可以打开盖子。"),
        ("可以打开盖子。", "不可以打开盖子。"),
        ("", "Something."),
    ],
)
def test_a_part_of_a_sentence_is_not_taken_for_the_whole(sentence: str, text: str) -> None:
    assert checks._folded(sentence) not in checks._verbatim(text)


def test_red_control_a_line_is_no_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_verbatim", lambda text: frozenset(map(checks._folded, text.split("\n"))))
    assert found_in("可以打开盖子。", source("无论如何都不\n可以打开盖子。")) == "yes"


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        (
            "Free users have 30 calls; paying users have 300 calls, and no more.",
            "Free users have 30 calls, and no more; paying users have 300 calls.",
        ),
        ("免费用户每天不限；付费用户每天 2000 次。", "免费用户每天 2000 次；付费用户每天不限。"),
    ],
)  # fmt: skip
def test_what_is_denied_of_another_is_not_found(sentence: str, text: str) -> None:
    assert found_in(sentence, source(text)) != "yes"


@pytest.mark.parametrize(
    ("sentence", "near", "far"),
    [
        ("The harbour was closed in 1921.", "The old harbour was closed in 1921.", "Many gardens bloom every summer."),
        ("港口于1921年关闭。", "旧港口于1921年关闭。", "许多花园夏天盛开。"),
    ],
)
def test_sentences_of_a_source_that_share_no_letters_are_not_read(sentence: str, near: str, far: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passage = Passage(text=" ".join([far] * 20 + [near] + [far] * 20), title="", url="")
    read: list[str] = []
    clauses = facts.clauses

    def counted(text: str) -> tuple[facts.Clause, ...]:
        read.append(text)
        return clauses(text)

    monkeypatch.setattr(checks, "clauses", counted)
    assert checks.found_in(sentence, passage) == "yes"
    assert len(read) < 12
    monkeypatch.setattr(checks, "NEAR", 0.0)
    read.clear()
    checks.found_in(sentence, passage)
    assert len(read) > 100  # red control
