"""A persona stays firm: its seed memory stands whole and first, a line after each summary says who answers, or nothing is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import httpx
import pytest

from orchestra import Orchestra, Persona, StandIn
from orchestra.agents.expert import Expert
from orchestra.errors import PromptTooLong, SeedTooLong
from orchestra.gateway import create_app
from orchestra.model import counting, firmness
from orchestra.model.client import Client
from orchestra.model.firmness import reminder
from orchestra.model.messages import Message
from orchestra.runtime import Blocking, finish
from orchestra.sessions import conversation, fitting, prompt
from orchestra.sessions.prompt import BEFORE
from orchestra.settings import Settings
from orchestra.standin import Scripted

LAWYER = Persona(
    name="lawyer", title={"en": "Lawyer", "zh": "法律专家"}, seed_memory={"en": "You are a careful lawyer.", "zh": "你是一名谨慎的律师。"}
)
SAID = {"en": "It has been a long story, and the harbour, the lamp and the key are all in it.", "zh": "这是一个很长的故事，里面有港口、灯和钥匙。"}
SUMMARIES = {"en": "They spoke of story number {number}.", "zh": "他们谈到了第{number}个故事。"}

Prompts = list[list[dict[str, str]]]


def talked(language: str, turns: int = 26, window: int = 768, **about: Any) -> Prompts:
    """The prompts of a dialogue that outgrows its window several times."""
    number = 0
    with StandIn(window=window) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("long", **{"persona": LAWYER, **about})
        for turn in range(turns):
            text = f"{turn}: {SAID[language]}"
            daemon.script(Scripted([text[place : place + 2] for place in range(0, len(text), 2)]))
            asked = f"And then, {turn}?" if language == "en" else f"然后呢，第{turn}个？"
            for piece in session.stream(asked, max_tokens=120):
                if piece.receipt is not None and "compacting" in piece.receipt.notes:
                    number += 1
                    daemon.script(SUMMARIES[language].format(number=number))
        found = [body["messages"] for body in daemon.asked("/api/chat") if body["stream"] and "options" in body]
        return [messages for messages in found if messages[-1]["content"].split("\n")[0].endswith(("?", "？"))]


def headed(prompts: Prompts, language: str) -> list[str]:
    """What stands in the first user message before the first turn that is shown word for word."""
    heads = []
    for messages in prompts:
        first = messages[1]["content"]
        heads.append(first.rpartition("\n\nAnd then" if language == "en" else "\n\n然后呢")[0] if first.startswith(tuple(BEFORE.values())) else "")
    return heads


def firm(prompts: Prompts, language: str) -> None:
    """What every prompt of a persona promises."""
    heads = headed(prompts, language)
    still = reminder(LAWYER, language)
    summaries = [head for head in dict.fromkeys(heads) if head]
    assert len(summaries) >= 3, "several compactions"
    for messages, head in zip(prompts, heads, strict=True):
        assert messages[0] == {"role": "system", "content": LAWYER.speaks(language)}
        assert sum(still in message["content"] for message in messages) == bool(head)
        assert head.endswith("\n\n" + still) or not head
    for (before, one), (after, other) in pairwise(zip(prompts, heads, strict=True)):
        if one == other:
            assert after[: len(before)] == before, "the prefix stays until the next summary"
    changes = sum(one != other for one, other in pairwise(heads))
    assert changes == len(summaries), "each summary stands until the next"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_who_answers_is_said_after_each_summary_and_the_seed_memory_stands_whole(language: str) -> None:
    firm(talked(language), language)


def test_a_transcript_says_it_too() -> None:
    with StandIn(window=768) as daemon, Orchestra(host=daemon.url) as orchestra:
        session = orchestra.session("s", persona=LAWYER, model="llama3:text")
        for turn in range(30):
            daemon.script(f" {turn}: {SAID['en']}")
            for piece in session.stream(f"And then, {turn}?", max_tokens=120):
                if piece.receipt is not None and "compacting" in piece.receipt.notes:
                    daemon.script(" " + SUMMARIES["en"])
        last = [body["prompt"] for body in daemon.asked("/api/generate") if body.get("prompt")][-1]
    assert last.startswith(f"{LAWYER.speaks('en')}\n\n{BEFORE['en']}{SUMMARIES['en']}\n\n{reminder(LAWYER, 'en')}\n\nUser: ")


def test_a_dialogue_without_persona_has_no_reminder() -> None:
    heads = [head for head in headed([[{"role": "system", "content": ""}, *each] for each in talked("en", persona=None)], "en") if head]
    assert heads
    assert not any("\n" in head for head in heads)


# --- the controls


def is_firm(prompts: Prompts) -> bool:
    try:
        firm(prompts, "en")
    except AssertionError:
        return False
    return True


def test_a_reminder_that_is_missing_or_changes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(1000))
    monkeypatch.setattr(conversation, "reminder", lambda persona, language: "")
    assert not is_firm(talked("en"))
    monkeypatch.setattr(conversation, "reminder", lambda persona, language: f"{reminder(persona, language)} ({next(numbers)})")
    assert not is_firm(talked("en"))


Compose = Callable[..., Sequence[Message]]


def test_a_seed_memory_that_is_shortened_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    true: Compose = prompt.messages

    def shortened(*given: Any, **named: Any) -> tuple[Message, ...]:
        first, *rest = true(*given, **named)
        return (replace(first, content=first.content[:10]), *rest)

    monkeypatch.setattr(fitting, "messages", shortened)
    assert not is_firm(talked("en"))


# --- a seed memory that does not fit

LONG = Persona(name="talker", seed_memory={"en": "You know every law of the harbour by heart. " * 18})


def refused(daemon: StandIn, window: int) -> SeedTooLong:
    with Orchestra(host=daemon.url) as orchestra, pytest.raises(SeedTooLong) as caught:
        orchestra.session("s", persona=LONG).ask("Why?")
    assert caught.value.facts["window"] == window
    assert not daemon.asked("/api/chat"), "nothing was sent"
    return caught.value


def test_a_seed_memory_that_leaves_no_room_is_an_error_before_anything_is_sent() -> None:
    with StandIn(window=640) as daemon:
        error = refused(daemon, 640)
    assert 480 < error.facts["needed"] < 640, "it would fit, but no answer beside it"
    assert error.facts["limit"] == 480
    assert "--window 1024" in error.hint("en")
    with StandIn(window=256) as daemon:
        refused(daemon, 256)
    with StandIn(["So."], window=1024) as daemon, Orchestra(host=daemon.url) as orchestra:
        assert orchestra.session("s", persona=LONG).ask("Why?").text == "So."


def test_a_model_that_has_no_larger_window_wants_a_shorter_seed_memory() -> None:
    error = SeedTooLong(name="x", model="m", needed=7000, window=8192, limit=6144, needed_window=16384, most=8192)
    assert "OLLAMA_CONTEXT_LENGTH" not in error.hint("en")
    assert "6144" in error.hint("en")


def expert_of(url: str, persona: Persona) -> str:
    client = Client(Blocking(), Settings.read(host=url))
    try:
        return finish(Expert(persona=persona, client=client, model="llama3").answer("Why?")).text
    finally:
        finish(client.runtime.close())


def test_experts_and_services_refuse_it_too() -> None:
    with StandIn(window=640) as daemon:
        with pytest.raises(SeedTooLong):
            expert_of(daemon.url, LONG)
        app = create_app(LONG.speaks("en"), persona="talker", settings=Settings.read(host=daemon.url, language="en"))

        async def asked() -> httpx.Response:
            async with app.router.lifespan_context(app), httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1"
            ) as client:  # fmt: skip
                return await client.post("/chat", json={"intent": "Why?"})



        answer = asyncio.run(asked())
        assert not daemon.asked("/api/chat")
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "seed_too_long"
    assert LONG.speaks("en")[:40] not in answer.text


def test_of_a_model_whose_tokens_are_guessed_nothing_is_refused_by_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "suitable", lambda info: False)
    with StandIn(["measured", "So."], window=640) as daemon:
        assert expert_of(daemon.url, LONG) == "So."


def test_without_the_bound_it_would_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmness, "SEED_PART", 100.0)
    with StandIn(["So."], window=640) as daemon:
        assert expert_of(daemon.url, LONG) == "So."
    with StandIn(window=256) as daemon, pytest.raises(PromptTooLong):
        expert_of(daemon.url, LONG)


def test_the_load_for_an_expert_stands_in_its_receipt() -> None:
    with StandIn(["So."]) as daemon:
        client = Client(Blocking(), Settings.read(host=daemon.url))
        reply = finish(Expert(persona=LAWYER, client=client, model="llama3").answer("Why?"))
        finish(client.runtime.close())
    assert (reply.receipt.loads, reply.receipt.calls) == (1, 1)
