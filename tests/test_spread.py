"""When one side may be called faster: runs that lie apart, the same work, the same precision - and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestra.instruments.spread import Metric, Spread, Work, findings, precision_name

FAST = Work(name="fast", precision="F16", figures={"speed": Spread((20.0, 22.0, 21.0))}, prompt_tokens=frozenset({9}), tokens=frozenset({64}))
SLOW = replace(FAST, name="slow", figures={"speed": Spread((10.0, 11.0, 10.5))})


def test_runs_that_lie_apart_say_faster() -> None:
    for order in ([FAST, SLOW], [SLOW, FAST]):
        (found,) = findings(order)
        assert (found.metric, found.better, found.worse, found.times, found.reasons) == ("speed", "fast", "slow", 2.0, ())


def test_the_less_the_better_for_the_first_token() -> None:
    soon, late = (replace(FAST, name=name, figures={"first_token": Spread((s, s, s))}) for name, s in (("soon", 0.1), ("late", 0.4)))
    (found,) = findings([late, soon])
    assert (found.better, found.worse, found.reasons) == ("soon", "late", ())
    assert found.times == pytest.approx(4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"figures": {"speed": Spread((10.0, 11.0, 20.0))}}, "spreads overlap"),  # touching is overlapping
        ({"figures": {"speed": Spread((10.0, 11.0))}}, "fewer than 3 runs"),
        ({"precision": "Q4_K_M"}, "precision differs (F16, Q4_K_M)"),
        ({"precision": "bf16"}, "precision differs"),
        ({"precision": ""}, "precision of slow is not known"),
        ({"prompt_tokens": frozenset({9, 11})}, "other tokens (9, 9-11)"),
        ({"prompt_tokens": frozenset({None})}, "not counted by both"),
        ({"tokens": frozenset({12})}, "other lengths in tokens (64, 12)"),
        ({"exact": False}, "not counted by both"),
        ({"mechanical": True}, "stand-in"),
    ],
)
def test_what_keeps_it_from_being_said(change: dict[str, object], reason: str) -> None:
    (found,) = findings([FAST, replace(SLOW, **change)])  # type: ignore[arg-type]
    assert found.reasons
    assert reason in " ".join(why.en for why in found.reasons)
    assert all(why.zh for why in found.reasons)


@pytest.mark.parametrize("written", ["F16", "fp16", "torch.float16", " float16 "])
def test_one_precision_has_several_names(written: str) -> None:
    assert precision_name(written) == "F16"
    (found,) = findings([FAST, replace(SLOW, precision=written)])
    assert not found.reasons


def test_each_metric_for_itself_and_each_side_beside_the_best() -> None:
    figures: dict[Metric, Spread] = {"speed": Spread((5.0, 5.0, 5.0)), "first_token": Spread((0.1,))}
    third = replace(SLOW, name="third", figures=figures)
    assert [(found.metric, found.better, found.worse) for found in findings([SLOW, FAST, third])] == [
        ("speed", "fast", "slow"), ("speed", "fast", "third"),
    ]  # fmt: skip
    assert findings([FAST]) == findings([]) == []


def test_median_and_range() -> None:
    spread = Spread((3.0, 1.0, 2.0, 10.0))
    assert (spread.median, spread.least, spread.most) == (2.5, 1.0, 10.0)
