"""Which requests a role answers, and how far a partition is finished."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from shadow.stream.answer import is_asked, is_served_by
from shadow.stream.progress import Progress
from tests.worker.builders import request


def test_the_share_of_keys_asked_is_the_rate_and_stable() -> None:
    """
    A rate of 0.2 asks a fifth of the keys, the same ones on every machine and for ever.
    """
    asked = [is_asked("candidate", f"session-{n}", 0.2) for n in range(10_000)]

    assert 1_850 < sum(asked) < 2_150
    assert [n for n in range(30) if asked[n]] == [3, 7, 8, 11]  # by `b2sum -l 64`


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_rate_asks_a_superset(key: str, one: float, other: float) -> None:
    """
    Whoever is asked at a rate is asked at every higher one; at 1 everyone is, at 0 nobody.
    """
    low, high = sorted((one, other))

    assert is_asked("candidate", key, low) <= is_asked("candidate", key, high)
    assert is_asked("candidate", key, 1.0)
    assert not is_asked("candidate", key, 0.0)


def test_roles_are_asked_independently() -> None:
    """
    The keys of which one role is asked say nothing about another's.
    """
    both = sum(is_asked("candidate", str(n), 0.5) and is_asked("baseline", str(n), 0.5) for n in range(10_000))

    assert 2_300 < both < 2_700


def test_a_role_that_served_the_user_is_not_asked_again() -> None:
    """
    Production served; the candidate served; the candidate failed and production served in its place; unknown.
    """
    live = request().live
    assert live is not None
    by_candidate = request(live=replace(live, role="candidate"))
    failed_attempt = request(live=replace(live, failed_attempt="connection refused"))

    assert [is_served_by(role, request()) for role in ("candidate", "production", "baseline")] == [False, True, False]
    assert [is_served_by(role, by_candidate) for role in ("candidate", "production")] == [True, False]
    assert is_served_by("candidate", failed_attempt) and is_served_by("production", failed_attempt)
    assert not is_served_by("production", request(live=None))


@given(st.lists(st.integers(1, 3), min_size=1, max_size=30), st.randoms())
def test_the_position_is_the_first_unfinished_request(gaps: list[int], random: object) -> None:
    """
    In any order of finishing, and with gaps in the offsets, the position is the smallest one not finished.
    """
    offsets = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    progress = Progress()
    for offset in offsets:
        progress.take(offset, 10)
    left = set(offsets)

    order = list(offsets)
    random.shuffle(order)  # type: ignore[attr-defined]
    for offset in order:
        assert progress.position() == min(left)
        progress.finish(offset, 10)
        left.discard(offset)
        assert (progress.waiting(), progress.bytes) == (len(left), 10 * len(left))
    assert progress.position() == offsets[-1] + 1
