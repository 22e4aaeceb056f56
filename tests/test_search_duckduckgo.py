"""DuckDuckGo by either of two packages: one contract for both, and what a page without results means."""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
from services import Service, Told, running_service  # noqa: F401 - fixture

from orchestra.errors import ExtraMissing, OrchestraError, RateLimited, SearchFault, SearchUnreachable
from orchestra.retrieval.providers import duckduckgo
from orchestra.retrieval.providers.duckduckgo import SERVICES, DuckDuckGo, judge

ROWS = [
    {"title": "Paris", "href": "https://a.example/paris", "body": "The capital of France."},
    {"title": "An advertisement", "href": "javascript:x", "body": "x"},
    {"title": "Lyon", "href": "https://a.example/lyon", "body": "A city."},
]


class Package:
    """Either package's `DDGS`, as a fake: what it was asked, and what it says."""

    def __init__(self, says: Any) -> None:
        self.says = says
        self.asked: list[dict[str, Any]] = []

    def text(self, query: str, /, *, region: str, max_results: int, backend: str) -> list[dict[str, Any]]:
        self.asked.append({"query": query, "region": region, "max_results": max_results, "backend": backend})
        if isinstance(self.says, Exception):
            raise self.says
        return list(self.says)


class New(Exception):
    """DDGSException."""


class Old(Exception):
    """DuckDuckGoSearchException."""


PACKAGES = {"ddgs": ("DDGSException", New), "duckduckgo_search": ("DuckDuckGoSearchException", Old)}


@pytest.fixture(params=PACKAGES)
def failure(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Exception]:
    """The exception of the package that is installed in this test, which is one of the two."""
    name, kind = PACKAGES[request.param]
    package, exceptions = ModuleType(request.param), ModuleType(f"{request.param}.exceptions")
    setattr(exceptions, name, kind)
    monkeypatch.setitem(sys.modules, request.param, package)
    monkeypatch.setitem(sys.modules, f"{request.param}.exceptions", exceptions)
    return kind


def provider(says: Any, engine: str = "duckduckgo") -> tuple[DuckDuckGo, Package]:
    package = Package(says)
    return DuckDuckGo(engine, ddgs_factory=lambda seconds: package), package


# --- one contract for both packages


def test_what_it_finds(failure: type[Exception]) -> None:
    asked, package = provider(ROWS)
    found = asked.search("What is the capital of France?", results=3)
    assert [(each.title, each.url, each.text, each.score) for each in found] == [
        ("Paris", "https://a.example/paris", "The capital of France.", 1.0),
        ("Lyon", "https://a.example/lyon", "A city.", 0.5),
    ]
    assert package.asked == [{"query": "What is the capital of France?", "region": "us-en", "max_results": 3, "backend": "duckduckgo"}]


def test_the_region_follows_the_question(failure: type[Exception]) -> None:
    asked, package = provider(ROWS, "brave")
    asked.search("法国的首都是哪里", results=1)
    assert (package.asked[0]["region"], package.asked[0]["backend"]) == ("cn-zh", "brave")


SAYINGS: list[tuple[str, type[OrchestraError]]] = [
    ("No results found.", RateLimited),  # which of the two it is cannot be seen of the package's own words
    ("None", RateLimited),
    ("https://html.duckduckgo.com/html 202 Ratelimit", RateLimited),
    ("https://www.bing.com/search 429 x", RateLimited),
    ("https://x 403 Ratelimit", RateLimited),
    ("operation timed out", SearchUnreachable),
    ("TimeoutError: request timed out", SearchUnreachable),
    ("ConnectError: ConnectError('error sending request for url')", SearchUnreachable),
    ("dns error: failed to lookup address", SearchUnreachable),
    ("ConnectError: error sending request for url (https://search.brave.com/search?q=ratelimit+timeout)", SearchUnreachable),
    ("https://www.bing.com/search?q=connect return None. params={'q': 'connect'}", SearchFault),
    ("something else", SearchFault),
]


@pytest.mark.parametrize(("saying", "kind"), SAYINGS)
def test_what_goes_wrong_is_told_apart(failure: type[Exception], saying: str, kind: type[OrchestraError]) -> None:
    asked, package = provider(failure(saying))
    with pytest.raises(kind) as caught:
        asked.search("x", results=1)
    assert type(caught.value) is kind
    assert len(package.asked) == 1, "a refusal is not asked again"
    assert "http" not in caught.value.message().replace("HTTP", "")


# --- which package is taken


def absent(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(duckduckgo, "find_spec", lambda name: None if name in names else find_spec(name))


class OldPackage(Package):
    """The old package is not quiet: it changes the filters of the whole process and warns of its name."""

    def __init__(self, *, timeout: int) -> None:
        super().__init__(ROWS)
        warnings.simplefilter("always")
        warnings.warn("renamed to ddgs", RuntimeWarning, stacklevel=1)


@pytest.fixture
def old_package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("duckduckgo_search")
    module.DDGS = OldPackage  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "duckduckgo_search", module)
    monkeypatch.setattr(duckduckgo, "find_spec", lambda name: None if name == "ddgs" else True)
    return module


def test_the_old_package_is_taken_where_it_alone_is_installed(old_package: ModuleType) -> None:
    before = list(warnings.filters)
    assert len(DuckDuckGo().search("x", results=3)) == 2
    assert warnings.filters == before, "its warning filters are undone"


def test_of_the_old_package_nothing_may_be_a_refusal(old_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OldPackage, "text", lambda self, query, **named: [])
    with pytest.raises(RateLimited, match="not to be seen"):
        DuckDuckGo().search("x", results=3)


def test_without_either_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    absent(monkeypatch, "ddgs", "duckduckgo_search")
    with pytest.raises(ExtraMissing):
        DuckDuckGo().search("x", results=3)


def test_a_ddgs_that_is_laid_out_otherwise_is_used_by_its_face(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("ddgs")
    package.DDGS = lambda timeout: Package(ROWS)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ddgs", package)
    monkeypatch.setitem(sys.modules, "ddgs.engines", ModuleType("ddgs.engines"))
    monkeypatch.setattr(duckduckgo, "find_spec", lambda name: True)
    assert len(DuckDuckGo().search("x", results=3)) == 2


# --- the installed package, its engine sent to a server on this machine

RESULT = """<html><body><div class="links_main links_deep result__body"><h2 class="result__title"><a href="https://a.example/paris">Paris</a></h2>
<a href="https://a.example/paris">The capital of France.</a></div></body></html>"""
CHALLENGE = '<form id="challenge-form"><div class="anomaly-modal__title">Unfortunately, bots use DuckDuckGo too.</div></form>'
NONE = '<div class="no-results">No  results.</div>'
PAGES: dict[str, tuple[Told, type[OrchestraError] | int]] = {
    "results": (Told(200, RESULT.encode()), 1),
    "none": (Told(200, NONE.encode()), 0),
    "202": (Told(202, CHALLENGE.encode()), RateLimited),
    "202 empty": (Told(202, b""), RateLimited),
    "429": (Told(429, b""), RateLimited),
    "403": (Told(403, b"Forbidden"), RateLimited),
    "empty": (Told(200, b""), RateLimited),
    "challenge": (Told(200, CHALLENGE.encode()), RateLimited),
    "another page": (Told(200, b"<html><body>Hello</body></html>"), RateLimited),
    "500": (Told(500, b"oops"), SearchFault),
    "silence": (Told(hang=True), SearchUnreachable),
}


@pytest.fixture
def engine(service: Service, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The engine of the installed ddgs asks a server on this machine: its HTTP library is seen by no guard of the tests."""
    from ddgs.engines.duckduckgo import Duckduckgo

    monkeypatch.setattr(Duckduckgo, "search_url", service.url + "/html/")
    return service


@pytest.mark.parametrize("page", PAGES)
def test_a_page_without_results_is_a_refusal_unless_it_says_otherwise(engine: Service, page: str) -> None:
    engine.told, meant = PAGES[page]
    asked = DuckDuckGo(seconds=1)
    if isinstance(meant, int):
        assert len(asked.search("What is the capital of France?", results=3)) == meant
    else:
        with pytest.raises(meant) as caught:
            asked.search("What is the capital of France?", results=3)
        assert type(caught.value) is meant
    assert len(engine.seen) == 1, "asked once"
    assert "q=What+is+the+capital+of+France" in engine.seen[0].body.decode()
    assert "l=us-en" in engine.seen[0].body.decode()


def test_nobody_there_is_unreachable(engine: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddgs.engines.duckduckgo import Duckduckgo

    monkeypatch.setattr(Duckduckgo, "search_url", "http://127.0.0.1:9/")
    with pytest.raises(SearchUnreachable):
        DuckDuckGo(seconds=1).search("x", results=3)


def test_red_control_without_a_look_at_the_page_a_refusal_is_nothing_found(engine: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duckduckgo, "judge", lambda *_: None)
    engine.told = PAGES["202"][0]
    assert DuckDuckGo(seconds=1).search("x", results=3) == []


def test_every_engine_is_one_of_the_installed_package() -> None:
    from ddgs.engines import ENGINES

    assert set(SERVICES) <= set(ENGINES["text"])


@pytest.mark.parametrize("words", ["did not match any documents", "No pages found", "We did not find results for", "No results found"])
def test_what_other_engines_say_of_nothing(words: str) -> None:
    judge("brave", 200, f"<p>{words}</p>")


def test_an_engine_that_the_package_dropped_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    import ddgs.engines

    monkeypatch.setattr(ddgs.engines, "ENGINES", {"text": {}})
    with pytest.raises(SearchFault, match="no such engine"):
        DuckDuckGo("brave").search("x", results=1)


