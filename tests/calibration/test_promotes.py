"""How often the policy of design.md, section 14, promotes: statistics.md 2.11."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from shadow.gate.compiled import compile_tests
from shadow.records.policy import StagePolicy
from tests.calibration.batch import decide
from tests.calibration.conftest import Note
from tests.calibration.section_14 import ALONE, HIGH, TYPICAL, Fourteen, simulate, tightened, without_improve
from tests.calibration.sizes import with_runs
from tests.calibration.tolerance import is_share

EVERY, FIRST = 250, 19
"""Looks every 250 pairs; the first that may promote is at 5,000."""
SAID = 300
PAIRS = (5_000, 20_000, 100_000)

EQUAL: Mapping[str, float] = {}
TWO = dict.fromkeys(TYPICAL, 0.02)
DIVISION = {**TWO, "correct": 0.10}
TIGHT, TIGHT_ALONE = tightened(ALONE), without_improve(tightened(ALONE))

ROWS = [
    # name, rates, share of each slice, phi, points, policy, promoted by 5,000, 20,000 and 100,000 pairs in percent
    ("5 % typ, equal", TYPICAL, 0.05, 0.5, EQUAL, TIGHT, (0, 0, 0)),
    ("5 % typ, +2", TYPICAL, 0.05, 0.5, TWO, TIGHT, (0, 1, 1)),
    ("5 % typ, +2 division +10", TYPICAL, 0.05, 0.5, DIVISION, TIGHT, (0, 61, 100)),
    ("5 % typ, equal, no improve", TYPICAL, 0.05, 0.5, EQUAL, TIGHT_ALONE, (0, 2, 8)),
    ("5 % typ, +2, no improve", TYPICAL, 0.05, 0.5, TWO, TIGHT_ALONE, (0, 63, 100)),
    ("10 % typ, equal", TYPICAL, 0.10, 0.5, EQUAL, TIGHT, (0, 0, 0)),
    ("10 % typ, +2", TYPICAL, 0.10, 0.5, TWO, TIGHT, (0, 1, 1)),
    ("10 % typ, +2 division +10", TYPICAL, 0.10, 0.5, DIVISION, TIGHT, (3, 95, 100)),
    ("10 % typ, equal, no improve", TYPICAL, 0.10, 0.5, EQUAL, TIGHT_ALONE, (0, 2, 14)),
    ("10 % typ, +2, no improve", TYPICAL, 0.10, 0.5, TWO, TIGHT_ALONE, (5, 96, 100)),
    ("10 % high, equal", HIGH, 0.10, 0.8, EQUAL, TIGHT, (0, 0, 0)),
    ("10 % high, +2", HIGH, 0.10, 0.8, TWO, TIGHT, (0, 1, 3)),
    ("10 % high, +2 division +10", HIGH, 0.10, 0.8, DIVISION, TIGHT, (40, 100, 100)),
    ("10 % high, equal, no improve", HIGH, 0.10, 0.8, EQUAL, TIGHT_ALONE, (2, 14, 74)),
    ("10 % high, +2, no improve", HIGH, 0.10, 0.8, TWO, TIGHT_ALONE, (68, 100, 100)),
    ("defaults, 25 % typ, +2 division +10", TYPICAL, 0.25, 0.5, DIVISION, ALONE, (91, 100, 100)),
    ("defaults, 25 % typ, equal, no improve", TYPICAL, 0.25, 0.5, EQUAL, without_improve(ALONE), (96, 99, 99)),
]
FEW = ("10 % typ, +2 division +10", "defaults, 25 % typ, +2 division +10")
FEW_RUNS = 40


@pytest.mark.parametrize(
    ("name", "rates", "share", "phi", "points", "stage", "said", "runs"), with_runs(ROWS, FEW, FEW_RUNS, SAID)
)
def test_promotes(
    note: Note,
    name: str,
    rates: Mapping[str, float],
    share: float,
    phi: float,
    points: Mapping[str, float],
    stage: StagePolicy,
    said: tuple[int, int, int],
    runs: int,
) -> None:
    """2.11: promoted within 5,000, 20,000 and 100,000 pairs, looks every 250, requests alone.

    A promote is the first look at which all tests pass and no rollback was latched. The strict rule on `all` is left
    out, and reward passes in 85 %, independent of the other graders: the text says neither. Tolerance: four standard
    errors of both, 300 runs there, and half a point of rounding. Equal candidates are rolled back in <= 5 %.
    """
    pairs = PAIRS[2] if runs > FEW_RUNS else PAIRS[1]
    seed = 211
    rng = np.random.default_rng([seed, [row[0] for row in ROWS].index(name), runs])
    compiled = compile_tests(stage)
    firsts, backs = [], 0
    for _ in range(0, runs, 20):
        counted = simulate(Fourteen(rates, share, phi, points), stage, rng, runs=20, pairs=pairs, every=EVERY)
        decided = decide(compiled, compiled.tests, counted, tiles_longest_age=10_080, first_look=FIRST)
        is_promoted, is_back = decided.outcomes()
        firsts.append(np.where(is_promoted, (decided.promoted + 1) * EVERY, 10 * PAIRS[2]))
        backs += int(is_back.sum())
    at = np.concatenate(firsts)
    limits = [limit for limit in PAIRS if limit <= pairs]
    found = [int(np.count_nonzero(at <= limit)) for limit in limits]
    note(
        f"2.11 {name}: promoted by 5,000 / 20,000 / 100,000 pairs (rolled back)",
        "/".join(map(str, said)) + " % (≤ 1.7 %)",
        "/".join(f"{hits / runs:.0%}"[:-1] for hits in found) + f" % ({backs / runs:.1%})",
        runs,
        seed,
    )
    wrong = [
        limit
        for limit, share_said, hits in zip(limits, said, found, strict=False)
        if not (
            is_share(share_said / 100, hits, runs, SAID)
            or is_share((share_said + 0.5) / 100, hits, runs, SAID)
            or is_share(max(share_said - 0.5, 0) / 100, hits, runs, SAID)
        )
    ]
    assert wrong == []
    assert backs / runs <= 0.05
