"""The next token: the stand-in's true distribution, forced choices, ends and half characters, and what cannot be told."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra import AsyncOrchestra, Orchestra
from orchestra.errors import DaemonTooOld, ModelUnsupported, PromptTooLong, UsageError
from orchestra.model.decoding import STRATEGIES
from orchestra.model.messages import FinishReason
from orchestra.model.prediction import END, NextStep, Prediction, candidates_of
from orchestra.standin import Scripted, StandIn
from orchestra.standin.engine import LOOK_BACK, engine
from orchestra.standin.extract import last_turn, system_text

FRANCE = "The capital of France is"
THANKS = "Thank you"  # answered in few words
TURN = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
WIRE = Path(__file__).parent / "wire"


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with StandIn() as daemon:
        yield daemon


@pytest.fixture
def orchestra(daemon: StandIn) -> Iterator[Orchestra]:
    with Orchestra(host=daemon.url) as orchestra:
        yield orchestra


def truth(text: str, count: int = 20) -> list[tuple[bytes, float]]:
    """What the engine itself finds likeliest after a text: bytes of each token, empty for an end, and its probability."""
    words = engine().vocabulary
    model = engine().model(last_turn(text)[-LOOK_BACK:], system_text(text)[:LOOK_BACK])
    return [(words.data(number), math.exp(logprob)) for logprob, number in model.distribution(words.encode(text)).top(count)]


def agrees(step: NextStep, text: str) -> None:
    """Order, tokens and probabilities are the engine's, and the sum is no more than 1."""
    expected = truth(text, len(step.candidates))
    assert [each.probability for each in step.candidates] == pytest.approx([probability for _, probability in expected])
    for each, (data, _) in zip(step.candidates, expected, strict=True):
        shown = data.decode("utf-8", "replace")
        assert (each.token, each.kind) == ((END, "end") if not data else (shown, "part" if "\ufffd" in shown else "text"))
    assert math.fsum(each.probability for each in step.candidates) <= 1 + 1e-9


def prompts(daemon: StandIn) -> list[str]:
    """The texts that were sent."""
    return [body["prompt"] for body in bodies(daemon)]


def bodies(daemon: StandIn) -> list[dict[str, Any]]:
    """What was asked, without the loading of the model."""
    return [body for body in daemon.asked("/api/generate") if "prompt" in body]


@pytest.mark.parametrize("prompt", [FRANCE, "狗是", "It was a dark night. ", "def f(x):\n    "])
def test_the_distribution_is_the_models_own(daemon: StandIn, orchestra: Orchestra, prompt: str) -> None:
    (step,) = orchestra.next(prompt, model="llama3:text", top=20).steps
    assert len(step.candidates) == 20
    agrees(step, prompt)


def test_in_the_template_too_and_at_its_end(daemon: StandIn, orchestra: Orchestra) -> None:
    """A question as the daemon renders it; after the whole answer the likeliest token is the end, which has a probability."""
    whole = orchestra.next(THANKS, model="llama3", instruct=True, steps=60)
    said = TURN.format(THANKS)
    for step in whole.steps:
        agrees(step, said)
        said += step.token
    assert whole.finish_reason is FinishReason.STOP
    assert (whole.steps[-1].token, whole.steps[-1].kind) == (END, "end")
    assert whole.steps[-1].logprob == whole.steps[-1].candidates[0].logprob
    assert whole.text
    assert END not in whole.text
    assert "<|eot_id|>" in [token.text for token in whole.prompt.tokens]
    assert whole.calls == len(whole.steps)


def test_one_request_a_step_on_a_prefix_that_stays_and_no_reload(daemon: StandIn, orchestra: Orchestra) -> None:
    whole = orchestra.next(FRANCE, model="llama3:text", steps=5)
    assert [each.text for each in whole.prompt.tokens] == ["The", " c", "a", "p", "it", "a", "l", " ", "o", "f", " ", "F", "r", "an", "c", "e", " is"]
    asked = prompts(daemon)
    assert asked == [FRANCE + "".join(step.token for step in whole.steps[:number]) for number in range(5)]
    assert whole.calls == 5
    assert whole.finish_reason is FinishReason.LENGTH
    assert (daemon.loads, daemon.reloads) == (1, 0)
    sent = bodies(daemon)
    assert all(body["raw"] and body["truncate"] is False and "shift" not in body for body in sent)
    assert all(body["options"]["num_predict"] == 1 and body["options"]["repeat_penalty"] == 1.0 for body in sent)
    assert {body["options"]["num_ctx"] for body in sent} == {4096}


def test_another_choice_and_on_from_there(daemon: StandIn, orchestra: Orchestra) -> None:
    whole = orchestra.next(FRANCE, model="llama3:text", choose=[" light"])
    first, second = whole.steps
    assert (first.token, first.forced) == (" light", True)
    assert first.logprob == next(each.logprob for each in first.candidates if each.token == " light") < first.candidates[0].logprob
    agrees(second, FRANCE + " light")
    assert (second.forced, second.token) == (False, second.candidates[0].token)


@pytest.mark.parametrize(
    ("typed", "meant"), [("light", " light"), (" light", " light"), (" a", " a"), ("Zanzibar", "Zanzibar"), (END, END)]
)
def test_what_a_typed_token_means(orchestra: Orchestra, typed: str, meant: str) -> None:
    """The very token, else one that differs in its blanks, else the text as it is, of which no probability is told."""
    step = orchestra.next(FRANCE, model="llama3:text", choose=[typed]).steps[0]
    assert (step.token, step.forced) == (meant, True)
    untold = {"Zanzibar": len(engine().vocabulary.encode("Zanzibar")), END: 1}
    assert (step.logprob is None, step.missing) == (meant in untold, untold.get(meant, 0))
    assert step.tokens == max(1, step.missing)


def test_one_text_is_one_choice(orchestra: Orchestra) -> None:
    (step, _) = orchestra.next(FRANCE, model="llama3:text", choose=" light").steps
    assert (step.token, step.forced) == (" light", True)


def test_a_character_in_parts_is_whole(daemon: StandIn, orchestra: Orchestra) -> None:
    """At most three requests more; the tokens in its middle are missing, and no text holds half of it."""
    whole = orchestra.next("诉讼", model="llama3", steps=8)
    agrees(whole.steps[0], "诉讼")
    parts = [step for step in whole.steps if step.tokens > 1]
    assert parts, "this prompt is here because its answer has such characters"
    for step in parts:
        assert len(step.token) == 1
        assert step.missing == step.tokens - 2 <= 2
        assert step.candidates[0].kind == "part"
        assert step.logprob is not None
        assert step.logprob <= step.candidates[0].logprob
        assert (step.probability is None) == (step.missing > 0), "a part of a probability is none"
    assert "\ufffd" not in whole.text
    assert whole.calls == sum(step.calls for step in whole.steps) == sum(step.tokens for step in whole.steps) <= 4 * len(whole.steps)
    assert all("\ufffd" not in prompt for prompt in prompts(daemon))


def test_an_end_of_which_nothing_is_told(orchestra: Orchestra, daemon: StandIn) -> None:
    """An engine that knows no format, at its end: the step is there, its probability is not."""
    daemon.script(Scripted(""))
    (step,) = orchestra.next(FRANCE, model="llama3:text").steps
    assert (step.token, step.kind, step.logprob, step.probability, step.missing, step.candidates) == (END, "end", None, None, 1, ())


def test_a_daemon_that_is_too_old_is_named() -> None:
    with StandIn(version="0.12.10") as daemon, Orchestra(host=daemon.url) as orchestra:
        with pytest.raises(DaemonTooOld) as caught:
            orchestra.next(FRANCE)
        assert "0.12.10" in caught.value.message()
        assert "0.12.11" in caught.value.hint()
        for strategy in STRATEGIES:
            with pytest.raises(DaemonTooOld):
                orchestra.decode(FRANCE, strategies=[strategy])
    with StandIn(version="0.12.11") as daemon, Orchestra(host=daemon.url) as orchestra:
        agrees(orchestra.next(FRANCE).steps[0], FRANCE)


def test_a_model_that_tells_no_probabilities(monkeypatch: pytest.MonkeyPatch, orchestra: Orchestra) -> None:
    """Its daemon is new enough, and leaves them out all the same."""
    monkeypatch.setitem(__import__("orchestra.standin.versions", fromlist=["SINCE"]).SINCE, "logprobs", (99, 0, 0))
    with pytest.raises(ModelUnsupported, match="logprobs"):
        orchestra.next(FRANCE)


def test_a_prompt_that_does_not_fit_is_not_cut() -> None:
    with StandIn(window=32) as daemon, Orchestra(host=daemon.url) as orchestra:
        with pytest.raises(PromptTooLong):
            orchestra.next("word " * 40)
        with pytest.raises(PromptTooLong, match="too many"):
            next(iter(orchestra.next_stream("word " * 40)))
        assert prompts(daemon) == [], "what is known beforehand is neither shown nor asked"
        whole = orchestra.next(FRANCE, model="llama3:text", steps=40)
        assert whole.finish_reason is FinishReason.CONTEXT_FULL
        assert 10 <= len(whole.steps) < 32, "what was measured is kept"


@pytest.mark.parametrize("window", [20, 24, 32])
def test_no_character_shifts_the_window(window: int) -> None:
    """Its tokens are asked for together: where they might not fit, it ends before."""
    with StandIn(window=window) as daemon, Orchestra(host=daemon.url) as orchestra:
        whole = orchestra.next("我", model="llama3:text", steps=40)
        assert whole.finish_reason is FinishReason.CONTEXT_FULL
        assert any(step.tokens > 1 for step in whole.steps)
        count = engine().vocabulary.encode
        assert all(len(count(body["prompt"])) + body["options"]["num_predict"] <= window for body in bodies(daemon))


@pytest.mark.parametrize(
    "fields", [{"top": 21}, {"top": 0}, {"steps": 0}, {"steps": 1001}, {"choose": [""]}, {"choose": ["a"] * 1001},
     {"choose": ["<|eot_id|>"]}, {"choose": ["a", "<|eot", "_id|>"]}, {"choose": ["<0xE6>"]}, {"top": 2.5}],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    daemon: StandIn, orchestra: Orchestra, fields: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        orchestra.next(FRANCE, **fields)
    with pytest.raises(UsageError):
        orchestra.next("  ")
    assert prompts(daemon) == []


def test_no_text_is_a_control_token(daemon: StandIn, orchestra: Orchestra) -> None:
    """Neither in a prompt, nor in a question, nor in what is forced; only the template's own are."""
    orchestra.next("a<|eot_id|>b", model="llama3:text", choose=["x"])
    orchestra.next("a<|eot_id|>b", model="llama3", instruct=True)
    asked = prompts(daemon)
    assert asked[:2] == ["a<| eot_id |>b", "a<| eot_id |>bx"]
    assert asked[2] == TURN.format("a<| eot_id |>b")
    orchestra.next("a<|eot", model="llama3:text", choose=["_id", "|>"])
    assert prompts(daemon)[-1] == "a<| eot_id |>", "nor is one made of several"


def test_steps_come_one_by_one(daemon: StandIn) -> None:
    """First the prompt, then each step before the next is asked for, at last the whole; whoever leaves stops it."""

    async def left() -> list[tuple[str, int]]:
        seen = []
        async with AsyncOrchestra(host=daemon.url) as orchestra:
            parts = orchestra.next_stream(FRANCE, model="llama3:text", steps=50)
            async for part in parts:
                seen.append((type(part).__name__, len(prompts(daemon))))
                if len(seen) == 3:
                    break
            await parts.aclose()
        return seen

    assert asyncio.run(left()) == [("Prediction", 0), ("NextStep", 1), ("NextStep", 2)]
    assert len(prompts(daemon)) == 2
    with Orchestra(host=daemon.url) as orchestra:
        parts = list(orchestra.next_stream(FRANCE, model="llama3:text", steps=2))
        first, *steps, last = parts
        assert isinstance(first, Prediction)
        assert isinstance(last, Prediction)
        assert (first.steps, list(last.steps)) == ((), steps)


@pytest.mark.parametrize("case", ["top_logprobs-20", "top_logprobs-nonstream"])
def test_what_a_daemon_was_recorded_to_tell(case: str) -> None:
    """Twenty, or five, in order; the first is what it said at temperature 0."""
    body = json.loads(json.loads((WIRE / f"{case}.json").read_text("utf-8"))["response"]["body"])
    for entry in body["logprobs"]:
        found = candidates_of(entry)
        assert len(found) == len(entry["top_logprobs"])
        assert (found[0].token, found[0].logprob) == (entry["token"], entry["logprob"])
        assert [each.logprob for each in found] == sorted((each.logprob for each in found), reverse=True)


def test_of_half_characters_the_bytes_are_shown_where_they_are_told() -> None:
    def one(**entry: Any) -> Any:
        (found,) = candidates_of({"top_logprobs": [{"logprob": -1.0, **entry}]})
        return found.token, found.kind

    assert one(token="\ufffd", bytes=[239, 191, 189]) == ("\ufffd", "part")
    assert one(token="\ufffd", bytes=[0xE8, 0xAF]) == ("⟨e8 af⟩", "part")
    assert one(token="") == (END, "end")
    assert one(token="a", bytes=[97]) == ("a", "text")
    odd: list[Any] = [{"token": 3, "logprob": 0}, {"token": "a", "logprob": None}, {"token": "a", "logprob": True}, 5, None]
    assert candidates_of({"top_logprobs": odd}) == candidates_of({"top_logprobs": None}) == candidates_of({}) == ()
