"""`plan`: the rules of thumb against the engine itself, and what follows from traffic, volume and level."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from shadow.gate.compiled import compile_tests
from shadow.gate.laws import Assumed, CostLaw, RateLaw, detectable, law_of, pairs_needed
from shadow.gate.plan import Rates, plan, rollback_alpha
from shadow.gate.stats import power
from shadow.gate.stats.engine import PAIR, RATE, RATE_BELOW_KAPPA0, cached_log_factors, log_e_many, log_prior
from shadow.records.policy import Agreement, Cap, Floor, Improve, NoRegression, Policy, StagePolicy
from tests.gate.policies import POLICY, SHADOW

LOOK = 20


def share_decided(shares, outcomes, mean, side, kappa0, *, pairs, alpha, runs=600, seed=11) -> float:
    """Share of seeded runs in which the engine decides at one of its looks within so many pairs."""
    rng = np.random.default_rng(seed)
    looks = max(1, round(pairs / LOOK))
    counts = rng.multinomial(LOOK, shares, size=(runs, looks)).cumsum(axis=1).reshape(runs * looks, 3)
    factors = np.broadcast_to(cached_log_factors(outcomes, mean, side), (runs * looks, 29, 3))
    priors = np.broadcast_to(log_prior(kappa0), (runs * looks, 29))
    values = log_e_many(counts.astype(float), factors, priors).reshape(runs, looks)
    return float((values.max(axis=1) >= math.log(1 / alpha)).mean())


@pytest.mark.parametrize(("alpha", "psi", "margin"), [(0.05, 0.15, 0.05), (0.01, 0.1, 0.03), (0.002, 0.15, 0.05)])
def test_the_rule_of_thumb_is_what_the_engine_needs(alpha, psi, margin):
    """
    With the pairs of the 90 % constant the engine proves a margin in about nine runs of ten, at levels in between too.
    """
    pairs = power.pairs_likely(psi, margin, alpha)
    shares = [psi / 2, 1 - psi, psi / 2]
    found = share_decided(shares, PAIR, -margin, "le", 0.2, pairs=pairs, alpha=alpha)
    assert found == pytest.approx(0.9, abs=0.04)
    assert power.chance(pairs, psi, margin, alpha) == pytest.approx(0.9)


def test_chance_follows_the_engine_at_other_numbers():
    """
    Half the pairs of the 90 % constant are proven in about as many runs as the approximation says.
    """
    pairs = power.pairs_likely(0.15, 0.05) / 2
    found = share_decided([0.075, 0.85, 0.075], PAIR, -0.05, "le", 0.2, pairs=pairs, alpha=0.05)
    assert found == pytest.approx(power.chance(pairs, 0.15, 0.05), abs=0.08)


def test_a_smallest_regression_is_found_in_nine_runs_of_ten():
    """
    A drop of the size that `plan` names crosses the threshold of one rule alone in at least nine runs of ten.
    """
    compiled = compile_tests(SHADOW)
    index = 1
    alpha = rollback_alpha(compiled, index)
    found = detectable(SHADOW.rules[index], 5000, alpha, 0.15, 0.02)
    assert "points" == found.unit
    drop = found.value
    shares = [(0.15 + drop) / 2, 0.85, (0.15 - drop) / 2]
    assert 0.87 <= share_decided(shares, PAIR, 0.0, "ge", 0.2, pairs=5000, alpha=alpha)


def test_a_rate_over_the_cap_is_found_in_nine_runs_of_ten():
    """
    So does a failing share of the size that it names for a cap.
    """
    rule = Cap("safe", max=0.005)
    found = detectable(rule, 4000, 0.008, 0.15, 0.02)
    assert "failing" == found.unit and found.value > 0.005
    shares = [1 - found.value, 0, found.value]
    assert 0.88 <= share_decided(shares, RATE, 0.005, "le", 0.005, pairs=4000, alpha=0.008)


def test_a_rate_law_is_the_engine_at_a_binomial():
    """
    The chance with so many answers is the share of seeded runs that pass with exactly so many.
    """
    law = RateLaw(0.05, 0.01, 0.05)
    n = 200
    rng = np.random.default_rng(5)
    violations = rng.binomial(n, 0.01, size=4000).astype(float)
    counts = np.stack([n - violations, np.zeros(4000), violations], axis=1)
    factors = np.broadcast_to(cached_log_factors(RATE, 0.05, "ge"), (4000, 29, 3))
    priors = np.broadcast_to(log_prior(RATE_BELOW_KAPPA0), (4000, 29))
    passed = (log_e_many(counts, factors, priors) >= math.log(20)).mean()
    assert law.chance(n) == pytest.approx(passed, abs=0.02)


def test_clean_answers_under_a_cap_are_those_of_the_reference_values():
    """
    A candidate that never fails needs the 5,940 answers of reference value V12.
    """
    law = RateLaw(0.001, 0.0, 0.01)
    assert (5940.0, 5940.0) == (law.average(), pairs_needed(law))


def test_a_cost_law_waits_for_the_burn_in():
    """
    Below 500 pairs nothing is known of a cost, and more pairs never lower the chance.
    """
    law = CostLaw(1.10, 0.05)
    assert 0.0 == law.chance(499)
    chances = [law.chance(n) for n in (500, 800, 1500, 5000)]
    assert sorted(chances) == chances and chances[-1] > 0.999
    assert 500 <= law.average() < pairs_needed(law)


RULES = (
    NoRegression("a", margin=0.05, strict=True),
    NoRegression("b", "rare", margin=0.05),
    Floor("a", 0.9),
)
SMALL = Policy((StagePolicy("shadow", replace(SHADOW.needs, pairs=5000, slice_pairs=1250), RULES, 0.05),))


def planned(policy=SMALL, rates=(1000.0, 100.0, 1000.0), slices=None, **options):
    found = {"all": 1000.0, "rare": 100.0} if slices is None else slices
    arguments = {"by_s": 86_400, "assumed": Assumed(), **options}
    return plan(policy, Rates(tuple(rates), found), **arguments)


def test_pairs_chance_and_moments_follow_the_rate():
    """
    By hand: 100 pairs an hour, a tile of a minute, and the 960 pairs of 16 psi / m^2.
    """
    rare = planned().rules[1]
    assert rare.pairs_by == pytest.approx(100 * (24 - 1 / 60))
    assert (492.0, 960.0) == (pytest.approx(rare.needs), rare.likely)
    assert rare.likely_s == pytest.approx(9.6 * 3600 + 60, rel=1e-3)
    assert rare.chance_by > 0.99 and "" == rare.refusal


def test_promote_waits_for_the_volume_of_the_rarest_slice():
    """
    Every rule would be proven before 1,250 pairs of the rare slice are there.
    """
    found = planned()
    assert "slice_volume of rare" == found.last
    assert found.earliest_s == pytest.approx(12.5 * 3600 + 60)
    assert found.likely_s == pytest.approx(12.5 * 3600 + 60, abs=2)
    assert 0.99 < found.chance_by <= found.chance_expires <= 1
    assert 0.0 == planned(by_s=3600).chance_by


def test_the_window_must_hold_the_pairs():
    """
    200 pairs an hour never make 5,000 within 24 hours, however long the run lasts.
    """
    found = planned(rates=(200.0, 100.0, 200.0), slices={"all": 200.0, "rare": 100.0})
    assert (None, None, 0.0) == (found.earliest_s, found.likely_s, found.chance_expires)
    assert ("volume: the stage needs 5,000 pairs within 24 h, and the traffic brings 4,800",) == found.refusals


def test_what_cannot_be_proven_in_time_is_refused_with_the_numbers():
    """
    Three pairs an hour for seven days are 504: too few for the slice and for its margin, and both are said.
    """
    found = planned(rates=(1000.0, 3.0, 1000.0), slices={"all": 1000.0, "rare": 3.0})
    slice, margin = found.refusals
    assert slice.startswith("slice_volume: rare needs 1,250 pairs, and the traffic brings 504 by expires")
    assert (
        "no_regression of b in rare: about 960 pairs are needed for the proof (not worse by 5 points), and the traffic "
        "brings 504 by expires; the margin must be at least 0.07, or the pairs more"
    ) == margin


def test_an_unknown_gain_is_not_refused_and_a_stated_one_is():
    """
    Nobody knows how much better a candidate is: only 500 pairs are demanded, until somebody says a gain.
    """
    policy = Policy((replace(SMALL.stages[0], rules=(Improve("a", by=0.02),)),))
    rates = {"rates": (600.0,), "slices": {"all": 600.0}}
    assert () == planned(policy, **rates).refusals
    (never,) = planned(policy, **rates, assumed=Assumed(gain=0.02)).refusals
    assert "never proven" in never
    short = replace(policy, expires_s=86_400)
    assert 1 == len(planned(short, **rates, assumed=Assumed(gain=0.025)).refusals)


def test_a_design_effect_multiplies_the_pairs():
    """
    Sessions of four that repeat themselves need four times the pairs.
    """
    one, four = planned().rules[1], planned(assumed=Assumed(effect=4.0)).rules[1]
    assert 4 * one.likely == four.likely
    assert four.finds.value > one.finds.value


def test_later_attempts_need_more_pairs():
    """
    The promote level shrinks with the attempt, and what is found does not change.
    """
    first, second = planned().rules[0], planned(attempt=2).rules[0]
    assert first.likely < second.likely
    assert first.finds == second.finds


def test_more_rules_lower_the_chance_to_the_product():
    """
    The chance with all rules is the product of theirs, since they are supposed to be independent.
    """
    found = planned(by_s=13 * 3600)
    assert found.chance_by == pytest.approx(math.prod(rule.chance_by for rule in found.rules))


def test_the_sum_of_alpha_is_over_all_stages():
    """
    Each stage may spend its own budget.
    """
    policy = Policy((SMALL.stages[0], replace(SMALL.stages[0], name="watch", alpha=0.02)))
    found = planned(policy)
    assert ({"shadow": 0.05, "watch": 0.02}, 0.07) == (found.alphas, pytest.approx(found.alpha_sum))


def with_canary(*steps, pairs=500, within_s=86_400):
    """The small policy with these steps behind it."""
    needs = replace(SHADOW.needs, pairs=pairs, within_s=within_s)
    rules = (NoRegression("a", "canary/all", 0.05),)
    return replace(SMALL, stages=(*SMALL.stages, StagePolicy("canary", needs, rules, 0.05, steps=steps)))


def test_a_step_waits_for_the_pairs_of_its_share():
    """
    By hand: 10 % of 1,000 an hour bring 500 pairs in five hours, half of them in one; a tile closes behind each.
    """
    found = planned(with_canary(0.1, 0.5))
    assert [("canary-1", 0.1, 500), ("canary-2", 0.5, 500)] == [(s.name, s.share, s.need) for s in found.steps]
    assert [5 * 3600 + 60, 3600 + 60] == [pytest.approx(step.takes_s) for step in found.steps]
    assert () == found.refusals == planned().steps


def test_steps_that_come_too_late_are_refused_with_the_numbers():
    """
    A share whose window never holds the pairs, and steps that end past the run, are refused; the others are not.
    """
    (refusal,) = planned(with_canary(0.01, 0.5)).refusals
    assert "canary-1: 500 pairs are needed of the 1 % of sessions that it serves, within 24 h, and the" in refusal
    assert refusal.endswith("the traffic brings 240")
    slow = replace(with_canary(0.05, 0.5, 0.9), expires_s=82_000)
    (refusal,) = planned(slow).refusals
    assert refusal.startswith("canary-2: 500 pairs") and refusal.endswith("they are there at 23.6 h, past expires")


def test_another_comparison_waits_for_its_deadline():
    """
    Pairs of the baseline are folded an evidence deadline later.
    """
    policy = Policy((replace(SMALL.stages[0], rules=(Agreement(margin=0.05),)),))
    (rule,) = planned(policy, rates=(100.0,), slices={"all": 1000.0}).rules
    assert rule.pairs_by == pytest.approx(100 * (24 - 17 / 60))


def test_every_rule_of_section_14_has_a_law():
    """
    Nothing of the example policy is left out of a plan.
    """
    assert all(law_of(rule, 0.05, Assumed()) is not None for rule in SHADOW.rules)
    found = plan(
        POLICY,
        Rates((1000.0,) * len(SHADOW.rules), {rule.slice: 1000.0 for rule in SHADOW.rules}),
        by_s=86_400,
        assumed=Assumed(),
    )
    assert () == found.refusals
    assert all(rule.is_planned and 0 <= rule.chance_by <= 1 for rule in found.rules)
