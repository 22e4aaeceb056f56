"""Services in line: the first that gives something, no more questions than each can bear, nothing twice, no error ever."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from orchestra.errors import BadResponse, KeyRefused, RateLimited, SearchFault, SearchUnreachable, UsageError
from orchestra.retrieval import search
from orchestra.retrieval.cache import Cache
from orchestra.retrieval.offline import Offline
from orchestra.retrieval.passages import Findings, Passage
from orchestra.retrieval.search import Policy, Searches
from orchestra.runtime import Blocking, Looped, Runtime, finish
from orchestra.texts import Words

T = TypeVar("T")
RUNTIMES = ("looped", "blocking")
HOUR = 3600.0


def run(kind: str, work: Callable[[Runtime], Coroutine[Any, Any, T]]) -> T:
    async def whole(runtime: Runtime) -> T:
        try:
            return await work(runtime)
        finally:
            await runtime.close()

    return asyncio.run(whole(Looped())) if kind == "looped" else finish(whole(Blocking()))


class Fake:
    """A service that gives what it is told: hits, an error, or after a while."""

    def __init__(self, name: str, *says: Any, takes: float = 0.0, **more: Any) -> None:
        self.name = name
        self.says = list(says) or [1]
        self.takes = takes
        self.asked: list[str] = []
        self.at: list[float] = []
        vars(self).update(more)

    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        self.asked.append(query)
        self.at.append(time.monotonic())
        time.sleep(self.takes)
        says = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(says, Exception):
            raise says
        return [
            Passage(text=f"{query} {n}", title=self.name, url=f"https://{self.name}.example/{n}", score=1 / n) for n in range(1, says + 1)
        ]


def unreachable(name: str = "x") -> SearchUnreachable:
    return SearchUnreachable(provider=name, detail="no connection")


def limited(seconds: Any = None) -> RateLimited:
    return RateLimited(provider="x", detail="HTTP 429", retry_after=seconds, seconds=seconds or 900)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> Cache:
    return Cache(tmp_path / "search.db", clock=clock)


def line(*providers: Any, cache: Cache | None = None, kind: str = "blocking", queries: Sequence[str] = ("a question",), **policy: Any) -> Findings:
    """What a line finds, asked once."""

    async def work(runtime: Runtime) -> Findings:
        searches = Searches(providers, runtime=runtime, cache=cache, policy=Policy(**policy))
        return await searches.retrieve(queries, results=3, language="en")

    return run(kind, work)


def outcomes(found: Findings) -> list[tuple[str, str]]:
    return [(attempt.name, attempt.outcome) for attempt in found.attempts]


# --- in line


@pytest.mark.parametrize("kind", RUNTIMES)
def test_the_first_that_gives_something_is_enough(kind: str) -> None:
    empty, good, spare = Fake("empty", 0), Fake("good", 2), Fake("spare")
    found = line(empty, good, spare, kind=kind)
    assert outcomes(found) == [("empty", "nothing"), ("good", "found")]
    assert [passage.url for passage in found.passages] == ["https://good.example/1", "https://good.example/2"]
    assert found.passages[0].origin == "good"
    assert found.attempts[1].hits == 2
    assert not spare.asked


FAILURES: list[tuple[Exception, str]] = [
    (unreachable(), "unreachable"),
    (limited(), "rate_limited"),
    (KeyRefused(provider="x", detail="HTTP 401", variable="X"), "key_refused"),
    (BadResponse(provider="x", detail="no JSON"), "failed"),
    (SearchFault(provider="x", detail="HTTP 500"), "failed"),
    (ValueError("sk-canary"), "failed"),
    (KeyError("results"), "failed"),
    (UsageError(detail="the query has no word", detail_zh="?"), "skipped"),
]


@pytest.mark.parametrize(("error", "outcome"), FAILURES, ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "")
@pytest.mark.parametrize("kind", RUNTIMES)
def test_one_that_fails_gives_way_to_the_next(kind: str, error: Exception, outcome: str) -> None:
    found = line(Fake("bad", error), Fake("good"), kind=kind)
    assert outcomes(found) == [("bad", outcome), ("good", "found")]
    assert found.attempts[0].error
    assert "sk-canary" not in repr(found)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_with_the_cable_out_there_are_no_sources_and_every_attempt_says_why(kind: str) -> None:
    began = time.monotonic()
    found = line(Fake("a", unreachable("a")), Fake("b", unreachable("b")), kind=kind, queries=["x", "y"])
    assert found.passages == ()
    assert outcomes(found) == [("a", "unreachable"), ("b", "unreachable"), ("a", "skipped"), ("b", "skipped")], "nobody is asked in vain twice"
    assert "a does not answer: no connection" in found.attempts[0].error
    assert time.monotonic() - began < 5


def test_errors_in_the_language_of_the_user() -> None:
    assert "没有应答" in line(Fake("a", unreachable("a")), language="zh").attempts[0].error


def test_nobody_in_line_finds_nothing() -> None:
    assert line() == Findings()


# --- time


@pytest.mark.parametrize("kind", RUNTIMES)
def test_one_that_hangs_is_left_behind_and_the_next_has_its_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LEAST", 0.4)
    began = time.monotonic()
    found = line(Fake("hangs", takes=30), Fake("good"), kind=kind, patience=0.2)
    assert outcomes(found) == [("hangs", "unreachable"), ("good", "skipped")], "the last of 0.2 s went to one that had a right to 0.4 s"
    found = line(Fake("hangs", takes=30), Fake("good"), kind=kind, patience=1.6)
    assert outcomes(found) == [("hangs", "unreachable"), ("good", "found")]
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(("patience", "share"), [(0.5, 0.5), (3.0, 2.0), (10.0, 5.0)])
def test_one_that_others_wait_behind_has_half_of_the_time_and_at_least_two_seconds(patience: float, share: float) -> None:
    allowed: list[float] = []

    class Watched(Blocking):
        async def aside(self, fn: Callable[[], Any], *, seconds: float) -> Any:
            allowed.append(seconds)
            return fn()

    runtime = Watched()
    searches = Searches([Fake("a", 0), Fake("b", 0)], runtime=runtime, policy=Policy(patience=patience))
    finish(searches.retrieve(["x"], results=3, language="en"))
    finish(runtime.close())
    assert allowed == pytest.approx([share, patience], abs=0.4)


def two_rounds(kind: str, *services: Any) -> list[tuple[str, str]]:
    """How two rounds of one line go, with a patience of 0.7 s."""

    async def work(runtime: Runtime) -> list[tuple[str, str]]:
        searches = Searches(services, runtime=runtime, policy=Policy(patience=0.7))
        rounds = [await searches.retrieve([query], results=3, language="en") for query in ("first", "second")]
        return [outcome for found in rounds for outcome in outcomes(found)]

    return run(kind, work)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_where_nobody_outside_was_reached_a_second_round_does_not_wait_again(kind: str) -> None:
    services = (Fake("hangs", takes=30), Fake("too", takes=30), Fake("near", 0, leaves=False))
    rest = [("too", "skipped"), ("near", "nothing")]
    assert two_rounds(kind, *services) == [("hangs", "unreachable"), *rest, ("hangs", "skipped"), *rest], "the patience is used up"


@pytest.mark.parametrize("kind", RUNTIMES)
def test_who_was_reached_is_asked_in_a_second_round(kind: str) -> None:
    found = two_rounds(kind, [Fake("hangs", takes=30), Fake("good")])
    assert found == [("hangs", "unreachable"), ("good", "found"), ("hangs", "skipped"), ("good", "found")]


def test_red_control_without_a_memory_each_round_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "LATELY", 0.0)
    assert two_rounds("blocking", Fake("hangs", takes=30)) == [("hangs", "unreachable")] * 2


def test_what_needs_no_network_always_has_time() -> None:
    found = line(Fake("hangs", takes=30), Fake("near", leaves=False), patience=0.3)
    assert outcomes(found) == [("hangs", "unreachable"), ("near", "found")]


def test_an_answer_that_comes_too_late_serves_the_next_question(cache: Cache) -> None:
    slow = Fake("slow", takes=0.3)
    assert outcomes(line(slow, cache=cache, patience=0.15)) == [("slow", "unreachable")]
    until = time.monotonic() + 10
    while (found := line(slow, cache=cache, patience=0.15)).attempts[0].outcome != "found" and time.monotonic() < until:
        time.sleep(0.05)
    assert len(slow.asked) == 1
    assert (found.attempts[0].outcome, found.attempts[0].cached) == ("found", True)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_side_by_side_takes_the_slowest_ones_time_not_the_sum(kind: str) -> None:
    services = [Fake("a", takes=0.3), Fake("b", takes=0.3), Fake("c", unreachable(), takes=0.3)]
    found = line(services, Fake("later"), kind=kind)
    begun = [service.at[0] for service in services]
    assert max(begun) - min(begun) < 0.3, "the last begins before the first has ended"
    assert outcomes(found) == [("a", "found"), ("b", "found"), ("c", "unreachable")]
    assert {passage.origin for passage in found.passages} == {"a", "b"}


def test_the_best_of_each_come_first() -> None:
    found = line([Fake("a", 2), Fake("b", 2)])
    assert [passage.score for passage in found.passages] == [1, 1, 0.5, 0.5]


# --- nothing twice


@pytest.mark.parametrize("kind", RUNTIMES)
def test_nothing_is_looked_up_twice(kind: str, cache: Cache) -> None:
    service = Fake("a")
    first = line(service, cache=cache, kind=kind, queries=["What?", "What?"])
    again = line(service, cache=cache, kind=kind, queries=["ＷＨＡＴ?"])
    assert len(service.asked) == 1
    assert [attempt.cached for attempt in first.attempts + again.attempts] == [False, True]
    assert again.passages == first.passages


def test_without_a_disk_nothing_is_looked_up_twice_either() -> None:
    service, memory = Fake("a"), Cache(None)
    for _ in range(2):
        found = line(service, cache=memory)
    assert len(service.asked) == 1
    assert found.attempts[0].cached


def test_what_was_found_is_believed_for_a_day_and_nothing_for_two_minutes(cache: Cache, clock: Clock) -> None:
    full, empty = Fake("full"), Fake("empty", 0)
    for wait, asked in ((0.0, (1, 1)), (119.0, (1, 1)), (2.0, (1, 2)), (24 * HOUR, (2, 3))):
        clock.now += wait
        line([full, empty], cache=cache)
        assert (len(full.asked), len(empty.asked)) == asked


def test_an_age_of_nothing_asks_each_time(cache: Cache, clock: Clock) -> None:
    service = Fake("a")
    for _ in range(2):
        clock.now += 1
        line(service, cache=cache, age=0)
    assert len(service.asked) == 2


@pytest.mark.parametrize("kind", RUNTIMES)
def test_the_same_question_at_once_is_asked_once(kind: str, cache: Cache) -> None:
    service = Fake("a", takes=0.2)

    async def work(runtime: Runtime) -> list[Findings]:
        searches = Searches([service], runtime=runtime, cache=cache)
        return await runtime.together([lambda: searches.retrieve(["x"], results=3, language="en")] * 3)

    found = run(kind, work)
    assert len(service.asked) == 1
    assert sorted(findings.attempts[0].cached for findings in found) == [False, True, True]


@pytest.mark.parametrize("kind", RUNTIMES)
def test_the_same_question_at_once_is_refused_once(kind: str, cache: Cache) -> None:
    service = Fake("a", limited(), takes=0.1)

    async def work(runtime: Runtime) -> list[Findings]:
        lines = [Searches([service], runtime=runtime, cache=cache) for _ in range(3)]
        return await runtime.together([partial(each.retrieve, ["x"], results=3, language="en") for each in lines])

    found = run(kind, work)
    assert len(service.asked) == 1
    assert sorted(findings.attempts[0].outcome for findings in found) == ["rate_limited", "skipped", "skipped"]


# --- stale, only where the service fails


def test_what_is_old_serves_only_where_the_service_fails(cache: Cache, clock: Clock) -> None:
    service = Fake("a", 1, 1, unreachable("a"))
    line(service, cache=cache)
    clock.now += 30 * HOUR
    assert not line(service, cache=cache).passages[0].stale, "the service was asked"
    clock.now += 30 * HOUR
    found = line(service, cache=cache)
    assert found.passages[0].stale
    assert (found.attempts[0].outcome, found.attempts[0].cached, found.attempts[0].hits) == ("unreachable", True, 1)
    clock.now += 7 * 24 * HOUR
    assert line(service, cache=cache).passages == (), "a week later it is forgotten"


def test_what_is_fresh_elsewhere_is_better_than_what_is_old(cache: Cache, clock: Clock) -> None:
    line(Fake("a"), cache=cache)
    clock.now += 30 * HOUR
    found = line(Fake("a", unreachable()), Fake("b"), cache=cache)
    assert [(passage.origin, passage.stale) for passage in found.passages] == [("b", False)]


def test_what_is_old_is_better_than_what_is_at_hand(cache: Cache, clock: Clock) -> None:
    line(Fake("a"), cache=cache)
    clock.now += 30 * HOUR
    found = line(Fake("a", unreachable()), Fake("near", leaves=False), cache=cache)
    assert [(passage.origin, passage.stale) for passage in found.passages] == [("a", True)]


def test_one_that_failed_still_gives_what_is_kept(cache: Cache) -> None:
    line(Fake("a"), cache=cache, queries=["known"])
    found = line(Fake("a", unreachable()), cache=cache, queries=["new", "known"])
    assert outcomes(found) == [("a", "unreachable"), ("a", "found")]


# --- spacing


class Fast(Blocking):
    """A runtime whose pauses set the clock instead of waiting."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.pauses = clock, list[float]()

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.clock.now += seconds


def test_two_questions_to_one_service_keep_their_distance(cache: Cache, clock: Clock) -> None:
    runtime = Fast(clock)
    service, other = Fake("a", 0, spacing=2.0), Fake("b", 0)
    searches = Searches([service, other], runtime=runtime, cache=cache)
    finish(searches.retrieve(["one", "two", "three"], results=3, language="en"))
    clock.now += 0.5
    another = Searches([service], runtime=runtime, cache=cache)  # as if it were another process: the file knows
    finish(another.retrieve(["four"], results=3, language="en"))
    finish(runtime.close())
    assert runtime.pauses == pytest.approx([2.0, 2.0, 1.5])
    assert len(other.asked) == 3


def test_a_turn_that_comes_too_late_is_left_out(cache: Cache, clock: Clock) -> None:
    service = Fake("a", spacing=60.0)
    found = line(service, cache=cache, queries=["one", "two"])
    assert outcomes(found) == [("a", "found"), ("a", "skipped")]
    assert len(service.asked) == 1


def test_red_control_without_spacing_nobody_waits(cache: Cache, clock: Clock) -> None:
    runtime = Fast(clock)
    searches = Searches([Fake("a", 0, spacing=0.0)], runtime=runtime, cache=cache)
    finish(searches.retrieve(["one", "two"], results=3, language="en"))
    finish(runtime.close())
    assert runtime.pauses == []


# --- left alone


def test_a_service_that_refuses_is_left_alone_longer_each_time(cache: Cache, clock: Clock) -> None:
    service = Fake("a", limited())
    for pause in (900.0, 1800.0, 3600.0, 3600.0):
        assert outcomes(line(service, cache=cache)) == [("a", "rate_limited")]
        clock.now += pause - 1
        found = line(service, cache=cache)
        assert outcomes(found) == [("a", "skipped")]
        assert "left alone for 1 s more" in found.attempts[0].error
        clock.now += 1
    assert len(service.asked) == 4
    service.says = [1, limited()]
    line(service, cache=cache)
    assert outcomes(line(service, cache=cache, queries=["another"])) == [("a", "rate_limited")]
    clock.now += 900
    assert outcomes(line(service, cache=cache, queries=["another"])) == [("a", "rate_limited")], "an answer makes all well again"


@pytest.mark.parametrize(("named", "wait"), [(7.0, 7.0), (0.0, 1.0), (10.0**9, 86400.0), ("soon", 900.0), (math.nan, 900.0)])
def test_a_service_that_says_how_long_is_left_alone_as_long(cache: Cache, clock: Clock, named: Any, wait: float) -> None:
    service = Fake("a", limited(named), 1)
    line(service, cache=cache)
    clock.now += wait - 0.5
    assert outcomes(line(service, cache=cache)) == [("a", "skipped")]
    clock.now += 1
    assert outcomes(line(service, cache=cache)) == [("a", "found")]


def test_three_failures_in_a_row_are_enough(cache: Cache, clock: Clock) -> None:
    service = Fake("a", SearchFault(provider="a", detail="HTTP 500"))
    tries = [outcomes(line(service, cache=cache))[0][1] for _ in range(5)]
    assert tries == ["failed"] * 3 + ["skipped"] * 2
    clock.now += 900
    assert outcomes(line(service, cache=cache)) == [("a", "failed")], "one more try after a quarter of an hour"
    assert outcomes(line(service, cache=cache)) == [("a", "skipped")]


def test_one_that_hung_three_times_is_left_alone(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "QUICK", 0.1)
    service = Fake("a", takes=30)
    tries = [outcomes(line(service, cache=cache, patience=0.2, queries=[str(n)]))[0][1] for n in range(4)]
    assert tries == ["unreachable"] * 3 + ["skipped"]


def test_a_cable_that_is_out_for_a_moment_shuts_nobody_out(cache: Cache) -> None:
    service = Fake("a", *[unreachable("a")] * 5, 1)
    tries = [outcomes(line(service, cache=cache))[0][1] for _ in range(6)]
    assert tries == ["unreachable"] * 5 + ["found"], "what costs no time may be tried again"


def test_red_control_the_breaker(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FAILURES", 1000)
    service = Fake("a", SearchFault(provider="a", detail="HTTP 500"))
    for _ in range(5):
        line(service, cache=cache)
    assert len(service.asked) == 5


def test_what_needs_no_network_is_never_left_alone(cache: Cache) -> None:
    service = Fake("a", SearchFault(provider="a", detail="x"), leaves=False)
    for _ in range(5):
        line(service, cache=cache)
    assert len(service.asked) == 5


# --- the first that answers from here


def test_without_a_choice_who_did_not_answer_is_asked_last_for_a_day(cache: Cache, clock: Clock) -> None:
    away, good, near = Fake("away", unreachable(), 1), Fake("good"), Fake("near", leaves=False)
    names = [
        [name for name, _ in outcomes(line(away, good, near, cache=cache, queries=[query], rearranged=True))]
        for query in ("one", "two")
    ]
    assert names == [["away", "good"], ["good"]]
    good.says = [0]
    assert [name for name, _ in outcomes(line(near, away, good, cache=cache, queries=["three"], rearranged=True))] == ["good", "away"]
    away.says = [unreachable()]
    line(away, cache=cache, queries=["four"])
    clock.now += 24 * HOUR + 1
    assert outcomes(line(away, good, cache=cache, queries=["five"], rearranged=True))[0][0] == "away"


def test_a_chosen_line_keeps_its_order(cache: Cache) -> None:
    away, good = Fake("away", unreachable()), Fake("good")
    for query in ("one", "two"):
        assert outcomes(line(away, good, cache=cache, queries=[query]))[0][0] == "away"


# --- who sees the question


@pytest.mark.parametrize("kind", RUNTIMES)
def test_the_user_is_told_before_a_service_sees_the_first_question(kind: str, cache: Cache) -> None:
    told: list[tuple[str, int]] = []
    service, near = Fake("a", 0, service="A (a.example)"), Fake("near", leaves=False)

    def tell(words: Words) -> None:
        told.append((words.en, len(service.asked)))
        assert "A (a.example)" in words.zh

    for query in ("one", "two"):
        line(service, near, cache=cache, kind=kind, tell=tell, queries=[query])
    assert told == [("your question is sent to A (a.example); --search offline keeps it on this machine", 0)]


def test_who_was_not_told_is_told_later(cache: Cache) -> None:
    told: list[Words] = []
    line(Fake("a"), cache=cache)
    line(Fake("a"), cache=cache, queries=["another"], tell=told.append)
    line(Fake("b", service=""), cache=cache, tell=told.append)
    assert len(told) == 1, "nobody sees the question that goes to b"


# --- somebody else's provider


class Async:
    name = "a"

    async def search(self, query: str, *, results: int) -> Sequence[Passage]:
        return []


class Nameless:
    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        return []


@pytest.mark.parametrize("provider", [Async(), Nameless(), object(), None])
def test_what_is_no_provider_is_refused_with_a_hint(provider: Any) -> None:
    with pytest.raises(UsageError) as caught:
        line(provider)
    assert caught.value.hint()
    assert "own_provider.py" in caught.value.hint() or "async" in caught.value.message()


@pytest.mark.parametrize("given", [None, "text", [1], {"a": 1}, Async], ids=str)
def test_what_gives_no_passages_has_failed(given: Any) -> None:
    class Odd:
        name = "odd"

        def search(self, query: str, *, results: int) -> Any:
            return given().search(query, results=results) if given is Async else given

    assert outcomes(line(Odd())) == [("odd", "failed")]


def test_one_that_gives_too_much_is_held_to_what_was_asked() -> None:
    assert len(line(Fake("a", 500)).passages) == 3


def test_the_shipped_texts_are_one_of_them() -> None:
    found = line(Offline(), queries=["What is the capital of France?"])
    assert found.passages[0].title == "France"
    assert found.passages[0].origin == "offline"


def test_ctrl_c_leaves_a_hanging_service() -> None:
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        line(Fake("hangs", takes=30), patience=20)
    assert time.monotonic() - began < 10
