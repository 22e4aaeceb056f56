"""What `doctor` says of search: which services there are, and, when told to ask them, which answer and in what time."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command_line import process

from orchestra.errors import KeyRefused, RateLimited, SearchUnreachable
from orchestra.instruments import searching
from orchestra.instruments.check import Check
from orchestra.retrieval.available import FACTORIES
from orchestra.retrieval.passages import Passage
from orchestra.runtime import Blocking, Looped, finish
from orchestra.settings import Settings
from orchestra.standin import StandIn


class Service:
    """A search service that says what it is told."""

    def __init__(self, name: str, says: Exception | float) -> None:
        self.name, self.says = name, says
        self.service = f"{name.title()} ({name}.example)"
        self.asked: list[str] = []
        self.at = 0.0

    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        self.asked.append(query)
        self.at = time.monotonic()
        if isinstance(self.says, Exception):
            raise self.says
        time.sleep(self.says)
        return [Passage(text="wet", title="Water", url="https://a.example")]


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> dict[str, Service]:
    """What stands in place of the web: two that answer, one after a while, and two that do not."""
    found = {
        "duckduckgo": Service("duckduckgo", RateLimited(provider="duckduckgo", detail="HTTP 202", seconds=900)),
        "brave": Service("brave", SearchUnreachable(provider="brave", detail="no connection")),
        "mojeek": Service("mojeek", 0.4),
        "wikipedia": Service("wikipedia", 0.4),
        "bocha": Service("bocha", KeyRefused(provider="bocha", detail="HTTP 401", variable="ORCHESTRA_BOCHA_KEY")),
    }
    for name in found:
        monkeypatch.setitem(FACTORIES, name, partial(lambda name, settings: found[name], name))
    return found


def ask(kind: str = "blocking", **settings: Any) -> dict[str, Check]:
    read = Settings.read(**{"search": "", **settings})
    checks = asyncio.run(searching.asked(read, Looped())) if kind == "looped" else finish(searching.asked(read, Blocking()))
    return {check.name: check for check in checks}


def test_nobody_is_asked_without_being_told_to(services: dict[str, Service]) -> None:
    (check,) = searching.ready_ones(Settings.read(search=""))
    assert check.ok
    assert re.search(r"duckduckgo, brave, mojeek, wikipedia; .*orchestra doctor --search.*'water'.*offline: \d+ texts", check.detail.en)
    assert "water" in check.detail.zh
    assert not any(service.asked for service in services.values())


@pytest.mark.parametrize("kind", ["looped", "blocking"])
def test_all_are_asked_at_once_and_each_says_how_it_went(services: dict[str, Service], kind: str) -> None:
    checks = ask(kind, bocha_key="k")
    begun = [service.at for service in services.values()]
    assert max(begun) - min(begun) < 0.4, "side by side"
    assert all(service.asked == ["water"] for service in services.values())
    assert {name: check.ok for name, check in checks.items()} == {
        "search": True, "search bocha": False, "search duckduckgo": False, "search brave": False, "search mojeek": True, "search wikipedia": True,
    }  # fmt: skip
    assert re.search(r"answer from here: \w+ \(\d\.\d s\), \w+ \(\d\.\d s\); each was asked for 'water'", checks["search"].detail.en)
    assert re.fullmatch(r"Wikipedia \(wikipedia.example\) answered in \d\.\d s", checks["search wikipedia"].detail.en)
    assert "ORCHESTRA_BOCHA_KEY" in checks["search bocha"].fix.en
    assert "HTTPS_PROXY" in checks["search brave"].fix.zh
    assert all(bool(check.fix.en) != check.ok and not check.required for check in checks.values())


def test_with_the_cable_out_it_ends_quickly_and_says_what_needs_none(services: dict[str, Service]) -> None:
    for service in services.values():
        service.says = SearchUnreachable(provider=service.name, detail="no connection")
    began = time.monotonic()
    checks = ask()
    assert time.monotonic() - began < 5
    assert not checks["search"].ok
    assert not checks["search"].required
    assert "--search offline" in checks["search"].fix.en
    assert "博查" in checks["search"].fix.zh


def test_one_that_hangs_takes_five_seconds_at_most(services: dict[str, Service], monkeypatch: pytest.MonkeyPatch) -> None:
    assert searching.PATIENCE == 5
    monkeypatch.setattr(searching, "PATIENCE", 0.2)
    services["wikipedia"].says = 30.0
    began = time.monotonic()
    assert "nothing within 0.2 s" in ask()["search wikipedia"].detail.en
    assert time.monotonic() - began < 10


def test_one_that_wants_to_be_left_alone_is(services: dict[str, Service]) -> None:
    ask()
    assert "left alone" in ask()["search duckduckgo"].detail.en
    assert services["duckduckgo"].asked == ["water"]
    assert services["wikipedia"].asked == ["water"] * 2, "and what was found before does not count"


def test_what_is_chosen_is_what_is_looked_at(services: dict[str, Service]) -> None:
    assert set(ask(search="mojeek,offline")) == {"search", "search mojeek"}
    assert searching.ready_ones(Settings.read(search="none"))[0].ok
    assert set(ask(search="offline")) == {"search"}


@pytest.mark.parametrize(("setting", "says"), [("bing", "bing"), ("tavily", "ORCHESTRA_TAVILY_KEY")])
def test_a_choice_that_cannot_be_is_a_failed_check(setting: str, says: str) -> None:
    for checks in (searching.ready_ones(Settings.read(search=setting)), list(ask(search=setting).values())):
        (check,) = checks
        assert not check.ok
        assert says in check.detail.en
        assert check.fix.en


def test_a_folder_without_texts_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "TEXTS", tmp_path)
    (check,) = searching.ready_ones(Settings.read(search=""))
    assert not check.ok
    assert check.fix.en


def test_doctor_with_search_as_a_process(standin: StandIn) -> None:
    done = process("doctor", "--search", "--json", OLLAMA_HOST=standin.url, ORCHESTRA_SEARCH="searxng", ORCHESTRA_SEARXNG="http://127.0.0.1:9")
    checks = {each["name"]: each for each in done.json["checks"]}
    assert not checks["search searxng"]["ok"]
    assert "no connection" in checks["search searxng"]["detail"]
    assert done.code == 0, "the main job can run"
