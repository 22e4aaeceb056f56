"""How well the knowledge base finds things: on a set of questions written for this, in two languages.

The first half checks the set itself, since a figure is worth what its questions are worth.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import installed_models
from evaluation import (
    BASE,
    WORDED,
    Figures,
    Question,
    chosen,
    crowded,
    documents,
    embedded,
    figures,
    filled,
    nearest,
    questions,
    searched,
)

from orchestra.model.client import Client
from orchestra.model.language import language_of
from orchestra.retrieval.knowledge import words
from orchestra.retrieval.knowledge.embedding import Embedder
from orchestra.retrieval.knowledge.index import Index
from orchestra.retrieval.knowledge.search import Knowledge
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.pipeline import NOT_FOUND, UNSUPPORTED, judged
from orchestra.retrieval.sentences import sentences
from orchestra.retrieval.terms import terms
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import StandIn
from orchestra.standin.weights import CATALOGUE

ENOUGH = 0.95
LANGUAGES = ("zh", "en")
HAN = re.compile("[\u4e00-\u9fff]")


# --- the set


def test_there_are_documents_of_both_languages_and_none_is_long_or_told_twice() -> None:
    texts = documents()
    assert len(texts) >= 150
    assert len(set(texts.values())) == len(texts)
    languages = Counter(name.partition("-")[0] for name in texts)
    assert set(languages) == set(LANGUAGES)
    assert min(languages.values()) >= 70
    for name, text in texts.items():
        title, body = text.split("\n", 1)
        assert title.startswith("# "), name
        length = len(HAN.findall(body)) if name.startswith("zh-") else len(body.split())
        shortest, longest = (150, 450) if name.startswith("zh-") else (80, 250)
        assert shortest <= length <= longest, f"{name}: {length}"


def test_there_are_questions_of_each_kind_in_both_languages() -> None:
    every = questions()
    assert len({question.id for question in every}) == len(every) >= 240
    assert len({question.question + question.standalone for question in every}) == len(every)
    kinds = Counter(question.kind for question in every)
    assert kinds["paraphrase"] >= len(every) / 3
    assert kinds["unanswerable"] >= 40
    assert kinds["follow_up"] >= 30
    for kind in kinds:
        both = Counter(question.lang for question in every if question.kind == kind)
        assert min(both[lang] for lang in LANGUAGES) >= 4, kind
    assert len(chosen("words", key=2)) >= 40
    assert len(chosen("words", key=1)) >= 5


def test_each_answer_stands_in_the_documents_named_for_it() -> None:
    texts = documents()
    for question in questions():
        assert question.documents, question.id
        assert set(question.documents) <= set(texts), question.id
        each = [texts[name] for name in question.documents]
        assert bool(question.answers) != (question.kind == "unanswerable"), question.id
        for answer in question.answers:
            assert any(answer in text for text in each), f"{question.id}: {answer}"


def test_what_would_answer_the_unanswerable_stands_nowhere_on_their_subject() -> None:
    for question in chosen("unanswerable"):
        near = "\n".join(documents()[name] for name in question.documents).casefold()
        assert question.absent, question.id
        assert not [word for word in question.absent if word.casefold() in near], question.id


def test_questions_share_as_many_words_with_their_documents_as_their_kind_says() -> None:
    for question in questions():
        asked = set(terms(question.question))
        there = "\n".join(documents()[name] for name in question.documents)
        share = len(asked & set(terms(there))) / max(1, len(asked))
        if question.kind == "paraphrase":
            assert share <= 0.4, question.id
        if question.kind in WORDED:
            assert share > 0 or question.key in there, question.id
        if question.key:
            assert question.key in question.question, question.id
            assert question.key in there, question.id


def test_questions_of_one_language_may_be_about_documents_of_the_other_only_where_they_say_so() -> None:
    for question in questions():
        foreign = [name for name in question.documents if not name.startswith(f"{question.lang}-")]
        assert bool(foreign) == (question.kind == "cross_language"), question.id


def test_follow_ups_have_a_dialogue_and_a_form_that_needs_none() -> None:
    for question in questions():
        assert bool(question.dialogue) == bool(question.standalone) == (question.kind == "follow_up"), question.id
    for question in chosen("follow_up"):
        assert [message.role for message in question.dialogue] == ["user", "assistant"], question.id
        asked, alone = set(terms(question.question)), set(terms(question.standalone))
        assert len(alone) > len(asked), question.id


# --- the search


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with filled(tmp_path_factory.mktemp("knowledge")) as index:
        yield index


def measured(index: Index, lang: str, *kinds: str, key: int = 0) -> Figures:
    found = figures(chosen(*kinds, lang=lang, key=key), searched(Knowledge(index, BASE, runtime=Blocking())))
    print(f"{lang} {'/'.join(kinds)}{f', {key} characters' if key else ''}: {found}")
    return found


@pytest.mark.parametrize("lang", LANGUAGES)
def test_full_text_finds_what_shares_words(index: Index, lang: str) -> None:
    found = measured(index, lang, *WORDED)
    assert found.five >= ENOUGH
    assert found.mrr >= 0.9


@pytest.mark.parametrize("lang", LANGUAGES)
def test_full_text_finds_what_a_follow_up_asks_once_it_stands_alone(index: Index, lang: str) -> None:
    assert measured(index, lang, "follow_up").five >= ENOUGH


def test_chinese_words_of_one_and_two_characters_are_found(index: Index) -> None:
    assert measured(index, "zh", "words", key=2).five >= ENOUGH
    assert measured(index, "zh", "words", key=1).five >= ENOUGH


@pytest.mark.parametrize("lang", LANGUAGES)
def test_words_alone_do_not_suffice_for_paraphrases(index: Index, lang: str) -> None:
    assert 0 < measured(index, lang, "paraphrase").five < 0.5


def test_full_text_finds_it_among_neighbours_of_the_same_words(tmp_path: Path) -> None:
    with filled(tmp_path) as index:
        crowded(index, 2000)
        for lang in LANGUAGES:
            assert measured(index, lang, *WORDED).five >= ENOUGH


def test_an_index_that_does_not_cut_chinese_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "cut", lambda heading, text: f"{heading}\n{text}".casefold())
    with filled(tmp_path) as blind:
        assert measured(blind, "zh", *WORDED).five < ENOUGH


# --- the answer

HONEST = {
    "en": [
        "The sources do not say.",
        "I could not find this in the sources provided.",
        "None of the sources mentions that.",
        "The sources give the capacity but nothing about this [1].",
        "Sorry, but this information is not given in the material.",
        "There is no information on that in the documents.",
        "That is not stated anywhere in the texts [2].",
        "Based on the sources, I cannot answer this question.",
        "Unfortunately the passages don't cover it.",
        "The provided sources do not contain the answer to this question [1][2].",
    ],
    "zh": [
        "资料中没有提到。",
        "根据提供的资料，无法回答这个问题。",
        "资料里没有相关信息。",
        "抱歉，我在资料中找不到答案。",
        "这些资料只介绍了容量，没有说明这一点[1]。",
        "所给材料均未提及。",
        "资料未说明。",
        "很遗憾，文中并没有给出这个数字[2]。",
        "现有资料不足以回答该问题。",
        "没有找到相关内容。",
    ],
}


def passages(index: Index, question: Question) -> tuple[Passage, ...]:
    base = Knowledge(index, BASE, runtime=Blocking())
    return finish(base.retrieve([question.alone], results=5, language=language_of(question.question))).passages


def test_an_honest_answer_to_what_is_nowhere_is_known_for_one(index: Index) -> None:
    for question in chosen("unanswerable"):
        found = passages(index, question)
        for said in HONEST[question.lang]:
            assert judged(said, found) in (NOT_FOUND, UNSUPPORTED), said


def test_an_answer_in_the_words_of_its_source_is_taken_for_one(index: Index) -> None:
    verdicts = Counter(judged(said, found) for question in chosen(*WORDED) for said, found in quoted(index, question))
    assert verdicts.total() >= 100
    assert verdicts[""] >= ENOUGH * verdicts.total()


def quoted(index: Index, question: Question) -> Iterator[tuple[str, tuple[Passage, ...]]]:
    """The first sentence among the passages that has the whole answer, with its number."""
    found = passages(index, question)
    for n, passage in enumerate(found, 1):
        for sentence in sentences(passage.text):
            if all(answer in sentence for answer in question.answers):
                yield f"{sentence} [{n}]", found
                return


# --- vectors


def test_vectors_and_both_together_go_their_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in's embeddings compare runs of one to three characters: what they find are words, not meanings."""
    roomy = replace(CATALOGUE["tiny-embed"]["weights"], context=8192)  # each text fits: one request for many
    monkeypatch.setitem(CATALOGUE, "tiny-embed", {"weights": roomy})
    with filled(tmp_path) as index, StandIn(models=["tiny-embed"], window=8192) as daemon:
        client = Client(Blocking(), Settings(host=daemon.url))
        embedded(client, index, "tiny-embed")
        worded = chosen("words")[::5]
        vectors = figures(worded, nearest(index, Embedder(client, "tiny-embed")))
        hybrid = figures(worded, searched(Knowledge(index, BASE, runtime=client.runtime, client=client)))
        print(f"vectors: {vectors}\nhybrid: {hybrid}")
        assert vectors.five > 0.3
        assert hybrid.five >= 0.8
        assert vectors.mrr < hybrid.mrr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_vectors_of_a_real_model_find_something(real_daemon: str, tmp_path: Path) -> None:
    models = [name for name in installed_models(real_daemon) if "embed" in name]
    if not models:
        pytest.skip(f"no embedding model at {real_daemon}")
    with filled(tmp_path) as index:
        client = Client(Blocking(), Settings(host=real_daemon))
        embedded(client, index, models[0])
        hybrid = figures(chosen("words")[::5], searched(Knowledge(index, BASE, runtime=client.runtime, client=client)))
        print(f"{models[0]}: {index.base(BASE)}; hybrid: {hybrid}")
        assert index.base(BASE).vectors == index.base(BASE).chunks
        assert hybrid.five > 0
