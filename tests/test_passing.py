"""The daemon's own models through the gateway: bounded, looked after, ended; and, without the guard, byte for byte."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from command_line import started
from served import running
from services import Told, serving
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestra.errors import BodyInvalid, ConfigError, DaemonError, StreamStalled, StreamTruncated
from orchestra.gateway import create_app
from orchestra.gateway.asides import LOOPED, aside, without_aside
from orchestra.gateway.lines import Run
from orchestra.gateway.passing import Guard, Passing, parsed, refusal
from orchestra.gateway.serving import Service
from orchestra.model.client import Client
from orchestra.model.tokens import Count, Counter
from orchestra.runtime import Looped
from orchestra.settings import Settings
from orchestra.standin import Scripted, StandIn
from orchestra.standin.faults import FAULTS

QUESTION = {"model": "llama3", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
PROMPT = {"model": "llama3", "prompt": "The sky is"}
TOOLS = "tiny-tools"
LOOP = "It is blue because it is so, and so it is. " * 80
Through = Callable[..., httpx.Client]


@contextmanager
def passing_on(settings: Settings, guard: Guard) -> Iterator[str]:
    """The address of a gateway that passes on, and does nothing else."""
    passing = Passing(Client(Looped(parallel=settings.parallel), settings), guard)

    async def passed(request: Request) -> Response:
        raw = await request.body()
        try:
            return passing.passed(request.url.path, raw, parsed(raw))
        except BodyInvalid as error:
            return refusal(error, "en")

    paths = [Route(path, passed, methods=["POST"]) for path in ("/api/chat", "/api/generate")]
    with running(Starlette(routes=paths), settings) as url:
        yield url


class Gateways:
    """Gateways over daemons, one for each way to set one up."""

    def __init__(self, ends: ExitStack) -> None:
        self._ends = ends
        self._running: dict[str, httpx.Client] = {}

    def client(self, daemon: str, guard: Guard, settings: dict[str, Any]) -> httpx.Client:
        key = f"{daemon} {guard} {settings}"
        if key not in self._running:
            url = self._ends.enter_context(passing_on(Settings.read(host=daemon, language="en", **settings), guard))
            self._running[key] = self._ends.enter_context(httpx.Client(base_url=url, timeout=10, trust_env=False))
        return self._running[key]


@pytest.fixture(scope="module")
def gateways(clean_environment: object) -> Iterator[Gateways]:
    with ExitStack() as ends:
        yield Gateways(ends)


@pytest.fixture(scope="module")
def daemon(clean_environment: object) -> Iterator[StandIn]:
    with StandIn(models=["llama3", "llama3:text", TOOLS]) as daemon:
        yield daemon


@pytest.fixture
def standin(request: pytest.FixtureRequest, daemon: StandIn) -> Iterator[StandIn]:
    """The daemon of these tests; one of its own for a test whose name counts loads or stops it."""
    if request.node.get_closest_marker("usefixtures") is None:
        yield daemon
        return
    with StandIn() as own:
        yield own


@pytest.fixture
def fresh() -> None:
    """Asks for a daemon of the test's own."""


@pytest.fixture
def through(standin: StandIn, gateways: Gateways) -> Through:
    """Clients of gateways over this test's daemon."""

    def run(guard: Guard = "on", **settings: Any) -> httpx.Client:
        return gateways.client(standin.url, guard, settings)

    return run


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    """The lines of an answer, as the strictest client reads them."""
    assert response.status_code == 200, response.text
    return [json.loads(line) for line in response.content.split(b"\n") if line]


def text_of(said: list[dict[str, Any]]) -> str:
    return "".join(line["message"]["content"] if "message" in line else line["response"] for line in said)


def dialogue(turns: int, words: int = 40) -> list[dict[str, str]]:
    """A history of so many turns, each of which says its number."""
    said: list[dict[str, str]] = [{"role": "system", "content": "Be brief."}]
    for turn in range(turns):
        said += [{"role": "user", "content": f"question {turn} " + "word " * words}, {"role": "assistant", "content": f"answer {turn}"}]
    return [*said, {"role": "user", "content": "And now?"}]


# --- what the daemon is asked


@pytest.mark.parametrize(("path", "body"), [("/api/chat", QUESTION), ("/api/generate", PROMPT)])
def test_an_answer_is_bounded_within_the_loaded_window(through: Through, standin: StandIn, path: str, body: dict[str, Any]) -> None:
    standin.script("Because of Rayleigh scattering.", "Because.")
    said = lines(through().post(path, json=body))
    assert text_of(said) == "Because of Rayleigh scattering."
    assert (said[-1]["done"], said[-1]["done_reason"]) == (True, "stop")
    asked = standin.asked(path)[-1]
    assert asked["truncate"] is False
    assert asked["options"]["num_ctx"] == 4096
    assert 3900 < asked["options"]["num_predict"] + said[-1]["prompt_eval_count"] <= 4096
    lines(through().post(path, json={**body, "options": {"num_predict": 7, "temperature": 0}}))
    assert standin.asked(path)[-1]["options"] == {"num_predict": 7, "temperature": 0, "num_ctx": 4096}


def test_fields_that_are_not_ours_arrive_as_they_were_sent(through: Through, standin: StandIn) -> None:
    standin.script("{}")
    more = {"format": "json", "keep_alive": "9m", "logprobs": True, "unheard_of": [1]}
    lines(through().post("/api/chat", json={**QUESTION, **more}))
    asked = standin.asked("/api/chat")[-1]
    assert {name: asked[name] for name in more} == more


@pytest.mark.parametrize(
    "odd",
    [
        {"OPTIONS": {"num_predict": 100_000}, "Truncate": True, "\u017ftream": False},
        {"options": {"num_predict": 9}, "Options": {"num_predict": 7}, "Raw": False},
        {"messages": [{"role": "user", "content": "?"}], "Messages": [{"ROLE": "user", "content": "", "Content": "Why?"}]},
        {"messages": [], "MESSAGES": QUESTION["messages"]},
        {"_debug_render_only": True, "_DEBUG_render_only": False},
    ],
    ids=["beyond the bound", "twice", "in a message", "instead", "not asked"],
)
def test_no_spelling_of_a_name_leads_past_the_guard(through: Through, standin: StandIn, odd: dict[str, Any]) -> None:
    """The daemon takes its fields in any case, and the last of them: what it is sent names each once, as we have read it."""
    said = through().post("/api/chat", json={**QUESTION, "stream": True, **odd})
    assert said.status_code == 200, said.text
    asked = standin.asked("/api/chat")[-1]
    assert (asked["truncate"], asked["stream"]) == (False, True)
    assert asked["options"]["num_predict"] <= (7 if "Options" in odd else 4096)
    assert len({name.lower().replace("\u017f", "s") for name in asked}) == len(asked)
    assert [set(message) for message in asked["messages"]] == [{"role", "content"}]


def test_a_dialogue_that_takes_long_to_count_holds_nobody_up(
    standin: StandIn, through: Through, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, threads = Counter.measure, set[str]()

    def measured(self: Counter, *given: Any, **named: Any) -> Count:
        threads.add(threading.current_thread().name)
        return measure(self, *given, **named)

    monkeypatch.setattr(Counter, "measure", measured)
    client = through()
    lines(client.post("/api/chat", json=QUESTION))
    ours = set(threads)
    threads.clear()
    assert client.post("/api/chat", json={**QUESTION, "messages": dialogue(3000)}).status_code == 200
    assert (len(ours), len(threads)) == (1, 1)
    assert threads != ours  # the first was counted where all requests are served
    many = client.post("/api/chat", json={**QUESTION, "messages": dialogue(5000, 0)})
    assert (many.status_code, "10,000" in many.json()["error"]) == (400, True)


@pytest.mark.usefixtures("fresh")
def test_nothing_loads_a_model_again_that_is_there(through: Through, standin: StandIn) -> None:
    httpx.post(standin.url + "/api/generate", json={"model": "llama3", "options": {"num_ctx": 2048}})
    standin.script("One.", "Two.")
    client = through()
    lines(client.post("/api/chat", json=QUESTION))
    assert (standin.loads, standin.reloads) == (1, 0)
    assert standin.asked("/api/chat")[0]["options"]["num_ctx"] == 2048
    lines(client.post("/api/chat", json={**QUESTION, "options": {"num_ctx": 1024}}))  # asked for: as without us
    assert standin.reloads == 1


@pytest.mark.usefixtures("fresh")
def test_options_of_the_engine_load_it_once(through: Through, standin: StandIn) -> None:
    standin.script("One.")
    lines(through().post("/api/chat", json={**QUESTION, "options": {"num_gpu": 0, "num_batch": 256}}))
    assert (standin.loads, standin.reloads) == (1, 0)


@pytest.mark.usefixtures("fresh")
def test_loading_and_unloading_are_passed_on(through: Through, standin: StandIn) -> None:
    client = through()
    assert client.post("/api/generate", json={"model": "llama3"}).json()["done_reason"] == "load"
    assert client.post("/api/chat", json={"model": "llama3", "messages": [], "keep_alive": 0}).json()["done_reason"] == "unload"


# --- a history that has outgrown the window


def test_a_long_history_loses_whole_oldest_turns_and_says_so(through: Through, standin: StandIn) -> None:
    standin.script("Here.", "Here again.")
    history = dialogue(150)
    client = through()
    said = lines(client.post("/api/chat", json={"model": "llama3", "messages": history}))
    kept = standin.asked("/api/chat")[-1]["messages"]
    assert kept[0] == history[0]
    assert kept[1:] == history[len(history) - len(kept) + 1 :]
    assert kept[1]["role"] == "user"
    first = text_of(said).split("\n\n")[0]
    assert first == f"[The {len(history) - len(kept)} oldest messages did not fit into the window of 4096 tokens and were left out.]"
    assert text_of(said).endswith("Here.")
    assert said[-1]["prompt_eval_count"] + standin.asked("/api/chat")[-1]["options"]["num_predict"] <= 4096
    # the line is ours: the model does not read it when the client sends it back
    more = [*history, {"role": "assistant", "content": text_of(said)}, {"role": "user", "content": "And then?"}]
    whole = client.post("/api/chat", json={"model": "llama3", "messages": more, "stream": False}).json()
    assert whole["message"]["content"].startswith("[The ")
    assert standin.asked("/api/chat")[-1]["messages"][-2]["content"] == "Here."


@pytest.mark.parametrize(
    ("guard", "more"),
    [("strict", {}), ("on", {"format": "json"}), ("on", {"tools": [{"type": "function", "function": {"name": "f"}}]})],
)
def test_what_a_program_reads_is_never_shortened(through: Through, standin: StandIn, guard: Guard, more: dict[str, Any]) -> None:
    response = through(guard).post("/api/chat", json={"model": TOOLS if "tools" in more else "llama3", "messages": dialogue(150), **more})
    assert response.status_code == 400
    assert set(response.json()) == {"error"}
    assert "holds 4096" in response.json()["error"]


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(through: Through, standin: StandIn) -> None:
    response = through().post("/api/generate", json={**PROMPT, "prompt": "word " * 5000})
    assert response.status_code == 400
    assert "holds 4096" in response.json()["error"]


# --- loops and faults


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("path", "body"), [("/api/chat", QUESTION), ("/api/generate", PROMPT)])
def test_a_loop_is_broken_off(through: Through, standin: StandIn, path: str, body: dict[str, Any], stream: bool) -> None:
    standin.script(LOOP)
    response = through().post(path, json={**body, "stream": stream})
    said = lines(response) if stream else [response.json()]
    assert (said[-1]["done"], said[-1]["done_reason"]) == (True, "repetition")
    assert 0 < len(text_of(said)) < len(LOOP) / 2
    if not stream:
        assert len(text_of(said)) < 200


def test_without_the_guard_a_loop_goes_on(through: Through, standin: StandIn) -> None:
    standin.script(LOOP)
    assert text_of(lines(through("off").post("/api/chat", json=QUESTION))) == LOOP


def test_equal_pieces_are_a_loop(through: Through, standin: StandIn) -> None:
    standin.script([" yes"] * 60)
    said = lines(through().post("/api/chat", json=QUESTION))
    assert said[-1]["done_reason"] == "repetition"


def test_a_bound_that_is_reached_is_said(through: Through, standin: StandIn) -> None:
    standin.script("one two three four five six seven")
    said = lines(through().post("/api/chat", json={**QUESTION, "options": {"num_predict": 3}}))
    assert said[-1]["done_reason"] == "length"


WAITS = {"first_token_timeout": 0.3, "prompt_token_time": 0.0, "piece_timeout": 0.2, "line_limit": 2**20}


def test_whatever_the_daemon_does_the_client_sees_an_end(through: Through, standin: StandIn) -> None:
    client = through(**WAITS)
    for fault in sorted(set(FAULTS) - {"too_many_429"}):  # that one costs a second
        standin.fail(fault, path="/api/chat")
        ended(client.post("/api/chat", json=QUESTION), fault, stream=True)


@pytest.mark.parametrize("fault", ["reset_mid", "cut_mid", "empty_200", "bad_json_line", "error_line", "done_twice", "bad_utf8", "html_200"])
def test_whoever_wants_it_whole_sees_an_end_too(through: Through, standin: StandIn, fault: str) -> None:
    standin.fail(fault, path="/api/chat")
    ended(through(**WAITS).post("/api/chat", json={**QUESTION, "stream": False}), fault, stream=False)


def test_a_daemon_that_never_answers_is_given_up(through: Through, standin: StandIn) -> None:
    standin.fail("busy_503", times=3, path="/api/chat")
    response = through(**WAITS).post("/api/chat", json=QUESTION)
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    ended(response, "busy_503", stream=True)


def ended(response: httpx.Response, fault: str, *, stream: bool) -> None:
    """Asserts that an answer ends as a client understands it: with a last line, or with an error."""
    if response.status_code != 200:
        assert set(response.json()) == {"error"}, fault
        assert response.json()["error"].strip(), fault
        return
    said = lines(response) if stream else [response.json()]
    assert [line["done"] for line in said] == [False] * (len(said) - 1) + [True], fault
    assert said[-1]["done_reason"] in ("stop", "length", "incomplete"), fault
    assert ("\n\n> " in text_of(said)) == (said[-1]["done_reason"] == "incomplete"), fault


def test_a_cut_answer_says_so_where_a_program_reads_it_too(through: Through, standin: StandIn) -> None:
    standin.fail("cut_mid", path="/api/chat")
    said = lines(through().post("/api/chat", json={**QUESTION, "format": "json"}))
    assert text_of(said) == "The sky is"
    assert said[-1]["done_reason"] == "incomplete"


@pytest.mark.usefixtures("fresh")
def test_errors_have_the_daemons_shape(through: Through, standin: StandIn) -> None:
    client = through()
    assert client.post("/api/chat", json={**QUESTION, "model": "nobody"}).status_code == 404
    for body in (b"{", b"[]", b'{"messages": [{"role": "user"}]}', b'{"model": "llama3", "messages": [1]}', b'{"model": 3, "prompt": "x"}'):
        response = client.post("/api/chat" if b"messages" in body or len(body) < 3 else "/api/generate", content=body)
        assert (response.status_code, set(response.json())) == (400, {"error"}), body
    for wrong in ({"think": [1]}, {"options": {"seed": "x"}}, {"format": "xml"}):
        assert client.post("/api/chat", json={**QUESTION, **wrong}).status_code == 400, wrong
    standin.stop()
    assert client.post("/api/chat", json=QUESTION).status_code >= 500


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_however_deep_a_body_is_nested_it_is_answered(through: Through, path: str) -> None:
    for depth in (100, 450, 900, 2000, 100_000):
        raw = json.dumps({**QUESTION, **PROMPT, "options": {"num_predict": 1}, "extra": 0}).replace('"extra": 0', f'"extra": {"[" * depth}{"]" * depth}')
        assert through().post(path, content=raw).status_code in (200, 400), depth


def test_our_words_below_an_answer_are_known_again_and_a_models_own_are_left() -> None:
    for language in ("en", "zh"):
        for words in (LOOPED.text(language), StreamStalled(seconds="60").message(language), DaemonError(status=500, detail="x > y").message(language)):
            assert without_aside("It is blue." + aside(words)) == "It is blue."
    for own in ("It is blue.\n\n> To be, or not to be", "> the answer", "It is\n\n> " + LOOPED.en + "\nblue", "\n\n> "):
        assert without_aside(own) == own


# --- byte for byte


def test_without_the_guard_nothing_is_changed(through: Through, standin: StandIn) -> None:
    odd = b'{"response":"a\xff\xe2\x80\xa8","done":false}\r\n\n[1]\nno JSON at all'
    asked = b' {"model": "llama3",\n"messages":[{"role":"user","content":"?"}], "model": "x"}'
    with serving() as service, passing_on(Settings.read(host=service.url, language="en"), "off") as url:
        service.told = Told(status=202, body=odd, headers={"content-type": "application/x-ndjson"})
        with httpx.Client(base_url=url, trust_env=False) as client:
            passed = client.post("/api/chat", content=asked)
    assert (passed.status_code, passed.content, passed.headers["content-type"]) == (202, odd, "application/x-ndjson")
    assert [seen.body for seen in service.seen] == [asked]
    standin.fail("too_many_429", path="/api/chat")
    refused = through("off").post("/api/chat", json=QUESTION)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")


def test_without_the_guard_an_answer_that_breaks_off_breaks_off(through: Through, standin: StandIn) -> None:
    standin.fail("reset_mid", path="/api/chat")
    with pytest.raises(httpx.RemoteProtocolError):
        through("off").post("/api/chat", json=QUESTION)


def test_without_the_guard_an_answer_has_its_time_all_the_same(through: Through, standin: StandIn) -> None:
    standin.script(Scripted("a " * 40, pace=0.1))
    before = time.monotonic()
    with pytest.raises(httpx.RemoteProtocolError):
        through("off", deadline=0.5, load_timeout=0.5).post("/api/chat", json=QUESTION)
    assert time.monotonic() - before < 2


def test_of_an_answer_that_broke_off_it_is_reported_why(standin: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    standin.fail("reset_mid", path="/api/chat")
    settings = Settings.read(host=standin.url, language="en", guard="off")
    with caplog.at_level("INFO", "orchestra.requests"), running(create_app(settings=settings), settings) as url:
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.post(url + "/api/chat", json=QUESTION, trust_env=False)
        wait_for(lambda: bool(caplog.messages))
    assert caplog.messages[0].endswith(StreamTruncated.code())


@pytest.mark.parametrize("guard", ["on", "off"])
@pytest.mark.parametrize(("path", "body"), [("/api/chat", QUESTION), ("/api/embed", {"model": "llama3", "input": "sky"})])
def test_who_has_waited_too_long_for_a_slot_hears_that_it_was_busy(
    standin: StandIn, guard: Guard, path: str, body: dict[str, Any]
) -> None:
    async def asked() -> httpx.Response:
        client = Client(Looped(), Settings.read(host=standin.url, language="en", deadline=0.2))
        passing = Passing(client, guard)

        async def passed(request: Request) -> Response:
            raw = await request.body()
            return passing.passed(path, raw, parsed(raw)) if path == "/api/chat" else passing.through("POST", path, raw)

        app = Starlette(routes=[Route(path, passed, methods=["POST"])])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http, client.runtime.slot():
            answer = await http.post(path, json={**body, "stream": False})
        await client.runtime.close()
        return answer

    answer = asyncio.run(asked())
    assert (answer.status_code, "is busy" in answer.json()["error"]) == (503, True), answer.text
    assert int(answer.headers["retry-after"]) > 0


# --- whoever leaves


def test_small_pieces_do_not_wait_for_acknowledgements() -> None:
    with Service(Starlette(), "127.0.0.1", 0).bound() as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@contextmanager
def peer_of(client: httpx.Client, body: dict[str, Any]) -> Iterator[socket.socket]:
    """A connection on which something was asked; it is closed when the block ends."""
    data = json.dumps(body).encode()
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as peer:
        head = f"POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
        peer.sendall(head.encode() + data)
        yield peer


def left(client: httpx.Client, body: dict[str, Any], standin: StandIn, *, until: Callable[[], bool]) -> float:
    """Asks over a socket of its own, leaves when `until`, and says after how many seconds the daemon was free."""
    with peer_of(client, body) as peer:
        wait_for(until)
        if body["stream"]:
            peer.settimeout(5)
            assert peer.recv(1)
    gone = time.monotonic()
    wait_for(lambda: not standin.active)
    return time.monotonic() - gone


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("guard", ["on", "off"])
@pytest.mark.parametrize("stream", [True, False])
def test_whoever_leaves_frees_the_daemon(through: Through, standin: StandIn, guard: Guard, stream: bool) -> None:
    before = standin.cancelled
    standin.script(Scripted([f" {number}" for number in range(2000)], pace=0.01))
    seconds = left(through(guard), {**QUESTION, "stream": stream}, standin, until=lambda: standin.active > 0)
    assert seconds < 0.5
    assert standin.cancelled == before + 1


def test_whoever_leaves_the_daemons_line_is_no_longer_in_it(through: Through, standin: StandIn) -> None:
    """Before the first token: another has the daemon's one slot."""
    standin.script(Scripted([f" {number}" for number in range(2000)], pace=0.01))
    client = through()
    asked, cancelled = len(standin.asked("/api/chat")), standin.cancelled
    with httpx.stream("POST", standin.url + "/api/chat", json=QUESTION, trust_env=False) as other:
        kept = other.iter_raw()  # whoever lets it go leaves
        next(kept)
        with peer_of(client, {**QUESTION, "stream": True}):
            wait_for(lambda: len(standin.asked("/api/chat")) == asked + 2)
        gone = time.monotonic()
        wait_for(lambda: standin.cancelled == cancelled + 1)
        assert time.monotonic() - gone < 0.5
    wait_for(lambda: not standin.active)


# --- in the whole gateway


@pytest.mark.parametrize("where", ["take", "given"])
def test_of_what_nobody_foresaw_only_the_kind_is_told(
    standin: StandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    def failing(run: Run, *_: Any) -> list[Any]:
        if where == "given" and not run.ended:
            return given(run)
        raise ValueError("s3cret")

    given = Run.given
    monkeypatch.setattr(Run, where, failing)
    settings = Settings.read(host=standin.url, language="en")
    standin.script(Scripted(["Be", "cause", "."], pace=0.05))
    with running(create_app(settings=settings), settings) as url:
        if where == "given":  # in the middle of the answer
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.post(url + "/api/chat", json=QUESTION, trust_env=False)
        else:
            answer = httpx.post(url + "/api/chat", json=QUESTION, trust_env=False)
            assert (answer.status_code, "ValueError" in answer.json()["error"], "s3cret" in answer.text) == (502, True, False)
    assert "unforeseen: ValueError" in caplog.text
    assert "s3cret" not in caplog.text


def test_the_gateway_passes_on_what_is_asked_of_a_model_and_one_expert_alone_does_not(standin: StandIn) -> None:
    settings = Settings.read(host=standin.url, language="en")
    standin.script("Because.")
    with running(create_app(settings=settings), settings) as url:
        said = lines(httpx.post(url + "/api/chat", json=QUESTION, trust_env=False))
        assert (text_of(said), said[-1]["done_reason"]) == ("Because.", "stop")
    with running(create_app("You count.", settings=settings), settings) as url:
        assert httpx.post(url + "/api/chat", json=QUESTION, trust_env=False).status_code == 404


def test_the_command_line_says_how_it_is_guarded_and_else_the_environment(standin: StandIn) -> None:
    standin.script("Because.")
    environment = {"OLLAMA_HOST": standin.url, "ORCHESTRA_GUARD": "strict"}
    with started("serve", "--port", "0", "--quiet", "--guard", "off", **environment) as running:
        assert running.stderr is not None
        url = running.stderr.readline().decode().split(" at ")[1].split()[0]
        assert text_of(lines(httpx.post(url + "/api/chat", json=QUESTION, trust_env=False))) == "Because."
    assert "truncate" not in standin.asked("/api/chat")[-1]
    assert Passing(Client(Looped(), Settings.read(environment))).guard == "strict"
    with pytest.raises(ConfigError):
        Settings.read({"ORCHESTRA_GUARD": "maybe"})
