"""Greedy search, sampling and beam search over a daemon: their sums, how often they ask, that width 1 is greedy."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest

from orchestra import AsyncOrchestra, Orchestra
from orchestra.errors import PromptTooLong, UsageError
from orchestra.model.connection import Connection
from orchestra.model.decoding import STRATEGIES, Decoded
from orchestra.model.messages import FinishReason
from orchestra.standin import StandIn
from orchestra.standin.engine import LOOK_BACK, engine
from orchestra.standin.extract import last_turn, system_text

FRANCE = "The capital of France is"
THANKS = "Thank you"  # answered in few words


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with StandIn() as daemon:
        yield daemon


@pytest.fixture
def orchestra(daemon: StandIn) -> Iterator[Orchestra]:
    with Orchestra(host=daemon.url) as orchestra:
        yield orchestra


def one(orchestra: Orchestra, prompt: str, strategy: str, **fields: Any) -> Decoded:
    (found,) = orchestra.decode(prompt, model=fields.pop("model", "llama3:text"), strategies=[strategy], **fields)
    return found


def bodies(daemon: StandIn) -> list[dict[str, Any]]:
    return [body for body in daemon.asked("/api/generate") if "prompt" in body]


def true_sum(prompt: str, said: str, *, at_once: bool) -> float:
    """The log-probability that the engine gives to a text, token by token; it picks its related texts by what it is asked."""
    words = engine().vocabulary
    numbers, total = words.encode(said), 0.0
    for place, number in enumerate(numbers):
        text = prompt + words.text(numbers[:place])
        asked = prompt if at_once else text
        model = engine().model(last_turn(asked)[-LOOK_BACK:], system_text(asked)[:LOOK_BACK])
        total += math.log(model.distribution(words.encode(text)).probability(number))
    return total


def test_all_three_side_by_side(daemon: StandIn, orchestra: Orchestra) -> None:
    """Up to the first end of a sentence: after it the engine, asked for a longer text, does not end."""
    found = orchestra.decode(FRANCE, model="llama3:text", max_tokens=6)
    assert tuple(each.strategy for each in found) == STRATEGIES
    for each in found:
        assert each.logprob == pytest.approx(true_sum(FRANCE, each.text, at_once=each.strategy == "sample"))
        assert each.score == pytest.approx(each.logprob / each.tokens)
        assert (each.tokens, each.missing, each.finish_reason) == (6, 0, FinishReason.LENGTH)
    assert sum(each.calls for each in found) == len(bodies(daemon))
    assert all(body["options"]["repeat_penalty"] == 1.0 and body["raw"] for body in bodies(daemon))
    assert (daemon.loads, daemon.reloads) == (1, 0)
    (greedy, _, beam) = found
    assert beam.logprob >= greedy.logprob, "which holds here: a beam may also lose what greedy search finds"


@pytest.mark.parametrize(
    ("prompt", "fields"),
    [(FRANCE, {"max_tokens": 8}), ("诉讼", {}), ("我的😀", {"max_tokens": 20}), (THANKS, {"instruct": True}), ("谢", {"max_tokens": 4})],
)
def test_width_1_is_greedy(orchestra: Orchestra, prompt: str, fields: dict[str, Any]) -> None:
    """In text, sum, tokens and end; also over characters in parts, one of them cut by the bound."""
    greedy = one(orchestra, prompt, "greedy", **{"max_tokens": 34, **fields})
    beam = one(orchestra, prompt, "beam", beam_width=1, **{"max_tokens": 34, **fields})
    assert (beam.text, beam.tokens, beam.missing) == (greedy.text, greedy.tokens, greedy.missing)
    assert beam.finish_reason is greedy.finish_reason
    assert beam.logprob == pytest.approx(greedy.logprob)


def test_greedy_steps_say_what_the_daemon_says_at_temperature_0(orchestra: Orchestra) -> None:
    """In one request, which tells nothing of the end: that is asked for afterwards."""
    stepped = one(orchestra, THANKS, "greedy", model="llama3", instruct=True, max_tokens=60)
    drawn = one(orchestra, THANKS, "sample", model="llama3", instruct=True, max_tokens=60, temperature=0.0)
    assert stepped.text == drawn.text
    assert stepped.finish_reason is drawn.finish_reason is FinishReason.STOP
    assert stepped.logprob == pytest.approx(drawn.logprob), "the end is among the tokens of both"
    assert (stepped.tokens, stepped.missing, drawn.missing, drawn.calls) == (drawn.tokens, 0, 0, 2)


def test_a_beam_asks_at_most_once_for_each_place_and_token(daemon: StandIn, orchestra: Orchestra) -> None:
    """Width 4, 32 tokens: at most 4 x 32 requests, of one token each, on prefixes that stay."""
    found = one(orchestra, "狗", "beam", beam_width=4, max_tokens=32)
    asked = bodies(daemon)
    assert found.calls == len(asked) <= 4 * 32
    assert all(body["prompt"].startswith("狗") for body in asked)
    assert all(body["options"]["num_predict"] == 1 or "format" not in body for body in asked)
    assert len(found.hypotheses) == 4
    assert found.hypotheses[0].text == found.text
    assert daemon.reloads == 0


def test_as_many_at_once_as_there_are_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two slots, width 4: each token takes at most two rounds; with one slot they come one after the other."""
    now, tops = 0, []
    whole = Connection.whole

    async def counted(self: Connection, method: str, path: str, body: Any, **more: Any) -> Any:
        nonlocal now
        if not (body and body.get("prompt")):
            return await whole(self, method, path, body, **more)
        now += 1
        tops.append(now)
        try:
            await asyncio.sleep(0.004)
            return await whole(self, method, path, body, **more)
        finally:
            now -= 1

    async def searched(slots: int) -> Decoded:
        with StandIn(slots=slots) as daemon:
            async with AsyncOrchestra(host=daemon.url, parallel=slots) as orchestra:
                (found,) = await orchestra.decode(FRANCE, model="llama3:text", strategies=["beam"], max_tokens=6)
                return found

    monkeypatch.setattr(Connection, "whole", counted)
    found = asyncio.run(searched(2))
    assert max(tops) == 2
    assert found.calls <= 1 + 4 * 5
    tops.clear()
    asyncio.run(searched(1))
    assert max(tops) == 1


def test_sampling_is_seeded(orchestra: Orchestra) -> None:
    texts = [one(orchestra, "我", "sample", seed=seed, temperature=1.5, max_tokens=12).text for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 1
    wide = {one(orchestra, "我", "sample", seed=seed, temperature=1.5, top_k=1, max_tokens=12).text for seed in (1, 2, 3)}
    assert len(wide) == 1, "of one candidate there is no choice"


def test_of_a_sample_some_tokens_are_missing(orchestra: Orchestra) -> None:
    """Characters in parts: the daemon tells only of their last token, and the result says of how many it tells nothing."""
    found = one(orchestra, "诉讼", "sample", max_tokens=12)
    assert found.missing > 0
    assert found.tokens == 12


def test_a_prompt_that_grows_beyond_the_window() -> None:
    with StandIn(window=24) as daemon, Orchestra(host=daemon.url) as orchestra:
        for strategy in STRATEGIES:
            found = one(orchestra, FRANCE, strategy, max_tokens=40)
            assert found.finish_reason is FinishReason.CONTEXT_FULL, strategy
            assert 3 <= found.tokens <= 24 - 17
            with pytest.raises(PromptTooLong):
                one(orchestra, "word " * 40, strategy)
        assert daemon.reloads == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"beam_width": 0}, {"beam_width": 10_000}, {"max_tokens": 0}, {"strategies": ["greedy", "magic"]}, {"strategies": []},
        {"length_penalty": float("nan")}, {"beam_width": 2.5}, {"max_tokens": 1.5}, {"temperature": -1}, {"temperature": float("nan")},
        {"top_p": 7.0}, {"min_p": -0.1}, {"top_k": -5}, {"strategies": "magic"},
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    daemon: StandIn, orchestra: Orchestra, fields: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        orchestra.decode(FRANCE, **fields)
    assert daemon.requests == []


def test_one_name_is_one_strategy(orchestra: Orchestra) -> None:
    (found,) = orchestra.decode(FRANCE, model="llama3:text", strategies="greedy", max_tokens=1)
    assert found.strategy == "greedy"


def test_strategies_come_as_they_are_ready_and_in_the_order_that_was_asked(orchestra: Orchestra) -> None:
    found = orchestra.decode_stream(FRANCE, model="llama3:text", strategies=["sample", "greedy", "sample"], max_tokens=3)
    assert [name for name, _ in groupby(each.strategy for each in found)] == ["sample", "greedy"]
