"""Thousands of interleavings of traffic, owners and faults on the real fold, against a page of reference."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Miscounted, Schedule
from tests.model.variants import VARIANTS

SHORT = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_every_schedule_counts_like_the_reference():
    """P1, P2, P3: whatever is killed, frozen, doubled or forgotten, every counter of every tile is the reference's."""
    run_state_machine_as_test(Schedule, settings=SHORT)


@pytest.mark.soak
def test_every_schedule_of_a_long_search_counts_like_the_reference():
    """The same with 20,000 schedules of up to 80 steps."""
    run_state_machine_as_test(Schedule, settings=settings(SHORT, max_examples=20_000, stateful_step_count=80))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.__name__)
def test_an_owner_that_is_built_wrong_is_found(variant):
    """The search is not blind: each broken variant counts something else in one of its first schedules."""
    wrong = type("Wrong", (Schedule,), {"owner_class": variant})
    with pytest.raises(Miscounted):
        run_state_machine_as_test(wrong, settings=settings(SHORT, max_examples=1500, report_multiple_bugs=False))
