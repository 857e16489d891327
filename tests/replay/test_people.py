"""A replay takes what people ordered, and from which tile it held, from the log, and gives the same decision."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from consumers.gate import Gate
from shadow.adapters.archive import open_archive
from shadow.adapters.avro import encode
from shadow.cli.archive import public_configuration, write_archive
from shadow.cli.replay import Taken, recompute
from shadow.gate.history import Run
from shadow.metrics import Metrics
from shadow.records.decisions import Command, Obeyed
from tests.replay.world import SECOND, TOPICS, World, tree_of


class Looked(World):
    """A run whose tiles are all closed; the gate judges as many as the test wants between two orders."""

    def __init__(self, tree=None) -> None:
        super().__init__(tree)
        self.count()
        self.gate = self.new_gate()

    def new_gate(self):
        writer = self.log.decisions(TOPICS["decisions"], "test")
        return Gate(self.started, self.settings.policy(), self.store, writer, Metrics("gate"), self.clock)

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.clock.us += 2 * SECOND
            self.gate.step()

    def order(self, word: str, by: str = "ada", **changes) -> Command:
        own = {"override": True} if word == "promote" else {"for_s": 3600} if word == "extend" else {}
        now_us = self.clock.us
        command = Command(str(uuid.uuid4()), self.started.run, word, by, "a reason", now_us, **{**own, **changes})
        self.log.decisions(TOPICS["decisions"], "test").append(b"", lambda records: encode(command))
        return command


def assert_identical(world: World, **changes) -> Run:
    """A replay finds no difference; returns the run."""
    report = world.replayed(**changes)
    assert [] == [each.sentence for each in report.comparison.differences]
    assert world.run.decisions[-1] == report.replayed.decision
    return world.run


@pytest.mark.parametrize("word", ["promote", "rollback"])
def test_a_persons_decision_is_replayed_to_the_byte(word):
    """
    Decision, reason, evidence and the command's id are the same.
    """
    world = Looked()
    world.steps(2)
    ordered = world.order(word)
    world.steps(2)
    run = assert_identical(world)
    assert (word, ordered.command_id) == (run.decisions[-1].decision, run.decisions[-1].command_id)


def test_a_promotion_after_a_hold_is_replayed_at_its_tile(world):
    """
    The tiles that were judged under the hold promote nothing in the replay either, and it says nothing of them.
    """
    undisturbed = world.run.decisions[-1].tile
    held = Looked()
    held.steps(1)
    held.order("hold")
    held.steps(undisturbed + 1)
    held.order("resume", by="grace")
    held.steps(4)
    assert () != held.run.decisions, (undisturbed, held.run)
    run = assert_identical(held)
    assert ("promote", True) == (run.decisions[-1].decision, run.decisions[-1].tile > undisturbed)
    assert [] == [note for note in held.replayed().comparison.notes if "by the evidence alone" in note]


def test_a_promotion_that_broke_a_hold_is_a_difference(world):
    """
    A log in which a tile under a hold was promoted, as no gate of ours writes it, is not what it says.
    """
    run = world.run
    command = Command("c", run.name, "hold", "ada", "a reason", 0)
    tampered = Run(run.started, run.decisions, (command,), (Obeyed("c", run.name, run.decisions[-1].tile, 0),))
    assert "held by ada" in _replayed_as(world, tampered)


def _replayed_as(world: World, run: Run) -> str:
    taken = Taken(run, world.settings, None, world.log, "kafka")
    report = recompute(taken, regrade=False, first=None, last=None)
    assert ["decision"] == [each.where for each in report.comparison.differences[:1]]
    return report.replayed.judgement.reason


def test_an_extension_is_replayed_with_the_expiry():
    """
    The end by the clock moves with the extension, and so does T of the change detector in the evidence.
    """
    tree = tree_of()
    tree["stages"]["shadow"]["needs"]["pairs"] = 100_000
    world = Looked(tree)
    world.steps(3)
    world.order("extend")
    world.steps(30)
    world.clock.us = world.started.expires_us + SECOND
    world.steps(1)
    assert () == world.run.decisions
    world.clock.us = world.started.expires_us + 3600 * SECOND
    world.steps(2)
    run = assert_identical(world)
    assert ("expire", 3600) == (run.decisions[-1].decision, run.extended_s)


def test_an_archive_carries_what_people_ordered(tmp_path: Path):
    """
    Commands and their tiles stand in run.json, and the archive alone gives the person's decision.
    """
    pytest.importorskip("pyarrow")
    world = Looked()
    world.steps(2)
    world.order("hold")
    world.steps(2)
    world.order("rollback")
    world.steps(2)
    content = json.dumps(world.tree).encode()
    archived = write_archive(
        world.log, world.settings, world.run, tmp_path, public_configuration(content, world.settings)
    )
    assert () == archived.trouble
    manifest, _ = open_archive(tmp_path)
    assert (world.run.commands, world.run.obeyed) == (manifest.commands, manifest.obeyed)
