"""`agreement` by hand: its two tests from the formulas of statistics.md (a.2, row 9 of a.4), and what it says."""

from __future__ import annotations

import math

import pytest

from shadow.gate.compiled import compile_tests
from shadow.gate.measures import AgreementCounts, Evidence, SliceEvidence
from shadow.gate.rules import Judgement, judge
from shadow.records.policy import Agreement, Cap, Needs, StagePolicy

NEEDS = Needs(pairs=1, slice_pairs=1, coverage=0.5, freshness_s=10**9)


def by_hand(candidate_only: int, baseline_only: int, n: int, margin: float, side: str) -> float:
    """Log e of the mixture over 29 fixed bets, each bet's factor and weight written out."""
    etas = [-9 + 0.5 * k for k in range(29)]
    densities = [math.exp(-(((eta - math.log(0.2 / 0.8)) / 1.5) ** 2) / 2) for eta in etas]
    total = 0.0
    for eta, density in zip(etas, densities, strict=True):
        kappa = 1 / (1 + math.exp(-eta))

        def factor(x: int, kappa: float = kappa) -> float:
            part = (x + 1) / (margin + 1) if side == "le" else (1 - x) / (1 - margin)
            return 1 - kappa + kappa * part

        log_f = candidate_only * math.log(factor(1)) + baseline_only * math.log(factor(-1))
        log_f += (n - candidate_only - baseline_only) * math.log(factor(0))
        total += (0.9 * density / sum(densities) + 0.1 / 29) * math.exp(log_f)
    return math.log(total)


def judged(counts: AgreementCounts | None, rule: Agreement, effect: float = 1.0) -> Judgement:
    evidence = Evidence(
        slices={"all": SliceEvidence(pairs=10_000, coverage=1.0, agreement=counts)},
        design_effect={"all": {"agreement": effect}},
    )
    return judge(StagePolicy("shadow", NEEDS, (rule,)), evidence, expires_s=10**6, tiles_longest_age=100)


@pytest.mark.parametrize("margin", [0.05, 0.02])
@pytest.mark.parametrize("counts", [(30, 28, 2400), (400, 28, 2400), (0, 0, 500), (120, 60, 1200), (5, 200, 900)])
def test_log_e_is_that_of_the_formulas(counts: tuple[int, int, int], margin: float) -> None:
    """Promotion needs evidence that D is below +margin; what enters the rollback is that it is above."""
    (line,) = judged(AgreementCounts(*counts), Agreement(margin)).rules
    assert line.log_e_pass == pytest.approx(by_hand(*counts, margin, "ge"), abs=1e-9)
    assert line.log_e_fail == pytest.approx(by_hand(*counts, margin, "le"), abs=1e-9)
    assert line.estimate == pytest.approx((counts[0] - counts[1]) / counts[2])


def test_sessions_weigh_less() -> None:
    """Counts are divided by the design effect of the requests' sampling keys."""
    (line,) = judged(AgreementCounts(60, 56, 4800), Agreement(), effect=2.0).rules
    assert line.log_e_pass == pytest.approx(by_hand(30, 28, 2400, 0.05, "ge"), abs=1e-9)


def test_verdicts_of_an_equal_and_of_an_odd_candidate() -> None:
    """A candidate that differs like production from itself passes, one that differs far more is rolled back."""
    (equal,) = judged(AgreementCounts(30, 28, 2400), Agreement()).rules
    assert ("PASS", 2400) == (equal.verdict.name, equal.pairs)
    odd = judged(AgreementCounts(400, 28, 2400), Agreement())
    assert ("rollback", ("agreement/all",)) == (odd.decision, odd.culprits)
    assert "400 are answered otherwise than by production by the candidate alone and 28 by the baseline" in odd.reason


def test_without_a_baseline_it_waits() -> None:
    """Nothing counted yet is undecided, and says for whom it waits."""
    (line,) = judged(None, Agreement()).rules
    assert ("UNDECIDED", 0.0) == (line.verdict.name, line.log_e_pass)
    assert line.reason.startswith("agreement in all: waits for the baseline: no pair yet")


def test_its_weight_is_the_kind_s() -> None:
    """It weighs 0.05 to a cap's 0.20, scaled so that all weights of the stage sum to 0.95."""
    compiled = compile_tests(StagePolicy("shadow", NEEDS, (Cap("safe"), Agreement())))
    weights = [test.weight for test in compiled.tests if not test.is_promote]
    assert weights == pytest.approx([0.76, 0.19])
