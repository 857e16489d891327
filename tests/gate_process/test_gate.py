"""The gate process on a store and a log in memory: tiles in order, one decision, whatever happens in between."""

from __future__ import annotations

import threading
import uuid
from dataclasses import replace

import pytest

from consumers.gate import Gate
from shadow.adapters.avro import encode
from shadow.adapters.decisions import decisions_in
from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.memory_store import MemoryStore
from shadow.metrics import Metrics
from shadow.ports import Change
from shadow.records.decisions import Decision, Started
from shadow.records.policy import NoRegression
from shadow.records.tallies import ClosedTile, Tally
from shadow.stream.state import slot_of
from tests.calibration.simulate import RATES, Truth, tiles
from tests.gate.policies import POLICY

RUN = "candidate-1"
GOOD = Truth(shift={**dict.fromkeys(RATES, 0.02), "tagged": 0.01, "correct": 0.10})
BAD = Truth(shift={"pinned": -0.10})
TILE_US = POLICY.tile_us


class Killed(Exception):
    """The process ends here, as with kill -9."""


@pytest.fixture(autouse=True)
def state_home(tmp_path, monkeypatch):
    """The last known state of this machine is the test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


class World:
    """A run of two partitions whose tiles the test closes.

    Args:
        beside: Another run on the same log and store.
    """

    def __init__(self, expires_us: int = 10**15, *, policy=POLICY, run=RUN, beside: World | None = None) -> None:
        self.us = 0
        self.name, self.policy = run, policy
        self.log = beside.log if beside is not None else MemoryLog(self.now_us)
        self.store = beside.store if beside is not None else MemoryStore()
        if beside is None:
            self.log.admin().create_topics({"decisions": 1}, {})
        self.versions: list[str | None] = [None, None]
        self.metrics = Metrics("gate")
        self.started = Started(run, 1, "v2", "v1", "0" * 64, "shadow", TILE_US, 0, (0, 0), (0, 0), 0, expires_us, True)
        self.log.decisions("decisions", "test").append(b"", lambda records: encode(self.started))

    def now_us(self) -> int:
        return self.us

    def change(self, partition: int, **content) -> None:
        change = Change(version=str(uuid.uuid4()), **{"state": {}, **content})
        self.store.swap(slot_of(self.name, partition), self.versions[partition], change)
        self.versions[partition] = change.version

    def close(self, number: int, tally: Tally, partition: int) -> None:
        """A partition closes a tile; time is a second after its end."""
        self.us = max(self.us, (number + 1) * TILE_US + 1_000_000)
        self.change(partition, tiles={str(number): ClosedTile(number, tally, number + 1, {}).to_bytes()})

    def close_all(self, truth: Truth, pairs: int) -> int:
        """Close tiles, all counts in the first partition; returns their number."""
        number = -1
        for number, tally in enumerate(tiles(3, truth, pairs=pairs, per_tile=250)):
            self.close(number, tally, 0)
            self.close(number, Tally(), 1)
        return number + 1

    def gate(self, reached=lambda point: None) -> Gate:
        writer = self.log.decisions("decisions", "test")
        return Gate(
            self.started, self.policy, self.store, writer, self.metrics, self, reached, upstream="http://candidate:8000"
        )

    def decisions(self) -> list[Decision]:
        records = decisions_in(self.log.decisions("decisions", "test").read())
        return [record for record in records if isinstance(record, Decision) and record.run == self.name]

    def digest(self) -> bytes:
        stored = self.store.load(self.name)
        return b"" if stored is None else stored[1].get("gate", b"")


def run(gate: Gate, steps: int = 200) -> None:
    """Steps until nothing is folded any more or the run is decided."""
    for _ in range(steps):
        if gate.decision is not None:
            return
        version = gate.step()
        if not version and gate.decision is None and not gate.step():
            return


def undisturbed(truth: Truth, pairs: int) -> tuple[list[Decision], bytes]:
    world = World()
    world.close_all(truth, pairs)
    run(world.gate())
    return world.decisions(), world.digest()


def same(one: list[Decision], other: list[Decision]) -> bool:
    """Whether decisions are the same but for the wall clock's moment and the freshness that it gives."""
    return [replace(d, decided_us=0, evidence="") for d in one] == [
        replace(d, decided_us=0, evidence="") for d in other
    ]


def test_tiles_are_folded_in_order_and_none_is_skipped():
    """A tile that is closed before the one before it waits, and so does every partition for the slowest."""
    world, gate = World(), None
    shares = list(tiles(3, GOOD, pairs=750, per_tile=250))
    gate = world.gate()
    world.close(0, shares[0], 0)
    assert not gate.step()
    world.close(1, shares[1], 0)
    world.close(1, Tally(), 1)
    assert not gate.step()
    world.close(0, Tally(), 1)
    assert gate.step()
    assert gate.step()
    assert not gate.step()
    assert ["0", "1"] == sorted(world.store.tile_names(RUN))


def test_one_decision_at_the_first_tile_that_proves_it():
    """A bad candidate is rolled back once, and nothing is folded after the decision."""
    decisions, _ = undisturbed(BAD, 20_000)
    assert ["rollback"] == [decision.decision for decision in decisions]


@pytest.mark.parametrize("point", ["folded", "decided"])
@pytest.mark.parametrize("left", [1, 2, 3])
def test_killed_at_a_point(point, left):
    """A gate that dies after a fold judges that tile again; one that dies after its decision makes no second one."""
    world = World()
    world.close_all(BAD, 20_000)
    deaths = 0
    for _ in range(200):
        remaining = left

        def reached(label):
            nonlocal remaining
            remaining -= label == point
            if remaining == 0:
                raise Killed

        try:
            run(world.gate(reached))
        except Killed:
            deaths += 1
            continue
        break
    assert deaths > 0 or (point, left) in {("decided", 2), ("decided", 3)}
    decisions, digest = undisturbed(BAD, 20_000)
    assert same(decisions, world.decisions())
    assert digest == world.digest()


def test_two_gates_make_one_decision():
    """Two gates that take turns fold each tile once and end with the one decision."""
    world = World()
    world.close_all(BAD, 20_000)
    first, second = world.gate(), world.gate()
    for _ in range(400):
        for gate in (first, second):
            if gate.decision is None:
                gate.step()
    assert first.decision is not None
    assert first.decision == second.decision
    assert same(undisturbed(BAD, 20_000)[0], world.decisions())


def test_a_decision_in_the_topic_is_adopted():
    """A gate that comes to its decision and finds the step in the topic takes that one."""
    world = World()
    world.close_all(BAD, 20_000)

    late = world.gate()
    late.step()
    run(world.gate())
    for _ in range(200):
        if late.decision is None:
            late.step()
    assert world.decisions() == [late.decision]


def test_a_wiped_store_makes_no_second_decision():
    """Losing the store after the decision changes nothing; the run stays decided."""
    world = World()
    world.close_all(BAD, 20_000)
    run(world.gate())
    before = world.decisions()
    world.store.wipe()
    world.versions = [None, None]
    world.close_all(GOOD, 5000)
    gate = world.gate()
    run(gate)
    assert before == world.decisions() == [gate.decision]


@pytest.mark.parametrize("writes", [1, 3])
def test_a_rolled_back_store_gives_the_same_digest(writes):
    """A store that loses the gate's last writes is folded on from where it stands."""
    world = World()
    world.close_all(GOOD, 2500)
    gate = world.gate()
    for _ in range(5):
        gate.step()
    world.store.roll_back(writes)
    for _ in range(30):
        gate.step()
    assert undisturbed(GOOD, 2500)[1] == world.digest() != b""


def test_a_broken_partition_holds_and_expires():
    """A hole holds the run and is named; at the run's longest age it expires, and is never promoted or rolled back."""
    world = World(expires_us=3600 * 10**6)
    world.us = 10_000_000
    world.change(1, state={"broken": b"answers/1: offsets 5 to 5 are missing from the log"})
    gate = world.gate()
    gate.step()
    assert gate.decision is None
    assert (False, "answers/1: offsets 5 to 5 are missing from the log") == gate.readiness()
    world.us = world.started.expires_us + 1
    gate.step()
    assert gate.decision is not None
    assert "expire" == gate.decision.decision
    assert "answers/1: offsets 5 to 5" in gate.decision.reason


def test_a_broken_partition_is_not_emptied_with_the_others():
    """While one partition is broken nothing is counted again: it would only make the reason go away."""
    world = World()
    world.us = 10_000_000
    world.change(0, state={"dropped": b"7"})
    world.change(1, state={"broken": b"answers/1: offsets 5 to 5 are missing from the log"})
    gate = world.gate()
    gate.step()
    assert (False, "answers/1: offsets 5 to 5 are missing from the log") == gate.readiness()
    assert [b"7", None] == [world.store.field(slot_of(RUN, each), "dropped") for each in (0, 1)]


def test_expires_by_the_wall_clock_when_nothing_closes():
    """A run without any tile ends at its longest age with `expire`."""
    world = World(expires_us=3600 * 10**6)
    gate = world.gate()
    world.us = world.started.expires_us - 1
    gate.step()
    assert gate.decision is None
    world.us += 2_000_000
    gate.step()
    assert ["expire"] == [decision.decision for decision in world.decisions()]


def test_stale_tiles_never_promote():
    """Evidence that would promote holds when its newest tile is older than the policy allows."""
    fresh, stale = World(), World()
    for world in (fresh, stale):
        count = world.close_all(GOOD, 40_000)
        world.us = (count + 1) * TILE_US
    stale.us += 86_400 * 10**6
    for world in (fresh, stale):
        run(world.gate(), steps=400)
    assert [] == stale.decisions()
    assert ["promote"] == [decision.decision for decision in fresh.decisions()]


def test_a_state_of_another_format_is_folded_again():
    """A stored state that cannot be read is dropped, and all tiles are folded from the first on."""
    world = World()
    world.close_all(GOOD, 2500)
    run(world.gate())
    digest = world.digest()
    version, _ = world.store.load(RUN)
    world.store.swap(RUN, version, Change(version="other", state={"gate": b'{"format": 99}\n'}))
    run(world.gate())
    assert digest == world.digest()


def test_a_decided_run_stays_up_until_stopped():
    """After its decision the process waits for the stop, so that its metrics can be read."""
    world = World()
    world.close_all(BAD, 20_000)
    stop = threading.Event()
    gate = world.gate(lambda point: stop.set() if point == "decided" else None)
    gate.run(stop)
    assert gate.decision is not None


def test_state_that_fell_back_behind_dropped_tiles_has_everything_counted_again():
    """
    A gate whose stored state is older than the tiles that owners have dropped resets itself, empties the partitions'
    slots, and decides the same once they are counted again.
    """
    expected, _ = undisturbed(BAD, 20_000)
    world = World()
    world.close_all(BAD, 250)
    run(world.gate())
    for partition in (0, 1):
        world.change(partition, state={"dropped": b"99"})
    gate = world.gate()
    assert not gate.step()
    assert [None, None] == [world.store.load(slot_of(RUN, partition)) for partition in (0, 1)]
    assert b"-1" == world.store.field(RUN, "folded")
    world.versions = [None, None]
    world.close_all(BAD, 20_000)
    run(gate)
    assert same(expected, world.decisions())


def test_tiles_of_people_are_waited_for_and_folded_behind():
    """A main tile is folded once the tile of people that lies their deadline behind is there, and both are stored."""
    world = World()
    rules = (*POLICY.stages[0].rules, NoRegression("correct", against="human"))
    policy = replace(
        POLICY, stages=(replace(POLICY.stages[0], rules=rules),), human_deadline_us=2 * TILE_US, evidence_deadline_us=1
    )
    writer = world.log.decisions("decisions", "test")
    gate = Gate(world.started, policy, world.store, writer, world.metrics, world)
    shares = list(tiles(3, GOOD, pairs=1250, per_tile=250))
    for number, tally in enumerate(shares):
        world.close(number, tally, 0)
        world.close(number, Tally(), 1)
    assert [True, True, True, False] == [gate.step() for _ in range(4)]
    for partition in (0, 1):
        people = ClosedTile(0, Tally(), 9, {}, "candidate-human")
        world.change(partition, tiles={people.name: people.to_bytes()})
    assert [True, False] == [gate.step() for _ in range(2)]
    assert {"0", "1", "2", "3", "candidate-human/0"} == set(world.store.tile_names(RUN))
    assert b"3" == world.store.field(RUN, "folded")


def test_a_gate_that_ended_amid_the_reset_finishes_it():
    """
    The reset is stored before the slots are emptied, so a gate that ends in between leaves what the next one finds:
    no state, and tiles that are gone. It empties the slots, and the decision is the same.
    """
    expected, _ = undisturbed(BAD, 20_000)
    world = World()
    world.us = 10_000_000
    for partition in (0, 1):
        world.change(partition, state={"dropped": b"7"})
    world.store.swap(RUN, None, Change(version="reset", state={"folded": b"-1"}))
    gate = world.gate()
    assert not gate.step()
    assert [None, None] == [world.store.load(slot_of(RUN, partition)) for partition in (0, 1)]
    assert f'shadow_gate_rebuilds_total{{run="{RUN}"}} 1.0' in world.metrics.text().decode()
    world.versions = [None, None]
    world.close_all(BAD, 20_000)
    run(gate)
    assert same(expected, world.decisions())


def test_rules_against_people_have_series_of_their_own():
    """The verdicts of one rule against production and against people are told apart in the metrics."""
    world = World()
    rules = (NoRegression("correct"), NoRegression("correct", against="human"))
    policy = replace(POLICY, stages=(replace(POLICY.stages[0], rules=rules),))
    gate = Gate(world.started, policy, world.store, world.log.decisions("decisions", "test"), world.metrics, world)
    world.close_all(GOOD, 2500)
    run(gate)
    page = world.metrics.text().decode()
    for name in ("no_regression:correct", "no_regression:correct@human"):
        assert f'rule="{name}",run="{RUN}",slice="all",verdict="UNDECIDED"}}' in page


def test_merged_tiles_stay_a_day():
    """A merged tile leaves the store with the one that comes a day later: of tiles of twelve hours two are kept."""
    world = World()
    world.close_all(GOOD, 1250)
    policy = replace(POLICY, tile_us=12 * 3600 * 1_000_000)
    writer = world.log.decisions("decisions", "test")
    run(Gate(world.started, policy, world.store, writer, world.metrics, world))
    assert {"3", "4"} == set(world.store.tile_names(RUN))
