"""What a daemon of some version does otherwise than the newest: one table, so that clients can be tried on old ones.

Old daemons ignore request fields that they do not know, without a word; so a client that relies on one must notice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from orchestra.errors import StandInFault

Number = tuple[int, int, int]

# What came with which release. The names of request fields are the fields' own.
SINCE: dict[str, Number] = {
    "show.capabilities": (0, 6, 4),
    "think": (0, 9, 0),
    "ps.context_length": (0, 10, 0),
    "_debug_render_only": (0, 11, 5),
    "dimensions": (0, 11, 11),
    "thinking by default": (0, 12, 4),
    "truncate": (0, 12, 6),
    "shift": (0, 12, 6),
    "logprobs": (0, 12, 11),
    "top_logprobs": (0, 12, 11),
    "thinking at most": (0, 22, 0),
    "tags.capabilities": (0, 30, 0),
    "engine of its own": (0, 30, 0),
    "cut to half": (0, 30, 11),
    "no repeat penalty": (0, 32, 10),
    "prompt_eval_cached_count": (0, 34, 0),
    "loops are errors": (0, 34, 0),
}
FIELDS = frozenset({"think", "_debug_render_only", "dimensions", "truncate", "shift", "logprobs", "top_logprobs"})
COUNTED_ALL_SINCE: Number = (0, 4, 0)
COUNTED_UNCACHED: Number = (0, 30, 0)
OLD_REPEAT_PENALTY, REPEAT_PENALTY = 1.1, 1.0
MOST_EQUAL, MOST_EQUAL_LATER = 30, 100


class Profile(NamedTuple):
    """A version, and what it can do."""

    version: str
    number: Number

    def has(self, name: str) -> bool:
        """Whether a feature of `SINCE` is there."""
        return self.number >= SINCE[name]

    def heard(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request's fields without those that this version does not know."""
        return {name: value for name, value in body.items() if name not in FIELDS or self.has(name)}

    @property
    def counts_cached(self) -> bool:
        """Whether `prompt_eval_count` has the tokens that were in the cache."""
        return self.number >= COUNTED_ALL_SINCE and self.number != COUNTED_UNCACHED

    @property
    def repeat_penalty(self) -> float:
        """The penalty of a request that names none."""
        return REPEAT_PENALTY if self.has("no repeat penalty") else OLD_REPEAT_PENALTY

    @property
    def most_equal(self) -> int:
        """The equal pieces in a row after which an answer is given up."""
        return MOST_EQUAL_LATER if self.has("loops are errors") else MOST_EQUAL


def profile(version: str) -> Profile:
    """The profile of a version such as "0.32.15" or "v0.30.0-rc1"; 0.0.0 is a build of its own, and the newest.

    Raises `StandInFault` for text that is no version.
    """
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-+].*)?\Z", version)
    if found is None:
        raise StandInFault(detail=f"{version!r} is no version; one is written 0.32.15")
    number = int(found[1]), int(found[2]), int(found[3] or 0)
    return Profile(version, number if any(number) else (2**31, 0, 0))
