"""Tavily: a search service made for language models (docs.tavily.com, search), with a key or without one."""

from __future__ import annotations

from collections.abc import Sequence

from orchestra.retrieval.passages import Passage
from orchestra.retrieval.providers.hits import Hit, passages, rows, sendable
from orchestra.retrieval.web import Exchange, fetched_json

URL = "https://api.tavily.com/search"
VARIABLE = "ORCHESTRA_TAVILY_KEY"
KEYLESS = "keyless"
MOST = 20


class Tavily:
    """Asks Tavily with a key, or in its keyless mode, which allows few questions, where the key is `keyless`."""

    name = "tavily"
    service = "Tavily (api.tavily.com)"

    def __init__(self, key: str, *, seconds: float = 8.0) -> None:
        keyless = key.lower() == KEYLESS
        self._headers = {"x-tavily-access-mode": KEYLESS} if keyless else {"authorization": f"Bearer {key}"}
        self._seconds = seconds

    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        """What it found, with the parts of the pages that fit the question, best first."""
        body = {"query": sendable(query), "search_depth": "basic", "topic": "general", "max_results": min(results, MOST)}
        answer = fetched_json(
            Exchange(
                provider=self.name, url=URL, body=body, headers=self._headers, variable=VARIABLE, seconds=self._seconds
            )
        )
        hits = (
            Hit(r.get("title"), r.get("url"), r.get("content"), r.get("published_date"))
            for r in rows(self.name, answer, "results")
        )
        return passages(self.name, hits, results=results)
