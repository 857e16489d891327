"""What the gate keeps and shows beside its decisions: history, what would flip a rule, what it can see, A/A alarms."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from consumers.gate import Gate
from shadow.adapters.memory_store import MemoryStore
from shadow.gate.trace import trace_from_bytes
from shadow.records.comparisons import BASELINE_PRODUCTION
from shadow.records.policy import Agreement
from shadow.records.tallies import ClosedTile, Key, Tally
from tests.calibration.simulate import tiles
from tests.gate.policies import POLICY
from tests.gate_process.test_gate import BAD, GOOD, RUN, TILE_US, Killed, World, run


@pytest.fixture(autouse=True)
def state_home(tmp_path, monkeypatch):
    """The last known state of this machine is the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def field_of(store: MemoryStore, name: str) -> bytes:
    found = store.field(RUN, name)
    assert found is not None
    return found


def test_a_gate_that_is_killed_tells_the_same_history():
    """
    Ended behind every third fold, and begun again, the gate has seen each tile once.
    """
    undisturbed, killed = World(), World()
    for world in (undisturbed, killed):
        world.close_all(BAD, 20_000)
    run(undisturbed.gate())
    for _ in range(200):
        left = 3

        def reached(label):
            nonlocal left
            left -= label == "folded"
            if left == 0:
                raise Killed

        try:
            run(killed.gate(reached))
        except Killed:
            continue
        break
    expected = field_of(undisturbed.store, "trace")
    assert expected == field_of(killed.store, "trace")
    trace = trace_from_bytes(expected)
    # The decided tile itself is in the view alone: nothing is folded behind it.
    decided = undisturbed.decisions()[0].tile
    assert [*range(decided)] == [point.tile for point in trace.points]


def test_the_view_and_the_metrics_say_what_the_gate_sees():
    """
    The view carries history, flips and suspects; the metrics the smallest regression that each rule will find.
    """
    world = World()
    world.close_all(GOOD, 2500)
    run(world.gate())
    world.us += 2_000_000
    run(world.gate())
    view = orjson.loads(field_of(world.store, "view"))
    assert 10 == len(view["history"]["points"])
    assert len(view["history"]["rules"]) == len(POLICY.stages[0].rules) == len(view["history"]["since_us"])
    strict = next(row for row in view["explain"] if (row["name"], row["slice"]) == ("no_regression", "all"))
    assert {"FAIL"} <= {way["to"] for way in strict["ways"]}
    assert view["noise"] is None
    volume = next(row for row in view["explain"] if row["name"] == "volume")
    assert "2,500 pairs within the window" == volume["missing"]

    def detectable(rule: str, slice: str) -> float:
        return world.metrics.value("shadow_gate_detectable_regression_ratio", run=RUN, rule=rule, slice=slice)

    everywhere = detectable("no_regression:reward", "all")
    assert 0 < everywhere < detectable("no_regression:pinned", "debug-search-api") < 0.1


def test_baseline_tiles_are_tested_for_false_alarms():
    """
    A second production that answers ten points worse alarms in its block of 1,000 pairs, and nothing is decided by it.
    """
    world = World()
    stage = replace(POLICY.stages[0], rules=(*POLICY.stages[0].rules, Agreement()))
    policy = replace(POLICY, stages=(stage,), evidence_deadline_us=1)
    gate = Gate(world.started, policy, world.store, world.log.decisions("decisions", "test"), world.metrics, world)
    key = Key("all", "graders", "reward")
    again = Tally()
    again.vector(Key("all", "classes", ""))[0] = 250
    again.vector(key)[:] = [190, 35, 5, 20]
    again.cells_of(key).update({cell: [2, -(cell % 8 == 0)] for cell in range(125)})
    for number, tally in enumerate(tiles(3, GOOD, pairs=2500, per_tile=250)):
        world.close(number, tally, 0)
        world.close(number, Tally(), 1)
        for partition, share in enumerate((again, Tally())):
            name = ClosedTile(number, share, number + 1, {}, BASELINE_PRODUCTION)
            world.change(partition, tiles={name.name: name.to_bytes()})
    run(gate)
    world.us += TILE_US
    gate.step()
    # Ten main tiles, and eight of the baseline's behind them: two blocks of four.
    assert {"blocks": 2, "alarms": 2, "budget": pytest.approx(0.04)} == orjson.loads(field_of(world.store, "view"))[
        "noise"
    ]
    assert 1.0 == world.metrics.value("shadow_gate_false_alarm_ratio", run=RUN)
    assert gate.decision is None
