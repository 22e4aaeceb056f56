"""The process in which pages are taken apart, and what it says of one; see extraction.py for what it does."""

from __future__ import annotations

import time
from typing import NamedTuple

from orchestra.errors import ExtractTimeout, PageFault
from orchestra.retrieval.fetching import Fetched
from orchestra.retrieval.worker import Worker

SECONDS = 5.0
"""What a page's text may take."""
LONGEST_ANSWER = 8 * 2**20


class Extracted(NamedTuple):
    """The text of a page, its title and, where it names one, the day it was published; `cut` says that there was more."""

    title: str
    text: str
    published: str
    cut: bool


class Extractor:
    """Takes the text out of pages, one at a time; threads wait for each other."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self.worker = Worker("orchestra.retrieval.extraction", longest=LONGEST_ANSWER)

    def extract(self, page: Fetched, *, deadline: float) -> Extracted:
        """The text of `page`, before the moment `deadline`. Raises `ExtractTimeout`, and `PageFault` where the page broke the process."""
        seconds = min(self._seconds, deadline - time.monotonic())
        try:
            found = self.worker.ask(page.body, seconds=self._seconds, deadline=deadline, declared=page.declared, kind=page.kind)
        except TimeoutError:
            raise ExtractTimeout(url=page.final_url, seconds=f"{max(0.0, seconds):.2g}") from None
        except ChildProcessError:
            raise PageFault(url=page.final_url, detail="its text could not be taken out", detail_zh="无法提取正文") from None
        return Extracted(**found)

    def close(self) -> None:
        """Ends the process; the next page starts another one."""
        self.worker.close()
