"""Search services in line: the first that gives something is enough, and no service is asked more than it can bear.

A line has steps. A step is one service, or several that are asked side by side, which takes the slowest one's time. What a
service gave is kept, so that nothing is looked up twice; one that refuses or fails is left alone for a while; and what goes
wrong is an `Attempt` of the findings, never an error: an answer without sources is better than none.
"""

from __future__ import annotations

import inspect
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from orchestra.errors import (
    BadResponse,
    KeyRefused,
    OrchestraError,
    RateLimited,
    SearchFault,
    SearchUnreachable,
    UsageError,
)
from orchestra.model.messages import Language
from orchestra.request import Broken
from orchestra.retrieval.cache import Cache, Standing, asked_key
from orchestra.retrieval.passages import Attempt, Findings, Outcome, Passage, SearchProvider
from orchestra.retrieval.web import COOL_DOWN, LONGEST_WAIT, said
from orchestra.runtime import Runtime
from orchestra.texts import Words

LONGEST_COOL_DOWN = 3600.0
FAILURES = 3  # in a row, after which a service is left alone
QUICK = 0.5  # seconds: to ask again where nothing answers costs no more than this
LEAST = 2.0  # seconds that a service has at least, while there is time
MOMENT = 0.1  # seconds in which nobody answers
LATELY = 60.0  # seconds for which what was waited for in vain is not waited for again
DAY = 86400.0
_FLIGHTS: dict[tuple[object, str], threading.Lock] = {}  # the questions on their way, of all lines in this process


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a line is asked: `patience` for one query in seconds, the `age` in seconds up to which kept results are as good.

    With `rearranged`, services that did not answer within the last day are asked last. `tell` is told which service is
    about to see a question, once per service and installation. `language` is that of the attempts' errors.
    """

    patience: float = 8.0
    age: float = DAY
    rearranged: bool = False
    tell: Callable[[Words], object] | None = None
    language: str = "en"


class _Trial(NamedTuple):
    attempt: Attempt
    passages: tuple[Passage, ...] = ()
    stale: tuple[Passage, ...] = ()  # what the service gave before, where it fails now


class _Given(NamedTuple):
    passages: tuple[Passage, ...]
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    query: str
    results: int
    language: Language
    failed: frozenset[str] = frozenset()  # the services that failed for the queries before it
    seconds: float = 0.0


class Searches:
    """A line of search services, as a place to look. A step of `line` is a provider, or several to be asked at once."""

    name = "search"

    def __init__(
        self,
        line: Sequence[SearchProvider | Sequence[SearchProvider]],
        *,
        runtime: Runtime,
        cache: Cache | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._line = [tuple(step) if isinstance(step, Sequence) else (step,) for step in line]
        for provider in self.providers:
            _checked(provider)
        self._runtime = runtime
        self._cache = cache or Cache()
        self._policy = policy or Policy()
        self._in_vain: dict[str, float] = {}  # when a service was last waited for in vain, by name
        self._lost = (-math.inf, 0.0)  # when nobody outside was reached, and the seconds that it took to know

    @property
    def providers(self) -> list[SearchProvider]:
        """All of the line, in order."""
        return [provider for step in self._line for provider in step]

    async def retrieve(self, queries: Sequence[str], *, results: int, language: Language) -> Findings:
        """What the line finds for the queries, at most `results` of each service and query, and what was tried for it."""
        attempts: list[Attempt] = []
        found: list[Passage] = []
        failed: frozenset[str] = frozenset()
        for query in dict.fromkeys(queries):
            began = time.monotonic()
            trials = await self._query(_Question(query=query, results=results, language=language, failed=failed))
            self._reached(trials, time.monotonic() - began)
            attempts += [trial.attempt for trial in trials]
            found += [passage for trial in trials for passage in trial.passages]
            failed |= {trial.attempt.name for trial in trials if trial.attempt.outcome not in ("found", "nothing", "skipped")}
        found.sort(key=lambda passage: -passage.score)
        return Findings(passages=tuple(found), attempts=tuple(attempts))

    def _reached(self, trials: Sequence[_Trial], seconds: float) -> None:
        """Where nobody outside was, what that took is gone from the patience of what follows: other words reach nobody either."""
        outside = {provider.name for provider in self.providers if leaves(provider)}
        reached = any(trial.attempt.outcome in ("found", "nothing") for trial in trials if trial.attempt.name in outside)
        if not reached and seconds >= QUICK:
            self._lost = (time.monotonic(), self._lost_lately() + seconds)

    def _lost_lately(self) -> float:
        when, seconds = self._lost
        return seconds if time.monotonic() - when < LATELY else 0.0

    async def _query(self, question: _Question) -> list[_Trial]:
        """One query, step by step, until one gives something; else what was kept from before.

        What a service once gave to the same query is better than what is on this machine by chance.
        """
        ends = time.monotonic() + self._policy.patience - self._lost_lately()
        line = await self._runtime.call(self._ordered)
        trials: list[_Trial] = []
        for place, step in enumerate(line):
            waiting = any(leaves(provider) for later in line[place + 1 :] for provider in later)
            local = not any(map(leaves, step))
            if local and any(trial.stale for trial in trials):
                break
            asked = replace(question, seconds=LEAST if local else _share(ends - time.monotonic(), waiting=waiting))
            jobs = [partial(self._tried, provider, asked) for provider in step]
            tried = await self._runtime.together(jobs) if len(jobs) > 1 else [await job() for job in jobs]
            trials += tried
            if any(trial.passages for trial in tried):
                return trials
        for place, trial in enumerate(trials):
            if trial.stale:
                attempt = replace(trial.attempt, hits=len(trial.stale), cached=True)
                trials[place] = _Trial(attempt, trial.stale)
                break
        return trials

    def _ordered(self) -> list[tuple[SearchProvider, ...]]:
        """The line; where it may be, with those at its end that lately did not answer. What needs no network stays last."""
        if not self._policy.rearranged:
            return self._line
        now = self._cache.clock()

        def away(step: tuple[SearchProvider, ...]) -> int:
            if not any(leaves(provider) for provider in step):
                return 2
            standings = [self._cache.standing(provider.name) for provider in step]
            return int(all(0 <= now - each.away < DAY and each.away > each.answered for each in standings))

        return sorted(self._line, key=away)

    async def _tried(self, provider: SearchProvider, question: _Question) -> _Trial:
        """One query put to one service, whatever comes of it."""
        started = time.monotonic()
        try:
            given = await self._given(provider, question)
        except _Skipped as skipped:
            outcome: Outcome = "skipped"
            error = skipped.why.text(self._policy.language)
        except OrchestraError as raised:
            outcome, error = _outcome(raised), raised.message(self._policy.language)
            if outcome == "unreachable" and time.monotonic() - started >= QUICK:
                self._in_vain[provider.name] = time.monotonic()
        else:
            outcome = "found" if given.passages else "nothing"
            return _Trial(self._attempt(provider, question, outcome, started, given), given.passages)
        kept = await self._runtime.call(lambda: self._cache.found(_key(provider, question)))
        attempt = self._attempt(provider, question, outcome, started, _Given(()))
        return _Trial(replace(attempt, error=error), stale=kept.stale() if kept and leaves(provider) else ())

    def _attempt(self, provider: SearchProvider, question: _Question, outcome: Outcome, started: float, given: _Given) -> Attempt:
        return Attempt(
            name=provider.name,
            query=question.query,
            outcome=outcome,
            hits=len(given.passages),
            seconds=round(time.monotonic() - started, 3),
            cached=given.cached,
        )

    async def _given(self, provider: SearchProvider, question: _Question) -> _Given:
        """From what is kept, else from the service, when it is its turn."""
        if not leaves(provider):
            return await self._within(provider, lambda: _Given(_searched(provider, question)), question.seconds)
        kept = await self._runtime.call(lambda: self._cache.found(_key(provider, question)))
        if kept and kept.fresh(self._policy.age):
            return _Given(kept.passages, cached=True)
        in_vain = time.monotonic() - self._in_vain.get(provider.name, -math.inf) < LATELY
        if provider.name in question.failed or in_vain:  # a second round does not wait for it once more
            raise _Skipped(Words("it failed a moment ago", "刚刚失败过"))
        wait = await self._runtime.call(lambda: self._admitted(provider, question))
        await self._told(provider)
        if wait > 0:
            await self._runtime.pause(wait)
        timed = replace(question, seconds=question.seconds - wait)
        return await self._within(provider, lambda: self._alone(provider, timed), timed.seconds)

    async def _within(self, provider: SearchProvider, work: Callable[[], _Given], seconds: float) -> _Given:
        try:
            return await self._runtime.aside(work, seconds=seconds)
        except Broken:
            error = SearchUnreachable(provider=provider.name, **said(f"nothing within {seconds:.3g} s", f"{seconds:.3g} 秒内没有应答"))
        await self._runtime.call(lambda: self._failed(provider, error, seconds))
        raise error

    def _admitted(self, provider: SearchProvider, question: _Question) -> float:
        """How many seconds to wait for its turn; raises `_Skipped` where that would be too long."""
        self._left_alone(provider)
        spacing = getattr(provider, "spacing", 0.0)
        wait = self._cache.turn(provider.name, spacing) - self._cache.clock() if spacing else 0.0
        if wait + MOMENT >= question.seconds:
            raise _Skipped(Words("no time is left for it", "没有剩余时间"))
        return wait

    def _left_alone(self, provider: SearchProvider) -> None:
        """Raises `_Skipped` while the service is not to be asked."""
        left = self._cache.standing(provider.name).until - self._cache.clock()
        if 0 < left <= LONGEST_WAIT:
            raise _Skipped(Words(f"left alone for {left:.0f} s more", f"{left:.0f} 秒内不再询问"))

    async def _told(self, provider: SearchProvider) -> None:
        """Says, before a service sees its first question, that it will."""
        service = service_of(provider)
        if self._policy.tell is None or not service:
            return
        untold: bool = await self._runtime.call(lambda: self._cache.untold(service))
        if untold:
            self._policy.tell(seen_by(service))
            await self._runtime.call(lambda: self._cache.told(service))

    def _alone(self, provider: SearchProvider, question: _Question) -> _Given:
        """Asks the service; the same question asked twice at once is asked once, and the other one finds it kept."""
        key = _key(provider, question)
        flight = _FLIGHTS.setdefault((self._cache.place, key), threading.Lock())
        if not flight.acquire(timeout=question.seconds):
            raise SearchUnreachable(provider=provider.name, **said("the same question still waits", "同一查询仍在等待"))
        try:
            kept = self._cache.found(key)
            if kept and kept.fresh(self._policy.age):
                return _Given(kept.passages, cached=True)
            self._left_alone(provider)  # the one before may have been refused
            return _Given(self._asked(provider, question, key))
        finally:
            _FLIGHTS.pop((self._cache.place, key), None)
            flight.release()

    def _asked(self, provider: SearchProvider, question: _Question, key: str) -> tuple[Passage, ...]:
        """What the service gives now, kept; also when it comes too late for this time."""
        started = time.monotonic()
        try:
            passages = _searched(provider, question)
        except SearchFault as error:
            seconds = time.monotonic() - started
            if seconds < question.seconds:  # else it was given up, and counted then
                self._failed(provider, error, seconds)
            raise
        now = self._cache.clock()
        self._cache.keep(key, passages)
        self._cache.stands(provider.name, lambda _: Standing(answered=now))
        return passages

    def _failed(self, provider: SearchProvider, error: SearchFault, seconds: float) -> None:
        """Leaves a service alone that wants it, or that failed several times in a row."""
        now = self._cache.clock()

        def change(old: Standing) -> Standing:
            if isinstance(error, RateLimited):
                named: Any = error.facts.get("retry_after")
                pause = min(LONGEST_COOL_DOWN, 2 * old.pause or COOL_DOWN)
                said_so = isinstance(named, int | float) and math.isfinite(named)
                wait = min(max(float(named), 1.0), LONGEST_WAIT) if said_so else pause
                return replace(old, until=now + wait, pause=pause)
            away = isinstance(error, SearchUnreachable)
            if away and seconds < QUICK:  # the cable may be back at any moment
                return replace(old, away=now)
            failures = old.failures + 1
            until = now + COOL_DOWN if failures >= FAILURES else old.until
            return replace(old, failures=failures, until=until, away=now if away else old.away)

        self._cache.stands(provider.name, change)


class _Skipped(Exception):
    """The service was not asked."""

    def __init__(self, why: Words) -> None:
        super().__init__(why.en)
        self.why = why


def leaves(provider: SearchProvider) -> bool:
    """Whether a question to it leaves this machine; one that does not say is taken to send it."""
    return bool(getattr(provider, "leaves", True))


def service_of(provider: SearchProvider) -> str:
    """Who sees the question, for people; nobody where it is empty."""
    return str(getattr(provider, "service", provider.name))


def seen_by(service: str) -> Words:
    """What to say before a service sees its first question."""
    return Words(
        f"your question is sent to {service}; --search offline keeps it on this machine",
        f"您的问题将发送给 {service}；用 --search offline 可不离开本机",
    )


def _checked(provider: Any) -> None:
    """Raises `UsageError` for what is no provider."""
    name, search = getattr(provider, "name", None), getattr(provider, "search", None)
    kind = type(provider).__name__
    if not isinstance(name, str) or not name or not callable(search):
        raise UsageError(
            detail=f"{kind} is no search provider: it needs a name and a search(query, *, results)",
            detail_zh=f"{kind} 不是搜索服务：需要 name 和 search(query, *, results)",
            fix="docs/examples/own_provider.py is one", fix_zh="可参考 docs/examples/own_provider.py",
        )  # fmt: skip
    if inspect.iscoroutinefunction(search):
        raise UsageError(
            detail=f"the search of {kind} is async",
            detail_zh=f"{kind} 的 search 是异步函数",
            fix="make it a plain def: it runs in a thread of its own and may block",
            fix_zh="请改为普通 def：它在独立线程中运行，可以阻塞",
        )  # fmt: skip


def _searched(provider: SearchProvider, question: _Question) -> tuple[Passage, ...]:
    """What a provider gives, held to what it promised."""
    given: Any
    try:
        given = provider.search(question.query, results=question.results)
    except OrchestraError:
        raise
    except Exception as error:  # a provider may be anybody's code; what its error says may hold its key
        raise SearchFault(provider=provider.name, **said(type(error).__name__)) from None
    if not isinstance(given, Sequence) or not all(isinstance(each, Passage) for each in given):
        if inspect.iscoroutine(given):
            given.close()
        raise BadResponse(provider=provider.name, **said("no sequence of passages", "不是 Passage 的序列"))
    return tuple(each if each.origin else replace(each, origin=provider.name) for each in given[: question.results])


def _key(provider: SearchProvider, question: _Question) -> str:
    whom = f"{provider.name} {getattr(provider, 'source', service_of(provider))}"
    return asked_key(whom, question.query, question.results, question.language)


def _share(left: float, *, waiting: bool) -> float:
    """The time of one step: half of what is left while others wait, but no less than a service needs."""
    return max(0.0, min(left, max(left / 2, LEAST)) if waiting else left)


def _outcome(error: OrchestraError) -> Outcome:
    match error:
        case UsageError():
            return "skipped"
        case RateLimited():
            return "rate_limited"
        case SearchUnreachable():
            return "unreachable"
        case KeyRefused():
            return "key_refused"
        case _:
            return "failed"
