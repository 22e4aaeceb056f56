"""Bocha: a paid search service inside mainland China (open.bochaai.com, Web Search API)."""

from __future__ import annotations

from collections.abc import Sequence

from orchestra.retrieval.passages import Passage
from orchestra.retrieval.providers.hits import Hit, passages, rows, sendable
from orchestra.retrieval.web import Exchange, fetched_json, refuse

URL = "https://api.bochaai.com/v1/web-search"
VARIABLE = "ORCHESTRA_BOCHA_KEY"
MOST = 50


class Bocha:
    """Asks Bocha with a key of one's own."""

    name = "bocha"
    service = "Bocha 博查 (api.bochaai.com)"

    def __init__(self, key: str, *, seconds: float = 8.0) -> None:
        self._headers = {"authorization": f"Bearer {key}"}
        self._seconds = seconds

    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        """What it found, with its summaries of the pages, best first."""
        body = {"query": sendable(query), "summary": True, "freshness": "noLimit", "count": min(results, MOST)}
        asked = Exchange(
            provider=self.name, url=URL, body=body, headers=self._headers, variable=VARIABLE, seconds=self._seconds
        )
        answer = fetched_json(asked)
        code = str(answer.get("code", "200"))
        refuse(asked, int(code) if code.isdigit() and len(code) == 3 else 500)  # an error may come as HTTP 200
        hits = (
            Hit(r.get("name"), r.get("url"), r.get("summary") or r.get("snippet"), r.get("datePublished"))
            for r in rows(self.name, answer, "data", "webPages", "value")
        )
        return passages(self.name, hits, results=results)
