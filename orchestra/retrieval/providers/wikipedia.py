"""Wikipedia, in the language of the question (mediawiki.org, API:Search with the introductions of the pages found)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestra.errors import SearchFault
from orchestra.model.language import language_of
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.providers.hits import Hit, passages, plain, rows, sendable
from orchestra.retrieval.terms import terms
from orchestra.retrieval.web import Exchange, fetched_json, limited, said

MOST = 20  # introductions that it gives at once


class Wikipedia:
    """Asks the Chinese or the English Wikipedia; its passages are the introductions of the articles."""

    name = "wikipedia"
    service = "Wikipedia (zh.wikipedia.org, en.wikipedia.org)"

    def __init__(self, *, seconds: float = 8.0) -> None:
        self._seconds = seconds

    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        """The articles that have all words of the question, else all that matter of them."""
        text = sendable(query)
        found = self._asked(text, language_of(text), results)
        words = " ".join(dict.fromkeys(terms(text)))
        # a sentence seldom stands in an article word by word
        return found or (self._asked(words, language_of(text), results) if words and words != text.lower() else [])

    def _asked(self, text: str, language: str, results: int) -> list[Passage]:
        params: dict[str, str | int] = {
            "action": "query", "format": "json", "formatversion": 2, "generator": "search", "gsrsearch": text,
            "gsrlimit": min(results, MOST), "prop": "extracts|info", "exintro": 1, "explaintext": 1, "exlimit": "max", "inprop": "url",
        }  # fmt: skip
        if language == "zh":
            params["variant"] = "zh-cn"
        url = f"https://{language}.wikipedia.org/w/api.php"
        answer = fetched_json(Exchange(provider=self.name, url=url, params=params, seconds=self._seconds))
        self._refused(answer.get("error"))
        pages = sorted(rows(self.name, answer, "query", "pages"), key=lambda page: _place(page.get("index")))
        hits = (Hit(page.get("title"), page.get("fullurl"), page.get("extract")) for page in pages)
        return passages(self.name, hits, results=results)

    def _refused(self, error: Any) -> None:
        """Its errors come as HTTP 200."""
        if not isinstance(error, dict):
            return
        code = plain(error.get("code"), 40)
        if code in ("ratelimited", "maxlag", "blocked", "autoblocked"):
            limited(self.name, said(code))
        raise SearchFault(provider=self.name, **said(code or "an error without a name", code or "未说明的错误"))


def _place(index: Any) -> int:
    return index if isinstance(index, int) else MOST
