"""What else is asked of a daemon: models, their facts, embeddings, pulls; which model answers, and which is a base model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from runtimes import RUNTIMES, answer, drained, inferences, run

import orchestra.errors as e
from orchestra import AsyncOrchestra, Orchestra
from orchestra.model import catalog
from orchestra.model.client import Client
from orchestra.model.window import context_length, loaded_of, own_stops, weights_of
from orchestra.standin import Exchange, StandIn

# --- base models


def test_a_base_model_never_gets_a_chat() -> None:
    with StandIn(["went on.", "Hello!"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        orchestra.generate("Once upon a time", model="llama3:text")
        orchestra.session("s", model="llama3:text").ask("Hello?")
        assert daemon.asked("/api/chat") == []
        first, second = inferences(daemon)
        assert (first["prompt"], first["raw"]) == ("Once upon a time", True)
        assert (second["prompt"], second["raw"]) == ("User: Hello?\nAssistant:", True)


def test_an_instruct_model_gets_its_template_and_a_language() -> None:
    with StandIn(["Yes.", "好。"]) as daemon, Orchestra(host=daemon.url) as orchestra:
        orchestra.generate("Hello?")
        orchestra.generate("你好吗？")
        first, second = inferences(daemon)
    assert "raw" not in first
    assert (first["prompt"], second["prompt"]) == ("Hello?\n\nAnswer in English.", "你好吗？\n\n请用中文回答。")


@pytest.mark.parametrize(
    ("name", "facts", "base"),
    [
        ("llama3", {"template": "{{ .System }}{{ .Prompt }}"}, False),
        ("mine", {"template": "{{ .Prompt }}"}, True),
        ("mine", {"template": " {{.Prompt}}\n"}, True),
        ("mine", {}, True),
        ("mine", {"model_info": {"tokenizer.chat_template": "x"}}, False),
        ("llama3:text", {"template": "{{ .System }}"}, True),
        ("x/y:8b-base-q4", {"template": "{{ .System }}"}, True),
        ("textual:latest", {"template": "{{ .System }}"}, False),
        ("mine", {"template": None, "model_info": [1]}, True),
    ],
)
def test_which_models_are_base(name: str, facts: dict[str, Any], base: bool) -> None:
    assert catalog.is_base(name, facts) is base


# --- logprobs and formats


def test_logprobs_come_with_the_pieces() -> None:
    with StandIn() as daemon:
        reply = answer("blocking", daemon, max_tokens=4, logprobs=True, top_logprobs=2)
    assert len(reply.logprobs) >= 3
    assert all(len(entry["top_logprobs"]) == 2 for entry in reply.logprobs)


def test_a_schema_is_kept() -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    with StandIn() as daemon, Orchestra(host=daemon.url) as orchestra:
        reply = orchestra.generate("Is it so?", format=schema)
        assert "Answer in English" not in inferences(daemon)[-1]["prompt"]
    assert set(json.loads(reply.text)) == {"ok"}


# --- the other endpoints


@pytest.mark.parametrize("kind", RUNTIMES)
def test_what_the_daemon_knows(kind: str) -> None:
    async def work(client: Client) -> None:
        assert await client.version() == "0.32.15"
        assert {row["name"] for row in await client.tags()} == {"llama3:latest", "tiny-embed:latest"}
        assert await client.ps() == []
        assert (await client.show("llama3"))["model_info"]["llama.context_length"] == 8192
        assert len((await client.show("llama3", verbose=True))["model_info"]["tokenizer.ggml.tokens"]) > 100
        vectors = await client.embed("tiny-embed", ["one", "two", "three"])
        assert len(vectors) == 3
        assert len({len(vector) for vector in vectors}) == 1
        assert vectors[0] != vectors[1]
        assert [row["name"] for row in await client.ps()] == ["tiny-embed:latest"]

    with StandIn(models=["llama3", "tiny-embed"]) as daemon:
        run(kind, work, host=daemon.url)


def test_embedding_needs_a_model_that_can() -> None:
    with StandIn(models=["llama3", "tiny-embed"]) as daemon:
        with pytest.raises(e.ModelUnsupported):
            run("blocking", lambda client: client.embed("llama3", ["x"]), host=daemon.url)
        with pytest.raises(e.PromptTooLong):
            run("blocking", lambda client: client.embed("tiny-embed", ["word " * 5000]), host=daemon.url)
        assert [body["truncate"] for body in daemon.asked("/api/embed")] == [False, False]


@pytest.mark.parametrize("kind", RUNTIMES)
def test_models_come_and_go(kind: str) -> None:
    async def work(client: Client) -> None:
        steps = [step async for step in catalog.pull(client, "tiny-embed")]
        assert steps[0].status == "pulling manifest"
        assert steps[-1].status == "success"
        moving = [step for step in steps if step.total and step.digest == steps[1].digest]
        assert [step.completed for step in moving] == sorted(step.completed for step in moving)
        assert moving[-1].completed == moving[-1].total
        await catalog.copy(client, "tiny-embed", "other")
        assert {card.name for card in await catalog.models(client)} == {"llama3", "llama3:text", "tiny-embed", "other"}
        await catalog.delete(client, "other")
        assert "other" not in {card.name for card in await catalog.models(client)}
        for gone in (catalog.delete(client, "other"), catalog.copy(client, "other", "more")):
            with pytest.raises(e.ModelMissing):
                await gone

    with StandIn() as daemon:
        run(kind, work, host=daemon.url)


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("fault", ["", "cut_mid", "error_line", "error_500_html", "reset_mid", "html_200", "redirect_307"])
def test_a_pull_that_fails(kind: str, fault: str) -> None:
    async def work(client: Client) -> None:
        async for _ in catalog.pull(client, "tiny-embed" if fault else "nobody/has-this"):
            pass

    with StandIn() as daemon:
        if fault:
            daemon.fail(fault, path="/api/pull")
        with pytest.raises(e.PullFailed) as caught:
            run(kind, work, host=daemon.url)
        assert ("tiny-embed" if fault else "nobody/has-this") in caught.value.message()
        assert len(daemon.asked("/api/pull")) == 1


def test_management_without_a_daemon() -> None:
    with StandIn() as daemon:
        url = daemon.url
    works: Sequence[Callable[[Client], Any]] = [
        lambda client: catalog.delete(client, "x"),
        lambda client: catalog.copy(client, "x", "y"),
        lambda client: drained(catalog.pull(client, "x")),  # type: ignore[arg-type]
        lambda client: catalog.models(client),
    ]
    for work in works:
        with pytest.raises(e.DaemonUnreachable):
            run("blocking", work, host=url)


def test_cards_say_what_is_loaded() -> None:
    with StandIn() as daemon, Orchestra(host=daemon.url) as orchestra:
        orchestra.generate("Hello.", max_tokens=2)
        cards = {card.name: card for card in orchestra.models()}
    assert (cards["llama3"].loaded, cards["llama3"].window, cards["llama3"].context) == (True, 4096, 8192)
    assert (cards["llama3:text"].loaded, cards["llama3:text"].base, cards["llama3"].base) == (False, True, None)


@pytest.mark.parametrize(
    ("models", "settings", "purpose", "chosen"),
    [
        (["llama3", "mid"], {}, "chat", "llama3"),
        (["llama3", "mid"], {"model": "mid"}, "chat", "mid"),
        (["mid", "tiny-embed"], {}, "chat", "mid"),
        (["llama3", "llama3:text"], {}, "base", "llama3:text"),
        (["llama3", "llama3:text"], {"base_model": "mine"}, "base", "mine"),
        (["tiny-embed"], {}, "chat", None),
        ([], {}, "chat", None),
        (["llama3"], {}, "base", None),
    ],
)
def test_which_model_answers(models: list[str], settings: dict[str, Any], purpose: Any, chosen: str | None) -> None:
    with StandIn(models=models) as daemon, Orchestra(host=daemon.url, **settings) as orchestra:
        if chosen:
            assert orchestra.model_for(purpose) == chosen
        else:
            with pytest.raises(e.NoModel) as caught:
                orchestra.model_for(purpose)
            assert "pull" in caught.value.hint()


# --- what the daemon's answers say, read patiently


def test_reading_show_and_ps() -> None:
    facts = {
        "parameters": 'num_keep                       24\nstop                           "<|eot_id|>"\nstop                           "a\\"b"\nnum_ctx 1000',
        "modelfile": "# FROM x\nFROM /models/blobs/sha256-" + "a" * 64 + "\nTEMPLATE x",
        "model_info": {"general.architecture": "llama", "llama.context_length": 8192},
    }
    assert own_stops(facts) == ["<|eot_id|>", 'a"b']
    assert weights_of(facts) == "sha256-" + "a" * 64
    assert context_length(facts) == 8192
    assert loaded_of({}, facts).window == 1000
    for odd in ({}, {"model_info": [], "parameters": 5, "modelfile": None}, {"model_info": {"general.architecture": None}}):
        assert (own_stops(odd), weights_of(odd), context_length(odd)) == ([], "", 0)


def test_every_request_of_a_day_goes_to_the_daemon_alone() -> None:
    async def main() -> list[Exchange]:
        async with AsyncOrchestra(host=daemon.url) as orchestra:
            await orchestra.generate("Hello.", max_tokens=2)
            await orchestra.session("s").ask("Hello?", max_tokens=2)
            await orchestra.models()
        return daemon.requests

    with StandIn() as daemon:
        requests = asyncio.run(main())
    assert {each.path for each in requests} <= {"/api/tags", "/api/show", "/api/ps", "/api/generate", "/api/chat"}
    assert all("accept-encoding" not in each.headers or each.headers["accept-encoding"] == "identity" for each in requests)
