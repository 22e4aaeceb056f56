"""Google Programmable Search, as the lesson uses it (developers.google.com/custom-search, JSON API).

It takes no new customers and ends on 2027-01-01; whoever has a key may use it until then.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestra.errors import KeyRefused, SearchFault
from orchestra.model.language import language_of
from orchestra.retrieval.passages import Passage
from orchestra.retrieval.providers.hits import Hit, passages, rows, sendable
from orchestra.retrieval.web import Exchange, fetched_json, said
from orchestra.texts import Words

URL = "https://www.googleapis.com/customsearch/v1"
VARIABLE = "ORCHESTRA_GOOGLE_KEY"
ENDING = Words("it takes no new customers and ends on 2027-01-01", "该服务已不接受新用户，并将于 2027-01-01 停止")
MOST = 10
NOT_SERVED = ("HTTP 400", "HTTP 404", "HTTP 410")
LANGUAGES = {"zh": "lang_zh-CN", "en": "lang_en"}


class Google:
    """Asks a programmable search engine of one's own: a key, and the engine's id (`cx`)."""

    name = "google"
    service = "Google (www.googleapis.com)"

    def __init__(self, key: str, engine: str, *, seconds: float = 8.0) -> None:
        self._headers = {"x-goog-api-key": key}  # allowed in place of `key=`; an address is written into logs
        self._engine = engine
        self._seconds = seconds

    def search(self, query: str, *, results: int) -> Sequence[Passage]:
        """What it found, best first."""
        text = sendable(query)
        params: dict[str, str | int] = {
            "cx": self._engine,
            "q": text,
            "num": min(results, MOST),
            "lr": LANGUAGES[language_of(text)],
        }
        try:
            answer = fetched_json(
                Exchange(
                    provider=self.name, url=URL, params=params, headers=self._headers, variable=VARIABLE, seconds=self._seconds
                )
            )
        except SearchFault as error:
            detail = error.facts.get("detail")
            if isinstance(error, KeyRefused) or detail in NOT_SERVED:  # it says 400 to a key that it does not know
                what = said(f"{detail}; {ENDING.en}", f"{detail}；{ENDING.zh}")
                raise KeyRefused(provider=self.name, variable=VARIABLE, **what) from None
            raise
        hits = (Hit(r.get("title"), r.get("link"), r.get("snippet")) for r in rows(self.name, answer, "items"))
        return passages(self.name, hits, results=results)
