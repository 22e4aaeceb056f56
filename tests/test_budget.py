"""How a dialogue is fitted into the window: the arithmetic, without a daemon."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.model.budget import LONGEST_SUMMARY, Shares, first_kept, outgrown

COSTS = st.lists(st.integers(1, 400), max_size=60)


def steps(costs: list[int], shares: Shares) -> list[int]:
    """How many turns stood in a summary after each turn of a dialogue."""
    start, head, found = 0, 0, []
    for number in range(1, len(costs) + 1):
        count = outgrown(costs[start:number], share=shares.history, kept=shares.kept, head=head, summary=shares.summary)
        if count:
            start, head = start + count, shares.summary
        found.append(start)
    return found


def test_the_shares_add_up_to_the_window() -> None:
    shares = Shares(window=4096, fixed=300, answer=1024, passages=500)
    assert shares.history == 4096 - 300 - 1024 - 500 - 512
    assert shares.kept == int(shares.history * 0.6)
    assert shares.beside(100) == 4096 - 300 - 1024 - 500 - 100
    assert shares.summary == shares.history // 6
    assert Shares(window=131072, fixed=0, answer=100).summary == LONGEST_SUMMARY


def test_passages_and_answers_of_any_length_leave_the_dialogue_a_place() -> None:
    assert Shares(window=4000, fixed=0, answer=4000, passages=4000).history == 4000 - 1000 - 2000 - 500
    assert Shares(window=100, fixed=500, answer=10).history == 0


def test_nothing_goes_while_the_history_is_within_its_share() -> None:
    assert outgrown([10] * 10, share=100, kept=60, head=0, summary=20) == 0
    assert outgrown([10] * 10, share=100, kept=60, head=1, summary=20) == 6


def test_the_last_turn_stays() -> None:
    assert outgrown([500], share=100, kept=60, head=0, summary=20) == 0
    assert outgrown([10, 500], share=100, kept=60, head=50, summary=20) == 1


@given(COSTS, st.integers(0, 2000), st.integers(0, 100))
def test_what_is_left_is_at_most_what_was_wanted_and_no_turn_more_than_needed_goes(costs: list[int], share: int, head: int) -> None:
    kept, summary = int(share * 0.6), share // 5
    count = outgrown(costs, share=share, kept=kept, head=head, summary=summary)
    if head + sum(costs) <= share:
        assert count == 0
        return
    left = sum(costs[count:]) + summary
    assert left <= kept or count == max(0, len(costs) - 1)
    if count:
        assert left + costs[count - 1] > kept


@given(COSTS, st.integers(100, 2000))
def test_the_history_is_brought_down_in_steps(costs: list[int], window: int) -> None:
    shares = Shares(window=window, fixed=0, answer=window // 4)
    found = steps(costs, shares)
    assert found == sorted(found)
    # a step makes room for 40 % of the share, but where the last turn alone takes more than what is kept
    if costs and max(costs) <= shares.kept - shares.summary:
        assert len(set(found)) - 1 <= sum(costs) / max(1, shares.history - shares.kept)


def test_a_history_that_is_cut_to_its_share_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: without large steps nearly each turn is one."""
    monkeypatch.setattr("orchestra.model.budget.KEPT_SHARE", 1.0)
    shares = Shares(window=2000, fixed=0, answer=500)
    assert len(set(steps([60] * 60, shares))) - 1 > 3600 / (shares.history * 0.4)


@given(COSTS, st.integers(0, 2000))
def test_what_is_left_out_stays_left_out_and_the_rest_fits(costs: list[int], share: int) -> None:
    starts = [first_kept(costs[:number], share) for number in range(len(costs) + 1)]
    assert starts == sorted(starts)
    assert sum(costs[starts[-1] :]) <= share


def test_the_last_turn_stays_where_it_fits() -> None:
    assert first_kept([30, 30, 90], 100) == 2
    assert first_kept([30, 30, 101], 100) == 3
