"""Dialogues with the daemon's own models, kept where the service records everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from served import running

from orchestra.errors import StreamTruncated
from orchestra.gateway import create_app
from orchestra.model.messages import FinishReason
from orchestra.sessions.store import Store
from orchestra.settings import Settings
from orchestra.standin import StandIn

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    with StandIn(models=["llama3", "tiny-tools"]) as daemon:
        yield daemon


@pytest.fixture
def store() -> Iterator[Store]:
    with Store(Settings.read().folder()) as store:
        yield store


@pytest.fixture
def client(daemon: StandIn, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of a gateway that records, unless the test says otherwise."""
    settings = Settings.read(host=daemon.url, language="en", **getattr(request, "param", {"record": 1}))
    with running(create_app(settings=settings), settings) as url, httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        yield client


def messages(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]


def said(client: httpx.Client, *texts: str, head: dict[str, str] | None = None, **body: Any) -> str:
    """The text of the daemon's own answer, streamed."""
    answer = client.post("/api/chat", json={"model": "llama3", "messages": messages(*texts), **body}, headers=head)
    assert answer.status_code == 200, answer.text
    return "".join(json.loads(line)["message"]["content"] for line in answer.content.splitlines())


def shown(store: Store) -> dict[str, list[tuple[str, str]]]:
    return {record.name: [(turn.question, turn.answer) for turn in store.history(record.name)] for record in store.sessions()}


def test_a_dialogue_is_kept_once_over_both_protocols(client: httpx.Client, daemon: StandIn, store: Store) -> None:
    daemon.script("Blue.", "Grey.", "Green.")
    first = said(client, "Which sky?")
    assert list(shown(store).values()) == [[("Which sky?", "Blue.")]]
    body = {"model": "llama3", "messages": messages("Which sky?", first, "And now?")}
    second = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    assert list(shown(store).values()) == [[("Which sky?", "Blue."), ("And now?", "Grey.")]]
    (record,) = store.sessions()
    assert (record.model, second) == ("llama3", "Grey.")
    (asked, answered) = store.history(record.name)
    assert (answered.finish_reason, answered.usage is not None) == (FinishReason.STOP, True)
    assert asked.model == "llama3"
    assert said(client, "Which sky?", "Blue.", "And tomorrow?") == "Green."
    assert len(shown(store)) == 2, "it went on from another place"


def test_what_was_asked_under_the_same_key_is_not_asked_again(client: httpx.Client, daemon: StandIn) -> None:
    daemon.script("Blue.")
    head = {"X-Orchestra-Chat": "c1", "Idempotency-Key": "k1"}
    assert [said(client, "Which sky?", head=head) for _ in range(2)] == ["Blue.", "Blue."]
    assert len(daemon.asked("/api/chat")) == 1


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
def test_what_came_of_a_cut_answer_is_kept_and_gone_on_with(client: httpx.Client, daemon: StandIn, store: Store, path: str) -> None:
    daemon.fail("cut_mid", path="/api/chat")
    told = client.post(path, json={"model": "llama3", "messages": messages("Which sky?"), "stream": True}).text
    assert ("[DONE]" in told) == path.startswith("/v1")
    (turns,) = [store.history(record.name) for record in store.sessions()]
    assert [(turn.question, turn.answer, turn.status) for turn in turns] == [("Which sky?", "The sky is", "interrupted")]
    daemon.script("Blue.")
    noted = "" if path.startswith("/v1") else "\n\n> " + StreamTruncated().message("en")
    said(client, "Which sky?", "The sky is" + noted, "Go on.")
    assert list(shown(store).values()) == [[("Which sky?", "The sky is"), ("Go on.", "Blue.")]]
    assert daemon.asked("/api/chat")[-1]["messages"][1]["content"] == "The sky is", "our words are no model's"


@pytest.mark.parametrize("stream", [True, False])
def test_a_loop_is_gone_on_with_as_its_client_has_it(client: httpx.Client, daemon: StandIn, store: Store, stream: bool) -> None:
    daemon.script("It is blue because it is so, and so it is. " * 80, "Blue.")
    told = said(client, "Which sky?", stream=stream)
    assert told.endswith("\n\n> the answer began to loop and was stopped")
    said(client, "Which sky?", told, "Go on.")
    ((first, second),) = shown(store).values()
    assert told.startswith(first[1].strip())
    assert second == ("Go on.", "Blue.")
    assert "> the answer" not in daemon.asked("/api/chat")[-1]["messages"][1]["content"]


def test_what_is_no_dialogue_is_not_kept(client: httpx.Client, store: Store) -> None:
    client.post("/api/generate", json={"model": "llama3", "prompt": "The sky is", "options": {"num_predict": 2}})
    result = [*messages("Which?"), {"role": "tool", "content": "42"}]
    client.post("/api/chat", json={"model": "tiny-tools", "messages": result, "tools": [TOOL], "options": {"num_predict": 2}})
    client.post("/api/chat", json={"model": "llama3", "messages": "hi"})
    client.post("/api/chat", json={"model": "llama3", "messages": messages("Which?", "That.", ""), "options": {"num_predict": 2}})
    assert shown(store) == {}


@pytest.mark.parametrize("client", [{"record": 0}, {"record": 1, "guard": "off"}], indirect=True)
def test_nothing_is_kept_where_nothing_is_recorded_or_bytes_pass_untouched(client: httpx.Client, daemon: StandIn, store: Store) -> None:
    daemon.script("Blue.")
    said(client, "Which sky?", head={"X-OpenWebUI-Chat-Id": "c1"})
    assert shown(store) == {}
