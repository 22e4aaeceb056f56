"""Which counter a model gets: its vocabulary fetched once and kept, and what the daemon's own counts say of it.

A vocabulary belongs to the weights: models made from one another share it. How the prompt is rendered is sure for the older
templates and for raw prompts; where a newer daemon may take another way, one prompt that it counted has to agree first, and
one that it counted higher ends the trust.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from orchestra.errors import OrchestraError
from orchestra.model.calibration import Rates
from orchestra.model.tokens import Counter, Subject
from orchestra.model.vocabulary import Unsuitable, Vocabulary, parts_of, suitable
from orchestra.model.vocabulary_file import load, save, written
from orchestra.model.window import section, weights_of
from orchestra.runtime import Runtime

_PLAIN_NAME = re.compile(r"[^A-Za-z0-9.\-]+")

Show = Callable[[], Awaitable[dict[str, Any]]]


class Counting:
    """The counters of one daemon's models. `folder` keeps what can be made again."""

    def __init__(self, runtime: Runtime, folder: Path) -> None:
        self._runtime = runtime
        self._folder = folder / "cache"
        self._vocabularies: dict[str, Vocabulary | None] = {}
        self._rates: dict[str, Rates] = {}
        self._confirmed: dict[tuple[str, str], bool] = {}

    async def counter(self, model: str, facts: dict[str, Any], *, verbose: Show) -> Counter:
        """The counter for a model; `facts` are its `show`, `verbose` asks for the long one."""
        key = _key(model, facts)
        if key not in self._vocabularies:
            self._vocabularies[key] = await self._vocabulary(key, facts, verbose)
        return self._counter(model, facts)

    def _counter(self, model: str, facts: dict[str, Any]) -> Counter:
        key = _key(model, facts)
        if key not in self._rates:
            self._rates[key] = Rates(self._folder / "rates" / f"{key}.json")
        return Counter(
            facts,
            vocabulary=self._vocabularies.get(key),
            rates=self._rates[key],
            confirmed=self._confirmed.get((key, str(facts.get("template")))),
        )

    async def _vocabulary(self, key: str, facts: dict[str, Any], verbose: Show) -> Vocabulary | None:
        if not suitable(section(facts, "model_info")):
            return None
        path = self._folder / "vocabularies" / key
        found = await self._runtime.call(lambda: load(path))
        if found is not None:
            return await self._runtime.call(lambda: Vocabulary(found))
        try:
            info = section(await verbose(), "model_info")
            return await self._runtime.call(lambda: _made(info, path))
        except (Unsuitable, OrchestraError):
            return None

    async def heard(self, model: str, facts: dict[str, Any], subject: Subject, tokens: int, *, raw: bool) -> None:
        """The daemon counted this prompt itself: what it agrees with is trusted, where it has more the trust ends."""
        trust = (_key(model, facts), str(facts.get("template")))
        counter = self._counter(model, facts)
        if not suitable(section(facts, "model_info")) or self._confirmed.get(trust) is False:
            await self._runtime.call(lambda: counter.learn(subject, tokens))
        elif counter.vocabulary is not None and trust not in self._confirmed:
            expected = await self._runtime.call(lambda: counter.expected(subject, raw=raw))
            if expected == tokens and not raw:
                self._confirmed[trust] = True
            elif 0 < expected < tokens and (raw or counter.exact):
                self._confirmed[trust] = False


def _made(info: dict[str, Any], path: Path) -> Vocabulary:
    parts = parts_of(info)
    save(path, written(parts))
    return Vocabulary(parts)


def _key(model: str, facts: dict[str, Any]) -> str:
    """The weights' digest; a daemon that does not say it has the model's own name."""
    return _PLAIN_NAME.sub("-", weights_of(facts) or model.lower())
