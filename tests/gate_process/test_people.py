"""The gate and people: what holds stop, what is obeyed from which tile, and that nothing comes in between."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable

import pytest

from consumers.gate import Gate
from shadow.adapters.avro import encode
from shadow.adapters.decisions import decisions_in
from shadow.gate.history import Run, runs_in
from shadow.records.decisions import Command, Decision, Obeyed
from shadow.records.policy import Needs, NoRegression, Policy, StagePolicy
from shadow.records.tallies import Tally
from tests.calibration.simulate import Truth, tiles
from tests.gate.policies import EXPIRES_S
from tests.gate_process.test_gate import GOOD, RUN, TILE_US, World, run, state_home  # noqa: F401

PAIRS = 4_000
"""Of which 1,000 are needed; a hundred make a tile."""
PER_TILE = 100
POLICY = Policy(
    (StagePolicy("shadow", Needs(pairs=1000), (NoRegression("reward", margin=0.1, strict=True),)),),
    expires_s=EXPIRES_S,
)
WORSE = Truth(shift={"reward": -0.10})
SECOND = 1_000_000


class Office(World):
    """A run that people look after. Tiles are closed one by one, so that orders can come between them."""

    def __init__(self, truth: Truth = GOOD, expires_us: int = 10**15) -> None:
        super().__init__(expires_us)
        self.waiting = list(tiles(3, truth, pairs=PAIRS, per_tile=PER_TILE))
        self.closed = 0

    def gate(self, reached: Callable[[str], None] = lambda point: None, *, four_eyes: bool = False) -> Gate:
        writer = self.log.decisions("decisions", "test")
        return Gate(self.started, POLICY, self.store, writer, self.metrics, self, reached, four_eyes=four_eyes)

    def order(self, word: str, by: str = "ada", **changes) -> str:
        """Write a command as it would come from elsewhere; returns its id."""
        own = {"override": True} if word == "promote" else {"for_s": 3600} if word == "extend" else {}
        command = Command(str(uuid.uuid4()), RUN, word, by, "a reason", self.us, **{**own, **changes})
        key = f"{RUN}/cmd/{command.command_id}".encode()
        self.log.decisions("decisions", "test").append(key, lambda records: encode(command))
        return command.command_id

    def tile(self, gate: Gate) -> None:
        """Close the next tile, and let the gate fold it and look about."""
        self.close(self.closed, self.waiting[self.closed], 0)
        self.close(self.closed, Tally(), 1)
        self.closed += 1
        self.us += 2 * SECOND
        gate.step()

    def until(self, gate: Gate, condition: Callable[[], object], most: int = PAIRS // PER_TILE) -> None:
        while not condition():
            assert self.closed < most, "it did not come"
            self.tile(gate)

    @property
    def run(self) -> Run:
        return runs_in(decisions_in(self.log.decisions("decisions", "test").read()))[0]

    def obeyed(self) -> list[Obeyed]:
        return list(self.run.obeyed)

    @property
    def view(self) -> dict:
        return json.loads(self.store.load(RUN)[1]["view"])


def promoted_at() -> int:
    """The tile at which the good candidate is promoted when nobody interferes."""
    office = Office()
    gate = office.gate()
    office.until(gate, lambda: gate.decision)
    assert "promote" == gate.decision.decision
    return gate.decision.tile


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> int:
    """The same, once."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        return promoted_at()


def test_a_hold_stops_the_promotion_until_someone_resumes(usual):
    """
    The tile that would promote does not; what was judged under the hold never does; the first tile behind the resume
    promotes, and the log says from which tile each of the two holds.
    """
    office = Office()
    gate = office.gate()
    office.until(gate, lambda: office.closed == usual - 2)
    hold = office.order("hold")
    office.until(gate, lambda: office.closed == usual + 5)
    assert (None, 1) == (gate.decision, len(office.obeyed()))
    assert "held by ada" in office.view["judgement"]["reason"]
    assert ["ada"] == [each["by"] for each in office.view["people"]["holds"]]
    assert 'shadow_gate_held{run="candidate-1"} 1.0' in office.metrics.text().decode()
    resume = office.order("resume", by="grace")
    for _ in range(3):
        office.us += 2 * SECOND
        gate.step()
    assert gate.decision is None
    office.tile(gate)
    assert ("promote", usual + 5, "") == (gate.decision.decision, gate.decision.tile, gate.decision.command_id)
    tiles_of = {each.command_id: each.tile for each in office.obeyed()}
    assert {hold: usual - 2, resume: usual + 5} == tiles_of


def test_a_hold_that_comes_within_the_transaction_stops_the_promotion(usual):
    """
    The gate has judged, and is about to write, when a hold gets into the topic before it: nothing is written, the hold
    is obeyed at that tile.
    """
    office = Office()
    gate = office.gate()
    office.until(gate, lambda: office.closed == usual)
    writer = gate._writer
    append = writer.append

    def late(key, build):
        if key == f"{RUN}/1".encode() and not office.run.commands:
            office.order("hold")
        return append(key, build)

    writer.append = late
    office.tile(gate)
    office.us += 2 * SECOND
    gate.step()
    assert (None, [], usual) == (gate.decision, office.decisions(), office.obeyed()[0].tile)


def test_a_hold_does_not_stop_a_rollback_by_evidence():
    """
    A bad candidate is rolled back at the tile that proves it, held or not.
    """
    free, held = Office(WORSE), Office(WORSE)
    gates = [free.gate(), held.gate()]
    held.order("hold")
    for office, gate in zip((free, held), gates, strict=True):
        office.until(gate, lambda gate=gate: gate.decision)
    assert [("rollback", free.decisions()[0].tile)] == [(d.decision, d.tile) for d in held.decisions()]


@pytest.mark.parametrize("word", ["promote", "rollback"])
def test_a_persons_decision_names_the_command_and_what_the_evidence_says(word):
    """
    The gate obeys at the newest tile; the decision carries the command's id, the person's words and the evidence's.
    """
    office = Office()
    gate = office.gate()
    for _ in range(3):
        office.tile(gate)
    ordered = office.order(word)
    office.us += 2 * SECOND
    gate.step()
    (decision,) = office.decisions()
    assert (word, ordered, 2) == (decision.decision, decision.command_id, decision.tile)
    said = {"promote": "promoted by ada", "rollback": "rolled back by ada"}[word]
    assert f"{said}: a reason; the evidence alone says hold: " in decision.reason
    assert "lower" in decision.evidence


def test_a_person_rolls_back_a_run_without_any_tile():
    """
    A run that never closed a tile, or whose evidence is broken, can be ended.
    """
    office = Office()
    office.us = 10 * SECOND
    office.change(1, state={"broken": b"answers/1: offsets 5 to 5 are missing from the log"})
    gate = office.gate()
    gate.step()
    office.order("rollback")
    office.us += 2 * SECOND
    gate.step()
    assert [("rollback", -1)] == [(each.decision, each.tile) for each in office.decisions()]


def test_four_eyes_wait_for_the_second_person():
    """
    With `four_eyes` a promotion is obeyed once another person has confirmed it, and the decision names both.
    """
    office = Office()
    gate = office.gate(four_eyes=True)
    for _ in range(2):
        office.tile(gate)
    ordered = office.order("promote")
    office.tile(gate)
    office.order("promote", by="Ada", confirms=ordered)
    office.tile(gate)
    assert [] == office.decisions()
    office.order("promote", by="grace", confirms=ordered)
    office.tile(gate)
    (decision,) = office.decisions()
    assert ("promote", ordered) == (decision.decision, decision.command_id)
    assert decision.reason.startswith("promoted by ada, confirmed by grace (a reason): a reason; ")


def test_an_extension_moves_the_end_and_the_threshold():
    """
    The clock's end and the log's move by the extension, and T of the change detector grows with it (statistics.md a.5).
    """
    office = Office(expires_us=3600 * SECOND)
    gate = office.gate()
    office.tile(gate)
    before = office.view["judgement"]["rollback"]["need_sr"]
    office.order("extend")
    office.us = office.started.expires_us + SECOND
    gate.step()
    assert gate.decision is None
    assert office.view["judgement"]["rollback"]["need_sr"] > before
    assert (3600, 7200 * SECOND) == (office.view["people"]["extended_s"], office.view["expires_us"])
    office.us = 7200 * SECOND + SECOND
    gate.step()
    assert ["expire"] == [each.decision for each in office.decisions()]
    assert "of 608400 s" in gate.decision.reason


def test_an_extension_within_the_transaction_stops_the_expiry():
    """
    The gate is about to write that the run expired when someone extends it: it does not expire.
    """
    office = Office(expires_us=3600 * SECOND)
    gate = office.gate()
    office.tile(gate)
    append = gate._writer.append

    def late(key, build):
        if key == f"{RUN}/1".encode() and not office.run.commands:
            office.order("extend")
        return append(key, build)

    gate._writer.append = late
    office.us = office.started.expires_us + SECOND
    for _ in range(3):
        gate.step()
        office.us += 2 * SECOND
    assert (None, 1) == (gate.decision, len(office.obeyed()))


def test_a_wiped_store_changes_no_effect_of_an_order(usual):
    """
    Redis is flushed after a hold and a resume: the tiles are folded again, none that was judged then promotes, and the
    decision is that of the undisturbed gate.
    """
    decisions: list[Decision] = []
    for is_wiped in (False, True):
        office = Office()
        gate = office.gate()
        office.order("hold")
        office.until(gate, lambda office=office: office.closed == usual + 4)
        office.order("resume")
        office.us += 2 * SECOND
        gate.step()
        if is_wiped:
            tiles_of = {each: office.store.tile_names(f"{RUN}/{each}") for each in (0, 1)}
            kept = {each: dict(zip(names, office.store.tiles(f"{RUN}/{each}", names), strict=True))
                    for each, names in tiles_of.items()}  # fmt: skip
            office.store.wipe()
            office.versions = [None, None]
            for partition, content in kept.items():
                office.change(partition, tiles=content)
            gate = office.gate()
            for _ in range(2 * usual + 20):
                gate.step()
            assert gate.decision is None
        office.tile(gate)
        decisions += office.decisions()
    assert [usual + 4] * 2 == [each.tile for each in decisions]
    assert decisions[0].tiles_digest == decisions[1].tiles_digest


def test_two_gates_take_an_order_over_once(usual):
    """
    Two gates at one run write one `Obeyed` for each command and one decision.
    """
    office = Office()
    first, second = office.gate(), office.gate()
    office.order("hold")
    for _ in range(5):
        office.tile(first)
        second.step()
    office.order("resume")
    while not office.decisions():
        office.tile(second)
        first.step()
    assert 2 == len(office.obeyed())
    assert ["promote"] == [each.decision for each in office.decisions()]


def test_kafka_away_does_not_stop_the_judging():
    """
    As long as nothing is to be written, tiles are judged while the topic cannot be read.
    """
    office = Office()
    gate = office.gate()
    office.tile(gate)
    office.log.stop()
    for _ in range(3):
        office.tile(gate)
    assert 3 == office.view["tile"]
    office.log.start()
    office.order("hold")
    office.us += 11 * SECOND
    office.tile(gate)
    assert [3] == [each.tile for each in office.obeyed()] or [4] == [each.tile for each in office.obeyed()]


def test_every_order_is_obeyed_in_a_run_whose_tiles_are_long():
    """
    An order does not wait for the next tile to be taken over.
    """
    office = Office()
    gate = office.gate()
    office.tile(gate)
    office.order("hold")
    office.us += 2 * SECOND
    gate.step()
    assert (TILE_US > 4 * SECOND, 1) == (True, len(office.obeyed()))
