"""What an expert at an address is trusted with: its own token and nobody else's, the operator's patience, its name when it is gone."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from services import CANARY, Seen, Told, everything_logged, serving  # noqa: F401 - a fixture

from orchestra.agents.bearer import origin, tokens
from orchestra.agents.experts import Source, resolved
from orchestra.agents.personas import Library, shipped
from orchestra.agents.remote import Remote
from orchestra.agents.tool import CallContext, Contribution
from orchestra.errors import ConfigError
from orchestra.model.client import Client
from orchestra.model.messages import Options
from orchestra.runtime import Blocking, Looped, Runtime, finish
from orchestra.settings import Settings

Asked = Callable[..., tuple[Remote, Contribution]]
OTHER = "sk-canary-of-another"


@pytest.fixture(params=["looped", "blocking"])
def asked(request: pytest.FixtureRequest) -> Asked:
    """An expert at an address, met and asked one question."""

    def run(named: str, **settings: Any) -> tuple[Remote, Contribution]:
        async def one(runtime: Runtime) -> tuple[Remote, Contribution]:
            try:
                client = Client(runtime, Settings(host="http://127.0.0.1:1", **settings))
                [expert] = await resolved([named], Source(personas=Library([shipped()]), client=client, model="llama3"))
                assert isinstance(expert, Remote)
                return expert, await expert.ask("Is it legal?", CallContext(runtime=runtime))
            finally:
                await runtime.close()

        return asyncio.run(one(Looped())) if request.param == "looped" else finish(one(Blocking()))

    return run


def answering(seen: Seen) -> Told:
    body = {"name": "jurist", "description": "law"} if seen.path == "/persona" else {"response": "It depends."}
    return Told(body=json.dumps(body).encode())


def test_each_service_gets_its_own_token_and_no_other(asked: Asked, logged: pytest.LogCaptureFixture) -> None:
    with serving() as one, serving() as two, serving() as free:
        one.told = two.told = free.told = answering
        given = f"{one.url}={CANARY} 127.0.0.1:{two.server_port}/={OTHER}=="
        for service in (one, two, free):
            expert, found = asked(service.url + "/chat", expert_tokens=given)
            assert found.answer == "It depends."
            assert CANARY not in repr(expert)
            assert OTHER not in repr(expert)
        sent = [[seen.headers.get("authorization") for seen in service.seen] for service in (one, two, free)]
    assert sent == [[f"Bearer {CANARY}"] * 2, [f"Bearer {OTHER}=="] * 2, [None] * 2]
    assert logged.records, "the control: everything is logged"
    assert CANARY not in logged.text
    assert OTHER not in logged.text


def test_red_control_by_the_name_of_the_host_alone_the_token_would_go_astray(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.agents.experts.origin", lambda url: "any")
    monkeypatch.setattr("orchestra.agents.bearer.origin", lambda url: "any")
    with serving() as one, serving() as other:
        other.told = answering
        asked(other.url, expert_tokens=f"{one.url}={CANARY}")
        assert other.seen[-1].headers.get("authorization") == f"Bearer {CANARY}"


def test_a_redirect_takes_no_token_along(asked: Asked) -> None:
    with serving() as one, serving() as elsewhere:
        one.told = Told(status=307, headers={"location": f"{elsewhere.url}/chat"})
        _, found = asked(f"lawyer={one.url}", expert_tokens=f"{one.url}={CANARY}")
        assert found.error == "it redirects elsewhere, which is not followed"
        assert not elsewhere.seen


@pytest.mark.parametrize("status", [200, 403])
def test_a_service_that_repeats_its_token_does_not_have_it_shown(asked: Asked, status: int) -> None:
    def repeating(seen: Seen) -> Told:
        said = {"response": f"you sent {seen.headers['authorization']}"} if status == 200 else {"error": f"not {seen.headers['authorization']}"}
        return Told(status=status, body=json.dumps(said).encode())

    with serving() as one:
        one.told = repeating
        _, found = asked(f"lawyer={one.url}", expert_tokens=f"{one.url}={CANARY}")
    assert CANARY not in found.answer + found.error
    assert "Bearer ***" in found.answer + found.error


def test_a_service_that_wants_a_token_says_which_setting(asked: Asked) -> None:
    with serving() as one:
        one.told = Told(status=401, body=b'{"error": {"message": "no"}}')
        assert asked(f"lawyer={one.url}")[1].error == "it wants a token: set ORCHESTRA_EXPERT_TOKENS"
        refused = asked(f"lawyer={one.url}", expert_tokens=f"{one.url}={CANARY}")[1].error
        assert refused == "it refuses its token of ORCHESTRA_EXPERT_TOKENS"


@pytest.mark.parametrize("written", [CANARY, f"={CANARY}", "http://h=", f"ftp://h={CANARY}", f"http://u:p@h={CANARY}", f"http://[::1={CANARY}", f"h:99999={CANARY}"])
def test_a_setting_that_cannot_be_read_is_not_repeated(written: str) -> None:
    with pytest.raises(ConfigError) as refused:
        tokens(f"http://localhost:5000=fine {written}")
    told = refused.value.message() + refused.value.message("zh") + refused.value.hint() + repr(refused.value)
    assert "ORCHESTRA_EXPERT_TOKENS" in told
    assert "entry 2" in told
    assert CANARY not in told


def test_what_a_token_belongs_to() -> None:
    assert tokens("") == {}
    assert tokens("https://Expert.example/=t localhost:5000=u=") == {("https", "expert.example", 443): "t", ("http", "localhost", 5000): "u="}
    assert origin("http://h") == origin("http://H:80/chat")
    assert origin("https://h") != origin("http://h:80")


def test_the_operators_patience(asked: Asked) -> None:
    with serving() as one:
        one.told = lambda seen: Told(hang=True) if seen.path == "/chat" else answering(seen)
        started = time.monotonic()
        assert asked(one.url, expert_timeout=0.2)[1].error == "no whole answer within 0.2 s"
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize(
    ("said", "counted"),
    [({"completion_tokens": 9, "prompt_tokens": 70}, (9, 70)), ({"completion_tokens": 10**6}, (50, None)), ({"completion_tokens": 10**9}, (None, None)),
     ({"completion_tokens": -5}, (None, None)), ({"completion_tokens": True}, (None, None)), ("much", (None, None)), (None, (None, None))],
)  # fmt: skip
def test_what_a_service_says_that_it_took(said: Any, counted: tuple[int | None, int | None]) -> None:
    """It counts towards the task's tokens, never beyond what the service was allotted."""
    runtime = Blocking()
    with serving() as service:
        service.told = Told(body=json.dumps({"response": "yes", "usage": said}).encode())
        context = CallContext(runtime=runtime, options=Options(max_tokens=50))
        usage = finish(Remote(name="lawyer", url=service.url).ask("?", context)).usage
        assert service.seen[0].headers["orchestra-max-tokens"] == "50"
    finish(runtime.close())
    assert (usage.completion_tokens, usage.prompt_tokens) == counted


# --- who is gone


def met(client: Client, url: str, source: Source) -> Remote:
    [expert] = finish(resolved([url], source))
    assert isinstance(expert, Remote)
    return expert


def test_one_that_is_gone_is_known_by_its_name_still() -> None:
    runtime = Blocking()
    client = Client(runtime, Settings(host="http://127.0.0.1:1"))
    source = Source(personas=Library([shipped()]), client=client, model="llama3")
    with serving() as service:
        service.told = answering
        url = service.url
        before = met(client, url, source)
    after = met(client, url, source)
    assert (after.name, after.described("en"), after.url) == (before.name, before.described("en"), url) == ("jurist", "law", url)
    stranger = met(client, url, Source(personas=source.personas, client=client, model="llama3"))
    assert stranger.name.startswith("127-0-0-1-"), "one that was never met has its address for a name"
    finish(runtime.close())


def test_to_find_out_who_is_there_takes_part_of_the_time() -> None:
    runtime = Blocking()
    client = Client(runtime, Settings(host="http://127.0.0.1:1"))
    source = Source(personas=Library([shipped()]), client=client, model="llama3")
    with serving() as service:
        service.told = Told(hang=True)
        started = time.monotonic()
        [expert] = finish(resolved([f"lawyer={service.url}"], source, seconds=0.1))
        assert time.monotonic() - started < 0.6
    assert expert.name == "lawyer"
    finish(runtime.close())


def test_the_setting_is_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.read({"ORCHESTRA_EXPERT_TOKENS": f"http://h={CANARY}", "ORCHESTRA_EXPERT_TIMEOUT": "7"})
    assert settings.expert_timeout == 7
    logging.getLogger("orchestra").warning("%r", settings)
    assert CANARY not in caplog.text
