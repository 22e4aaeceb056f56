"""Where a question is looked up, as callers name it: services by name, an object of their own, or several of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict, cast

from orchestra.retrieval.available import FILE, NONE, searches
from orchestra.retrieval.cache import Cache
from orchestra.retrieval.ledger import Strategy, Trace
from orchestra.retrieval.passages import Retriever, SearchProvider
from orchestra.retrieval.search import Policy, Searches
from orchestra.runtime import Runtime
from orchestra.settings import Settings
from orchestra.texts import Words

Place = str | SearchProvider | Retriever
Tell = Callable[[Words], object]


class HowFields(TypedDict, total=False):
    """How something is looked up: the most sources, whether their pages are read, who is told each step.

    `tell` is told which service will see the question, before it does.
    """

    results: int
    pages: bool
    trace: Trace
    tell: Tell


class LookupFields(HowFields, total=False):
    """What a session takes that looks things up before each answer; the words of `Orchestra.ask`."""

    search: Place | Sequence[Place]
    knowledge: str | Sequence[str]
    strategy: Strategy


def places(
    search: Place | Sequence[Place], settings: Settings, runtime: Runtime, *, tell: Tell | None = None
) -> tuple[Retriever, ...]:
    """The places that `search` means: names as `--search` takes them ("" = the default, "none" = nowhere), objects as they are.

    Several are asked at once. `tell` is called with what to say before a service sees its first question. Raises `UsageError`
    for an unknown name and for an object that cannot search, `ConfigError` for a missing key or address.
    """
    named = [search] if isinstance(search, str) or not isinstance(search, Sequence) else search
    found: list[Retriever] = []
    for one in named:
        if isinstance(one, str):
            if one.strip().lower() != NONE:
                found.append(searches(settings, one, runtime, tell=tell))
        elif hasattr(one, "retrieve"):
            found.append(cast(Retriever, one))
        else:
            policy = Policy(patience=settings.search_timeout, age=settings.search_age, tell=tell)
            found.append(Searches([one], runtime=runtime, cache=Cache(settings.folder() / FILE), policy=policy))
    return tuple(found)
