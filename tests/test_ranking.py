"""From what several searches found to what the prompt holds."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from orchestra.model.tokens import most_tokens
from orchestra.retrieval import ranking
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.ranking import canonical, chosen, fitted, last_best, merged


def passage(text: str, url: str = "", **more: Any) -> Passage:
    return Passage(text=text, title=more.pop("title", "A title"), url=url or f"https://example.org/{text.split()[0]}", **more)


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("HTTPS://Example.ORG/a", "https://example.org/a"),
        ("https://example.org:443/a", "https://example.org/a"),
        ("http://example.org:80/", "http://example.org"),
        ("https://example.org/a/", "https://example.org/a"),
        ("https://example.org/a#part", "https://example.org/a"),
        ("https://example.org./a", "https://example.org/a"),
        ("https://example.org/a?utm_source=x&id=7&fbclid=y", "https://example.org/a?id=7"),
        ("https://example.org/a?UTM_Campaign=x", "https://example.org/a"),
        ("https://user:secret@example.org/a", "https://example.org/a"),
    ],
)
def test_addresses_that_are_the_same(url: str, same: str) -> None:
    assert canonical(url) == canonical(same) == same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.org/a", "https://example.org/b"),
        ("https://example.org/a", "https://example.org/A"),
        ("https://example.org/?id=1", "https://example.org/?id=2"),
        ("https://example.org:8443/", "https://example.org/"),
        ("orchestra:texts/a.md", "orchestra:texts/b.md"),
        ("/home/a.md", "/home/b.md"),
    ],
)
def test_addresses_that_differ(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize("url", ["", " ", "http://[::1", "http://a:b/", "data:,x", "no address", "https://"])
def test_what_is_no_address_is_taken_as_it_is(url: str) -> None:
    assert canonical(url) == url.strip()


def test_ranks_are_fused() -> None:
    a, b, c, d = (passage(f"{name} says something of its own") for name in "abcd")
    order = merged([[a, b, c], [b, d], [b, a]])
    assert [each.url[-1] for each in order] == ["b", "a", "d", "c"]
    assert order[0].score == round(1 / 62 + 2 / 61, 6)


def test_one_address_of_the_web_is_one_passage_with_the_longer_text() -> None:
    short = passage("Paris.", "https://example.org/paris?utm_source=x", title="")
    long = passage("Paris is the capital of France.", "https://EXAMPLE.org/paris#top", published="2026-01-02")
    (found,) = merged([[short], [long]])
    assert (found.text, found.title, found.published) == (long.text, "A title", "2026-01-02")
    assert found.url == short.url


def test_paragraphs_of_one_file_are_not_one_passage() -> None:
    first, second = (passage(text, "orchestra:texts/france.md") for text in ("Paris is the capital.", "Lyon lies on the Rhône."))
    assert len(merged([[first, second], [second]])) == 2
    assert merged([[first, second], [second]])[0].text == second.text


def test_a_stale_passage_that_was_also_found_now_is_not_stale() -> None:
    old = replace(passage("Paris.", "https://example.org/paris"), stale=True)
    assert not merged([[old], [replace(old, stale=False)]])[0].stale
    assert merged([[old], [old]])[0].stale


TEXT = "The river Seine flows through Paris and reaches the sea at Le Havre, in Normandy, after 777 kilometres."


def test_what_says_nothing_new_is_dropped_with_its_reason() -> None:
    found = chosen(
        [
            passage(TEXT, "https://a.example/1"),
            passage(TEXT.replace("777", "776"), "https://b.example/2"),
            passage("巴黎是法国的首都。", "https://a.example/1", place="2"),
            passage("Quite another thing altogether.", "https://a.example/1", place="3"),
            passage("   ", "https://c.example/"),
            passage("Berlin is the capital of Germany.", "https://d.example/"),
            passage("Madrid is the capital of Spain.", "https://e.example/"),
        ],
        most=3,
    )
    assert [each.url for each in found.kept] == ["https://a.example/1", "https://a.example/1", "https://d.example/"]
    assert [why for _, why in found.dropped] == [
        "nearly the same as a better one", "more than 2 of one address", "no text", "beyond the 3 best"
    ]  # fmt: skip


def test_red_control_the_likeness_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "ALIKE", 1.1)
    assert len(chosen([passage(TEXT, "https://a.example/"), passage(TEXT + "!", "https://b.example/")], most=3).kept) == 2


def test_what_fits_is_kept_whole() -> None:
    both = [passage("One sentence."), passage("Two sentences. And more.")]
    assert fitted(both, "What?", budget=100, count=most_tokens).kept == tuple(both)


@pytest.mark.parametrize(
    ("text", "question", "kept"),
    [
        ("Cats sleep. The capital is Paris. Dogs bark. Birds sing.", "What is the capital?", "The capital is Paris."),
        ("猫会睡觉。首都是巴黎。狗会叫。鸟会唱歌。", "首都是哪里？", "首都是巴黎。"),
    ],
)
def test_of_a_long_passage_the_whole_sentences_nearest_to_the_question(text: str, question: str, kept: str) -> None:
    budget = most_tokens(kept) + 3
    (found,) = fitted([passage(text)], question, budget=budget, count=most_tokens).kept
    assert found.text == kept
    (more,) = fitted([passage(text)], question, budget=most_tokens(text) - 1, count=most_tokens).kept
    assert kept in more.text
    assert more.text in text, "as they stand in the text"
    assert more.text != text


def test_a_short_passage_leaves_its_room_to_the_next() -> None:
    long = " ".join(f"Sentence {n} is here." for n in range(20))
    found = fitted([passage("Short."), passage(long)], "What?", budget=200, count=most_tokens)
    assert found.kept[0].text == "Short."
    assert most_tokens(found.kept[1].text) > 150
    assert sum(most_tokens(each.text) for each in found.kept) <= 200


def test_a_sentence_that_has_no_room_is_not_cut() -> None:
    found = fitted([passage("x" * 500), passage("Short.")], "What?", budget=60, count=most_tokens)
    assert [each.text for each in found.kept] == ["Short."]
    assert found.dropped[0].why == "no room within 60 tokens"


@pytest.mark.parametrize(("count", "order"), [(0, []), (1, [0]), (2, [1, 0]), (3, [1, 2, 0]), (5, [1, 2, 3, 4, 0])])
def test_the_best_stands_last_the_second_first(count: int, order: list[int]) -> None:
    assert last_best(count) == order


def test_a_document_of_ones_own_may_have_it_all() -> None:
    texts = ["Cats sleep.", "Dogs bark at night.", "Birds sing in spring.", "Fish swim."]
    assert len(chosen([passage(text, "/home/manual.md", place=f"lines {n}") for n, text in enumerate(texts)], most=4).kept) == 4


@pytest.mark.parametrize("text", ["a" * 10**5, "a. " * 30_000, "的" * 50_000, "\n" * 10**5])
def test_it_takes_time_in_proportion(text: str) -> None:
    started = time.process_time()
    many = [passage(text, f"https://example.org/{n}") for n in range(4)]
    fitted(chosen(merged([many]), most=3).kept, "What?", budget=500, count=most_tokens)
    assert time.process_time() - started < 5
