"""DuckDuckGo and a few other search engines, by the `ddgs` package, one engine at a time.

Its `DDGS` says "No results found." of an empty page, of a refusal (HTTP 202, 429, 403) and of a challenge alike. An engine
that is asked by itself shows its page and its status, and the three are told apart here. Where `duckduckgo_search` alone is
installed, under which name the package was known before, that is taken; of it only the exception is to be seen.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from lxml.etree import LxmlError  # type: ignore[import-untyped]

from orchestra.errors import BadResponse, ExtraMissing, SearchFault, SearchUnreachable
from orchestra.model.language import language_of
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.providers.hits import Hit, passages, sendable
from orchestra.retrieval.web import limited, said

REGIONS = {"zh": "cn-zh", "en": "us-en"}
SERVICES = {
    "duckduckgo": "DuckDuckGo (html.duckduckgo.com)",
    "brave": "Brave Search (search.brave.com)",
    "mojeek": "Mojeek (www.mojeek.com)",
    "yahoo": "Yahoo (search.yahoo.com)",
    "startpage": "Startpage (www.startpage.com)",
}
BLOCKED = (202, 403, 418, 429)
_CHALLENGES = ("anomaly", "challenge", "captcha", "unusual traffic", "are you a human", "not a robot")
_EMPTY = ("no-results", "no results", "no  results", "did not match any", "no pages found", "not find any results", "not find results")
_ADDRESS = re.compile(r"https?://\S+")
_SEEN = 200_000  # characters of a page in which its signs are looked for


class Searcher(Protocol):
    """What both packages have in common."""

    def text(self, query: str, /, *, region: str, max_results: int, backend: str) -> list[dict[str, Any]]: ...


class DuckDuckGo:
    """Asks one engine - DuckDuckGo itself, or another of `SERVICES` - as a browser would, without a key.

    `ddgs_factory` makes what is asked, given the patience in seconds: something with the `text` of `DDGS`.
    """

    spacing = 2.0  # seconds between two questions: who asks faster is shut out for hours

    def __init__(
        self, engine: str = "duckduckgo", *, seconds: float = 8.0, ddgs_factory: Callable[[int], Searcher] | None = None
    ) -> None:
        self.name = engine
        self.service = SERVICES[engine]
        self._seconds = max(1, round(seconds))
        self._factory = ddgs_factory or searcher

    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        """What the engine found, best first; raises `RateLimited` where it refused, answers no program or gave an empty page."""
        text = sendable(query)
        try:
            found = self._factory(self._seconds).text(
                text, region=REGIONS[language_of(text)], max_results=results, backend=self.name
            )
        except (SearchFault, ExtraMissing):
            raise
        except (RuntimeError, ValueError, LxmlError, *_errors()) as error:
            raise self._meant(error) from None
        if not isinstance(found, list):
            raise BadResponse(provider=self.name, **said("no list of results", "不是结果列表"))
        hits = (Hit(row.get("title"), row.get("href"), row.get("body")) for row in found if isinstance(row, dict))
        return passages(self.name, hits, results=results)

    def _meant(self, error: Exception) -> SearchFault:
        """The error of a package as ours: its text may be an address or a page, so it is read and not repeated."""
        text = _ADDRESS.sub("", f"{type(error).__name__} {error}").lower()  # an address may have the question's words in it
        if "return none" in text:
            return SearchFault(provider=self.name, **said("another status than 200", "状态码不是 200"))
        if "ratelimit" in text or any(f" {status} " in f"{text} " for status in BLOCKED):
            limited(self.name, said("it refuses programs for now", "目前拒绝程序访问"))
        if "no results" in text or text.endswith(" none"):  # a package's own `DDGS`, which says the same of both
            limited(self.name, said("nothing came, and whether it refused is not to be seen", "没有结果，无法得知是否被拒绝"))
        if "timed out" in text or "timeout" in text:
            return SearchUnreachable(provider=self.name, **said(f"nothing within {self._seconds} s", f"{self._seconds} 秒内没有应答"))
        if "connect" in text or "request" in text or "dns" in text:
            return SearchUnreachable(provider=self.name, **said("no connection", "无法连接"))
        return SearchFault(provider=self.name, **said(type(error).__name__))


class _Engines:
    """`DDGS.text` over one engine, whose pages are seen."""

    def __init__(self, engines: dict[str, Any], seconds: int) -> None:
        self._engines, self._seconds = engines, seconds

    def text(self, query: str, /, *, region: str, max_results: int, backend: str) -> list[dict[str, Any]]:
        if backend not in self._engines:
            raise SearchFault(provider=backend, **said("the installed ddgs has no such engine any more", "已安装的 ddgs 不再有此引擎"))
        engine = self._engines[backend](timeout=self._seconds)
        pages: list[tuple[int, str]] = []
        ask = engine.http_client.request

        def seen(*given: Any, **named: Any) -> Any:
            page = ask(*given, **named)
            pages.append((page.status_code, page.text))
            return page

        engine.http_client.request = seen
        try:
            found = engine.search(query, region=region)
        except LxmlError:  # a page without anything in it
            found = None
        if not found:
            judge(backend, *(pages[-1] if pages else (0, "")))
        return [{"title": each.title, "href": each.href, "body": each.body} for each in found or []][:max_results]


class _Unseen:
    """A package's own `DDGS`, of which only what it returns is seen."""

    def __init__(self, package: Searcher) -> None:
        self._package = package

    def text(self, query: str, /, *, region: str, max_results: int, backend: str) -> list[dict[str, Any]]:
        found = self._package.text(query, region=region, max_results=max_results, backend=backend)
        return found or limited(backend, said("nothing came, and whether it refused is not to be seen", "没有结果，无法得知是否被拒绝"))


def judge(engine: str, status: int, page: str) -> None:
    """Whether a page without results is an answer: it is one where it says so itself, else `RateLimited` is raised."""
    text = page[:_SEEN].lower()
    if status in BLOCKED:
        limited(engine, said(f"HTTP {status}"))
    if status != 200:
        raise SearchFault(provider=engine, **said(f"HTTP {status}"))
    if any(sign in text for sign in _EMPTY):
        return
    if any(sign in text for sign in _CHALLENGES):
        limited(engine, said("it wants to be shown a human", "要求人机验证"))
    if not text.strip():
        limited(engine, said("an empty page", "空白页面"))
    limited(engine, said("a page that has neither results nor says that there are none", "页面既无结果，也未说明没有结果"))


def searcher(seconds: int) -> Searcher:
    """Somebody to ask, of the package that is installed. Raises `ExtraMissing` where there is none."""
    if find_spec("ddgs"):
        try:
            return _Engines(import_module("ddgs.engines").ENGINES["text"], seconds)
        except (ImportError, AttributeError, KeyError):  # not laid out as 9.16 is
            return _named("ddgs", seconds)
    if find_spec("duckduckgo_search"):
        return _named("duckduckgo_search", seconds)
    raise ExtraMissing(feature="DuckDuckGo", extra="knowledge")


def _named(package: str, seconds: int) -> Searcher:
    # the old package changes the process's warning filters when it is made, and warns each time that it was renamed
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        made: Searcher = import_module(package).DDGS(timeout=seconds)
    return _Unseen(made)


def _errors() -> tuple[type[Exception], ...]:
    """The exceptions of the packages that were loaded."""
    found: list[type[Exception]] = []
    for module, error in (("ddgs.exceptions", "DDGSException"), ("duckduckgo_search.exceptions", "DuckDuckGoSearchException")):
        kind = getattr(sys.modules.get(module), error, None)
        if isinstance(kind, type):
            found.append(kind)
    return tuple(found)
