"""Reading web pages: several at once, one at a time from each host, each within its time.

A page that cannot be read is no error of the question: its `PageFault` stands in its place, and the answer goes on
with what the search said of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

from orchestra.errors import PageFault
from orchestra.model.language import language_of
from orchestra.model.messages import Language
from orchestra.model.untrusted import visible
from orchestra.request import Breakage, Broken
from orchestra.retrieval.extractor import SECONDS, Extractor
from orchestra.retrieval.fetching import Fetcher
from orchestra.runtime import Runtime

LONGEST = 15.0
"""Seconds for one page in all, its text included; a setting may shorten it."""
LANES = 4
_GRACE = 0.5  # for the thread to end by itself at its deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The text of a web page; `bytes` is its size unpacked, `published` a date as YYYY-MM-DD where it names one.

    `truncated` says that a limit on size, time or text cut it.
    """

    url: str
    final_url: str
    title: str
    text: str
    language: Language
    published: str = ""
    bytes: int = 0
    truncated: bool = False


class Pages:
    """Reads pages. Its process and its connections end with `close`, or with the block: `with Pages(runtime) as pages`."""

    def __init__(
        self, runtime: Runtime, *, seconds: float = LONGEST, fetcher: Fetcher | None = None, extractor: Extractor | None = None
    ) -> None:
        self._runtime = runtime
        self._seconds = min(seconds, LONGEST)
        self._fetcher = fetcher or Fetcher()
        self._extractor = extractor or Extractor()

    async def read(self, urls: Sequence[str]) -> list[Page | PageFault]:
        """The pages at `urls` in their order, each either read or the reason why not."""
        hosts: dict[str, list[str]] = {}
        for url in dict.fromkeys(urls):
            hosts.setdefault(_host(url), []).append(url)
        lanes = [[url for group in list(hosts.values())[n::LANES] for url in group] for n in range(min(LANES, len(hosts)))]
        read: dict[str, Page | PageFault] = {}

        async def follow(lane: list[str]) -> None:
            for url in lane:
                read[url] = await self._one(url)

        await self._runtime.together([lambda lane=lane: follow(lane) for lane in lanes])  # type: ignore[misc]
        return [read[url] for url in urls]

    def close(self) -> None:
        """Ends what is on its way."""
        self._fetcher.close()
        self._extractor.close()

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def _one(self, url: str) -> Page | PageFault:
        try:
            return await self._runtime.aside(lambda: self._page(url), seconds=self._seconds + _GRACE)
        except PageFault as fault:
            return fault
        except Broken as broken:
            if broken.how is not Breakage.TIMEOUT:
                raise
            return PageFault(url=url, detail="it does not answer in time", detail_zh="未能及时应答")

    def _page(self, url: str) -> Page:
        deadline = time.monotonic() + self._seconds
        # what came until then is worth its text, which takes time too
        fetched = self._fetcher.fetch(url, deadline=deadline - min(SECONDS, self._seconds / 3))
        found = self._extractor.extract(fetched, deadline=deadline)
        text = visible(found.text).strip()
        if not text:
            raise PageFault(url=url, detail="there is no text in it", detail_zh="其中没有正文")
        return Page(
            url=url,
            final_url=fetched.final_url,
            title=" ".join(visible(found.title).split()),
            text=text,
            language=language_of(text[:4000]),
            published=found.published,
            bytes=len(fetched.body),
            truncated=fetched.truncated or found.cut,
        )


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or url
    except ValueError:
        return url
