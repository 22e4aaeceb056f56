"""Whoever waits is told for what: the place in the queue, the model that is being loaded - as thinking, before the model's own."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import httpx
import pytest
from obedient import act, decides, obeying
from runtimes import within
from served import running

from orchestra.gateway import create_app, waiting
from orchestra.gateway.answering import Beforehand
from orchestra.gateway.waiting import FENCE, Lookout, Parts, Waiting, awaited, unwaited
from orchestra.model.messages import Piece
from orchestra.runtime import Looped
from orchestra.settings import Settings
from orchestra.slots import Asker, Load, Slots, on_behalf_of
from orchestra.standin import Scripted, StandIn

LAWYER, OWN = "orchestra/lawyer", "llama3"
Connect = Callable[[], httpx.Client]


@contextmanager
def gateway(daemon: StandIn, **settings: Any) -> Iterator[Connect]:
    """Clients of a gateway over a daemon."""
    chosen = Settings.read(host=daemon.url, language="en", **settings)
    with ExitStack() as ends:
        url = ends.enter_context(running(create_app(settings=chosen), chosen))
        yield lambda: ends.enter_context(httpx.Client(base_url=url, timeout=20, trust_env=False))


class Heard(NamedTuple):
    """An answer: its text and thinking, and after how many seconds the first line came."""

    text: str
    thinking: str
    first: float


def asked(client: httpx.Client, body: dict[str, Any], path: str = "/api/chat", user: str = "") -> Heard:
    """What a stream of the daemon's own protocol, or of `/v1`, says."""
    text, thinking, first, started = "", "", 0.0, time.monotonic()
    with client.stream("POST", path, json=body, headers={"X-OpenWebUI-User-Id": user} if user else {}) as answer:
        for line in answer.iter_lines():
            line = line.removeprefix("data: ")
            if not line.startswith("{"):
                continue
            first = first or time.monotonic() - started
            event = json.loads(line)
            said = event["choices"][0]["delta"] if event.get("choices") else event.get("message", event)
            text += said.get("content") or said.get("response") or said.get("text") or ""
            thinking += said.get("thinking") or said.get("reasoning_content") or said.get("reasoning") or ""
    return Heard(text, thinking, first)


def chat(model: str = LAWYER, question: str = "May I cancel?", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question}], "stream": True, **more}


@contextmanager
def busy(client: httpx.Client, daemon: StandIn) -> Iterator[threading.Thread]:
    """Somebody else has the slot."""
    before = len(daemon.asked("/api/chat"))

    def talk() -> None:
        with suppress(httpx.HTTPError):
            asked(client, chat(OWN, "Tell me a long story."), user="else")

    thread = threading.Thread(target=talk)
    thread.start()
    assert within(10, lambda: len(daemon.asked("/api/chat")) > before)
    try:
        yield thread
    finally:
        client.close()
        thread.join()


LONG = Scripted([f"word{number} " for number in range(18)], pace=0.1)
BRIEF = Scripted(["word"] * 5, pace=0.1)
SHOWN = [
    ("/api/chat", chat()),
    ("/api/chat", chat(OWN)),
    ("/api/generate", {"model": LAWYER, "prompt": "May I cancel?"}),
    ("/api/generate", {"model": OWN, "prompt": "May I cancel?"}),
    ("/v1/chat/completions", chat()),
    ("/v1/chat/completions", chat(OWN)),
]
PROGRAMS = [
    ("/api/chat", chat(think=False)),
    ("/api/chat", chat(OWN, think=False)),
    ("/api/chat", chat(format={"type": "object"})),
    ("/api/chat", chat(OWN, format={"type": "object"})),
    ("/v1/chat/completions", chat(response_format={"type": "json_object"})),
    ("/v1/chat/completions", chat(OWN, response_format={"type": "json_object"})),
    ("/api/chat", chat(stream=False)),
]


def heard_beside(long: Scripted) -> list[Heard]:
    """What callers hear that come while another's answer has the slot: those of `SHOWN`, then those of `PROGRAMS`."""
    requests = [*SHOWN, *PROGRAMS]
    heard: dict[int, Heard] = {}

    with StandIn(["", long, *["{}"] * len(requests)]) as daemon, gateway(daemon) as connect:
        client, other = connect(), connect()
        asked(client, chat(OWN))  # the model is in memory

        def ask(number: int, path: str, body: dict[str, Any]) -> None:
            heard[number] = asked(client, body, path)

        with busy(other, daemon):
            threads = [threading.Thread(target=ask, args=(number, *request)) for number, request in enumerate(requests)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    return [heard[number] for number in range(len(requests))]


def check(heard: list[Heard]) -> None:
    assert [one.text for one in heard] == ["{}"] * len(heard)
    shown, unshown = heard[: len(SHOWN)], heard[len(SHOWN) :]
    for one in shown:
        assert re.fullmatch(r"(⏳ [0-9]{1,2}(st|nd|rd|th) in the queue\n)+", one.thinking), one
    assert min(one.first for one in shown) < 1  # where others make the machine busy the last of six comes later
    assert [one.thinking for one in unshown] == [""] * len(unshown)


def test_the_place_in_the_queue_is_seen_within_a_second_but_not_by_programs() -> None:
    check(heard_beside(LONG))


def test_red_control_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lookout, "news", lambda self: None)
    with pytest.raises(AssertionError):
        check(heard_beside(BRIEF))


def test_open_webui_is_told_in_a_status_line_that_goes_away() -> None:
    headers = {"X-OpenWebUI-User-Id": "me"}
    with StandIn(["", LONG, "Yes."]) as daemon, gateway(daemon) as connect:
        asked(connect(), chat(OWN))
        with busy(connect(), daemon), connect().stream("POST", "/v1/chat/completions", json=chat(), headers=headers) as answer:
            lines = [line.removeprefix("data: ") for line in answer.iter_lines()]
    events = [json.loads(line) for line in lines if line.startswith("{")]
    line = "⏳ 1st in the queue"
    told = [one["event"]["data"] for one in events if "event" in one]
    assert told == [{"description": line, "done": False}, {"description": line, "done": True, "hidden": True}]
    assert not any("reasoning_content" in one["choices"][0]["delta"] for one in events if one.get("choices"))


def test_a_cold_model_is_seen_loading_within_a_second() -> None:
    for _ in range(3):  # at once where nobody else makes the machine busy
        with StandIn(["Yes."], load_seconds=1.2) as daemon, gateway(daemon) as connect:
            heard = asked(connect(), chat())
        assert (heard.text, heard.thinking) == ("Yes.", "⏳ loading llama3 …\n")
        if heard.first < 1:
            return
    pytest.fail(f"seen after {heard.first:.1f} s")


def test_a_fault_after_the_wait_was_shown_is_seen_too() -> None:
    with StandIn(load_seconds=1) as daemon, gateway(daemon) as connect:
        daemon.fail("error_500_json", path="/api/chat", times=3)
        heard = asked(connect(), chat(OWN))
    assert heard.thinking == "⏳ loading llama3 …\n"
    assert heard.text.startswith("> ")


def test_our_lines_are_fenced_off_from_the_models_thinking_and_taken_out_when_they_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("SOON", 0.0), ("TICK", 0.05), ("OFTEN", 0.05)):
        monkeypatch.setattr(waiting, name, seconds)
    thought = Scripted("It is blue.", thinking="Sky. Colour?", pace=0.05)
    with StandIn([thought] * 3, models=["thinker"], load_seconds=0.4) as daemon, gateway(daemon) as connect:
        client, body, heard = connect(), chat("thinker"), list[Heard]()
        threads = [threading.Thread(target=lambda: heard.append(asked(client, body))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        loading, queue, thinking = "⏳ loading thinker …\n", "⏳ 1st in the queue\n", FENCE + "Sky. Colour?"
        assert [one.text for one in heard] == ["It is blue."] * 2
        assert sorted(one.thinking for one in heard) == [loading + thinking, loading + queue + thinking]
        said = {"role": "assistant", "content": heard[0].text, "thinking": heard[0].thinking}
        asked(client, {**body, "messages": [*body["messages"], said, *body["messages"]]})
        assert daemon.asked("/api/chat")[-1]["messages"][1]["thinking"] == "Sky. Colour?"


@pytest.mark.parametrize("model", [LAWYER, OWN])
def test_whoever_leaves_the_queue_leaves_no_hole(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("SOON", 0.0), ("TICK", 0.05), ("OFTEN", 0.05)):
        monkeypatch.setattr(waiting, name, seconds)
    with StandIn(["", Scripted(["word"] * 8, pace=0.1), "Yes."]) as daemon, gateway(daemon) as connect:
        client = connect()
        asked(client, chat(OWN))
        with busy(connect(), daemon):
            with client.stream("POST", "/api/chat", json=chat(model)) as leaver:
                assert "1st in the queue" in next(leaver.iter_lines())
            heard = asked(client, chat(model))
            assert heard.text == "Yes."
            assert heard.thinking.endswith("⏳ 1st in the queue\n")
    assert len(daemon.asked("/api/chat")) == 3


# --- a team: one works through a task, another asks


def served_after(waits: int) -> int:
    """While a task of four experts runs and its user asks more, somebody else asks: how many generations begin before that answer's."""

    def said(messages: list[dict[str, Any]]) -> str:
        if not decides(messages):
            return "one two three four five six seven eight nine ten " * 5
        return act(*((name, "?") for name in ("lawyer", "researcher", "support", "general")))

    with obeying(said, pace=0.01) as daemon, gateway(daemon) as connect:
        other = connect()
        asked(other, chat(OWN, options={"num_predict": 1}))
        clients = [connect() for _ in range(1 + waits)]
        bodies = [chat("orchestra/coordinator", "Draft a standard."), *[chat(question="And this?")] * waits]
        threads = [threading.Thread(target=left, args=(client, body)) for client, body in zip(clients, bodies, strict=True)]
        threads[0].start()
        assert within(10, lambda: len(daemon.asked("/api/chat")) == 3)  # the first expert speaks
        for thread in threads[1:]:
            thread.start()
        time.sleep(0.1)  # these wait now
        begun = len(daemon.asked("/api/chat"))
        heard = asked(other, chat(question="Another's question"), user="another")
        assert heard.text.startswith("one two")
        order = [body["messages"][-1]["content"] for body in daemon.asked("/api/chat")]
        for client in clients:
            client.close()
        for thread in threads:
            thread.join()
    return next(place for place, content in enumerate(order) if content.startswith("Another's question")) - begun


def left(client: httpx.Client, body: dict[str, Any]) -> None:
    with suppress(httpx.HTTPError, RuntimeError):
        asked(client, body, user="one")


@pytest.mark.parametrize(("guard", "path"), [("on", "/api/chat"), ("off", "/api/chat"), ("off", "/v1/chat/completions")])
def test_what_is_passed_on_takes_a_slot_too(guard: str, path: str) -> None:
    """One place here, two at the daemon: the second answer begins when the first has ended."""
    with StandIn(["", Scripted(["word"] * 5, pace=0.1), "Yes."], slots=2) as daemon, gateway(daemon, guard=guard) as connect:
        other = connect()
        asked(other, chat(OWN))
        with busy(connect(), daemon) as talk:
            assert asked(other, chat(OWN), path).text == "Yes."
            talk.join(0.1)
            assert not talk.is_alive()


def test_with_a_task_running_another_user_waits_for_one_generation_at_most() -> None:
    assert served_after(2) == 0


def test_red_control_first_come_first_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slots, "_rank", lambda self, turn: ())
    assert served_after(2) > 0


# --- the parts of it


def test_words() -> None:
    said = [Waiting(place).told("en") for place in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)]
    assert [one.split()[1] for one in said] == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]
    assert Waiting(3).told("zh") == "⏳ 排队中：第 3 位"
    assert Waiting(model="llama3").told("zh") == "⏳ 正在加载 llama3 …"
    assert Waiting(model="llama3", seconds=20).told("en") == "⏳ loading llama3 … 20 s"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_our_own_lines_are_taken_out_of_thinking_that_comes_back(language: str) -> None:
    before, piece = Beforehand(), Piece("So. ⏳ 1st\n---\n\nI think.", kind="thinking")
    ours = before.line(Waiting(2), language) + before.line(Waiting(model="llama3"), language)
    fenced = before.fenced(piece)
    assert fenced.startswith(FENCE)
    assert unwaited(ours + fenced) == piece.text
    assert unwaited(ours) == unwaited(ours.strip()) == ""
    assert unwaited(piece.text) == piece.text
    assert before.line(Waiting(1), language) == ""  # the answer has begun
    assert Beforehand().fenced(piece) == piece.text


def test_news_are_told_when_they_are_new_and_not_more_often_than_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    slots, me = Slots(1), Asker("", "me")
    lookout = Lookout(me)
    others = [slots.enter(Asker("", str(number)), lambda: None) for number in range(3)]
    mine = slots.enter(me, lambda: None)
    mine.since = now
    assert lookout.news() is None  # not worth a word yet
    now += 0.5
    assert (lookout.news(), lookout.news()) == (Waiting(3), None)
    slots.leave(others[0])
    assert lookout.news() is None
    now += 1
    assert lookout.news() == Waiting(2)
    now += 1
    slots.leave(others[1])
    slots.leave(others[2])
    assert mine.held
    assert lookout.news() is None
    me.loads.append(Load("llama3", since=now))
    now += 1
    assert (lookout.news(), lookout.news()) == (Waiting(model="llama3"), None)
    now += 11
    assert lookout.news() == Waiting(model="llama3", seconds=10)


async def numbers(pauses: float, count: int, ended: list[int]) -> AsyncGenerator[int]:
    try:
        for number in range(count):
            yield number
            await asyncio.sleep(pauses)
    finally:
        ended.append(1)


class Fault(Exception):
    pass


async def failing(after: int) -> AsyncGenerator[int]:
    for number in range(after):
        yield number
    raise Fault


def test_parts_come_in_order_and_an_error_after_them() -> None:
    async def main() -> list[int | Waiting | None]:
        came: list[int | Waiting | None] = []
        parts = Parts(failing(20), 10).all()
        with suppress(Fault):
            async for part in parts:
                came.append(part)
        with pytest.raises(Fault):
            await Parts(failing(0), 10).begun()
        return came

    assert asyncio.run(main()) == list(range(20))


def test_a_beat_where_nothing_comes_and_no_more_ahead_than_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "TICK", 0.02)
    monkeypatch.setattr(waiting, "AHEAD", 8)

    async def main() -> None:
        ended = list[int]()
        parts = Parts(numbers(0.2, 2, ended), 0.05).all()
        assert [await anext(parts) for _ in range(2)] == [0, None]
        await parts.aclose()
        assert ended == [1]
        made = list[int]()

        async def counted() -> AsyncGenerator[int]:
            for number in range(100):
                made.append(number)
                yield number

        ahead = Parts(counted(), 10)
        await ahead.begun()
        await asyncio.sleep(0.05)
        assert len(made) == 8
        await ahead.close()

    asyncio.run(main())


@pytest.mark.parametrize("begun", [True, False])
def test_whoever_leaves_ends_the_work(begun: bool) -> None:
    async def main() -> None:
        ended = list[int]()
        parts = Parts(numbers(5, 2, ended), 10)
        if begun:
            await parts.begun()
        reading = asyncio.ensure_future(anext(parts.all()))
        await asyncio.sleep(0.01)
        reading.cancel()
        await parts.close()
        assert ended == [1]

    asyncio.run(main())


def test_work_is_awaited_and_what_it_waits_for_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "TICK", 0.02)
    monkeypatch.setattr(waiting, "SOON", 0.0)
    runtime, seen = Looped(), list[Waiting]()

    async def show(what: Waiting) -> None:
        seen.append(what)

    async def work() -> str:
        async with runtime.slot():
            return "done"

    async def main() -> str:
        async with runtime.slot():
            with on_behalf_of(Asker("", "me")):
                task = asyncio.ensure_future(awaited(work(), show))
            await asyncio.sleep(0.1)
        return await task

    assert asyncio.run(main()) == "done"
    assert seen == [Waiting(1)]
