"""The gate process in canary and watch: after a crash, beside another gate, and beside other runs."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from shadow.cli.display import run_panel
from shadow.gate.history import PROMOTED_ELSEWHERE
from shadow.records.tallies import Tally
from tests.gate.test_stages import POLICY, tile
from tests.gate_process.test_gate import Killed, World, run, same

LIVE = [tile(), tile(("canary", "canary-1")), tile(("canary", "canary-2"), routed=0.5), tile(("watch",), losses=128)]


@pytest.fixture(autouse=True)
def state_home(tmp_path, monkeypatch):
    """The last known state of this machine is the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def world_of(name="candidate-1", tallies=(), beside=None):
    """A run with these tiles closed."""
    world = World(policy=POLICY, run=name, beside=beside)
    for number, tally in enumerate(tallies):
        close(world, number, tally)
    return world


def close(world, number, tally):
    world.close(number, tally, 0)
    world.close(number, Tally(), 1)


def stages_of(world):
    return [(decision.from_stage, decision.to_stage, decision.tile) for decision in world.decisions()]


WAY = [("shadow", "canary", 0), ("canary", "canary", 1), ("canary", "watch", 2), ("watch", "rolled_back", 3)]


def test_every_step_is_decided_once():
    """
    A gate takes a run from shadow to its rollback in watch, one decision a step.
    """
    world = world_of(tallies=LIVE)
    run(world.gate())
    assert WAY == stages_of(world)
    assert [0.25, 0.5, 1.0] == [decision.routing.share for decision in world.decisions()[:3]]
    assert {"http://candidate:8000"} == {decision.routing.upstream for decision in world.decisions()[:3]}


@pytest.mark.parametrize("point", ["folded", "decided"])
@pytest.mark.parametrize("left", [1, 2, 3, 4])
def test_killed_at_any_step(point, left):
    """
    A gate that dies after a fold or a decision is followed by one that takes the same decisions and no other.
    """
    expected, world = world_of(tallies=LIVE), world_of(tallies=LIVE)
    run(expected.gate())
    count = 0

    def reached(where):
        nonlocal count
        count += where == point
        if where == point and count == left:
            raise Killed

    with pytest.raises(Killed):
        run(world.gate(reached))
    run(world.gate())
    assert same(expected.decisions(), world.decisions())
    assert expected.digest() == world.digest()


def test_state_that_was_lost_takes_the_decisions_at_their_tiles():
    """
    A gate whose state is gone folds again, takes what was decided, each at its tile, and decides nothing new.
    """
    world = world_of(tallies=LIVE[:3])
    run(world.gate())
    before = world.digest()
    world.store.purge(world.name)
    run(world.gate())
    assert WAY[:3] == stages_of(world)
    assert before == world.digest()
    close(world, 3, LIVE[3])
    run(world.gate())
    assert WAY == stages_of(world)


def test_two_gates_take_each_step_once():
    """
    Two gates that look in turn come to the same decisions, one a step.
    """
    world = world_of()
    gates = [world.gate(), world.gate()]
    for number, tally in enumerate(LIVE):
        close(world, number, tally)
        for _ in range(4):
            for gate in gates:
                gate.step()
    assert WAY == stages_of(world)


def test_only_one_run_is_in_canary():
    """
    A candidate that is proven while another one has live traffic waits, and says for whom; once that one is rolled
    back, it goes on.
    """
    first = world_of(tallies=LIVE[:1])
    second = world_of("candidate-2", tallies=LIVE[:1], beside=first)
    run(first.gate())
    gate = second.gate()
    run(gate)
    assert ([("shadow", "canary", 0)], []) == (stages_of(first), stages_of(second))
    gate.step()
    stored = second.store.load(second.name)
    assert b"candidate-1 has live traffic, and only one candidate may" in stored[1]["view"]

    for number in range(1, 20):
        close(first, number, tile(("canary", "canary-1"), losses=128))
    run(first.gate())
    assert "rolled_back" == first.decisions()[-1].to_stage
    close(second, 1, tile())
    run(gate)
    assert [("shadow", "canary", 1)] == stages_of(second)


def test_a_run_against_a_version_that_was_replaced_gets_no_users():
    """
    Once a candidate serves everyone, a later run against the old production holds before its canary.
    """
    first = world_of(tallies=[*LIVE[:3], *(tile(("watch",)) for _ in range(10))])
    run(first.gate())
    assert "done" == first.decisions()[-1].to_stage
    second = world_of("candidate-2", tallies=LIVE[:1], beside=first)
    run(second.gate())
    assert [] == stages_of(second)
    assert b"candidate-1 has live traffic" in second.store.load(second.name)[1]["view"]


def test_a_promotion_ends_the_other_runs():
    """
    A run on the production that another candidate replaces ends undecided, and names that run.
    """
    first = world_of(tallies=LIVE[:3])
    second = world_of("candidate-2", tallies=[tile(pairs=128)], beside=first)
    gate = second.gate()
    run(gate)
    run(first.gate())
    assert ("watch", []) == (first.decisions()[-1].to_stage, stages_of(second))
    second.us += 2_000_000
    run(gate)
    (decision,) = second.decisions()
    assert ("expire", "expired") == (decision.decision, decision.to_stage)
    assert decision.reason.startswith(f"{PROMOTED_ELSEWHERE} candidate-1 was promoted: ")


def test_status_says_how_far_the_candidate_serves():
    """
    The panel names step and share, and how the run came there; a run that has ended, its last decision.
    """
    world = world_of(tallies=LIVE[:2])
    gate = world.gate()
    run(gate)
    world.us += 2_000_000  # what is shown is made anew each second
    gate.step()
    told = panel_of(world)
    assert "stage canary (canary-2: the candidate serves 0.5 of the sessions)" in told
    assert ["promote: shadow to canary", "promote: canary to canary"] == arrows_in(told)
    for number in (2, 3):
        close(world, number, LIVE[number])
    run(gate)
    told = panel_of(world)
    assert "stage rolled_back" in told and "ROLLBACK" in told
    assert ["promote: shadow to canary", "promote: canary to canary", "promote: canary to watch"] == arrows_in(told)


def panel_of(world):
    """What `shadow status` prints."""
    console = Console(width=200, highlight=False, record=True, file=io.StringIO())
    console.print(run_panel(json.loads(world.store.load(world.name)[1]["view"])))
    return console.export_text()


def arrows_in(told):
    return re.findall(r"promote: \w+ to \w+", told)
