"""The promises against a real Ollama daemon, where there is one; it needs `llama3` and `llama3:text`, tiny ones will do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import installed_models
from runtimes import RUNTIMES, asked, drained, run

import orchestra.errors as e
from orchestra import AsyncOrchestra, Orchestra
from orchestra.model.client import Client
from orchestra.model.messages import FinishReason, Message, Options, Piece, Reply
from orchestra.standin.weights import TOOLS_TEMPLATE

pytestmark = pytest.mark.timeout(600)  # a large model on a slow machine
BASE_MODEL = "llama3:text"
LOADED_SECONDS = 0.15  # a model that is there "loads" in far less, one that is not takes longer even when it is tiny


@pytest.fixture(scope="module")
def real_base(real_daemon: str) -> str:
    """The base model of the real daemon; skips where it has none."""
    if BASE_MODEL not in installed_models(real_daemon):
        pytest.skip(f"{BASE_MODEL} is missing at {real_daemon}")
    return BASE_MODEL


@pytest.fixture
def warm(real_daemon: str, real_model: str) -> str:
    """The daemon with the chat model loaded as it likes to load it."""
    plain(real_daemon, real_model)
    return real_daemon


def posted(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    found = httpx.post(url + path, json=body, trust_env=False, timeout=120)
    found.raise_for_status()
    answer: dict[str, Any] = found.json()
    return answer


def plain(url: str, model: str) -> dict[str, Any]:
    """What a client that knows nothing of Orchestra asks."""
    messages = [{"role": "user", "content": "Say one word."}]
    return posted(url, "/api/chat", {"model": model, "messages": messages, "stream": False, "options": {"num_predict": 2}})


def window(url: str, model: str) -> int:
    """The loaded window; 0 where the model is not loaded."""
    rows = httpx.get(url + "/api/ps", trust_env=False, timeout=10).json()["models"]
    return next((row["context_length"] for row in rows if row["name"].removesuffix(":latest") == model), 0)


def command(url: str, home: Path, *words: str) -> dict[str, Any]:
    """What a command says with --json."""
    environment = {**os.environ, "OLLAMA_HOST": url, "ORCHESTRA_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-m", "orchestra", *words, "--json"],
        env=environment, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode in (0, 5), done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def one(kind: str, url: str, text: str, way: str = "chat", *, model: str, **options: Any) -> Reply:
    return run(kind, lambda client: drained(asked(client, way, text, model=model, options=Options(**options))), host=url)


# --- a good neighbour


def test_plain_chat_and_orchestra_in_turn_reload_nothing(warm: str, real_model: str, home: Path) -> None:
    before = window(warm, real_model)
    for number in range(10):
        # the command line three times, the library behind it in the other rounds
        rounds: list[Callable[[], Any]] = [lambda: plain(warm, real_model)]
        if number % 4 == 0:
            rounds.append(lambda: command(warm, home, "chat", "Say one word.", "--session", "s", "--model", real_model, "--max-tokens", "2"))
            rounds.append(lambda: command(warm, home, "generate", "Say one word.", "--model", real_model, "--max-tokens", "2"))
        else:
            rounds.append(lambda: one("looped", warm, "Say one word.", model=real_model, max_tokens=2))
            rounds.append(lambda: one("blocking", warm, "Say one word.", "complete", model=real_model, max_tokens=2))
        for ask in rounds:
            said = ask()
            if isinstance(said, Reply):
                assert said.usage.load_duration is not None
                assert said.usage.load_duration < LOADED_SECONDS
                assert (said.receipt.loads, said.receipt.reloads) == (0, 0)
            elif "receipt" in said:
                assert (said["receipt"]["loads"], said["receipt"]["reloads"]) == (0, 0)
            else:
                assert said["load_duration"] / 1e9 < LOADED_SECONDS
            assert window(warm, real_model) == before


def test_another_window_is_noticed(warm: str, real_model: str) -> None:
    """The control: a request with a window of its own does change what `ps` says."""
    before = window(warm, real_model)
    one("blocking", warm, "Say one word.", model=real_model, max_tokens=2, num_ctx=before // 2)
    assert window(warm, real_model) == before // 2
    reply = one("blocking", warm, "Say one word.", model=real_model, max_tokens=2)
    assert (reply.receipt.window, reply.receipt.reloads) == (before // 2, 0)
    plain(warm, real_model)
    assert window(warm, real_model) == before


def test_a_model_that_is_not_loaded_is_loaded_once(real_daemon: str, real_model: str) -> None:
    posted(real_daemon, "/api/generate", {"model": real_model, "keep_alive": 0})
    until = time.monotonic() + 10
    while window(real_daemon, real_model) and time.monotonic() < until:
        time.sleep(0.05)
    reply = one("looped", real_daemon, "Say one word.", model=real_model, max_tokens=2)
    assert (reply.receipt.loads, reply.receipt.reloads, reply.receipt.window) == (1, 0, window(real_daemon, real_model))


# --- nothing is cut


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize("way", ["chat", "complete"])
def test_a_prompt_that_is_too_long_is_an_error_with_the_daemons_numbers(warm: str, real_model: str, kind: str, way: str) -> None:
    size = window(warm, real_model)
    with pytest.raises(e.PromptTooLong) as caught:
        one(kind, warm, "It was a bright cold day in April. " * size, way, model=real_model)
    assert caught.value.facts["needed"] > caught.value.facts["window"] == size
    assert window(warm, real_model) == size


def test_a_long_prompt_that_fits_is_counted_and_fits(warm: str, real_model: str) -> None:
    size = window(warm, real_model)
    text = "It was a bright cold day in April. "
    each = _tokens(warm, real_model, text * 21) - _tokens(warm, real_model, text * 20)
    reply = one("blocking", warm, text * ((size - 200) // each), model=real_model, max_tokens=size)
    calls = {"exact": 1, "measured": 2}  # a vocabulary or a template that is not known is counted by the daemon
    assert reply.receipt.calls == calls[reply.receipt.counted]
    assert not any(note.startswith(("truncated", "count differs")) for note in reply.receipt.notes)
    assert reply.receipt.used is not None
    assert size // 2 < reply.receipt.used <= size
    assert window(warm, real_model) == size


def _tokens(url: str, model: str, text: str) -> int:
    tokens = one("blocking", url, text, model=model, max_tokens=1).usage.prompt_tokens
    assert tokens is not None
    return tokens


# --- everything ends


@pytest.mark.parametrize("kind", RUNTIMES)
def test_an_answer_has_its_bound(warm: str, real_model: str, kind: str) -> None:
    reply = one(kind, warm, "Count to one hundred.", model=real_model, max_tokens=5)
    assert reply.finish_reason in (FinishReason.LENGTH, FinishReason.STOP)
    assert reply.usage.completion_tokens is not None
    assert reply.usage.completion_tokens <= 5


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_loop_ends_and_is_named(warm: str, real_model: str, kind: str) -> None:
    """Greedy and hardly penalised, a small model repeats itself; whatever it does, it ends and says why."""

    async def work(client: Client) -> Reply | None:
        options = Options(temperature=0.0, repeat_penalty=0.5, max_tokens=1000, deadline=60.0)
        return await drained(asked(client, "complete", "blue blue blue blue blue", options=options, model=real_model))

    try:
        reply = run(kind, work, host=warm)
    except e.StreamTruncated as error:  # the daemon's own guard was quicker, and says nothing
        reply = error.reply
    assert reply is not None
    assert reply.finish_reason is not FinishReason.CANCELLED
    if reply.finish_reason in (FinishReason.STOP, FinishReason.DEADLINE):
        pytest.skip(f"{real_model} did not loop here, or not in time")


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_deadline_holds(warm: str, real_model: str, kind: str) -> None:
    started = time.monotonic()
    reply = one(kind, warm, "Write a long story.", model=real_model, max_tokens=2000, deadline=0.3, on_repetition="ignore")
    assert time.monotonic() - started < 2
    assert reply.finish_reason in (FinishReason.DEADLINE, FinishReason.STOP, FinishReason.LENGTH)


def test_leaving_a_stream_frees_the_slot(warm: str, real_model: str) -> None:
    with Orchestra(host=warm) as orchestra:
        for _ in range(3):
            with closing(orchestra.stream("Write a long story.", model=real_model, max_tokens=2000)) as stream:
                next(stream)
        started = time.monotonic()
        orchestra.generate("Say one word.", model=real_model, max_tokens=1)
        assert time.monotonic() - started < 2


# --- streams, sessions, the other endpoints


def test_the_pieces_are_the_answer(warm: str, real_model: str) -> None:
    async def main() -> tuple[list[Piece], Reply]:
        async with AsyncOrchestra(host=warm) as orchestra:
            pieces = [p async for p in orchestra.stream("Hello?", model=real_model, max_tokens=20, temperature=0.0, seed=1)]
            return pieces, await orchestra.generate("Hello?", model=real_model, max_tokens=20, temperature=0.0, seed=1)

    pieces, reply = asyncio.run(main())
    assert "".join(piece.text for piece in pieces)[: pieces[-1].keep] == reply.text
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.prompt_tokens == reply.usage.prompt_tokens


def test_a_base_model_goes_on_with_a_text(real_daemon: str, real_base: str) -> None:
    with Orchestra(host=real_daemon) as orchestra:
        reply = orchestra.generate("在一个阳光明媚的早晨，Alice决定去森林里探险。", model=real_base, max_tokens=30)
        assert reply.usage.prompt_tokens is not None
        session = orchestra.session("order", model=real_base, history=["Customer: Where is it?", "Support: On its way."])
        said = session.ask("Can you please expedite the delivery?", max_tokens=20)
    assert "Customer:" not in said.text
    assert session.turns()[-1].answer == said.text


def test_a_session_remembers(warm: str, real_model: str, home: Path) -> None:
    words = ["chat", "Can you please expedite the delivery?", "--session", "order-12345", "--model", real_model, "--max-tokens", "5"]
    first, second = command(warm, home, *words), command(warm, home, *words)
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]
    shown = command(warm, home, "sessions", "show", "order-12345")
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"] * 2


def test_what_the_daemon_knows(warm: str, real_model: str) -> None:
    async def work(client: Client) -> None:
        assert await client.version()
        assert real_model in {row["name"].removesuffix(":latest") for row in await client.tags()}
        assert (await client.show(real_model))["model_info"]
        assert await client.ps()
        with pytest.raises(e.ModelMissing) as caught:
            await client.show("llama3x")
        assert "llama3" in caught.value.message()

    for kind in RUNTIMES:
        run(kind, work, host=warm)


def test_embedding(real_daemon: str) -> None:
    models = httpx.get(real_daemon + "/api/tags", trust_env=False, timeout=10).json()["models"]
    able = [row["name"] for row in models if "embedding" in row.get("capabilities", [])]
    if not able:
        pytest.skip("no embedding model at the real daemon")
    vectors = run("blocking", lambda client: client.embed(able[0], ["one", "two"]), host=real_daemon)
    assert len(vectors[0]) == len(vectors[1]) > 0
    with pytest.raises(e.PromptTooLong):
        run("looped", lambda client: client.embed(able[0], ["word " * 50_000]), host=real_daemon)


def test_three_at_once_wait_their_turn(warm: str, real_model: str) -> None:
    found: list[Reply] = []

    def ask() -> None:
        found.append(one("blocking", warm, "Say one word.", model=real_model, max_tokens=3))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [reply.receipt.reloads for reply in found] == [0, 0, 0]


# --- tools


TAUGHT = "orchestra-test-tools"


@pytest.fixture
def taught(real_daemon: str, real_model: str) -> Iterator[str]:
    """The chat model's weights with a template that has a place for tools; gone afterwards."""
    posted(real_daemon, "/api/create", {"model": TAUGHT, "from": real_model, "template": TOOLS_TEMPLATE, "stream": False})
    yield TAUGHT
    httpx.request("DELETE", real_daemon + "/api/delete", json={"model": TAUGHT}, trust_env=False, timeout=30).raise_for_status()


@pytest.mark.parametrize("kind", RUNTIMES)
def test_calls_of_tools_are_known_for_what_they_are(real_daemon: str, taught: str, kind: str) -> None:
    """The model is held to writing calls, so that any model does; that they are some is what the daemon finds out."""
    number = {"type": "object", "properties": {"number": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["number"]}
    offered = [{"type": "function", "function": {"name": "lookup", "description": "Looks up.", "parameters": number}}]
    sealed = {"additionalProperties": False}

    def reply(name: str, most: int) -> Reply:
        call = {"name": {"enum": [name]}, "parameters": {**number, **sealed}}
        item = {"type": "object", "properties": call, "required": ["name", "parameters"], **sealed}
        options = Options(format={"type": "array", "items": item, "minItems": 2, "maxItems": 2}, max_tokens=most, temperature=0.0)
        ask = partial(Client.chat, messages=[Message("user", "Where is it?")], model=taught, options=options, tools=offered)
        return run(kind, lambda client: drained(ask(client)), host=real_daemon)

    good = reply("lookup", 400)
    assert [call.name for call in good.tool_calls] == ["lookup", "lookup"]
    assert all(call.arguments and set(call.arguments) == {"number"} for call in good.tool_calls)
    assert (good.text.strip(), good.finish_reason, good.logprobs) == ("", FinishReason.STOP, ())
    assert not reply("nobody", 400).tool_calls
    cut = reply("lookup", 8)
    assert (cut.tool_calls, cut.finish_reason) == ((), FinishReason.LENGTH)
    assert cut.text, "half a call is text"
