"""The sync face has every method of the async one, with its signature and its words."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest

from orchestra import AsyncOrchestra, AsyncSession, Orchestra, Session
from orchestra.instruments.asking import AsyncInstruments, Instruments
from orchestra.model.asking import AsyncModels, Models
from orchestra.retrieval.knowledge.library import AsyncKnowledgeBases, KnowledgeBases

PAIRS = [(AsyncModels, Models), (AsyncInstruments, Instruments), (AsyncOrchestra, Orchestra), (AsyncSession, Session), (AsyncKnowledgeBases, KnowledgeBases)]
LOOP_ONLY = {"__aenter__", "__aexit__"}


def public(cls: type[Any]) -> dict[str, Any]:
    return {name: value for name, value in vars(cls).items() if callable(value) and not name.startswith("_")}


def lacking(many: type[Any], few: type[Any]) -> Iterator[str]:
    """What the second class lacks or has otherwise."""
    for name, method in public(many).items():
        twin = public(few).get(name)
        if twin is None:
            yield f"{few.__name__}.{name} is missing"
            continue
        ours, theirs = inspect.signature(method), inspect.signature(twin)
        if list(ours.parameters.values()) != list(theirs.parameters.values()):
            yield f"{few.__name__}.{name} takes {theirs}, not {ours}"
        if inspect.getdoc(method) != inspect.getdoc(twin):
            yield f"{few.__name__}.{name} says something else"


@pytest.mark.parametrize(("many", "few"), PAIRS)
def test_the_sync_face_is_complete(many: type[Any], few: type[Any]) -> None:
    assert list(lacking(many, few)) == []


@pytest.mark.parametrize(("many", "few"), PAIRS)
def test_it_has_nothing_of_its_own(many: type[Any], few: type[Any]) -> None:
    assert set(public(few)) <= set(public(many))


def test_a_method_that_is_forgotten_is_noticed() -> None:
    class More(AsyncSession):
        async def summary(self, words: int) -> str:
            """In few words."""
            return ""

    class Other(Session):
        def summary(self, words: str) -> str:
            """In few words."""
            return ""

    class Same(Session):
        def summary(self, words: int) -> str:
            """In few words."""
            return ""

    assert list(lacking(More, Session)) == ["Session.summary is missing"]
    assert len(list(lacking(More, Other))) == 1
    assert list(lacking(More, Same)) == []


@pytest.mark.parametrize(("many", "few"), PAIRS)
def test_nothing_async_is_left_in_the_sync_face(many: type[Any], few: type[Any]) -> None:
    for name, method in public(few).items():
        original = public(many)[name]
        assert not inspect.iscoroutinefunction(method), name
        assert not inspect.isasyncgenfunction(method), name
        if inspect.isasyncgenfunction(original):
            assert inspect.isgeneratorfunction(inspect.unwrap(method, stop=inspect.isgeneratorfunction)), name


def test_it_is_a_context_like_the_other() -> None:
    assert set(vars(AsyncOrchestra)) >= LOOP_ONLY
    assert set(vars(Orchestra)) >= {"__enter__", "__exit__"}


@pytest.mark.parametrize("cls", [cls for pair in PAIRS for cls in pair])
def test_a_class_stays_small(cls: type[Any]) -> None:
    assert len(public(cls)) <= 12
