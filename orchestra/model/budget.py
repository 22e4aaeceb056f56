"""How a dialogue is fitted into the window: what stays, what is left out, in large steps.

A prefix that stays costs the daemon only the new tokens; a window that slides by one turn makes it read
everything again. So the history grows until its share is full and is then cut to 60 % of it in one step. The
rule looks at the turns alone, in their order: the same dialogue is cut at the same places every time, without
a state to keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KEPT_SHARE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """The window in tokens, what stands in each prompt anyway (persona, question), and what the answer may take."""

    window: int
    fixed: int
    answer: int

    @property
    def history(self) -> int:
        """What is left for the dialogue so far."""
        return max(0, self.window - self.fixed - self.answer)


def first_kept(costs: Sequence[int], share: int) -> int:
    """The index of the oldest turn that stays; `costs` are the turns' tokens, oldest first."""
    start, total = 0, 0
    for index, cost in enumerate(costs):
        total += cost
        if total > share:
            while start <= index and total > share * KEPT_SHARE:
                total -= costs[start]
                start += 1
    return start
