"""A blind vote: the answers to each prompt as A, B ... in an order that tells nothing; the names only at the end."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from string import ascii_uppercase

from orchestra.cli.comparison import Shown
from orchestra.cli.terminal import harmless, tell
from orchestra.cli.words import say
from orchestra.errors import UsageError
from orchestra.instruments.compare import Vote, by_prompt, shuffled

_NONE = ("=", "0")


def needs_somebody() -> None:
    """Raises `UsageError` where nobody can vote."""
    if not sys.stdin.isatty():
        raise UsageError(
            detail="--blind asks somebody to vote, and nobody is at the keyboard", detail_zh="--blind 需要有人投票，而当前没有人在键盘前",
            fix="run it in a terminal, or leave --blind out", fix_zh="请在终端中运行，或去掉 --blind",
        )  # fmt: skip


def vote(shown: Shown, *, keep: Callable[[Vote], object] | None, chance: random.Random | None = None) -> None:
    """Ask for the best answer to each prompt that has not been voted on; `keep` is told each vote. What it shows stands on stderr."""
    chance, voted = chance or random.SystemRandom(), {each.prompt for each in shown.votes}
    rows = {prompt: shuffled(row, chance) for prompt, row in by_prompt(shown.answers).items() if prompt not in voted}
    rows = {prompt: row for prompt, row in rows.items() if len(row) > 1}
    revealed: list[str] = []
    try:
        for number, (prompt, row) in enumerate(rows.items(), 1):
            tell(f"\n# {number}/{len(rows)}  {' '.join(harmless(prompt).split())}\n")
            for letter, each in zip(ascii_uppercase, row, strict=False):
                sys.stderr.write(f"[{letter}]\n{harmless(each.text).strip() or say('(empty)', '（空）')}\n\n")
            place = _chosen(len(row))
            among = tuple(sorted(each.contender for each in row))
            made = Vote(prompt=prompt, best="" if place is None else row[place].contender, among=among)
            shown.votes.append(made)
            if keep:
                keep(made)
            order = ", ".join(f"{letter} = {each.contender}" for letter, each in zip(ascii_uppercase, row, strict=False))
            revealed.append(f"{number}. {order}")
    finally:
        tell("\n".join(["", *revealed]))


def _chosen(count: int) -> int | None:
    """The place that was voted for; None = no one is better."""
    letters = ascii_uppercase[:count]
    asks = say(f"which is best? {'/'.join(letters)}, = for none: ", f"哪个最好？{'/'.join(letters)}，= 表示不分高下：")
    while True:
        sys.stderr.write(asks)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:  # the end of the input: whoever voted has left
            raise KeyboardInterrupt
        said = line.strip().upper()
        if said in _NONE:
            return None
        if len(said) == 1 and said in letters:
            return letters.index(said)
