"""A drop in one slice, and a candidate that turns bad late: statistics.md a.5, through the gate's own fold."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from shadow.gate.compiled import WEIGHT_SUM
from shadow.gate.run import RunState, fold_tile, judge_tile
from shadow.gate.stats.detector import need_sr
from shadow.records.decisions import ROLLBACK
from shadow.records.policy import Needs, NoRegression, Policy, StagePolicy
from shadow.records.tallies import Key, Tally
from tests.calibration.conftest import Note
from tests.calibration.corrected import Tile, first_over, looks
from tests.calibration.draws import chances
from tests.calibration.real_fold import decided
from tests.calibration.section_14 import ALONE
from tests.calibration.sessions import outcomes_of, session_numbers, tiles_of
from tests.calibration.simulate import RATES, Truth
from tests.calibration.sizes import share_of, sizes, with_runs
from tests.calibration.tolerance import is_no_later, is_quantile
from tests.gate.policies import EXPIRES_S, SHADOW, TILES

EVERY, ONSET = 50, 15_000
SAID = 200
"""Runs behind a.5's medians: not in the text; statistics.md says 600 to 8,000 a row, and this is more cautious."""

NEVER_PROMOTES = Needs(pairs=10**9, within_s=86_400, slice_pairs=0, coverage=0.98)


def policy_of(stage: StagePolicy) -> Policy:
    """The stage alone, with promotion disabled and T = 10,080 tiles."""
    return Policy((replace(stage, needs=NEVER_PROMOTES),), expires_s=EXPIRES_S)


DROPS = [
    # name, points, requests of a session, median pairs, longest run
    ("10 points, alone", 0.10, 1, 1_709, 20_000),
    ("5 points, alone", 0.05, 1, 5_014, 30_000),
    ("10 points, sessions of five", 0.10, 5, 7_634, 40_000),
    ("5 points, sessions of five", 0.05, 5, 21_766, 100_000),
]


@pytest.mark.parametrize(
    ("name", "points", "session", "median", "longest", "runs"), with_runs(DROPS, ("10 points, alone",), 24, SAID)
)
def test_a_drop_in_a_tenth_of_the_traffic(
    note: Note, name: str, points: float, session: int, median: int, longest: int, runs: int
) -> None:
    """a.5: pairs until a drop in a 10 % slice is rolled back by the section 14 policy, without its rule on `all`.

    Sessions of five are alike throughout. Tiles of 50 pairs. Tolerance: the quantiles four standard errors of .5 around
    our median, and 10 % for what the text does not say (the traffic of the other rules, the looks).
    """
    truth = Truth(shift={"pinned": -points}, slice_share=0.10, session=session, alike=1.0)
    results = [decided(seed, truth, pairs=longest, per_tile=EVERY, policy=policy_of(ALONE)) for seed in range(runs)]
    values = np.array([pairs for pairs, _ in results])
    found = [judgement for _, judgement in results if judgement.decision == ROLLBACK]
    note(
        f"a.5 drop in a 10 % slice, {name}: median pairs (found)",
        f"{median:,}",
        f"{np.median(values):,.0f} ({len(found) / runs:.0%} within {longest:,})",
        runs,
        0,
    )
    assert is_quantile(median, values, SAID, EVERY + 0.1 * median)
    blamed = Counter(judgement.culprits[0] for judgement in found)
    assert blamed.most_common(1)[0][0] == "no_regression/debug-search-api/pinned"


ONE_RULE = StagePolicy("shadow", Needs(pairs=0, slice_pairs=0), (NoRegression("reward", strict=True),))


@pytest.mark.parametrize("runs", sizes(100, 1000))
def test_late_onset_with_one_strict_rule(note: Note, runs: int) -> None:
    """Must show: base .9, phi .5, 50 pairs a tile, 10,080 tiles: 5 points at 15,000 are found within 1,350 (median).

    The rule on `all` has the whole weight of .95; either the average or the detector finds it. The limit holds within
    two standard errors of the median's rank for the small number of runs.
    """
    seed = 150
    rng = np.random.default_rng([seed, runs])
    needs = (math.log(1 / 0.04) - math.log(WEIGHT_SUM), need_sr(TILES, 0.01) - math.log(WEIGHT_SUM))
    delays = []
    for _ in range(0, runs, 100):
        before = outcomes_of(chances(0.9, 0.9), session_numbers(100, ONSET, 1, 1), 0.0, rng, runs=100)
        after = outcomes_of(chances(0.9, 0.85), session_numbers(100, 8_000, 1, 1), 0.0, rng, runs=100)
        outcomes = np.concatenate([before, after], axis=1)
        numbers = session_numbers(100, outcomes.shape[1], 1, 1)
        either = first_over(looks(tiles_of(outcomes, numbers, rng, every=EVERY), 0.0, "ge"), (needs,))[0, 2]
        at = np.where(either < 0, outcomes.shape[1], (either + 1) * EVERY)
        delays.append(at - ONSET)
    found = np.concatenate(delays)
    early = np.count_nonzero(found <= 0) / runs
    note(
        "late onset at 15,000, 5 points, one strict rule on `all`, base .9: median delay (false before)",
        "≤ 1,350",
        f"{np.median(found[found > 0]):,.0f} ({early:.1%})",
        runs,
        seed,
    )
    rank = 0.5 - (1 / math.sqrt(runs) if runs < share_of(1000) else 0.0)
    assert np.quantile(found[found > 0], rank) <= 1_350
    assert early <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / runs)


ONSETS = [
    # name, stage, production's reward, share of each slice, limit of the median delay, the one found there, longest
    ("section 14 policy, base .9", SHADOW, 0.90, 0.10, 1_600, None, 6_000),
    ("without the rule on `all`", ALONE, 0.85, 0.10, None, 9_004, 40_000),
]


@pytest.mark.parametrize(
    ("name", "stage", "reward", "share", "limit", "said", "longest", "runs"),
    with_runs(ONSETS, ("section 14 policy, base .9",), 5, 100),
)
def test_late_onset_with_the_policy(
    note: Note,
    name: str,
    stage: StagePolicy,
    reward: float,
    share: float,
    limit: int | None,
    said: int | None,
    longest: int,
    runs: int,
) -> None:
    """a.5 and must show: all traffic drops 5 points at 15,000; promotion disabled, 50 pairs a tile, 10,080 tiles.

    With a handful of runs the limit is met by their lower quartile. Sooner than the text says is no fault.
    """
    drops = {grader: -0.05 for grader in RATES if grader != "tagged"}
    truth = Truth(shift=drops, onset=ONSET, slice_share=share, reward=reward)
    results = [
        decided(seed, truth, pairs=ONSET + longest, per_tile=EVERY, policy=policy_of(stage)) for seed in range(runs)
    ]
    delays = np.array([pairs - ONSET for pairs, _ in results])
    late = delays[delays > 0]
    note(
        f"late onset at 15,000, 5 points, {name}, slices of {share:.0%}: median delay (false before)",
        f"≤ {limit:,}" if limit else f"{said:,}",
        f"{np.median(late):,.0f} ({np.count_nonzero(delays <= 0)} of {runs})",
        runs,
        0,
    )
    assert limit is None or np.quantile(late, 0.5 if runs > 5 else 0.25) <= limit
    assert said is None or is_no_later(said, late, SAID, EVERY + 0.1 * said)


def test_one_rule_over_many_runs_is_the_fold() -> None:
    """`corrected.looks` has the design effects, e-values and detector of the real fold, at each of 25 tiles."""
    rng = np.random.default_rng(151)
    session = session_numbers(2, 2_500, 5, 7)
    outcomes = outcomes_of(chances(0.9, 0.85), session, 0.5, rng, runs=2)
    made = list(tiles_of(outcomes, session, rng, every=100))
    states = [RunState.begin("r", policy_of(ONE_RULE), 0) for _ in range(2)]
    for number, look in enumerate(looks(iter(made), 0.0, "ge")):
        for run, state in enumerate(states):
            fold_tile(state, number, tally_of(made[number], run))
            judgement = judge_tile(state)
            line = judgement.rules[0]
            assert line.effect == pytest.approx(look.effect[run], abs=1e-9)
            assert line.log_e_fail == pytest.approx(look.log_e[run], abs=1e-9)
            expected = -math.inf if judgement.rollback.log_sr is None else judgement.rollback.log_sr
            assert expected == pytest.approx(look.log_sr[run] + math.log(WEIGHT_SUM), abs=1e-9)


def tally_of(tile: Tile, run: int) -> Tally:
    """One run's part of a tile."""
    losses, ties, wins = tile.letters[run].tolist()
    key = Key("all", "graders", "reward")
    tally = Tally({key: [ties, losses, wins, 0], Key("all", "classes", ""): [losses + ties + wins, 0, 0, 0, 0, 0]})
    tally.cells[key] = dict(_filled(tile, run))
    return tally


def _filled(tile: Tile, run: int) -> Iterator[tuple[int, list[int]]]:
    for cell, values in enumerate(tile.cells[run].tolist()):
        if values[0]:
            yield cell, values
