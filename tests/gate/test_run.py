"""One run, tile by tile: folding in order, deciding once, and going on from a snapshot."""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from dataclasses import replace

import pytest

from shadow.gate.evidence import evidence_from_json
from shadow.gate.run import (
    RunState,
    advance,
    decide,
    fold_tile,
    judge_tile,
    state_from_bytes,
    state_to_bytes,
)
from shadow.gate.totals import evidence_from_tally
from shadow.records.decisions import NAMESPACE, decision_id
from shadow.records.policy import Cap, Floor, Needs, NoRegression, Policy, StagePolicy
from shadow.records.tallies import Key, Tally
from tests.calibration.simulate import RATES, Truth, tiles
from tests.gate.policies import POLICY

GOOD = Truth(shift={**dict.fromkeys(RATES, 0.02), "tagged": 0.01, "correct": 0.10})
BAD = Truth(shift={"pinned": -0.10})


def folded(truth: Truth, pairs: int, *, policy: Policy = POLICY, per_tile: int = 250) -> RunState:
    """A run after so many pairs."""
    state = RunState.begin("candidate-1", policy, 100)
    for number, tally in enumerate(tiles(3, truth, pairs=pairs, per_tile=per_tile), start=100):
        fold_tile(state, number, tally)
    return state


def test_tiles_are_folded_once_and_in_order() -> None:
    """A skipped and a repeated tile are refused, and nothing changes."""
    state = folded(GOOD, 500)
    before = state_to_bytes(state)
    for number in (100, 101, 103):
        with pytest.raises(ValueError, match="does not follow tile 101"):
            fold_tile(state, number, Tally())
    assert state_to_bytes(state) == before


def test_digest_is_a_chain_over_the_tiles() -> None:
    """The digest is sha256(previous, number, bytes), from 32 zero bytes on."""
    state = RunState.begin("r", POLICY, 8)
    expected = b"\0" * 32
    for number, tally in enumerate(tiles(1, GOOD, pairs=300, per_tile=100), start=8):
        fold_tile(state, number, tally)
        expected = hashlib.sha256(expected + str(number).encode() + tally.to_bytes()).digest()
    assert expected == state.tiles_digest


def test_good_candidate_is_promoted_once() -> None:
    """All proven at 5,000 pairs: one decision, with its evidence, and none after."""
    state = folded(GOOD, 5500)
    judgement = judge_tile(state)
    assert judgement.decision == "promote", judgement.reason
    decision = decide(state, judgement, positions=(7, 9), decided_us=5)
    assert decision is not None
    assert (decision.from_stage, decision.to_stage, decision.step, decision.tile) == ("shadow", "done", 1, 121)
    assert decision.decision_id == str(uuid.uuid5(NAMESPACE, "candidate-1/1")) == decision_id("candidate-1", 1)
    assert decision.tiles_digest == state.tiles_digest.hex()
    assert decision.culprits == ()
    advance(state, decision)
    assert decide(state, judgement, positions=(7, 9), decided_us=6) is None

    written = json.loads(decision.evidence)
    assert evidence_from_json(json.dumps(written["evidence"]).encode()) == judgement.evidence
    assert written["judgement"]["digest"] == judgement.digest
    assert all(rule["lower"] is not None for rule in written["judgement"]["rules"])


def test_bad_candidate_is_rolled_back_and_latched() -> None:
    """Ten points lost in one slice: rolled back, its rule blamed, also after a restart and better tiles."""
    state = folded(BAD, 3000)
    judgement = judge_tile(state)
    decision = decide(state, judgement, positions=(), decided_us=1)
    assert decision is not None
    assert (decision.decision, decision.to_stage) == ("rollback", "rolled_back")
    assert decision.culprits[0] == "no_regression/debug-search-api/pinned"
    assert "pinned in debug-search-api" in decision.reason
    advance(state, decision)
    again = state_from_bytes(state_to_bytes(state), POLICY)
    assert again.latched == "rollback"
    assert decide(again, judge_tile(again), positions=(), decided_us=2) is None


def test_run_without_proof_expires() -> None:
    """At the longest age a run that proved nothing is expired, neither promoted nor rolled back."""
    policy = replace(POLICY, expires_s=600)
    state = folded(Truth(), 900, policy=policy, per_tile=100)
    assert judge_tile(state).decision == "hold"
    fold_tile(state, 109, Tally())
    judgement = judge_tile(state)
    assert judgement.decision == "expire"
    decision = decide(state, judgement, positions=(), decided_us=1)
    assert decision is not None and decision.to_stage == "expired"


def test_stale_tiles_hold_a_good_candidate() -> None:
    """Freshness holds, and is the one thing that a clock decides."""
    state = folded(GOOD, 5500)
    assert judge_tile(state, freshness_s=state.freshness_s_max + 1).decision == "hold"
    assert state.freshness_s_max == 2 * (60 + 900)


def test_window_forgets_old_tiles_and_totals_do_not() -> None:
    """The window holds the pairs of the last `within_s`; the totals hold all of them."""
    #  tile   100  101  102  103       (60 s each, window 120 s)
    #  window           [102  103]
    stage = StagePolicy("shadow", Needs(within_s=120), (NoRegression("reward"),))
    state = folded(GOOD, 1000, policy=Policy((stage,)), per_tile=250)
    assert [tile for tile, _ in state.window] == [102, 103]
    assert state.window_pairs == 500
    assert state.evidence.slices["all"].pairs == 1000


def test_evidence_of_a_state_is_that_of_its_tally() -> None:
    """The running totals and one big tally give the same evidence, and another order of keys no other digest."""
    state = folded(BAD, 2000)
    evidence = evidence_from_tally(
        state.totals.to_tally(),
        state.window_pairs,
        stage=POLICY.stages[0],
        attempt=1,
        age_s=state.age_s,
        freshness_s=None,
        log_sr=None,
    )
    assert evidence == state.evidence


def test_state_survives_exactly() -> None:
    """Writing and reading keeps every bit, minus infinity included."""
    for state in (RunState.begin("r", POLICY, 0), folded(BAD, 2000)):
        again = state_from_bytes(state_to_bytes(state), POLICY)
        assert state_to_bytes(again) == state_to_bytes(state)
        assert judge_tile(again) == judge_tile(state)


def in_stage_of(tree, parts):
    """The state with other parts of its stage."""
    return {**tree, "stages": [{**tree["stages"][0], **parts}]}


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: {**tree, "format": 99},
        lambda tree: {key: value for key, value in tree.items() if key != "format"},
        lambda tree: in_stage_of(tree, {"window": None}),
        lambda tree: in_stage_of(tree, {"log_r": tree["stages"][0]["log_r"][:-1]}),
        lambda tree: in_stage_of(tree, {"log_r": [[1.5] * 29] * len(tree["stages"][0]["log_r"])}),
        lambda tree: in_stage_of(tree, {"name": "canary"}),
        lambda tree: {**tree, "stages": []},
        lambda tree: [tree],
        lambda tree: None,
    ],
)
def test_foreign_state_is_refused(damage: object) -> None:
    """Another format, a hole, or another policy's state raises, so that the log is folded again."""
    head, totals = state_to_bytes(folded(GOOD, 500)).split(b"\n")
    damaged = json.dumps(damage(json.loads(head))).encode()  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"state|stage"):
        state_from_bytes(damaged + b"\n" + totals, POLICY)


@pytest.mark.parametrize("part", [b"", b"\x00", b"{", b"[]", b"null"])
def test_damaged_state_is_refused(part: bytes) -> None:
    """Anything else in either line raises ValueError and nothing besides."""
    head, totals = state_to_bytes(folded(GOOD, 500)).split(b"\n")
    for value in (part, part + b"\n" + totals, head + b"\n" + part):
        with pytest.raises(ValueError):
            state_from_bytes(value, POLICY)


def test_detector_waits_for_forty_cells() -> None:
    """R stays 0 until the totals before the tile fill 40 cells, and uses their design effect."""
    stage = StagePolicy("shadow", Needs(), (NoRegression("g", strict=True),))
    key = Key("all", "graders", "g")

    def tile(cells: range) -> Tally:
        n = len(cells)
        return Tally({key: [0, n, 0, 0]}, {key: {cell: [1, -1] for cell in cells}})

    state = RunState.begin("r", Policy((stage,)), 0)
    fold_tile(state, 0, tile(range(39)))
    fold_tile(state, 1, tile(range(39, 40)))
    assert judge_tile(state).rollback.log_sr is None
    assert not math.isfinite(state.log_r.max())
    fold_tile(state, 2, tile(range(10)))
    assert judge_tile(state).rollback.log_sr is not None


def test_cells_of_a_floor_beside_a_cap() -> None:
    """A cap leaves failed calls out, a floor on the same grader does not; sessions bound the floor's effect."""
    stage = StagePolicy("shadow", Needs(), (Cap("g"), Floor("g")))
    tally = Tally()
    tally.vectors[Key("all", "classes", "")] = [640, 0, 0, 0, 0, 0]
    tally.vectors[Key("all", "graders", "g")] = [600, 30, 0, 10]
    tally.vectors[Key("all", "rates", "g")] = [5, 605]
    tally.cells[Key("all", "graders", "g")] = {cell: [10, 0] for cell in range(64)}
    tally.cells[Key("all", "rates", "g")] = {cell: [9, 0] for cell in range(64)}
    evidence = evidence_from_tally(tally, 640, stage=stage, attempt=1, age_s=60, freshness_s=1, log_sr=None)
    rates = evidence.slices["all"].rates
    assert (rates["g"].violations, rates["floor/g"].violations) == (5, 40)
    # 64 of 128 cells with 10 each: K = 128/127 * 128 * 25 / 640.
    assert evidence.design_effect["all"]["floor/g"] == pytest.approx(128 / 127 * 128 * 25 / 640)
    assert evidence.cells["all"] == {"g": 64, "rates/g": 64}
    assert evidence_from_json(json.dumps({"slices": {}}).encode()).slices == {}


def test_counts_without_cells_are_no_evidence() -> None:
    """A tally that forgot its cells must not pass for independent requests."""
    stage = StagePolicy("shadow", Needs(), (NoRegression("g"),))
    tally = Tally({Key("all", "graders", "g"): [9000, 0, 0, 0]})
    evidence = evidence_from_tally(tally, 0, stage=stage, attempt=1, age_s=60, freshness_s=1, log_sr=None)
    assert evidence.cells == {"all": {"g": 0}}


def test_broken_grades_lower_coverage() -> None:
    """A pair with a broken grade does not count as covered; a request that was not asked is not present."""
    tally = Tally()
    tally.vectors[Key("all", "classes", "")] = [96, 1, 1, 1, 500, 1]
    tally.vectors[Key("all", "broken", "")] = [6]
    tally.vectors[Key("all", "missing", "")] = [96, 9600, 96_000, 4, 800, 2000]
    evidence = evidence_from_tally(tally, 96, stage=POLICY.stages[0], attempt=1, age_s=60, freshness_s=1, log_sr=None)
    part = evidence.slices["all"]
    assert part.coverage == 0.90
    assert part.missing is not None
    assert (part.missing.share, part.missing.size_ratio, part.missing.latency_ratio) == (0.04, 2.0, 0.5)
