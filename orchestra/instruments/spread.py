"""What several runs say together: a median with its spread, and whether one side is faster or nothing can be said.

A side is called faster only where each of its runs is better than each of the other's, and where both did the same work: as
many tokens of prompt and answer, in weights of the same precision. Two sides that are alike fall apart so by chance once in
10 times with three runs each, once in 126 with five (2 of the orders in which the runs can come).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from orchestra.texts import Words

FEWEST = 3  # runs of a side before anything is said
Metric = Literal["first_token", "prompt_speed", "speed"]
METRICS: tuple[Metric, ...] = ("first_token", "prompt_speed", "speed")
_SAME_NAME = {"FP16": "F16", "FLOAT16": "F16", "HALF": "F16", "BFLOAT16": "BF16", "FP32": "F32", "FLOAT32": "F32"}


@dataclass(frozen=True, slots=True)
class Spread:
    """The figures of several runs, in their order."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The one in the middle."""
        return median(self.values)

    @property
    def least(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def most(self) -> float:
        """The largest."""
        return max(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a side did in its runs: figures by metric, the tokens that it read and wrote, the precision of its weights ("" = not said)."""

    name: str
    precision: str
    figures: dict[Metric, Spread]
    prompt_tokens: frozenset[int | None] = frozenset()
    tokens: frozenset[int | None] = frozenset()
    runs: int = 0  # of which some may have no figure in a metric
    exact: bool = True  # whether the other side itself has counted its tokens
    mechanical: bool = False  # a stand-in's


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Two sides in one metric: which is faster and how many times, by the medians; or, with reasons, that nothing is said."""

    metric: Metric
    better: str
    worse: str
    times: float
    reasons: tuple[Words, ...] = ()


def precision_name(written: str) -> str:
    """One name for one precision: "float16", "fp16" and "F16" are the same."""
    name = written.strip().removeprefix("torch.").upper()
    return _SAME_NAME.get(name, name)


def findings(sides: Sequence[Work]) -> list[Finding]:
    """In each metric the side with the best median beside each other one."""
    return [found for metric in METRICS for found in _of(metric, [side for side in sides if metric in side.figures])]


def _of(metric: Metric, sides: Sequence[Work]) -> list[Finding]:
    least = metric == "first_token"  # the less the better
    ordered = sorted(sides, key=lambda side: side.figures[metric].median, reverse=not least)
    found = []
    for other in ordered[1:]:
        best, mine, theirs = ordered[0], ordered[0].figures[metric], other.figures[metric]
        low, high = sorted((mine.median, theirs.median))
        reasons = [*_unlike_work(best, other)]
        for side in (best, other):
            if (known := len(side.figures[metric].values)) < side.runs:
                has = f"{side.name} 的 {side.runs} 次运行中仅 {known} 次有数值"
                reasons.append(Words(f"{known} of {side.runs} runs of {side.name} have a figure", has))
        if min(len(mine.values), len(theirs.values)) < FEWEST:
            reasons.append(Words(f"there are fewer than {FEWEST} runs", f"运行次数少于 {FEWEST}"))
        apart = mine.most < theirs.least if least else mine.least > theirs.most
        if not apart:
            reasons.append(Words("the spreads overlap", "波动范围重叠"))
        found.append(
            Finding(metric=metric, better=best.name, worse=other.name, times=high / low if low > 0 else 0.0, reasons=tuple(reasons))
        )
    return found


def _unlike_work(one: Work, other: Work) -> list[Words]:
    """Why the figures of two sides do not measure the same."""
    reasons = []
    unsaid = [side.name for side in (one, other) if not side.precision]
    if unsaid:
        listed = ", ".join(unsaid)
        reasons.append(Words(f"the precision of {listed} is not known", f"{listed} 的精度未知"))
    elif precision_name(one.precision) != precision_name(other.precision):
        reasons.append(Words(f"the precision differs ({one.precision}, {other.precision})", f"精度不同（{one.precision}、{other.precision}）"))
    if not (one.exact and other.exact) or None in {*one.prompt_tokens, *other.prompt_tokens, *one.tokens, *other.tokens}:
        reasons.append(Words("tokens were not counted by both sides", "并非双方都给出 token 数"))
    elif one.prompt_tokens != other.prompt_tokens:
        counts = f"{_range(one.prompt_tokens)}, {_range(other.prompt_tokens)}"
        reasons.append(Words(f"the prompt had other tokens ({counts})", f"提示词的 token 数不同（{counts}）"))
    elif one.tokens != other.tokens:
        counts = f"{_range(one.tokens)}, {_range(other.tokens)}"
        reasons.append(Words(f"the answers had other lengths in tokens ({counts})", f"回答的 token 数不同（{counts}）"))
    if one.mechanical or other.mechanical:
        reasons.append(Words("a stand-in answered, which is no model", "由替身服务回答，并非模型"))
    return reasons


def _range(counts: frozenset[int | None]) -> str:
    known = [count for count in counts if count is not None]
    if not known:
        return "?"
    return str(min(known)) if len(set(known)) == 1 else f"{min(known)}-{max(known)}"
