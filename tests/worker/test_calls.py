"""The adaptive limit and the spending cap."""

from __future__ import annotations

import pytest

from shadow.adapters.calls import Budget, Limit
from shadow.records.replies import Reply

FAST = Reply("answered", 200, duration_us=1000)
SLOW = Reply("answered", 200, duration_us=50_000)
FAILED = Reply("error", 500, duration_us=1000)


def feed(limit: Limit, reply: Reply, times: int = 1, *, is_saturated: bool = True) -> None:
    for _ in range(times):
        limit.ended(reply, cuts_at_start=limit.cuts, is_saturated=is_saturated)


def test_the_limit_rises_quickly_to_its_bound() -> None:
    """
    While the model stays fast, the limit doubles each round, and stops at the maximum.
    """
    limit = Limit(1, 64)

    feed(limit, FAST, 15)
    assert limit.calls == 16
    feed(limit, FAST, 200)
    assert limit.calls == 64


def test_a_failure_halves_the_limit_once_a_round() -> None:
    """
    Calls that were under way during a cut cause no second one; the minimum holds.
    """
    limit = Limit(2, 64)
    feed(limit, FAST, 100)

    cuts = limit.cuts
    for _ in range(64):
        limit.ended(FAILED, cuts_at_start=cuts, is_saturated=True)
    assert limit.calls == 32
    feed(limit, FAILED, 20)
    assert limit.calls == 2


def test_after_a_cut_the_limit_rises_by_one_a_round() -> None:
    """
    Once it has been cut, as many successes as calls fit add one.
    """
    limit = Limit(1, 64)
    feed(limit, FAST, 100)
    feed(limit, FAILED)

    feed(limit, FAST, 33)
    assert limit.calls == 33


def test_slow_answers_and_idle_times_do_not_raise_the_limit() -> None:
    """
    A model that became slower gets no more calls at once, and unused room grows nothing.
    """
    limit = Limit(1, 64)
    feed(limit, FAST, 7)
    feed(limit, SLOW, 3)
    reached = limit.calls
    feed(limit, SLOW, 100)
    assert limit.calls == reached

    idle = Limit(1, 64)
    feed(idle, FAST, 100, is_saturated=False)
    assert idle.calls == 1


@pytest.mark.parametrize("bounds", [(0, 4), (5, 4), (-1, -1)])
def test_impossible_bounds_are_refused(bounds: tuple[int, int]) -> None:
    """
    The minimum is at least one and at most the maximum.
    """
    with pytest.raises(ValueError, match="1 <= min <= max"):
        Limit(*bounds)


def test_a_budget_says_what_is_spent() -> None:
    """
    The refusal names the cap, and the share spent is the larger of calls and cost.
    """
    budget = Budget(calls=4, cost_micro=1_000_000)
    assert (budget.refusal(), budget.spent()) == (None, 0.0)

    budget.began()
    budget.ended(500_000)
    assert (budget.refusal(), budget.spent()) == (None, 0.5)
    budget.ended(600_000)
    assert budget.refusal() == "the budget of 1 is spent: 1.1"
    assert Budget(calls=0).refusal() == "the budget of 0 calls is spent"
    assert (Budget().refusal(), Budget().spent()) == (None, 0.0)
