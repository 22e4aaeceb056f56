"""How a dialogue is fitted into the window: its share, and what has to go when it has outgrown it, in large steps.

A prefix that stays costs the daemon only the new tokens; a window that slides by one turn makes it read
everything again. So the history grows until its share is full and is then brought down to 60 % of it in one
step: its oldest turns give way to a summary or, where there is none, are left out. The rules look at the turns
alone, in their order: the same dialogue is cut at the same places every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KEPT_SHARE = 0.6
LAST_TURNS = 1  # so many of the last turns always stay word for word
QUESTION_PART = 8  # of the window, one part in so many is set aside for the next question
PASSAGES_PART = 4  # and at most one part in so many for retrieved passages, recalled turns included
RECALL_PART = 8  # of the window, one part in so many for recalled turns
LONGEST_RECALL = 1500  # tokens, however large the window is
ANSWER_PART = 2  # an answer asked for at any length leaves the dialogue this part of the window
SUMMARY_PART = 6  # of the history's share, one part in so many for a summary
LONGEST_SUMMARY = 400  # tokens, however large the window is


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """The window in tokens, and what is not history: persona and template, passages, the answer."""

    window: int
    fixed: int
    answer: int
    passages: int = 0

    @property
    def history(self) -> int:
        """What the dialogue so far may take, so that the next question still fits beside it."""
        return self.beside(self.window // QUESTION_PART)

    @property
    def kept(self) -> int:
        """What is left of a history that has outgrown its share."""
        return int(self.history * KEPT_SHARE)

    @property
    def summary(self) -> int:
        """The most tokens of a summary."""
        return max(1, min(LONGEST_SUMMARY, self.history // SUMMARY_PART))

    @property
    def recall(self) -> int:
        """The most tokens of recalled turns; with the passages they take no more than is set aside for these."""
        return max(0, min(LONGEST_RECALL, self.window // RECALL_PART, self.window // PASSAGES_PART - self.passages))

    def beside(self, question: int) -> int:
        """What is left for the dialogue beside this very question, in tokens."""
        passages = min(self.passages, self.window // PASSAGES_PART)
        return max(0, self.window - self.fixed - passages - min(self.answer, self.window // ANSWER_PART) - question)


def outgrown(costs: Sequence[int], *, share: int, kept: int, head: int, summary: int) -> int:
    """How many of the oldest turns a summary has to replace; 0 while everything is within `share`.

    `costs` are the turns' tokens, oldest first, `head` those of the summary that stands before them already. The
    new summary, of at most `summary` tokens, and the turns that stay take at most `kept`; the last turn stays.
    """
    left, count = sum(costs), 0
    if head + left <= share:
        return 0
    while count < len(costs) - LAST_TURNS and summary + left > kept:
        left -= costs[count]
        count += 1
    return count


def first_kept(costs: Sequence[int], share: int) -> int:
    """The index of the oldest turn that stays where no summary could be had; the last one stays where it fits.

    `costs` are tokens, oldest first.
    """
    start, total = 0, 0
    for index, cost in enumerate(costs):
        total += cost
        if total > share:
            while start <= index and (total > share or (start < index and total > share * KEPT_SHARE)):
                total -= costs[start]
                start += 1
    return start
