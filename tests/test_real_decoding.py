"""`next` and `decode` against a real Ollama daemon: its own distribution, whatever it is bound to say beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from orchestra import Orchestra

pytestmark = pytest.mark.timeout(600)  # a large model on a slow machine
PROMPTS = ("The capital of France is", "法国的首都是", "诉讼", "Once upon a time")


@pytest.fixture
def real(real_daemon: str, real_model: str) -> Iterator[Orchestra]:
    with Orchestra(host=real_daemon, model=real_model) as orchestra:
        yield orchestra


def plainly(url: str, model: str, prompt: str, **options: Any) -> dict[str, Any]:
    """What the daemon says at temperature 0, asked by a client that knows nothing of Orchestra."""
    body = {
        "model": model, "prompt": prompt, "raw": True, "stream": False, "logprobs": True, "top_logprobs": 20,
        "options": {"temperature": 0, "repeat_penalty": 1.0, "num_predict": 1, **options},
    }  # fmt: skip
    answer = httpx.post(url + "/api/generate", json=body, trust_env=False, timeout=120)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_distribution_is_the_one_it_tells_a_plain_client(
    real: Orchestra, real_daemon: str, real_model: str, prompt: str
) -> None:
    """Where that is told anything; where it is told nothing there is an end or half a character, and a distribution all the same."""
    (step,) = real.next(prompt, top=20).steps
    assert len(step.candidates) == 20
    assert math.fsum(each.probability for each in step.candidates) <= 1 + 1e-4
    plain = plainly(real_daemon, real_model, prompt)
    if plain.get("logprobs"):
        told = plain["logprobs"][0]["top_logprobs"]
        # what was in the cache, and how much is computed at once, may change the last digits
        assert [each.logprob for each in step.candidates] == pytest.approx([each["logprob"] for each in told], abs=0.05)
    else:
        assert step.candidates[0].kind in ("end", "part")
    if step.kind == "text" and step.tokens == 1:
        assert step.token == step.candidates[0].token


def test_a_request_a_step_and_no_reload(real: Orchestra, real_daemon: str, real_model: str) -> None:
    plainly(real_daemon, real_model, "Hello")
    whole = real.next("Once upon a time", steps=8)
    assert whole.calls == sum(step.tokens for step in whole.steps)
    again = plainly(real_daemon, real_model, "Hello")
    assert again["load_duration"] < 0.15e9, "a plain client finds the model as it left it"


@pytest.mark.parametrize("prompt", PROMPTS[:3])
def test_width_1_is_greedy(real: Orchestra, prompt: str) -> None:
    greedy, beam = real.decode(prompt, strategies=["greedy", "beam"], beam_width=1, max_tokens=12)
    assert (beam.text, beam.tokens, beam.missing) == (greedy.text, greedy.tokens, greedy.missing)
    assert beam.logprob == pytest.approx(greedy.logprob, abs=0.3)


def test_a_beam_and_a_sample(real: Orchestra) -> None:
    sample, again, beam = (
        real.decode(PROMPTS[0], strategies=[name], beam_width=3, max_tokens=10)[0] for name in ("sample", "sample", "beam")
    )
    assert sample.text == again.text
    assert beam.calls <= 30
    assert beam.logprob <= 0
    assert [one.score(1.0) for one in beam.hypotheses] == sorted((one.score(1.0) for one in beam.hypotheses), reverse=True)


def test_in_the_template(real: Orchestra) -> None:
    whole = real.next("What is your name?", instruct=True, steps=3)
    assert whole.steps[0].candidates
    assert whole.prompt.tokens[0].text.startswith("<|") or not whole.prompt.exact
