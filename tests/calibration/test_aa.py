"""How often the gate is wrong, and how often it gets there: seeded runs through the real fold."""

from __future__ import annotations

from collections import Counter

import pytest
from scipy.stats import binom

from shadow.records.decisions import PROMOTE, ROLLBACK
from shadow.records.tallies import Key
from tests.calibration.conftest import Note
from tests.calibration.real_fold import decided
from tests.calibration.simulate import RATES, Truth, tiles
from tests.calibration.sizes import share_of
from tests.gate.policies import POLICY

PAIRS = 20_000
PER_TILE = 100
Z_ONE_SIDED = 1.6449
SESSIONS = (1, 5)
"""Half of the seeds send every request in a session of its own, half in sessions of five."""


def naive_alarm(seed: int, truth: Truth) -> bool:
    """Whether McNemar's one-sided test at 5 %, looked at on every tile, ever speaks against the candidate."""
    losses = wins = 0
    for tally in tiles(seed, truth, pairs=PAIRS, per_tile=PER_TILE):
        four = tally.vectors[Key("all", "graders", "reward")]
        losses, wins = losses + four[1], wins + four[2]
        if losses + wins >= 10 and (losses - wins) > Z_ONE_SIDED * (losses + wins) ** 0.5:
            return True
    return False


def check_false_rollbacks(note: Note, seeds: int) -> None:
    """No more false rollbacks than the 95 % quantile of as many runs at 5 %."""
    rollbacks: Counter[int] = Counter()
    naive: Counter[int] = Counter()
    for seed in range(seeds):
        truth = Truth(session=SESSIONS[seed % 2])
        rollbacks[truth.session] += decided(seed, truth, pairs=PAIRS, per_tile=PER_TILE)[1].decision == ROLLBACK
        naive[truth.session] += naive_alarm(seed, truth)
    limit = int(binom.ppf(0.95, seeds, POLICY.stages[0].alpha))
    halves = seeds // 2
    note(
        f"a.5 A/A, section 14 policy, {PAIRS:,} pairs, {PAIRS // PER_TILE} looks: false rollbacks alone, in "
        "sessions of five; naive McNemar alone, in sessions",
        "≤ 5 % (0.5 to 1.5 % alone)",
        " / ".join(f"{count / halves:.1%}" for count in (rollbacks[1], rollbacks[5]))
        + "; "
        + " / ".join(f"{count / halves:.1%}" for count in (naive[1], naive[5])),
        seeds,
        0,
    )
    assert rollbacks.total() <= limit
    assert naive.total() > limit, "the traffic is too tame to show anything"


def test_equal_candidates_are_rarely_rolled_back(note: Note) -> None:
    """Forty runs of two equal, noisy versions, judged on every tile."""
    check_false_rollbacks(note, 40)


@pytest.mark.calibration
def test_equal_candidates_are_rarely_rolled_back_in_two_hundred_runs(note: Note) -> None:
    """Two hundred runs: at most 15 false rollbacks, the 95 % quantile of Binomial(200, 0.05)."""
    check_false_rollbacks(note, share_of(200))


def better() -> dict[str, float]:
    """Two points better everywhere (one where three would be perfect), ten in division."""
    return {**dict.fromkeys(RATES, 0.02), "tagged": 0.01, "correct": 0.10}


@pytest.mark.calibration
def test_better_candidates_are_promoted_at_five_thousand_pairs(note: Note) -> None:
    """1,250 pairs a slice, +2 points, division +10: statistics.md a.5 says that 92 to 95 % are promoted."""
    runs = share_of(400)
    promoted = sum(
        decided(seed, Truth(shift=better()), pairs=5000, per_tile=5000)[1].decision == PROMOTE for seed in range(runs)
    )
    note(
        "a.5 promoted at 5,000 pairs, 1,250 a slice, +2 points, division +10, section 14 policy",
        "92 to 95 %",
        f"{promoted / runs:.1%}",
        runs,
        0,
    )
    # Three standard errors below the lower end.
    assert promoted / runs >= 0.92 - 3 * (0.92 * 0.08 / runs) ** 0.5
