"""Open WebUI's page in a headless Chromium, as somebody sees it who chats there. Written for 0.12.4."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 60_000  # milliseconds: a first page on a busy machine
WIDTH, HEIGHT = 1100, 760
GLANCE = 0.03  # seconds between two looks at a page
_SEEN = """() => {
  const all = document.querySelectorAll('.chat-assistant'), last = all[all.length - 1];
  const text = (selector) => { const at = last && last.querySelector(selector); return at ? at.innerText : ''; };
  return {
    text: text('#response-content-container'), whole: last ? last.innerText : '', status: text('.status-description'),
    busy: !document.querySelector('#voice-input-button'),
  };
}"""


@dataclass(slots=True)
class Watched:
    """What somebody sees while an answer comes: how long its text was each time, the status lines, and when."""

    lengths: list[int] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    first: float = 0.0  # seconds until anything is seen of the answer, a status line counts
    whole: float = 0.0
    text: str = ""

    @property
    def partials(self) -> int:
        """How many different lengths of the answer were seen."""
        return len(self.lengths)

    def take(self, seen: dict[str, Any], after: float) -> None:
        """One look at the page."""
        self.text, self.whole = seen["whole"], after
        if not self.first and seen["whole"].strip():
            self.first = after
        if seen["status"] and seen["status"] not in self.statuses[-1:]:
            self.statuses.append(seen["status"])
        if (length := len(seen["text"])) and length not in self.lengths[-1:]:
            self.lengths.append(length)


class Page:
    """One tab of somebody who is signed in."""

    def __init__(self, tab: Any, address: str) -> None:
        self.tab, self.address = tab, address

    def open(self, model: str = "") -> None:
        """A new chat, with this model or the one that is preset."""
        self.tab.goto(f"{self.address}/{f'?model={model}' if model else ''}", timeout=PATIENCE)
        self.tab.wait_for_selector("#chat-input", timeout=PATIENCE)
        self.tab.wait_for_function("document.querySelector('#model-selector-model-button')?.innerText.match(/orchestra|llama3/)", timeout=PATIENCE)

    def ask(self, text: str) -> None:
        """Types a message and sends it; returns at once."""
        self.tab.locator("#chat-input").click()
        self.tab.keyboard.insert_text(text)
        self.tab.keyboard.press("Enter")

    def watch(self, *, seconds: float = 60, until: Callable[[dict[str, Any]], bool] | None = None) -> Watched:
        """Looks on until the answer has ended, or what is seen is enough. Raises `TimeoutError`."""
        watched, began, was_busy = Watched(), time.monotonic(), False
        while (after := time.monotonic() - began) < seconds:
            seen = self.tab.evaluate(_SEEN)
            watched.take(seen, round(after, 2))
            was_busy = was_busy or seen["busy"]
            if until(seen) if until else (was_busy and not seen["busy"]):
                return watched
            time.sleep(GLANCE)
        raise TimeoutError(f"after {seconds} s there is {watched.text[-200:]!r}")

    def models(self) -> list[str]:
        """What the list of models offers."""
        self.tab.locator("#model-selector-model-button").click()
        self.tab.wait_for_selector("#model-search-input", timeout=PATIENCE)
        self.tab.wait_for_timeout(500)  # it unfolds
        return [text.strip() for text in self.tab.locator("[role=option], [data-value]").all_inner_texts() if text.strip()]

    def steps(self) -> None:
        """Unfolds the status lines of the last answer."""
        self.tab.locator(".chat-assistant").last.locator(".status-description").first.click()

    def stop(self) -> float:
        """The button that stops an answer; the moment at which it had the page ask for that."""
        asked: list[float] = []
        self.tab.once("request", lambda _: asked.append(time.monotonic()))
        self.tab.locator("#message-input-container button").last.click()
        while not asked:
            self.tab.wait_for_timeout(1)
        return asked[0]

    def again(self) -> None:
        """Another answer to the last message."""
        self.tab.get_by_label("Regenerate").last.click()
        self.tab.get_by_text("Try Again").click()

    def text(self) -> str:
        """The last answer with all that stands around it."""
        return str(self.tab.locator(".chat-assistant").last.inner_text())

    def picture(self, path: Path, height: int = HEIGHT) -> int:
        """A picture of the upper part of the page; its bytes."""
        self.tab.mouse.move(WIDTH - 5, HEIGHT // 2)  # nothing is pointed at
        self.tab.wait_for_timeout(700)  # what slides in has come
        self.tab.screenshot(path=str(path), clip={"x": 0, "y": 0, "width": WIDTH, "height": height})
        return path.stat().st_size


@dataclass(slots=True)
class Browser:
    """A Chromium that notes what it was made to ask of other hosts, and what went wrong on its pages."""

    chromium: Any
    address: str
    outside: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    @contextmanager
    def page(self, token: str, locale: str = "en-US") -> Iterator[Page]:
        """A tab of its own, without a memory, for whoever has this token."""
        context = self.chromium.new_context(viewport={"width": WIDTH, "height": HEIGHT}, locale=locale)
        context.add_init_script(f"localStorage.token = {token!r}")
        context.on("request", lambda request: self._noted(request.url))
        tab = context.new_page()
        tab.on("websocket", lambda socket: self._noted(socket.url))
        tab.on("pageerror", lambda error: self.errors.append(str(error)[:200]))
        try:
            yield Page(tab, self.address)
        finally:
            context.close()

    def notices(self) -> bool:
        """Whether a page that asks another host is noted: without that, none is no finding."""
        with self.page("") as page:
            page.tab.evaluate("fetch('https://elsewhere.invalid/').catch(() => 0)")
        noted, self.outside = self.outside, set()
        return noted == {"https://elsewhere.invalid"}

    def _noted(self, url: str) -> None:
        there = urlsplit(url)
        if there.scheme in ("http", "https", "ws", "wss") and there.netloc != urlsplit(self.address).netloc:
            self.outside.add(f"{there.scheme}://{there.netloc}")
