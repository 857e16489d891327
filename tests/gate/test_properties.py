"""What holds for any counts: merging, order, symmetry, and evidence against never helping."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.gate.explain import explain
from shadow.gate.judgement import judgement_to_json
from shadow.gate.measures import (
    AgreementCounts,
    Evidence,
    HackCounts,
    LatencyCounts,
    PairCounts,
    RateCounts,
    RatioSums,
    SliceEvidence,
)
from shadow.gate.rules import Verdict, judge
from shadow.gate.run import RunState, fold_tile, judge_tile, state_from_bytes, state_to_bytes
from shadow.gate.stats.bounds import pair_interval, rate_upper
from shadow.gate.stats.engine import Side, log_e_histogram, log_e_pair, log_e_rate, log_prior
from shadow.gate.totals import evidence_from_tally
from shadow.records.policy import (
    Agreement,
    Cap,
    Equivalent,
    Floor,
    Improve,
    Latency,
    Needs,
    NoRegression,
    NoRewardHacking,
    Policy,
    Quality,
    Rule,
    StagePolicy,
)
from shadow.records.tallies import Key, Tally
from shadow.records.votes import cell_of
from tests.gate.policies import SHADOW

counts = st.integers(0, 3000)
margins = st.sampled_from([-0.3, -0.05, -0.01, 0.0, 0.02, 0.3])
sides: st.SearchStrategy[Side] = st.sampled_from(["le", "ge"])

REWARD = Key("all", "graders", "reward")
POLICY = Policy((StagePolicy("shadow", Needs(pairs=10, slice_pairs=10), (NoRegression("reward", strict=True),)),))


@given(margins.filter(lambda m: m > 0), sides)
def test_nothing_counted_is_no_evidence(margin: float, side: Side) -> None:
    """log e of no counts is exactly 0."""
    assert log_e_pair(0, 0, 0, margin, side) == 0.0
    assert log_e_rate(0, 0, margin, side, 0.7) == 0.0
    assert log_e_histogram([0] * 41, margin, side) == 0.0


@given(counts, counts, counts, margins, sides)
def test_swapping_sides_gives_the_same_value(losses: int, wins: int, ties: int, margin: float, side: Side) -> None:
    """Losses for wins, `le` for `ge` and m for -m is the same bet."""
    other: Side = "ge" if side == "le" else "le"
    here, there = log_e_pair(losses, wins, ties, margin, side), log_e_pair(wins, losses, ties, -margin, other)
    assert here == pytest.approx(there, abs=1e-9)


@given(counts, counts, counts)
def test_bounds_agree_with_decisions(losses: int, wins: int, ties: int) -> None:
    """A margin is rejected exactly when it lies outside the bound."""
    lower, upper = pair_interval(losses, wins, ties, alpha=0.05)
    need = math.log(20)
    if lower - 1e-6 > -1:
        assert log_e_pair(losses, wins, ties, lower - 1e-6, "le") >= need
    if lower > -0.999999:
        assert log_e_pair(losses, wins, ties, min(lower + 1e-6, 0.9999999), "le") < need + 1e-6
    if upper + 1e-6 < 1:
        assert log_e_pair(losses, wins, ties, upper + 1e-6, "ge") >= need
    assert lower <= upper
    if losses + wins + ties == 0:
        assert (lower, upper) == (-1.0, 1.0)


@given(counts, counts)
def test_upper_bound_of_a_rate_is_above_the_rate(violations: int, good: int) -> None:
    """The bound is never below what was seen."""
    n = violations + good
    assert rate_upper(violations, n, alpha=0.05) >= (violations / n if n else 1.0) - 1e-9


outcomes = st.lists(
    st.tuples(st.integers(0, 127), st.sampled_from(["both", "production", "candidate", "neither"])), max_size=300
)


def tally_of(pairs: list[tuple[int, str]]) -> Tally:
    """A tally of pairs of one grader, each in a hash cell."""
    tally = Tally()
    for cell, outcome in pairs:
        tally.vector(Key("all", "classes", ""))[0] += 1
        tally.vector(REWARD)[["both", "production", "candidate", "neither"].index(outcome)] += 1
        values = tally.cell(REWARD, cell)
        values[0] += 1
        values[1] += (outcome == "candidate") - (outcome == "production")
    return tally


def evidence_of(tally: Tally) -> Evidence:
    return evidence_from_tally(tally, 0, stage=POLICY.stages[0], attempt=1, age_s=60, freshness_s=0, log_sr=None)


@given(outcomes, st.integers(0, 300))
def test_any_split_merges_to_the_same_evidence(pairs: list[tuple[int, str]], cut: int) -> None:
    """Two parts added up give the evidence of the whole, to the last bit."""
    merged = tally_of(pairs[:cut])
    merged.add(tally_of(pairs[cut:]))
    assert evidence_of(tally_of(pairs)) == evidence_of(merged)


placed = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.sampled_from(["both", "production", "candidate", "neither"]),
        st.integers(0, 3),
        st.integers(0, 2),
    ),
    max_size=300,
)
"""Session, outcome, tile and partition of each pair."""


def folded(tiles: list[list[Tally]]) -> RunState:
    """A state that folded tiles, each given as what its partitions brought."""
    state = RunState.begin("r", POLICY, 0)
    for number, parts in enumerate(tiles):
        merged = Tally()
        for part in parts:
            merged.add(part)
        fold_tile(state, number, merged)
    return state


@given(placed, st.permutations(range(3)))
@settings(max_examples=60)
def test_any_split_gives_the_same_verdict(pairs: list[tuple[int, str, int, int]], order: list[int]) -> None:
    """However a tile is split over partitions, and in whatever order they are added up, the judgement is the same."""

    def part(tile: int, partitions: set[int]) -> Tally:
        return tally_of([(session, outcome) for session, outcome, t, p in pairs if t == tile and p in partitions])

    whole = folded([[part(tile, {0, 1, 2})] for tile in range(4)])
    split = folded([[part(tile, {partition}) for partition in order] for tile in range(4)])
    assert judge_tile(whole, with_bounds=True) == judge_tile(split, with_bounds=True)
    assert state_to_bytes(whole) == state_to_bytes(split)


@given(placed)
@settings(max_examples=60)
def test_scattered_sessions_keep_their_design_effect(pairs: list[tuple[int, str, int, int]]) -> None:
    """Sessions in one tile of one partition, or all over tiles and partitions: the design effects are the same."""
    keyed = [(cell_of(f"session-{session}"), outcome, tile, part) for session, outcome, tile, part in pairs]
    together = folded([[tally_of([(cell, outcome) for cell, outcome, _, _ in keyed])]])
    scattered = folded(
        [
            [tally_of([(c, o) for c, o, t, p in keyed if (t, p) == (tile, partition)]) for partition in range(3)]
            for tile in range(4)
        ]
    )
    assert together.evidence.design_effect == scattered.evidence.design_effect
    assert together.evidence.cells == scattered.evidence.cells


@given(st.lists(outcomes, min_size=2, max_size=5), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_order_of_tiles_moves_the_detector_alone(tiles: list[list[tuple[int, str]]], random: object) -> None:
    """Permuted tiles give the same totals, verdicts and bounds; only the change detector may differ."""
    shuffled = list(tiles)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    judgements = []
    for order in (tiles, shuffled):
        state = RunState.begin("r", POLICY, 0)
        for number, pairs in enumerate(order):
            fold_tile(state, number, tally_of(pairs))
        judgements.append(judge_tile(state, with_bounds=True))
    first, second = judgements
    assert first.rules == second.rules
    assert first.rollback.log_e == second.rollback.log_e
    assert first.evidence.design_effect == second.evidence.design_effect


def test_order_of_tiles_does_move_the_detector() -> None:
    """The same tiles in another order give another value of the change detector."""
    wide = [(cell, "both") for cell in range(128)] + [(1, "production"), (2, "candidate")]
    bad, good = [(c, "production") for c in range(30)] + wide, [(c, "candidate") for c in range(30)] + wide
    values = []
    for order in ([wide, bad, good], [wide, good, bad]):
        state = RunState.begin("r", POLICY, 0)
        for number, pairs in enumerate(order):
            fold_tile(state, number, tally_of(pairs))
        values.append(judge_tile(state).rollback.log_sr)
    assert values[0] is not None and values[1] is not None
    assert abs(values[0] - values[1]) > 0.1


@given(outcomes, st.integers(0, 300))
@settings(max_examples=30)
def test_going_on_from_a_snapshot_changes_nothing(pairs: list[tuple[int, str]], cut: int) -> None:
    """A state written and read between two tiles ends in the same bytes."""
    through, interrupted = RunState.begin("r", POLICY, 7), RunState.begin("r", POLICY, 7)
    for state in (through, interrupted):
        fold_tile(state, 7, tally_of(pairs[:cut]))
    interrupted = state_from_bytes(state_to_bytes(interrupted), POLICY)
    for state in (through, interrupted):
        fold_tile(state, 8, tally_of(pairs[cut:]))
    assert state_to_bytes(through) == state_to_bytes(interrupted)
    assert judge_tile(through) == judge_tile(interrupted)


RULES = (
    NoRegression("g", margin=0.05),
    NoRegression("g", margin=0.05, strict=True),
    Improve("g", by=0.02),
    Improve("g", by=0.02, fails=True),
)


@given(st.sampled_from(RULES), counts, counts, counts, st.integers(1, 500), st.sampled_from([1.0, 3.0]))
def test_more_losses_never_help(
    rule: NoRegression | Improve, losses: int, wins: int, ties: int, more: int, effect: float
) -> None:
    """At a fixed design effect, added losses never move a verdict towards PASS."""

    def verdict(lost: int) -> Verdict:
        part = SliceEvidence(pairs=10**6, graders={"g": PairCounts(ties, lost, wins, 0)})
        evidence = Evidence(slices={"all": part}, design_effect={"all": {"g": effect}})
        stage = StagePolicy("shadow", Needs(), (rule,))
        judged = judge(stage, evidence, expires_s=1e6, tiles_longest_age=100, with_bounds=False)
        return judged.rules[0].verdict

    before, after = verdict(losses), verdict(losses + more)
    # An improvement needs 500 pairs, which losses also make up.
    if not (isinstance(rule, Improve) and losses + wins + ties < 500):
        assert after >= before


LATENCY = Latency(quantile=0.95, max_ratio=1.25)
OTHER_RULES = (
    Quality({"g": 1.0}, margin=0.03),
    NoRegression("n", margin=0.05, strict=True),
    Cap("r", max=0.05, alpha=0.01),
    Floor("r", min=0.95),
    LATENCY,
    NoRewardHacking("r", ("g",), margin=0.05),
    Agreement(margin=0.05),
)
"""Rules whose losses are not a grader's: lower scores, violations, slow answers, hacks, differing answers."""


def lost(rule: object, losses: int, wins: int, ties: int) -> SliceEvidence:
    """Evidence of one rule in which so many pairs speak against and for the candidate."""
    n = losses + wins + ties
    bins = [0] * 41
    # A loss of half a point beside ties and full wins.
    bins[10], bins[20], bins[40] = losses, ties, wins
    slow = LatencyCounts("total", 0.95, 1.25, losses, wins, n)
    match rule:
        case Quality():
            return SliceEvidence(pairs=n, numeric={"quality": tuple(bins)})
        case NoRegression():
            return SliceEvidence(pairs=n, numeric={"n": tuple(bins)})
        case Cap() | Floor():
            return SliceEvidence(pairs=n, rates={"r": RateCounts(losses, n)})
        case Latency():
            return SliceEvidence(pairs=n, latency={slow.statistic: slow})
        case NoRewardHacking():
            return SliceEvidence(pairs=n, reward_hacking=HackCounts(losses, wins, n))
        case _:
            return SliceEvidence(pairs=n, agreement=AgreementCounts(losses, wins, n))


@given(st.sampled_from(OTHER_RULES), counts, counts, counts, st.integers(1, 500), st.sampled_from([1.0, 3.0]))
def test_more_of_what_a_rule_forbids_never_helps(
    rule: Rule, losses: int, wins: int, ties: int, more: int, effect: float
) -> None:
    """At a fixed design effect, added violations, slow answers or lower scores never move a verdict towards PASS.

    `equivalent` is no such rule: from above its range, losses lead into it.
    """
    names = ("quality", "n", "r", "rates/r", f"latency/{LATENCY.statistic}", "no_reward_hacking", "agreement")

    def verdict(against: int) -> Verdict:
        evidence = Evidence(
            slices={"all": lost(rule, against, wins, ties)}, design_effect={"all": dict.fromkeys(names, effect)}
        )
        judged = judge(
            StagePolicy("shadow", Needs(), (rule,)), evidence, expires_s=1e6, tiles_longest_age=100, with_bounds=False
        )
        return judged.rules[0].verdict

    assert verdict(losses + more) >= verdict(losses)


def test_equivalence_fails_on_either_side() -> None:
    """Too many losses and too many wins both fail the range."""
    stage = StagePolicy("shadow", Needs(), (Equivalent("g", margin=0.05),))
    for four in (PairCounts(900, 400, 20, 0), PairCounts(900, 20, 400, 0)):
        evidence = Evidence(slices={"all": SliceEvidence(pairs=2000, graders={"g": four})})
        judged = judge(stage, evidence, expires_s=1e6, tiles_longest_age=100)
        assert judged.rules[0].verdict == Verdict.FAIL
        assert judged.decision == "rollback"


sizes = st.sampled_from([0, 1, 39, 500, 10**6, 2**50])


@settings(deadline=None)
@given(st.lists(sizes, min_size=14, max_size=14), st.sampled_from([1.0, 7.5, 1e9]), st.sampled_from([0, 1, 10**38]))
def test_any_evidence_gives_finite_numbers(n: list[int], effect: float, money: int) -> None:
    """Nothing, one pair, or 2^50 of them: every number is finite or null, and nothing warns."""
    bins = [0] * 41
    bins[0], bins[17], bins[40] = n[0], n[1], n[2]
    cost = RatioSums(n[3] + 1, money, 1, money * money, 1, money)
    slow = LatencyCounts("total", 0.95, 1.25, n[4], n[5], n[4] + n[5] + n[6], None, n[5])
    four = PairCounts(n[7], n[8], n[9], n[10])
    part = SliceEvidence(
        pairs=2**53,
        graders=dict.fromkeys(("reward", "tagged", "urgent", "pinned", "current", "correct"), four),
        rates={"safe": RateCounts(n[11], n[11] + n[12])},
        numeric={"quality": tuple(bins)},
        cost={"request": cost},
        latency={slow.statistic: slow},
        reward_hacking=HackCounts(n[13], n[12], n[13] + n[12]),
    )
    names = {rule.slice for rule in SHADOW.rules}
    effects = {name: {"reward": effect, "pinned": effect, "quality": effect, "rates/safe": effect} for name in names}
    evidence = Evidence(slices=dict.fromkeys(names, part), design_effect=effects)
    judged = judge(SHADOW, evidence, expires_s=1e6, tiles_longest_age=100)
    json.dumps(judgement_to_json(judged), allow_nan=False)
    assert all(math.isfinite(line.log_e_pass) for line in judged.rules)
    assert all(row.reason for row in explain(judged))


@given(st.floats(1e-300, 1 - 1e-9))
def test_prior_exists_for_any_bet(kappa0: float) -> None:
    """The weights of the bets sum to 1 even for a cap that is far outside the grid."""
    assert float(np.exp(log_prior(kappa0)).sum()) == pytest.approx(1.0)


@given(outcomes)
@settings(max_examples=30)
def test_evidence_is_finite(pairs: list[tuple[int, str]]) -> None:
    """Design effects are finite and at least 1 for any cells."""
    for effects in evidence_of(tally_of(pairs)).design_effect.values():
        assert all(math.isfinite(effect) and effect >= 1 for effect in effects.values())
        assert np.isfinite(list(effects.values())).all()
