"""An expert at a URL: who it is, what it answers, and each thing that it may do wrong - over real sockets, under both runtimes."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from services import Seen, Told, serving

from orchestra.agents import lineage
from orchestra.agents.experts import Source, resolved
from orchestra.agents.lineage import DEEPEST, Lineage
from orchestra.agents.personas import Library, shipped
from orchestra.agents.remote import LARGEST, Remote, address
from orchestra.agents.tool import CallContext, Contribution, Tool
from orchestra.errors import AgentRecursion, Interrupted, PersonaMissing, UsageError
from orchestra.model.client import Client
from orchestra.model.messages import Options
from orchestra.runtime import Blocking, Looped, Runtime, finish
from orchestra.settings import Settings

Ask = Callable[..., Contribution]


@pytest.fixture(params=["looped", "blocking"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """What the expert at a URL says to one question."""

    def asked(url: str, question: str = "Is it legal?", *, seconds: float = 5.0, came: Lineage | None = None, **options: Any) -> Contribution:
        expert = Remote(name="lawyer", url=url, seconds=seconds)

        async def one(runtime: Runtime) -> Contribution:
            try:
                context = CallContext(runtime=runtime, options=Options(**options), lineage=came or Lineage())
                return await expert.ask(question, context)
            finally:
                await runtime.close()

        return asyncio.run(one(Looped())) if request.param == "looped" else finish(one(Blocking()))

    return asked


def said(value: Any) -> Told:
    return Told(body=json.dumps(value, ensure_ascii=False).encode())


def test_the_lessons_contract(ask: Ask) -> None:
    with serving() as service:
        service.told = said({"response": " 需要合规标准。 ", "more": 1})
        found = ask(service.url, "制定人工智能合规标准")
    assert found.ok
    assert found.answer == "需要合规标准。"
    assert found.duration > 0
    assert found.receipt.calls == 0
    [seen] = service.seen
    assert (seen.method, seen.path, seen.headers["content-type"]) == ("POST", "/chat", "application/json")
    assert json.loads(seen.body) == {"intent": "制定人工智能合规标准"}
    assert seen.headers["orchestra-depth"] == "1"
    assert "orchestra-visited" not in seen.headers


WRONG = {
    "an error": (Told(status=500, body=b"<html>Traceback</html>"), "HTTP 500"),
    "an error of ours": (Told(status=503, body=b'{"error": {"message": "no model\\u001b[2J is there"}}'), "HTTP 503: no model[2J is there"),
    "a redirect": (Told(status=307, headers={"location": "http://169.254.169.254/"}), "it redirects elsewhere, which is not followed"),
    "no JSON": (Told(body=b"I am a teapot"), 'its answer is no JSON object with a "response"'),
    "a deep JSON": (Told(body=b"[" * 100_000), 'its answer is no JSON object with a "response"'),
    "another shape": (Told(body=b'{"answer": "yes"}'), 'its answer is no JSON object with a "response"'),
    "another type": (Told(body=b'{"response": {"text": "yes"}}'), 'its answer is no JSON object with a "response"'),
    "nothing": (Told(body=b""), 'its answer is no JSON object with a "response"'),
    "an empty answer": (Told(body=b'{"response": "  "}'), "its answer is empty"),
    "too much": (Told(body=b'{"response": "' + b"a" * LARGEST + b'"}'), f"its answer is larger than {LARGEST} bytes"),
    "compressed": (Told(body=b"\x1f\x8b\x08\x00", headers={"content-encoding": "gzip"}), 'its answer is no JSON object with a "response"'),
    "not UTF-8": (Told(body=b'{"response": "\xff\xfe"}'), 'its answer is no JSON object with a "response"'),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_it_answers_wrongly_is_an_observation(ask: Ask, what: str) -> None:
    told, error = WRONG[what]
    with serving() as service:
        service.told = told
        found = ask(service.url)
    assert (found.ok, found.answer, found.error) == (False, "", error)


def test_one_that_never_answers_has_our_patience_not_more(ask: Ask) -> None:
    with serving() as service:
        service.told = Told(hang=True)
        started = time.monotonic()
        assert ask(service.url, seconds=0.2).error == "no whole answer within 0.2 s"
        assert ask(service.url, "合法吗？", deadline=0.2).error == "0.2 秒内没有完整应答"
        assert ask(service.url, seconds=0.123456).error == "no whole answer within 0.1 s"
        assert ask(service.url, seconds=0.01).error == "no whole answer within 0.1 s", "not none at all"
        assert time.monotonic() - started < 1.5


def test_one_that_answers_drop_by_drop_is_ended_too(ask: Ask) -> None:
    def drops() -> Iterator[bytes]:
        for _ in range(100):
            time.sleep(0.05)
            yield b" "

    with serving() as service:
        service.told = lambda _: Told(body=drops())
        started = time.monotonic()
        assert ask(service.url, seconds=0.3).error == "no whole answer within 0.3 s"
        assert time.monotonic() - started < 1


def test_one_that_is_gone(ask: Ask) -> None:
    with serving() as service:
        url = service.url
    assert ask(url).error == f"nothing answers at {url}"


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{", b"SSH-2.0-OpenSSH_9.6\r\n"])
def test_one_that_breaks_off(ask: Ask, sent: bytes) -> None:
    def once(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        peer.recv(65536)
        peer.sendall(sent)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", int(not sent), 0))
        peer.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=once, args=(listener,))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert ask(url).error == f"the connection to {url} broke"
        thread.join()


def test_closing_ends_the_task_and_is_no_observation() -> None:
    runtime = Blocking()
    with serving() as service:
        service.told = Told(hang=True)
        threading.Timer(0.2, lambda: finish(runtime.close())).start()
        started = time.monotonic()
        with pytest.raises(Interrupted):
            finish(Remote(name="lawyer", url=service.url).ask("Is it legal?", CallContext(runtime=runtime)))
        assert time.monotonic() - started < 2


# --- how deep, and who was there


def test_depth_and_names_travel(ask: Ask) -> None:
    with serving() as service:
        service.told = said({"response": "yes"})
        assert ask(service.url, came=Lineage(depth=1, visited=("user's 协调者", "b"))).ok
    headers = service.seen[0].headers
    assert headers["orchestra-depth"] == "2"
    assert Lineage.of(headers) == Lineage(depth=2, visited=("user's 协调者", "b"))


@pytest.mark.parametrize("came", [Lineage(depth=DEEPEST), Lineage(depth=1, visited=("lawyer",))])
def test_nobody_is_asked_in_a_circle_or_too_far_down(ask: Ask, came: Lineage) -> None:
    with serving() as service:
        assert not ask(service.url, came=came).ok
    assert not service.seen


@pytest.mark.parametrize("depth", ["3", "9999", "-1", "1e3", "２", "", "0x1", "1, 1", "99999999999"])
def test_a_header_cannot_raise_the_limit(depth: str) -> None:
    with pytest.raises(AgentRecursion):
        Lineage.of({"orchestra-depth": depth})


def test_a_depth_that_its_own_names_belie_is_not_believed() -> None:
    assert Lineage.of({}) == Lineage()
    assert Lineage.of({"Orchestra-Depth": "0", "Orchestra-Visited": "a, b"}).depth == 2
    with pytest.raises(AgentRecursion):
        Lineage.of({"Orchestra-Depth": "0", "Orchestra-Visited": "a,b,c"})
    with pytest.raises(AgentRecursion):
        Lineage.of({"Orchestra-Visited": "a" * 9000})
    with pytest.raises(AgentRecursion):
        Lineage.of({"Orchestra-Depth": "1", "Orchestra-Visited": "a"}).at("a")


class Agent:
    """A service that asks the next one as often as it may, as a model gone wild would."""

    def __init__(self, name: str) -> None:
        self.name, self.calls, self.next, self.runtime = name, 0, Remote(name="", url=""), Blocking()

    def answer(self, seen: Seen) -> Told:
        try:
            here = Lineage.of(seen.headers).at(self.name)
        except AgentRecursion:
            return Told(status=508)
        self.calls += 1
        context = CallContext(runtime=self.runtime, lineage=here)
        found = [finish(self.next.ask("and then?", context)) for _ in range(here.steps(5))]
        return said({"response": f"{self.name}: {sum(one.ok for one in found)}"})


def circle(runs: int, *, known: bool = True) -> list[int]:
    """How often each of three agents was at work, where A asks B asks C asks A; `known`: by their true names."""
    agents = [Agent(name) for name in "abc"]
    with serving() as a, serving() as b, serving() as c:
        for agent, service in zip(agents, (a, b, c), strict=True):
            service.told = agent.answer
        for agent, other, service in zip(agents, [*agents[1:], agents[0]], (b, c, a), strict=True):
            agent.next = Remote(name=other.name if known else f"alias-{other.name}", url=service.url)
        for _ in range(runs):
            found = httpx.post(f"{a.url}/chat", json={"intent": "begin"}, trust_env=False, timeout=20)
            assert found.json() == {"response": "a: 5"}
    for agent in agents:
        finish(agent.runtime.close())
    return [agent.calls for agent in agents]


@pytest.mark.parametrize("known", [True, False])
def test_agents_that_ask_each_other_in_a_circle_come_to_an_end(known: bool) -> None:
    """Whoever would be asked again refuses, whether or not the one who asks knows its true name: 1 + 5 x 2 at work."""
    assert circle(20, known=known) == [20, 100, 100]


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_a_hundred_of_a_hundred_come_to_an_end(known: bool) -> None:
    assert circle(100, known=known) == [100, 500, 500]


def test_without_the_names_and_the_limit_they_would_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "DEEPEST", 5)
    monkeypatch.setattr(Lineage, "at", lambda self, name: self)
    assert circle(1) == [6, 10, 10]


# --- who is there


def named(client: Client, *names: Any, **descriptions: str) -> list[Tool]:
    source = Source(personas=Library([shipped()]), client=client, model="llama3", descriptions=descriptions)
    return finish(resolved(names, source))


@pytest.fixture
def client() -> Iterator[Client]:
    runtime = Blocking()
    yield Client(runtime, Settings(host="http://127.0.0.1:1"))
    finish(runtime.close())


def test_a_service_says_who_it_is(client: Client) -> None:
    with serving() as service:
        service.told = said({"name": "jurist", "title": {"zh": "法务"}, "description": {"zh": "审查\u202e法律风险", "en": "law\nand risk", "fr": "x"}})
        [own, alias] = named(client, service.url + "/chat", f"counsel={service.url}/")
        assert {seen.path for seen in service.seen} == {"/persona"}
    assert (own.name, own.titled("zh"), own.described("en"), own.described("zh")) == ("jurist", "法务", "law and risk", "审查法律风险")
    assert (alias.name, alias.described("en")) == ("counsel", "law and risk")


@pytest.mark.parametrize("told", [Told(status=404), Told(body=b"garbage"), Told(body=b'{"name": "../x"}'), Told(body=b'["name"]')])
def test_one_that_does_not_say_is_known_by_its_file_or_by_the_operators_word(client: Client, told: Told) -> None:
    with serving() as one, serving() as two, serving() as three:
        one.told = two.told = three.told = told
        found = named(client, f"lawyer={one.url}", f"weather={two.url}", three.url, weather="knows the weather")
    lawyer, weather, unnamed = found
    assert lawyer.described("zh") == Library([shipped()]).persona("lawyer").described("zh")
    assert weather.described("en") == "knows the weather"
    assert unnamed.name == f"127-0-0-1-{three.server_port}"
    assert unnamed.described("en") == f"the expert at {three.url}"


def test_one_that_is_down_is_an_expert_all_the_same(client: Client) -> None:
    with serving() as service:
        url = service.url
    started = time.monotonic()
    [lawyer] = named(client, f"lawyer={url}")
    assert lawyer.name == "lawyer"
    assert time.monotonic() - started < 1


def test_personas_addresses_and_functions_in_their_order(client: Client) -> None:
    def lookup_order(number: int) -> str:
        """Where an order is."""
        return "shipped"

    with serving() as service:
        service.told = Told(status=404)
        found = named(client, "lawyer", lookup_order, f"b={service.url}", Library([shipped()]).persona("support"))
    assert [one.name for one in found] == ["lawyer", "lookup_order", "b", "support"]


@pytest.mark.parametrize(
    ("experts", "said"),
    [
        (["my expert=http://127.0.0.1:9"], "'my expert' is no name of an expert"),
        ([f"{'x' * 65}=127.0.0.1:9"], "is no name of an expert"),
        (["lawyer", "lawyer"], "the expert lawyer is named twice"),
        (["a=http://127.0.0.1:9", "a=http://127.0.0.1:9"], "the expert a is named twice"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(client: Client, experts: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        named(client, *experts)


def test_a_name_stands_for_one_only(client: Client) -> None:
    with pytest.raises(UsageError, match="two experts are called lawyer"):
        named(client, "lawyer", "lawyer=http://127.0.0.1:9")
    with pytest.raises(PersonaMissing):
        named(client, "lawyre")
    with pytest.raises(UsageError, match="is no expert"):
        named(client, 7)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("http://localhost:5000", ("", "http://localhost:5000")),
        ("http://localhost:5000/chat", ("", "http://localhost:5000")),
        ("localhost:5000/", ("", "http://localhost:5000")),
        ("法务=https://example.org/a/chat/", ("法务", "https://example.org/a")),
        ("lawyer", None),
        ("computer_scientist", None),
    ],
)
def test_how_an_address_is_written(written: str, found: tuple[str, str] | None) -> None:
    assert address(written) == found


@pytest.mark.parametrize("written", ["a=b", "a=", "http://u:secret@h/", "http://h/?q=1", "http://h#x", "http://[::1", "http://h:99999", "x=ftp://h"])
def test_an_address_that_cannot_be_asked(written: str) -> None:
    with pytest.raises(UsageError) as refused:
        address(written)
    assert "secret" not in str(refused.value)
