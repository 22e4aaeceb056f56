"""A persona at work: its own limits, its own sources, what was said before - and that one definition serves many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestra.agents.expert import Expert
from orchestra.agents.tool import QUESTION, CallContext, Contribution, Tool
from orchestra.errors import EmptyReply
from orchestra.model.client import Client
from orchestra.model.messages import Message, Options, Reply, Usage
from orchestra.model.persona import Limits, Persona
from orchestra.runtime import Blocking, Looped, finish
from orchestra.sessions.grounding import Inquiry, Material
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn

Ask = Callable[..., Contribution]
LAWYER = Persona(
    name="lawyer",
    seed_memory={"zh": "你是律师。", "en": "You are a lawyer."},
    title={"zh": "律师"},
    description={"en": "knows the law"},
    options=Options(temperature=0.1, max_tokens=300),
)


@pytest.fixture(params=["looped", "blocking"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """What an expert of the daemon at a URL says to one question."""

    def asked(url: str, question: str, *, persona: Persona = LAWYER, ground: Any = None, said: tuple[Message, ...] = (), **options: Any) -> Contribution:
        async def one(runtime: Any) -> Contribution:
            try:
                expert = Expert(persona=persona, client=Client(runtime, Settings(host=url)), model="llama3", ground=ground)
                return await expert.ask(question, CallContext(runtime=runtime, options=Options(**options), said=said))
            finally:
                await runtime.close()

        return asyncio.run(one(Looped())) if request.param == "looped" else finish(one(Blocking()))

    return asked


def test_to_others_it_is_a_tool(ask: Ask) -> None:
    one: Tool = Expert(persona=LAWYER, client=Client(Blocking(), Settings()), model="llama3")
    assert (one.name, one.titled("zh"), one.described("zh"), one.parameters) == ("lawyer", "律师", "knows the law", QUESTION)


def test_what_it_says_and_what_that_took(ask: Ask) -> None:
    with StandIn([" It depends. "]) as daemon:
        found = ask(daemon.url, "Is it legal?")
    assert (found.ok, found.answer, found.error) == (True, "It depends.", "")
    assert found.receipt.calls == 1
    assert found.usage.completion_tokens
    assert found.duration > 0


def test_what_was_said_before_stands_between_seed_memory_and_question(ask: Ask) -> None:
    with StandIn(["Yes."]) as daemon:
        ask(daemon.url, "And there?", said=(Message("user", "Is it legal here?"), Message("assistant", "No.")))
        [body] = daemon.asked("/api/chat")
    assert [(each["role"], each["content"].split("\n")[0]) for each in body["messages"]] == [
        ("system", "You are a lawyer."),
        ("user", "Is it legal here?"),
        ("assistant", "No."),
        ("user", "And there?"),
    ]


@pytest.mark.parametrize(
    ("limits", "left", "most"),
    [(Limits(), None, 300), (Limits(tokens=50), None, 50), (Limits(tokens=500), 1000, 300), (Limits(tokens=50), 20, 20)],
)
def test_neither_what_is_left_nor_its_own_limits_are_passed(ask: Ask, limits: Limits, left: int | None, most: int) -> None:
    with StandIn(["Yes."]) as daemon:
        assert ask(daemon.url, "Is it legal?", persona=replace(LAWYER, limits=limits), max_tokens=left).ok
        [body] = daemon.asked("/api/chat")
    assert body["options"]["num_predict"] == most


def test_its_seconds_end_an_answer_that_goes_on(ask: Ask) -> None:
    with StandIn([Scripted([f"{number} " for number in range(500)], pace=0.02)]) as daemon:
        found = ask(daemon.url, "Is it legal?", persona=replace(LAWYER, limits=Limits(seconds=0.3)))
    assert found.ok, "what it had said by then stands"
    assert found.answer.startswith("0 1 2")
    assert found.duration < 2


def test_what_keeps_it_from_answering_is_an_observation(ask: Ask) -> None:
    with StandIn() as daemon:
        found = ask(daemon.url, "合法吗？", persona=replace(LAWYER, model="not-installed"))
    assert (found.ok, found.answer, found.receipt.calls) == (False, "", 0)
    assert "not-installed" in found.error
    with StandIn(["  "]) as daemon:
        url = daemon.url
        assert not ask(url, "Is it legal?").ok
    assert ask(url, "Is it legal?").error, "a daemon that has gone"


class Finds:
    """A ground that gives always the same, or fails."""

    def __init__(self, text: str, *, fails: bool = False) -> None:
        self.text, self.fails, self.asked = text, fails, list[Inquiry]()

    async def __call__(self, inquiry: Inquiry) -> Material:
        self.asked.append(inquiry)
        if self.fails:
            raise EmptyReply
        return Material(text=self.text, calls=1, usage=Usage(completion_tokens=7), notes=("searched",), kept=lambda answer: {"sources": [answer]})


def test_one_that_looks_things_up_reads_them_beside_the_question(ask: Ask) -> None:
    ground = Finds("----- sources\nOslo is a town.")
    with StandIn(["A town. [1]"]) as daemon:
        found = ask(daemon.url, "What is Oslo?", ground=ground)
        [body] = daemon.asked("/api/chat")[-1:]
    assert body["messages"][-1]["content"].startswith("What is Oslo?\n\n----- sources\nOslo is a town.")
    assert body["messages"][-1]["content"].endswith("Answer in English.")
    assert "Oslo" not in body["messages"][0]["content"]
    assert (found.receipt.calls, found.receipt.notes) == (2, ("searched",))
    [inquiry] = ground.asked
    assert (inquiry.question, inquiry.model, inquiry.language) == ("What is Oslo?", "llama3", "en")
    assert inquiry.room > 0


def test_a_ground_that_fails_or_gives_too_much_keeps_nobody_waiting(ask: Ask) -> None:
    for ground, note in ((Finds("", fails=True), "ground_failed"), (Finds("Oslo is a town. " * 5000), "ground_too_long")):
        with StandIn(["A town."]) as daemon:
            found = ask(daemon.url, "What is Oslo?", ground=ground)
        assert found.ok
        assert note in found.receipt.notes


def test_one_definition_serves_many_at_once() -> None:
    async def all_at_once(url: str) -> list[Reply]:
        runtime = Looped(parallel=8)
        try:
            expert = Expert(persona=LAWYER, client=Client(runtime, Settings(host=url, parallel=8)), model="llama3")
            told = [(Message("user", f"I am client {number}."), Message("assistant", "Noted.")) for number in range(40)]
            return await asyncio.gather(*(expert.answer(f"Question {number}?", said=said, options=Options(max_tokens=3)) for number, said in enumerate(told)))
        finally:
            await runtime.close()

    with StandIn(slots=8) as daemon:
        replies = asyncio.run(all_at_once(daemon.url))
        asked = [[each["content"].split("\n")[0] for each in body["messages"]] for body in daemon.asked("/api/chat")]
    assert all(reply.text for reply in replies)
    assert sorted(asked) == sorted(["You are a lawyer.", f"I am client {n}.", "Noted.", f"Question {n}?"] for n in range(40))
