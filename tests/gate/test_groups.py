"""Rules of several comparisons in one stage: each on its own tiles, and none waits for another."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.errors import Usage
from shadow.gate.compiled import compile_tests
from shadow.gate.evidence import evidence_from_json, evidence_to_json
from shadow.gate.measures import AgreementCounts, Evidence, PairCounts, SliceEvidence
from shadow.gate.rules import Judgement, judge
from shadow.gate.run import RunState, fold_tile, judge_tile, lagging_tiles, state_from_bytes, state_to_bytes
from shadow.records.comparisons import BASELINE_PRODUCTION, CANDIDATE_HUMAN, tile_name
from shadow.records.decisions import HOLD, PROMOTE, ROLLBACK
from shadow.records.policy import Agreement, Needs, NoRegression, Policy, StagePolicy
from shadow.records.tallies import CLASSES, Key, Tally
from tests.gate.policies import POLICY

NEEDS = Needs(pairs=1, slice_pairs=1, coverage=0.5, freshness_s=10**9)
RULES = (NoRegression("correct"), NoRegression("correct", against="human"), Agreement())
STAGE = StagePolicy("shadow", NEEDS, RULES)
TILE_US = 60_000_000
# People's tiles lie three tiles behind, the baseline's two.
PEOPLE = Policy((STAGE,), tile_us=TILE_US, evidence_deadline_us=TILE_US, human_deadline_us=2 * TILE_US)


def counted(*cells: int, kind: str = "graders", name: str = "correct", missing: int = 0) -> Tally:
    """A tile of one statistic of slice `all`, spread over all cluster cells, without clusters."""
    tally, key = Tally(), Key("all", kind, name)
    tally.vectors[key] = list(cells)
    n = sum(cells) if kind == "graders" else cells[2]
    plus, minus = (cells[2], cells[1]) if kind == "graders" else (cells[0], cells[1])
    for cell in range(128):
        share = [n // 128 + (cell < n % 128), (plus - minus) // 128 + (cell < (plus - minus) % 128)]
        tally.cells[key] = {**tally.cells.get(key, {}), cell: share}
    tally.vectors[Key("all", "classes", "")] = [n, 0, 0, missing, *[0] * (len(CLASSES) - 4)]
    return tally


GOOD = counted(400, 50, 50, 100)
SAME = counted(30, 30, 200, kind="agreement", name="")
WORSE = counted(300, 150, 10, 60)


def run_of(mains: int, people: Tally, baseline: Tally) -> RunState:
    """A run after so many tiles of good answers."""
    state = RunState.begin("candidate-1", PEOPLE, 5)
    for number in range(5, 5 + mains):
        tallies = {CANDIDATE_HUMAN: people, BASELINE_PRODUCTION: baseline}
        others = {name: tallies[name] for name in lagging_tiles(PEOPLE, 5, number)}
        fold_tile(state, number, GOOD, others=others)
    return state


def test_each_comparison_lies_its_deadline_behind() -> None:
    """With main tile f goes the tile of another comparison that lies its deadline and one more behind."""
    assert ({}, {}) == (lagging_tiles(PEOPLE, 5, 5), lagging_tiles(POLICY, 5, 500))
    assert {BASELINE_PRODUCTION: 5} == lagging_tiles(PEOPLE, 5, 7)
    assert {BASELINE_PRODUCTION: 6, CANDIDATE_HUMAN: 5} == lagging_tiles(PEOPLE, 5, 8)


def test_a_tile_is_folded_with_what_belongs_to_it_or_not_at_all() -> None:
    """A missing tile of another comparison, or one too many, is refused, and nothing changes."""
    state = run_of(2, WORSE, SAME)
    before = state_to_bytes(state)
    for others in ({}, {CANDIDATE_HUMAN: WORSE}, {BASELINE_PRODUCTION: SAME, CANDIDATE_HUMAN: WORSE}):
        with pytest.raises(ValueError, match="tile 7 is folded with"):
            fold_tile(state, 7, GOOD, others=others)
    assert before == state_to_bytes(state)


def test_the_digest_covers_every_tile_with_its_name() -> None:
    """The chain goes over the main tile, then over those folded with it, each under its name."""
    state, expected = run_of(4, WORSE, SAME), b"\0" * 32
    for number in range(5, 9):
        expected = hashlib.sha256(expected + str(number).encode() + GOOD.to_bytes()).digest()
        for name, other in lagging_tiles(PEOPLE, 5, number).items():
            tally = WORSE if name == CANDIDATE_HUMAN else SAME
            expected = hashlib.sha256(expected + tile_name(other, name).encode() + tally.to_bytes()).digest()
    assert expected == state.tiles_digest


def test_a_state_with_comparisons_is_read_back() -> None:
    """What was written is read back to the bit, and a state of other comparisons is refused."""
    state = run_of(5, WORSE, SAME)
    again = state_from_bytes(state_to_bytes(state), PEOPLE)
    assert state_to_bytes(again) == state_to_bytes(state)
    assert judge_tile(again) == judge_tile(state)
    only_main = replace(PEOPLE, stages=(replace(STAGE, rules=RULES[:1]),))
    with pytest.raises(ValueError, match="the state"):
        state_from_bytes(state_to_bytes(state), only_main)


def test_people_alone_roll_back() -> None:
    """
    A candidate that is as good as production and worse than people is rolled back for that, as soon as their tiles
    are there; before, their rule is undecided and holds.
    """
    before = judge_tile(run_of(3, WORSE, SAME))
    by_rule = {line.id: line for line in before.rules}
    assert HOLD == before.decision
    assert 0 == by_rule["no_regression/all/correct@human"].pairs
    after = judge_tile(run_of(6, WORSE, SAME))
    assert (ROLLBACK, "no_regression/all/correct@human") == (after.decision, after.culprits[0])
    assert "against people" in after.reason


def test_promotion_waits_for_every_comparison() -> None:
    """Every rule passes on its own comparison's pairs, and then the run is promoted."""
    people = counted(400, 50, 60, 90, missing=60)
    early, late = (judge_tile(run_of(tiles, people, SAME)) for tiles in (4, 40))
    assert (HOLD, PROMOTE) == (early.decision, late.decision)
    line = next(line for line in late.rules if line.id.endswith("@human"))
    assert "people were asked about 24,420 requests: 22,200 make pairs, 2,220 are missing" in line.reason


def test_the_largest_group_speaks() -> None:
    """The stage's evidence for a rollback is that of the comparison with most of it, not their sum."""
    evidence = judge_tile(run_of(6, WORSE, SAME)).evidence
    whole = judge(STAGE, evidence, expires_s=10**6, tiles_longest_age=100)
    one_by_one = []
    for comparison in (CANDIDATE_HUMAN, BASELINE_PRODUCTION, None):
        kept = {name: value for name, value in evidence.others.items() if name == comparison}
        slices = evidence.slices if comparison is None else {}
        part = replace(evidence, slices=slices, others=kept)
        one_by_one.append(judge(STAGE, part, expires_s=10**6, tiles_longest_age=100).rollback.log_e)
    assert math.isclose(max(one_by_one), whole.rollback.log_e)


counts = st.integers(0, 400)
fours = st.tuples(counts, counts, counts, counts)


def evidence_of(main: tuple[int, ...], people: tuple[int, ...], baseline: tuple[int, int, int]) -> Evidence:
    """Totals of the three comparisons, without clusters."""
    own = SliceEvidence(sum(main), 1.0, graders={"correct": PairCounts(*main)})
    answered = SliceEvidence(sum(people), 1.0, graders={"correct": PairCounts(*people)}, asked=sum(people) + 7)
    differs = AgreementCounts(baseline[0], baseline[1], sum(baseline))
    others = {
        CANDIDATE_HUMAN: Evidence(slices={"all": answered}),
        BASELINE_PRODUCTION: Evidence(slices={"all": SliceEvidence(sum(baseline), 1.0, agreement=differs)}),
    }
    return Evidence(freshness_s=0.0, window_pairs=sum(main), slices={"all": own}, others=others)


def judged(evidence: Evidence) -> Judgement:
    return judge(STAGE, evidence, expires_s=10**6, tiles_longest_age=100, with_bounds=False)


@given(fours, fours, st.tuples(counts, counts, counts))
@settings(deadline=None)
def test_a_rule_depends_on_its_own_comparison_alone(
    main: tuple[int, ...], people: tuple[int, ...], baseline: tuple[int, int, int]
) -> None:
    """What other comparisons counted changes no rule, and the stage's log e is the largest of the groups'."""
    whole = judged(evidence_of(main, people, baseline))
    nothing = (0, 0, 0, 0)
    alone = [
        judged(evidence_of(main, nothing, (0, 0, 0))),
        judged(evidence_of(nothing, people, (0, 0, 0))),
        judged(evidence_of(nothing, nothing, baseline)),
    ]
    assert [line.log_e_fail for line in whole.rules] == [
        judgement.rules[index].log_e_fail for index, judgement in enumerate(alone)
    ]
    weights = [test.weight for test in compile_tests(STAGE).tests if not test.is_promote]
    groups = [math.log(weight) + (line.log_e_fail or 0.0) for weight, line in zip(weights, whole.rules, strict=True)]
    assert math.isclose(max(groups), whole.rollback.log_e, abs_tol=1e-9)


@given(fours, st.tuples(counts, counts, counts))
@settings(deadline=None)
def test_no_evidence_of_others_hides_what_people_say(main: tuple[int, ...], baseline: tuple[int, int, int]) -> None:
    """However good the rest looks, a candidate that people's answers prove to be worse is rolled back."""
    judgement = judged(evidence_of(main, (100, 300, 0, 20), baseline))
    assert ROLLBACK == judgement.decision
    assert "no_regression/all/correct@human" in judgement.culprits


@given(fours)
@settings(deadline=None)
def test_nothing_is_promoted_before_people_answered(main: tuple[int, ...]) -> None:
    """Without a pair of theirs the stage is never promoted, and their rule says for whom it waits."""
    judgement = judged(evidence_of(main, (0, 0, 0, 0), (10, 10, 400)))
    assert PROMOTE != judgement.decision
    assert "waits for people" in judgement.rules[1].reason
    assert "people were asked about 7 requests: 0 make pairs, 7 are missing" in judgement.rules[1].reason


def test_the_change_detector_of_people_alone_rolls_back() -> None:
    """A late onset that only people's answers show is found by their group's detector."""
    same = counted(40, 5, 5, 10)
    state = run_of(40, same, SAME)
    calm = judge_tile(state)
    for number in range(45, 75):
        fold_tile(state, number, GOOD, others={CANDIDATE_HUMAN: counted(25, 25, 0, 10), BASELINE_PRODUCTION: SAME})
    late = judge_tile(state)
    assert calm.rollback.log_sr is not None and late.rollback.log_sr is not None
    assert calm.rollback.log_sr < late.rollback.need_sr < late.rollback.log_sr
    assert ROLLBACK == late.decision
    assert any(name.endswith("@human") for name in late.culprits)


def test_evidence_of_other_comparisons_is_written_and_read_back() -> None:
    """evidence.json carries every comparison; what is no comparison is refused with its place."""
    evidence = judge_tile(run_of(6, WORSE, SAME)).evidence
    assert evidence == evidence_from_json(evidence_to_json(evidence))
    with pytest.raises(Usage, match=r"comparisons.*candidate-robot"):
        evidence_from_json(b'{"comparisons": {"candidate-robot": {}}}')
    with pytest.raises(Usage, match=r"candidate-human\.slices\.all has 8 pairs but 7 requests asked about"):
        evidence_from_json(b'{"comparisons": {"candidate-human": {"slices": {"all": {"pairs": 8, "asked": 7}}}}}')
    with pytest.raises(Usage, match=r"comparisons\.candidate-human"):
        evidence_from_json(b'{"comparisons": {"candidate-human": {"pairs": 4}}}')
