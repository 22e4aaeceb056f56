"""Experts over a real Ollama daemon: one model for all of them, and each seed memory read once."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from orchestra import Orchestra
from orchestra.agents.budget import Budget
from orchestra.agents.expert import Expert
from orchestra.agents.tool import CallContext
from orchestra.model.client import Client
from orchestra.model.messages import Options
from orchestra.model.persona import Persona
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings

pytestmark = pytest.mark.timeout(600)  # a large model on a slow machine
ROUNDS = 4
WORDS = 220  # so many that reading them outweighs what any request takes; more would leave a small window no room


def fresh(name: str) -> Persona:
    """A long seed memory that no daemon has read."""
    return Persona(name=name, seed_memory={"en": " ".join(f"{secrets.token_hex(2)} {name}{number}" for number in range(WORDS))})


def test_of_each_seed_memory_the_daemon_reads_what_is_new(real_daemon: str, real_model: str) -> None:
    """Told by `prompt_eval_duration`: a second question to an expert is read in less than three quarters of the time; best of some rounds."""
    runtime = Blocking()
    client = Client(runtime, Settings(host=real_daemon))

    async def asked(expert: Expert, question: str) -> float:
        context = CallContext(runtime=runtime, options=Options(max_tokens=4))
        usage = (await expert.ask(question, context)).usage
        assert usage.prompt_duration is not None
        return usage.prompt_duration

    async def rounds() -> tuple[list[float], list[float]]:
        first: list[float] = []
        again: list[float] = []
        for _ in range(ROUNDS):
            a, b = (Expert(persona=fresh(name), client=client, model=real_model) for name in "ab")
            calls = [(a, "Is it legal?"), (b, "Is it safe?"), (a, "Who is liable?"), (b, "Who tests it?")]
            waves = Budget().waves(calls, 1)
            took = [await asked(expert, question) for wave in waves for expert, question in wave.calls if isinstance(expert, Expert)]
            first += took[0::2]
            again += took[1::2]
        return first, again

    first, again = finish(rounds())
    finish(runtime.close())
    assert min(again) < 0.75 * min(first)


def test_a_task_takes_one_model_and_no_reload(real_daemon: str, real_model: str, home: Path) -> None:
    with Orchestra(host=real_daemon, home=str(home)) as orchestra:
        orchestra.generate("Say one word.", model=real_model, max_tokens=2)
        plan = orchestra.integrate("Draft a compliance standard for AI.", model=real_model, max_tokens=20, max_total_tokens=3000, steps=2)
    assert (plan.receipt.loads, plan.receipt.reloads) == (0, 0)
    assert {step.expert for step in plan.steps} == {"computer_scientist", "lawyer"}
    assert (plan.usage.completion_tokens or 0) <= 3000
