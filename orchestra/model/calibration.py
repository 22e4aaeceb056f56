"""Tokens by the byte, for vocabularies that cannot be rebuilt: learned from what the daemon counted.

Only what is sure to be too much rather than too little is learned: a prompt that is almost all English words, or almost all
Chinese, has its tokens - the template's too - laid on those bytes alone; the dearest one counts, with a margin. Digits,
signs and other scripts stay at a token for each byte, which is more than there can be. It is an estimate all the same:
words that no other prompt had may be dearer.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from orchestra.model.vocabulary_file import save

SCRIPTS = {"words": re.compile(r"[A-Za-z ]+"), "han": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]+")}
LEAST_BYTES, LEAST_SHARE, LEAST_PROMPTS = 400, 0.8, 3
MARGIN = 1.2


class Rates:
    """The dearest prompts so far of one vocabulary, by script; `path` is where they are kept."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._rates: dict[str, tuple[float, int]] = {}
        if path is not None:
            self._rates = _read(path)

    @property
    def known(self) -> bool:
        """Whether anything was learned that can be used."""
        return any(prompts >= LEAST_PROMPTS for _, prompts in self._rates.values())

    def most(self, text: str) -> int:
        """The tokens of a text, rather too many; never more than its bytes."""
        total = len(text.encode("utf-8", "replace"))
        spared = 0.0
        for script, size in _sizes(text).items():
            rate, prompts = self._rates.get(script, (1.0, 0))
            if prompts >= LEAST_PROMPTS:
                spared += size * max(0.0, 1 - rate * MARGIN)
        return total - int(spared)

    def learn(self, text: str, tokens: int) -> None:
        """A prompt whose texts the daemon counted, with all that its template adds, as so many tokens."""
        total = len(text.encode("utf-8", "replace"))
        for script, size in _sizes(text).items():
            if size >= LEAST_BYTES and size >= total * LEAST_SHARE:
                rate, prompts = self._rates.get(script, (0.0, 0))
                found = (max(rate, min(1.0, tokens / size)), min(prompts + 1, LEAST_PROMPTS))
                if found != self._rates.get(script):
                    self._rates[script] = found
                    if self._path is not None:
                        save(self._path, json.dumps(self._rates).encode())


def _sizes(text: str) -> dict[str, int]:
    """How many bytes of each script a text has."""
    return {
        script: sum(len(run.encode("utf-8", "replace")) for run in pattern.findall(text)) for script, pattern in SCRIPTS.items()
    }


def _read(path: Path) -> dict[str, tuple[float, int]]:
    try:
        stored = json.loads(path.read_bytes())
        return {
            script: (min(1.0, max(0.0, float(stored[script][0]))), int(stored[script][1])) for script in SCRIPTS if script in stored
        }
    except (OSError, ValueError, TypeError, LookupError):
        return {}
