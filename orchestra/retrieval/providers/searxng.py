"""SearXNG: a search engine over search engines that one can run oneself (docs.searxng.org, search API)."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from orchestra.errors import BadResponse, ConfigError, KeyRefused, SearchUnreachable
from orchestra.model.language import language_of
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.providers.hits import Hit, passages, rows, sendable
from orchestra.retrieval.web import Exchange, fetched_json, limited, said

VARIABLE = "ORCHESTRA_SEARXNG"
LANGUAGES = {"zh": "zh-CN", "en": "en"}
_BLOCKED = ("too many requests", "captcha", "suspended", "access denied")


class SearXNG:
    """Asks the SearXNG at `address`, which has to give JSON: `search.formats: [html, json]` in its settings.yml."""

    name = "searxng"

    def __init__(self, address: str, *, seconds: float = 8.0) -> None:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                name=VARIABLE, value=address, detail="not an http address", detail_zh="不是 http 地址",
                example=f"{VARIABLE}=http://localhost:8080",
            )  # fmt: skip
        self.service = f"SearXNG ({parts.netloc.rpartition('@')[2]})"
        self._url = f"{parts.geturl().rstrip('/').removesuffix('/search')}/search"
        self._seconds = seconds

    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        """What its engines found, best first; raises `RateLimited` where none of them answers it any more."""
        text = sendable(query)
        params: dict[str, str | int] = {"q": text, "format": "json", "language": LANGUAGES[language_of(text)], "safesearch": 1}
        try:
            # it has no key; with a variable named, its 403 is told from a limit
            answer = fetched_json(
                Exchange(provider=self.name, url=self._url, params=params, variable=VARIABLE, seconds=self._seconds)
            )
        except KeyRefused as error:
            status = error.facts["detail"]
            what = said(
                f"{status}: it may give no JSON; add `json` to search.formats in its settings.yml",
                f"{status}：可能未开放 JSON；请在其 settings.yml 的 search.formats 中加入 json",
            )
            raise BadResponse(provider=self.name, **what) from None
        hits = (Hit(r.get("title"), r.get("url"), r.get("content"), r.get("publishedDate")) for r in rows(self.name, answer, "results"))
        found = passages(self.name, hits, results=results)
        if not found:
            self._complain(answer.get("unresponsive_engines"))
        return found

    def _complain(self, silent: object) -> None:
        """Nothing found by engines that did not answer is no answer."""
        if not isinstance(silent, list) or not silent:
            return
        if any(sign in str(silent).lower() for sign in _BLOCKED):
            limited(self.name, said("its engines take no more questions", "其上游搜索引擎不再接受查询"))
        raise SearchUnreachable(provider=self.name, **said("its engines do not answer", "其上游搜索引擎没有应答"))
