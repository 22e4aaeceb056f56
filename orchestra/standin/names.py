"""Model names as the daemon reads them: `[host/][namespace/]model[:tag]`, without regard to case."""

from __future__ import annotations

import re
from typing import NamedTuple

from orchestra.standin.refusal import Refusal

HOST = "registry.ollama.ai"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}\Z")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}\Z")


class Name(NamedTuple):
    """A name with all its parts."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def short(self) -> str:
        """As lists show it: what is usual is left out, the tag never."""
        shown = f"{self.model}:{self.tag}"
        if self.host != HOST:
            return f"{self.host}/{self.namespace}/{shown}"
        return shown if self.namespace == "library" else f"{self.namespace}/{shown}"

    @property
    def full(self) -> str:
        """With host and namespace."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """The same for all spellings of one name."""
        return self.full.lower()


def parse(text: str) -> Name:
    """The name in `text`. Raises `Refusal` (400) for one that is not allowed."""
    rest, tag = text, "latest"
    if ":" in rest.rpartition("/")[2]:
        rest, _, tag = rest.rpartition(":")
    parts = rest.split("/")
    if len(parts) > 3:
        raise Refusal(400, "invalid model name")
    model, namespace, host = (*reversed(parts), *("library", HOST)[len(parts) - 1 :])
    if not (_PART.match(model) and _PART.match(namespace) and _PART.match(tag) and _HOST.match(host)):
        raise Refusal(400, "invalid model name")
    return Name(host, namespace, model, tag)
