"""From stage to stage: what a promotion leads to, which evidence counts where, and what still rolls back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shadow.gate.run import RunState, advance, decide, fold_tile, judge_tile, state_from_bytes, state_to_bytes
from shadow.records.policy import Needs, NoRegression, Policy, StagePolicy
from shadow.records.slices import in_stage
from shadow.records.tallies import BALANCE, CELLS, Key, Tally

RUN = "candidate-1"
SHADOW = StagePolicy("shadow", Needs(200, 86_400, 100), (NoRegression("correct", margin=0.2),))
CANARY = StagePolicy(
    "canary",
    Needs(200, 3600, 0),
    (NoRegression("correct", slice="canary/all", margin=0.2),),
    steps=(0.25, 0.5),
)
WATCH = StagePolicy(
    "watch",
    Needs(1, 600, 0),
    (NoRegression("correct", slice="watch/all", margin=0.05),),
    steps=(1.0,),
    production_rate=0.5,
    for_s=600,
)
POLICY = Policy((SHADOW, CANARY, WATCH), expires_s=86_400)
UPSTREAM = "http://candidate:8000"


def tile(live=(), *, losses=0, pairs=256, routed=0.25, of=1024):
    """A tile of pairs, spread over all cells; `live` are the places (stage, step) in which they count too."""
    tally = Tally()
    for slice in ("all", *(in_stage(place, "all") for place in live)):
        tally.vector(Key(slice, "classes", ""))[0] = pairs
        tally.vectors[Key(slice, "missing", "")] = [pairs, 500 * pairs, 800_000 * pairs, 0, 0, 0]
        if "-" in slice:
            hits = round(of * routed)
            tally.vectors[Key(slice, "rates", BALANCE)] = [hits, of]
            tally.cells[Key(slice, "rates", BALANCE)] = {h: [of // CELLS, hits // CELLS] for h in range(CELLS)}
        else:
            tally.vectors[Key(slice, "graders", "correct")] = [pairs - losses, losses, 0, 0]
            tally.cells[Key(slice, "graders", "correct")] = {
                h: [pairs // CELLS, -(losses // CELLS + (h < losses % CELLS))] for h in range(CELLS)
            }
    return tally


def step(state, tally, positions=(0,)):
    """Fold a tile, judge, and take the decision over, if there is one."""
    fold_tile(state, state.folded + 1, tally)
    judgement = judge_tile(state)
    decision = decide(state, judgement, positions=positions, decided_us=0, upstream=UPSTREAM)
    if decision is not None:
        advance(state, decision)
    return judgement, decision


def state_in(stage, policy=POLICY):
    """A run that good tiles have brought to a stage's beginning."""
    state = RunState.begin(RUN, policy, 0)
    tallies = [tile(), tile(("canary", "canary-1")), tile(("canary", "canary-2"), routed=0.5)]
    for tally in tallies[: {"canary": 1, "watch": 3}[stage]]:
        _, decision = step(state, tally)
        assert decision is not None
    return state


def test_good_candidate_goes_from_stage_to_stage():
    """
    shadow, two steps of canary, watch, done: one decision each, each with the share that follows.
    """
    state, found = RunState.begin(RUN, POLICY, 0), []
    tallies = [tile(), tile(("canary", "canary-1")), tile(("canary", "canary-2"), routed=0.5)]
    for tally in [*tallies, *(tile(("watch",)) for _ in range(10))]:
        _, decision = step(state, tally)
        if decision is not None:
            found.append((decision.from_stage, decision.to_stage, decision.step, decision.routing.share))
    assert [
        ("shadow", "canary", 1, 0.25),
        ("canary", "canary", 2, 0.5),
        ("canary", "watch", 3, 1.0),
        ("watch", "done", 4, 1.0),
    ] == found
    assert "promote" == state.latched


def test_every_step_needs_its_own_pairs():
    """
    The volume of a step counts its own pairs; rules go on over all steps of canary.
    """
    state = state_in("canary")
    step(state, tile(("canary", "canary-1")))
    assert "canary-2" == state.live_step.name
    judgement, decision = step(state, tile(("canary", "canary-2"), pairs=128, routed=0.5))
    assert None is decision
    assert ["volume"] == [condition.name for condition in judgement.conditions if not condition.is_met]
    assert (128, 384) == (state.window_pairs, judgement.rules[0].pairs)


def test_pairs_that_production_served_prove_nothing_in_canary():
    """
    A tile without pairs of the candidate's sessions leaves canary where it was.
    """
    state = state_in("canary")
    judgement, decision = step(state, tile(pairs=1024))
    assert (None, 0) == (decision, judgement.rules[0].pairs)


def test_shadows_rollback_process_goes_on_in_canary():
    """
    Losses in the shadow's pairs alone roll back a run in canary, by the shadow stage's rules.
    """
    state = state_in("canary")
    decision = None
    for _ in range(20):
        judgement, decision = step(state, tile(losses=128))
        if decision is not None:
            break
    assert ("rollback", "canary", "rolled_back", None) == (
        decision.decision,
        decision.from_stage,
        decision.to_stage,
        decision.routing,
    )
    assert "shadow" == judgement.stage.name
    assert "no_regression/all/correct" == decision.culprits[-1]


def test_losses_before_the_promotion_do_not_roll_back_in_watch():
    """
    Watch starts at zero, and only what is counted under its decision rolls back.
    """
    state = state_in("watch")
    _, decision = step(state, tile(losses=128, pairs=512))
    assert None is decision
    for _ in range(10):
        judgement, decision = step(state, tile(("watch",), losses=64))
        if decision is not None:
            break
    assert ("rollback", "watch") == (decision.decision, judgement.stage.name)


def test_unbalanced_traffic_holds_canary():
    """
    A share that is not the configured one holds, with its numbers, and never rolls back.
    """
    state = state_in("canary")
    judgement, decision = step(state, tile(("canary", "canary-1"), routed=0.5))
    unmet = [condition for condition in judgement.conditions if not condition.is_met]
    assert (None, ["balance"]) == (decision, [condition.name for condition in unmet])
    assert "was to serve 0.25 of the requests of canary-1, and got 50.00% of 1,024" in unmet[0].reason


def test_old_run_in_canary_expires_and_ends_its_share():
    """
    At the run's longest age canary expires: no promotion, no rollback, no live traffic.
    """
    state = state_in("canary", replace(POLICY, expires_s=300))
    decision = None
    while decision is None:
        _, decision = step(state, tile(pairs=128))
    assert ("expire", "expired", None, 4) == (decision.decision, decision.to_stage, decision.routing, decision.tile)


@pytest.mark.parametrize("stage", ["canary", "watch"])
def test_state_survives_its_bytes_in_every_stage(stage):
    """
    A state that was written and read goes on to the same bytes.
    """
    state = state_in(stage)
    again = state_from_bytes(state_to_bytes(state), POLICY)
    place = (stage,) if stage == "watch" else (stage, f"{stage}-1")
    for each in (state, again):
        step(each, tile(place, losses=2))
    assert state_to_bytes(state) == state_to_bytes(again)


def test_without_later_stages_a_promotion_ends_the_run():
    """
    A policy of the shadow stage alone routes nothing.
    """
    state = RunState.begin(RUN, Policy((SHADOW,)), 0)
    _, decision = step(state, tile())
    assert ("done", None) == (decision.to_stage, decision.routing)
