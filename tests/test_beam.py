"""Beam search without a model: an exhaustive search as oracle, greedy at width 1, ends, characters in parts, length penalties."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.model.beam import Beam, Hypothesis
from orchestra.model.prediction import END, Candidate

LETTERS = "abc"
Table = Callable[[str], Sequence[Candidate]]


def table(seed: int) -> Table:
    """A made-up model: for each text a distribution over three letters and the end, always the same."""

    def after(text: str) -> Sequence[Candidate]:
        random = Random(f"{seed} {text}")
        weights = [random.random() ** 3 + 1e-6 for _ in range(4)]
        shares = [math.log(weight / sum(weights)) for weight in weights]
        found = [Candidate(token=letter, logprob=share) for letter, share in zip(LETTERS, shares, strict=False)]
        return sorted([*found, Candidate(token=END, logprob=shares[3], kind="end")], key=lambda each: -each.logprob)

    return after


def searched(after: Table, *, width: int, most: int, penalty: float = 1.0) -> tuple[list[Hypothesis], list[int]]:
    """What a search ends with, and how many were asked for at each token."""
    beam = Beam(width=width, max_tokens=most, length_penalty=penalty)
    asked = []
    while beam.live:
        asked.append(len(beam.live))
        beam.advance([after(one.text) for one in beam.live])
    return beam.ranked(), asked


def everything(after: Table, most: int) -> list[Hypothesis]:
    """Every text that ends, or is as long as it may be."""
    whole: list[Hypothesis] = []
    open_ = [Hypothesis()]
    while open_:
        grown = [one.then(each) for one in open_ for each in after(one.text)]
        whole += [one for one in grown if one.ended or one.tokens == most]
        open_ = [one for one in grown if not one.ended and one.tokens < most]
    return whole


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.7, 1.0, 2.0, -1.0]))
def test_a_beam_wide_enough_finds_the_best_of_all(seed: int, penalty: float) -> None:
    """Width 200 holds all 1 + 3 + 9 + 27 + 81 texts of four tokens, so that only what cannot win may have been left."""
    after = table(seed)
    best = max(everything(after, 4), key=lambda one: one.score(penalty))
    found = searched(after, width=200, most=4, penalty=penalty)[0][0]
    assert found.score(penalty) == pytest.approx(best.score(penalty))


@given(st.integers(0, 10_000))
def test_width_1_is_greedy(seed: int) -> None:
    after = table(seed)
    greedy = Hypothesis()
    while not greedy.ended and greedy.tokens < 8:
        greedy = greedy.then(after(greedy.text)[0])
    assert searched(after, width=1, most=8)[0] == [greedy]


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_never_more_than_its_width_is_asked_for(seed: int, width: int) -> None:
    found, asked = searched(table(seed), width=width, most=6)
    assert asked[0] == 1
    assert max(asked) <= width
    assert len(asked) <= 6
    assert 1 <= len(found) <= width
    assert [one.score(1.0) for one in found] == sorted((one.score(1.0) for one in found), reverse=True)


def test_a_wider_beam_finds_what_greedy_search_misses() -> None:
    """The textbook's case: the likeliest first token leads to a worse text."""
    shares = {"": {"a": 0.6, "b": 0.4}, "a": {"c": 0.5, "d": 0.5}, "b": {"e": 0.9, "f": 0.1}}
    after = told(shares)
    assert searched(after, width=1, most=2)[0][0].text in ("ac", "ad")
    best = searched(after, width=2, most=2)[0][0]
    assert best.text == "be"
    assert math.exp(best.logprob) == pytest.approx(0.36)


def told(shares: dict[str, dict[str, float]]) -> Table:
    """A model by its probabilities; "." is the end, "?" a part of a character."""
    kinds = {".": (END, "end"), "?": ("\ufffd", "part")}

    def after(text: str) -> Sequence[Candidate]:
        found = []
        for token, share in shares.get(text, {".": 1.0}).items():
            shown, kind = kinds.get(token, (token, "text"))
            found.append(Candidate(token=shown, logprob=math.log(share), kind=kind))  # type: ignore[arg-type]
        return sorted(found, key=lambda each: -each.logprob)

    return after


@pytest.mark.parametrize(("penalty", "best"), [(0.0, "a"), (1.0, "bcd"), (-1.0, "a")])
def test_the_length_penalty_says_what_is_compared(penalty: float, best: str) -> None:
    """0.5 at once, or 0.5 x 0.9 x 0.9: less in all, more on average."""
    after = told({"": {"a": 0.5, "b": 0.499}, "b": {"c": 0.9, "x": 0.1}, "bc": {"d": 0.9, "x": 0.1}})
    assert searched(after, width=4, most=6, penalty=penalty)[0][0].text == best


def test_one_that_has_ended_leaves_its_place() -> None:
    beam = Beam(width=3, max_tokens=9, length_penalty=0.0)
    beam.advance([told({"": {"a": 0.4, "b": 0.3, ".": 0.2, "c": 0.1}})("")])
    assert [one.text for one in beam.live] == ["a", "b"]
    beam.advance([told({"a": {"x": 0.9, "y": 0.1}, "b": {"x": 0.8, "y": 0.2}})(one.text) for one in beam.live])
    assert [one.text for one in beam.live] == ["ax", "bx"]


def test_texts_that_say_the_same_are_one() -> None:
    """ "a" + "bc" and "ab" + "c" are the same prompt to a daemon: asked for once, with the better of the two sums."""
    after = told({"": {"a": 0.6, "ab": 0.4}, "a": {"bc": 0.5, "x": 0.5}, "ab": {"c": 1.0}, "abc": {"d": 0.7, "e": 0.3}})
    beam = Beam(width=4, max_tokens=4)
    beam.advance([after("")])
    beam.advance([after(one.text) for one in beam.live])
    assert [one.text for one in beam.live] == ["abc", "ax"]
    assert math.exp(beam.live[0].logprob) == pytest.approx(0.4)


def test_a_character_in_parts_takes_a_token_at_a_time() -> None:
    """Of three tokens the middle one is not told; other parts cannot be followed."""
    beam = Beam(width=3, max_tokens=9)
    first = [Candidate(token="\ufffd", logprob=-0.1, kind="part"), Candidate(token="\ufffd", logprob=-3.0, kind="part")]
    beam.advance([[*first, Candidate(token="x", logprob=-4.0)]])
    assert [(one.part, one.tokens) for one in beam.live] == [(1, 1), (0, 1)]
    beam.advance([(), [Candidate(token=END, logprob=-9.0, kind="end")]])
    assert [(one.part, one.tokens, one.missing) for one in beam.live] == [(2, 2, 1)]
    beam.advance([[Candidate(token="诉", logprob=-0.2)]])
    (whole,) = beam.live
    assert (whole.text, whole.tokens, whole.missing, whole.part) == ("诉", 3, 1, 0)
    assert whole.logprob == pytest.approx(-0.3)
    other = Beam(width=3, max_tokens=9)
    other.advance([[Candidate(token="x", logprob=-0.5), *first[1:]]])
    assert [one.text for one in other.live] == ["x"], "at temperature 0 the daemon would not go on with this part"


def test_a_character_that_was_begun_is_no_text() -> None:
    """At the bound on tokens, and where its bytes never become one."""
    beam = Beam(width=1, max_tokens=2)
    beam.advance([[Candidate(token="a", logprob=-0.5)]])
    beam.advance([[Candidate(token="\ufffd", logprob=-0.1, kind="part")]])
    assert beam.live == []
    assert [(one.text, one.tokens, one.logprob) for one in beam.ranked()] == [("a", 1, -0.5)]
    endless = Beam(width=1, max_tokens=9)
    endless.advance([[Candidate(token="\ufffd", logprob=-0.1, kind="part")]])
    steps = 0
    while endless.live:
        endless.advance([() for _ in endless.live])
        steps += 1
    assert steps == 3, "a character has at most four tokens"
    assert [one.text for one in endless.ranked()] == [""]


def test_what_nothing_follows_has_ended() -> None:
    """Where the daemon sends nothing and tells nothing it is an end, and its probability is missing."""
    beam = Beam(width=2, max_tokens=9)
    beam.advance([[Candidate(token="a", logprob=-0.5)]])
    beam.advance([()])
    (only,) = beam.ranked()
    assert (only.text, only.ended, only.tokens, only.missing, only.logprob) == ("a", True, 2, 1, -0.5)


