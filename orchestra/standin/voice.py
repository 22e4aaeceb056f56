"""How an answer is told: in the daemon's own shapes here; other interfaces tell the same events in theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestra.standin.link import Link

Event = Mapping[str, Any]


class Voice:
    """The daemon's own way: one JSON document, or a line an event."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def whole(self, event: Event) -> None:
        """An answer that is not streamed."""
        self.link.json(event)

    def piece(self, event: Event) -> None:
        """One piece of a stream."""
        self.link.line(event)

    def end(self, last: Event | None = None) -> None:
        """The end of a stream; without a last event, the daemon ends it without a word."""
        if last is not None:
            self.link.line(last)
        self.link.close()
