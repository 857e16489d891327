"""A replay gives the integers, the digest and the decision of the run, and names what is not as it was."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from shadow.adapters.avro import decode, encode
from shadow.cli.replay_shown import document_of
from shadow.errors import Usage
from shadow.ports import Change
from shadow.records.answers import Answer
from shadow.records.log import LogRecord
from shadow.records.policy import Agreement, Policy
from shadow.settings.settings import Settings
from tests.replay.world import PARTITIONS, SECOND, TILE_US, TILES, TOPICS, World, settings_of, tree_of


class Shuffled:
    """The same log, read in batches of any size from any partition, as brokers may give them."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed

    def admin(self) -> Any:
        return self._world.log.admin()

    def reader(self) -> Any:
        return ShuffledReader(self._world, self._seed)


class ShuffledReader:
    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._draw = random.Random(seed)
        self._positions: dict[tuple[str, int], int] = {}

    def assign(self, positions: Mapping[tuple[str, int], int]) -> None:
        self._positions = dict(positions)

    def read(self, max_records: int, timeout_s: float) -> list[LogRecord]:
        log = self._world.log
        batches = []
        for topic, partition in self._draw.sample(sorted(self._positions), len(self._positions)):
            size = self._draw.choice([0, 1, 2, 50, 500])
            position = self._positions[topic, partition]
            records, self._positions[topic, partition] = log.fetch(topic, partition, position, size)
            batches.append(records)
        mixed = []
        while any(batches):
            batch = self._draw.choice([batch for batch in batches if batch])
            mixed.append(batch.pop(0))
        return mixed

    def positions(self) -> Mapping[tuple[str, int], int]:
        return dict(self._positions)

    def close(self) -> None:
        self._positions = {}


def test_p4_the_log_alone_gives_the_decision_byte_for_byte(world):
    """
    P4: tile, digest, positions, reason and evidence of the decision, each closed tile and the gate's digest are the
    same.
    """
    report = world.replayed()
    recorded = world.run.decisions[-1]
    assert recorded == report.replayed.decision
    assert recorded.evidence == report.replayed.decision.evidence
    assert (True, 0, "") == (report.is_identical, report.comparison.count, report.replayed.broken)
    compared = report.comparison.compared
    tiles = recorded.tile + 1
    assert (tiles, 1, 1) == (compared["gate_tiles"], compared["gate_digest"], compared["decisions"])
    assert compared["redis_tiles"] >= tiles * PARTITIONS


@pytest.mark.parametrize("seed", range(5))
def test_interleaving_of_partitions_changes_nothing(world, seed):
    """
    However the records of the partitions come in between each other, all of it is the same.
    """
    plain, shuffled = world.replayed(last="end"), world.replayed(last="end", source=Shuffled(world, seed))
    assert plain.replayed.decision == shuffled.replayed.decision
    assert plain.replayed.state.tiles_digest == shuffled.replayed.state.tiles_digest
    assert plain.replayed.counters == shuffled.replayed.counters
    assert sorted(plain.replayed.unreadable) == sorted(shuffled.replayed.unreadable)
    assert shuffled.is_identical


def test_every_unreadable_record_is_named_once(world):
    """
    A garbage answer is named by its position, and so is a garbage request whose class had to be known.
    """
    report = world.replayed(last="end")
    garbage = {
        f"{TOPICS['answers']}/{partition}/{record.offset}"
        for partition in range(PARTITIONS)
        for record in world.records("answers", partition)
        if record.value == b"garbage"
    }
    named = [place for place, _ in report.replayed.unreadable]
    assert garbage <= set(named)
    assert len(named) == len(set(named)) == report.replayed.unreadable_count
    assert len(garbage) == report.replayed.counters["dead_letters"]


def first_pair(world: World, partition: int) -> LogRecord:
    """An answer that made a pair in the run's first tile."""
    return next(
        record
        for record in world.records("answers", partition)
        if record.headers.get("run") == world.started.run.encode()
        and record.value != b"garbage"
        and isinstance(content := decode(record.value), Answer)
        and content.outcome == "answered"
        and content.request_time_us < TILE_US
        and record.time_us < TILE_US
    )


def test_a_corrupted_record_changes_the_digest_and_is_named():
    """
    Its place and the reason stand among the unreadable ones; tile, slice and statistic that it changed are named.
    """
    world = World(garbage=0.0).play()
    record = first_pair(world, 1)
    before = world.replayed()
    world.corrupt("answers", 1, record.offset, record.value[:-1])
    report = world.replayed()
    assert before.is_identical
    assert report.is_identical is False
    assert before.replayed.state.tiles_digest != report.replayed.state.tiles_digest
    (named,) = report.replayed.unreadable
    assert f"{TOPICS['answers']}/1/{record.offset}" == named[0]
    assert "cannot be read" in named[1]
    places = {(each.where, each.partition, each.tile, each.slice, each.key) for each in report.comparison.differences}
    assert ("redis", 1, 0, "all", "classes") in places
    assert ("gate", None, 0, "all", "classes") in places
    assert any(place[0] == "decision" and place[4] == "tiles_digest" for place in places)


def test_a_changed_word_is_a_difference_too():
    """
    An answer that was right and reads as wrong, and can be read, moves one pair; no record is named as unreadable.
    """
    world = World(garbage=0.0).play()
    record = first_pair(world, 0)
    changed = decode(record.value)
    flipped = b"wrong" if changed.body == b"right" else b"right"
    world.corrupt("answers", 0, record.offset, encode(replace(changed, body=flipped)))
    report = world.replayed()
    assert [] == report.replayed.unreadable
    assert report.comparison.count
    assert any(
        "partition 0, tile 0, slice all, graders/correct" in each.sentence for each in report.comparison.differences
    )


def test_a_hole_is_broken_evidence_and_is_named():
    """
    A record that is gone from the middle ends the replay with its offset; nothing is skipped.
    """
    world = World().play()
    gone = first_pair(world, 0).offset
    world.log.punch(TOPICS["answers"], 0, gone)
    report = world.replayed()
    assert f"{TOPICS['answers']}/0: offsets {gone} to {gone} are missing" == report.replayed.broken
    assert report.is_identical is False


def test_a_log_that_begins_too_late_is_broken():
    """
    Retention that has passed the run's first answers is a hole.
    """
    world = World().play()
    first = world.started.answers_from[1]
    world.log.truncate(TOPICS["answers"], 1, first + 5)
    report = world.replayed()
    assert f"{TOPICS['answers']}/1: offsets {first} to {first + 4} are missing from the log" == report.replayed.broken


def test_a_log_that_ends_before_the_decision_is_broken():
    """
    What the decision rests on must be there: a log cut off before its tile closed says so.
    """
    world = World().play()
    with world.log.changed:
        partition = world.log._partition(TOPICS["answers"], 1)
        partition.end = world.run.decisions[-1].positions[1] - 1
    report = world.replayed()
    assert f"{TOPICS['answers']}/1 at" in report.replayed.broken
    assert "before tile" in report.replayed.broken


def test_requests_that_are_gone_are_broken_evidence():
    """
    A request that must be read by its offset, and is not there, ends the replay.
    """
    world = World().play()
    end = world.log.admin().ends(TOPICS["requests"])[0][1]
    world.log.truncate(TOPICS["requests"], 0, end)
    report = world.replayed()
    assert f"{TOPICS['requests']}/0: offset" in report.replayed.broken


def changed_store(world: World, slot: str, *, tiles: Mapping[str, bytes] = {}, dropped: Sequence[str] = ()) -> None:
    version, _ = world.store.load(slot)
    world.store.swap(slot, version, Change("changed", {}, tiles=tiles, dropped_tiles=dropped))


def test_a_tile_that_redis_has_otherwise_is_named_by_its_statistic():
    """
    One counter of one stored tile that is one too high is found, and said with both values.
    """
    world = World().play()
    slot = f"{world.started.run}/1"
    (value,) = world.store.tiles(slot, ["3"])
    head, _, tally = value.partition(b"\n")
    tree = orjson.loads(tally)
    tree["all\tclasses\t"]["v"][0] += 1
    changed_store(world, slot, tiles={"3": head + b"\n" + orjson.dumps(tree)})
    (difference,) = world.replayed().comparison.differences
    assert ("redis", 1, 3, "all", "classes") == (
        difference.where,
        difference.partition,
        difference.tile,
        difference.slice,
        difference.key,
    )
    was = tree["all\tclasses\t"]["v"]
    assert f"{was} there, {[was[0] - 1, *was[1:]]} by the log" in difference.sentence


def test_a_tile_that_redis_lacks_between_others_is_named():
    """
    Old tiles may have been dropped from the store; one that is missing in the middle may not.
    """
    world = World().play()
    changed_store(world, f"{world.started.run}/0", dropped=["0", "4"])
    (difference,) = world.replayed().comparison.differences
    assert (0, 4, "nothing") == (difference.partition, difference.tile, difference.was)


def test_an_emptied_redis_is_no_difference():
    """
    The store is a snapshot: without it the decision is compared all the same, and a line says what was not.
    """
    world = World().play()
    for slot in (world.started.run, *(f"{world.started.run}/{each}" for each in range(PARTITIONS))):
        world.store.purge(slot)
    report = world.replayed()
    assert {"decisions": 1} == report.comparison.compared
    assert report.is_identical
    assert any("holds no closed tile" in note for note in report.comparison.notes)


def test_a_redis_that_is_away_is_said():
    """
    The replay needs the log only; that nothing was compared with the store is a note.
    """
    world = World().play()
    world.store.stop()
    report = world.replayed()
    assert report.is_identical
    assert any("redis was not compared" in note for note in report.comparison.notes)


class WithAgreement(Settings):
    """A configuration whose policy also asks how much more the candidate disagrees than production with itself."""

    def policy(self) -> Policy:
        policy = super().policy()
        stages = tuple(replace(stage, rules=(*stage.rules, Agreement(margin=0.4))) for stage in policy.stages)
        return replace(policy, stages=stages)


def test_every_comparison_is_recomputed_and_compared():
    """
    Tiles of the baseline are folded their deadline behind the main ones, as the gate did, and are in the digest.
    """
    tree = tree_of()
    tree["workers"]["baseline"] = {"url": "http://127.0.0.1:1", "sample": 1.0}
    tree["stages"]["shadow"]["needs"]["pairs"] = 300
    settings = WithAgreement.model_construct(**dict(settings_of(tree)))
    world = World(tree, settings=settings, roles=("baseline",)).play()
    report = world.replayed(last="end")
    assert [] == [difference.sentence for difference in report.comparison.differences]
    assert report.is_identical
    names = world.store.tile_names(world.started.run)
    lagging = [name for name in names if name.startswith("baseline-production/")]
    assert len(lagging) > 2
    assert len(names) == report.comparison.compared["gate_tiles"]
    (line,) = [line for line in report.replayed.judgement.rules if line.rule == "agreement"]
    assert line.pairs > 50


def test_a_run_that_goes_on_is_compared_as_far_as_it_is():
    """
    Without a decision every tile that is there is compared, and the gate's digest where the gate stands.
    """
    tree = tree_of()
    tree["stages"]["shadow"]["needs"]["pairs"] = 100_000
    world = World(tree).play()
    report = world.replayed()
    assert (True, None) == (report.is_identical, report.replayed.decision)
    assert TILES - 1 <= report.replayed.state.folded
    assert 1 == report.comparison.compared["gate_digest"]


def test_a_rollback_that_the_log_has_not_is_a_difference():
    """
    Freshness may hold a promotion, but nothing holds a rollback: where the evidence brings one, it must stand there.
    """
    tree = tree_of()
    tree["stages"]["shadow"]["rules"].append({"floor": {"grader": "correct", "min": 0.99}})
    world = World(tree).play()
    recorded = world.run.decisions[-1]
    assert ("rollback", True) == (recorded.decision, world.replayed().is_identical)
    (record,) = [each for each in world.records("decisions", 0) if each.key.endswith(b"/1")]
    world.corrupt("decisions", 0, record.offset, encode(replace(recorded, tile=recorded.tile + 1)))
    report = world.replayed()
    assert (recorded.tile, "rollback") == report.replayed.early
    assert any(
        (each.tile, each.was, each.now) == (recorded.tile, "nothing", "rollback")
        for each in report.comparison.differences
    )


def test_without_decision_and_store_nothing_is_proven():
    """
    Where there is nothing to compare with, the replay does not say that all is well.
    """
    world = World()
    report = world.replayed(has_store=False)
    assert report.is_identical is None
    assert TILES > report.replayed.state.folded


def test_a_decision_with_other_evidence_is_named_by_its_path():
    """
    One number of the recorded evidence that the log does not give is said with its path.
    """
    world = World().play()
    recorded = world.run.decisions[-1]
    tree = orjson.loads(recorded.evidence)
    tree["evidence"]["slices"]["all"]["pairs"] += 1
    forged = encode(replace(recorded, evidence=orjson.dumps(tree).decode()))
    (record,) = [each for each in world.records("decisions", 0) if each.key.endswith(b"/1")]
    world.corrupt("decisions", 0, record.offset, forged)
    report = world.replayed()
    assert ["evidence.evidence.slices.all.pairs"] == [each.key for each in report.comparison.differences]


def test_a_run_that_expired_by_the_clock_is_recomputed():
    """
    That the longest age was over is the gate's clock's word; all the rest of such a decision comes from the log.
    """
    tree = tree_of()
    tree["stages"]["shadow"]["needs"]["pairs"] = 100_000
    world = World(tree)
    world.count()
    world.judge()
    world.clock.us = world.started.expires_us + SECOND
    world.judge()
    assert "expire" == world.run.decisions[-1].decision
    report = world.replayed()
    assert [] == [each.sentence for each in report.comparison.differences]
    assert world.run.decisions[-1].evidence == report.replayed.decision.evidence


def test_from_and_to_restrict_what_is_compared(world):
    """
    Tiles before --from are folded and not compared; the replay ends with tile --to.
    """
    report = world.replayed(first=3, last="5")
    assert 5 == report.replayed.state.folded
    assert 3 == report.comparison.compared["gate_tiles"]
    assert (3, 5, 3) == tuple(document_of(report)["tiles"].values())


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [(-1, None, "first tile is 0"), (5, "4", "first tile is 5"), (None, "soon", "read 'soon'")],
)
def test_tiles_outside_the_run_are_refused(world, first, last, said):
    """
    One sentence says what was read and what would be right.
    """
    with pytest.raises(Usage, match=said):
        world.replayed(first=first, last=last)
