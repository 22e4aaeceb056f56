"""Which search services there are, and which of them are asked: the chosen ones, or the first that answers from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from orchestra.errors import ConfigError, UsageError
from orchestra.retrieval.cache import Cache
from orchestra.retrieval.offline import Offline
from orchestra.retrieval.passages import SearchProvider
from orchestra.retrieval.providers.bocha import Bocha
from orchestra.retrieval.providers.google import ENDING, Google
from orchestra.retrieval.providers.searxng import SearXNG
from orchestra.retrieval.providers.tavily import Tavily
from orchestra.retrieval.providers.wikipedia import Wikipedia
from orchestra.retrieval.search import Policy, Searches
from orchestra.runtime import Runtime
from orchestra.settings import Settings, table
from orchestra.texts import Words, interface_language

FILE = "search.db"
NONE = "none"
ANY = "any"  # the same as no choice, for where knowledge alone would be looked into
# What is tried without a choice: what was set up, then what needs no key, at last what needs no network.
SET_UP = ("searxng", "bocha", "tavily", "feeds")
WITHOUT_KEY = ("duckduckgo", "brave", "mojeek", "wikipedia", "offline")

Factory = Callable[[Settings], SearchProvider]


def searches(
    settings: Settings, names: str, runtime: Runtime, *, tell: Callable[[Words], object] | None = None
) -> Searches:
    """The line of services that `names` names, else `settings.search`, else the first that answers from here.

    Names stand in order, with commas between them; `a+b` asks both at once, `none` nobody. `tell` is called with what to say
    before a service sees its first question. Raises `UsageError` for an unknown name, `ConfigError` for a missing key or address.
    """
    names = "" if names.strip().lower() == ANY else names
    policy = Policy(
        patience=settings.search_timeout,
        age=settings.search_age,
        rearranged=not (names.strip() or settings.search.strip()),
        tell=tell,
        language=interface_language(),
    )
    return Searches(line_of(settings, names), runtime=runtime, cache=Cache(settings.folder() / FILE), policy=policy)


def ready(settings: Settings) -> list[str]:
    """The names of what can be asked with these settings, in the order in which they are tried without a choice."""
    return [*(name for name in SET_UP if getattr(settings, _NEEDS[name])), *WITHOUT_KEY]


def variable_of(name: str) -> str:
    """The environment variable of the key or the address that a service needs; empty for one that needs none."""
    return next((row.variable for row in table() if row.name == _NEEDS.get(name)), "")


def register(name: str, factory: Factory) -> None:
    """Makes a provider of one's own known under `name`, for `--search` and `ORCHESTRA_SEARCH`, in this process.

    `factory` gets the settings and gives an object with `name` and `search`; the object may say whether a question `leaves` the
    machine (else it is taken to), which `service` sees it, and the `spacing` of questions in seconds.
    Raises `UsageError` for a name that is taken or cannot be told from others.
    """
    plain = name.strip().lower()
    if plain in SHIPPED or plain in (NONE, ANY) or not plain.replace("-", "").replace("_", "").isalnum():
        raise UsageError(
            detail=f"{name!r} cannot name a search provider", detail_zh=f"{name!r} 不能用作搜索服务的名称",
            fix="take another name, of letters, digits, - and _", fix_zh="请换一个由字母、数字、- 和 _ 组成的名称",
        )  # fmt: skip
    FACTORIES[plain] = factory


def line_of(settings: Settings, names: str = "") -> list[Sequence[SearchProvider]]:
    """The services that `searches` would ask, step by step; none is asked by this. Raises what that raises."""
    chosen = (names.strip() or settings.search.strip() or ",".join(ready(settings))).lower()
    if chosen == NONE:
        return []
    steps = [[name.strip() for name in step.split("+") if name.strip()] for step in chosen.split(",")]
    return [[_provider(settings, name) for name in dict.fromkeys(step)] for step in steps if step]


def _provider(settings: Settings, name: str) -> SearchProvider:
    factory = FACTORIES.get(name)
    if factory is None:
        known, known_zh = ", ".join([*FACTORIES, ANY, NONE]), "、".join([*FACTORIES, ANY, NONE])
        raise UsageError(
            detail=f"there is no search provider {name!r}", detail_zh=f"没有名为 {name!r} 的搜索服务",
            fix=f"choose from: {known}", fix_zh=f"可选：{known_zh}",
        )  # fmt: skip
    return factory(settings)


def _needed(settings: Settings, setting: str, example: str, why: Words | None = None) -> str:
    """A setting without which a provider cannot work."""
    value: str = getattr(settings, setting)
    if value:
        return value
    variable = next(row.variable for row in table() if row.name == setting)
    reason = why or Words("this search provider needs it", "该搜索服务需要此项")
    raise ConfigError(name=variable, value="", detail=reason.en, detail_zh=reason.zh, example=f"{variable}={example}")


def _searxng(settings: Settings) -> SearchProvider:
    return SearXNG(_needed(settings, "searxng", "http://localhost:8080"), seconds=settings.search_timeout)


def _bocha(settings: Settings) -> SearchProvider:
    return Bocha(_needed(settings, "bocha_key", "sk-..."), seconds=settings.search_timeout)


def _tavily(settings: Settings) -> SearchProvider:
    return Tavily(_needed(settings, "tavily_key", "tvly-... (or keyless)"), seconds=settings.search_timeout)


def _google(settings: Settings) -> SearchProvider:
    why = Words(f"Google needs it; {ENDING.en}", f"Google 需要此项；{ENDING.zh}")
    key = _needed(settings, "google_key", "AIza...", why)
    return Google(key, _needed(settings, "google_engine", "0123456789abcdef0", why), seconds=settings.search_timeout)


def _wikipedia(settings: Settings) -> SearchProvider:
    return Wikipedia(seconds=settings.search_timeout)


def _feeds(settings: Settings) -> SearchProvider:
    from orchestra.retrieval.providers.feed import Feeds  # reads XML: loaded by those who have feeds

    addresses = _needed(settings, "feeds", "'https://example.org/feed.xml'").split()
    return Feeds(addresses, seconds=settings.search_timeout)


def _engine(name: str, settings: Settings) -> SearchProvider:
    from orchestra.retrieval.providers.duckduckgo import DuckDuckGo  # reads HTML

    return DuckDuckGo(name, seconds=settings.search_timeout)


def _offline(settings: Settings) -> SearchProvider:
    if not settings.texts:
        return Offline()
    folder = Path(settings.texts).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            name="ORCHESTRA_TEXTS", value=settings.texts, detail="there is no such folder", detail_zh="没有这个目录",
            example="ORCHESTRA_TEXTS=~/texts",
        )  # fmt: skip
    return Offline(folder)


FACTORIES: dict[str, Factory] = {
    "searxng": _searxng,
    "bocha": _bocha,
    "tavily": _tavily,
    "google": _google,
    "feeds": _feeds,
    **{name: partial(_engine, name) for name in ("duckduckgo", "brave", "mojeek", "yahoo", "startpage")},
    "wikipedia": _wikipedia,
    "offline": _offline,
}
SHIPPED = frozenset(FACTORIES)
_NEEDS = {"searxng": "searxng", "bocha": "bocha_key", "tavily": "tavily_key", "feeds": "feeds", "google": "google_key"}
