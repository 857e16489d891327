"""The comparison of all integers would notice a comparator that was built wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from shadow.adapters.content import request_in
from shadow.adapters.memory_store import MemoryStore
from shadow.cli.refold import refold
from shadow.ports import Change
from shadow.records.comparisons import CANDIDATE_PRODUCTION
from shadow.stream.fold import Fold
from shadow.stream.slice import Slicer
from shadow.stream.tile import Tiles
from tests.comparator.world import PARTITIONS, Killed, World
from tests.stream.builders import SLICES, SPEC

SEEDS = range(4)


class Unfenced(MemoryStore):
    """Writes whatever version is stored."""

    def swap(self, slot: str, expected: str | None, change: Change) -> None:
        found = self.load(slot)
        super().swap(slot, None if found is None else found[0], change)


class Torn(MemoryStore):
    """Writes `next` after everything else, so that a process may die in between; `lives` says when."""

    def __init__(self, *, is_torn: bool) -> None:
        super().__init__()
        self.is_torn = is_torn
        self.lives = 0

    def swap(self, slot: str, expected: str | None, change: Change) -> None:
        found = self.load(slot)
        is_last = self.lives == 1
        self.lives -= 1
        if is_last and self.is_torn and found is not None:
            head = json.loads(change.state["head"])
            head["next"] = json.loads(found[1]["head"])["next"]
            change = replace(change, state={**change.state, "head": json.dumps(head).encode()})
        super().swap(slot, expected, change)
        if is_last:
            raise Killed


class ByTimeAlone(Tiles):
    """Closes a tile when its time is over, whoever still waits."""

    def tick(self, tile: int, requests_end: int, time_us: int) -> bool:
        return super().tick(tile, 0, time_us)


def zombie(store: MemoryStore, seed: int) -> bool:
    """An owner freezes before a write, and does it after others have gone on; whether that shows."""
    world, frozen = World(store=store), World(store=store)
    world.play(seed)
    frozen.log, frozen.clock = world.log, world.clock
    ends, saves = world.log.admin().ends("answers"), 0

    def on(point: str) -> None:
        nonlocal saves
        if saves == 6:
            raise Killed
        saves += point == "saved"
        if point == "flushed" and saves == 5:
            # Meanwhile another owner has gone on into the third tile.
            world.run(until=lambda: all(world.head(p)["next"] > ends[p][1] * 0.8 for p in range(PARTITIONS)))

    with pytest.raises(Killed):
        frozen.run(on, group="others", member="zombie")
    world.run()
    return world.differs()


@pytest.mark.parametrize("seed", SEEDS)
def test_versions_fence(seed):
    """A store that ignores versions gives other integers after a zombie's write; ours gives the same."""
    assert not zombie(MemoryStore(), seed)
    assert zombie(Unfenced(), seed)


def killed_while_writing(store: Torn, seed: int) -> bool:
    """A comparator dies in the middle of its writes; whether that shows."""
    world = World(store=store)
    world.play(seed)
    for lives in (5, 6, 7):
        store.lives = lives
        with pytest.raises(Killed):
            world.run()
    world.run()
    return world.differs()


@pytest.mark.parametrize("seed", SEEDS)
def test_next_belongs_to_the_tallies(seed):
    """A `next` that is stored apart from the tallies gives other integers after a kill; ours gives the same."""
    assert not killed_while_writing(Torn(is_torn=False), seed)
    assert killed_while_writing(Torn(is_torn=True), seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_tiles_close_by_evidence(seed):
    """A tile that closes by time alone gives other integers than one that waits for its requests."""
    world = World()
    world.play(seed)
    world.run()
    world.check()
    assert any(_by_time(world, partition) != world.refolded(partition)[1] for partition in range(PARTITIONS))


def _by_time(world: World, partition: int) -> dict[str, bytes]:
    requests = {record.offset: request_in(record) for record in world.records("requests", partition)}
    spec = replace(SPEC, partition=partition, partitions=PARTITIONS)
    state = Fold.first_state(spec, world.counting())
    state.main.tiles = ByTimeAlone(spec.tile_us, spec.deadlines_us[CANDIDATE_PRODUCTION], spec.first_tile)
    requests_at = lambda offsets: {o: requests[o] for o in offsets}  # noqa: E731 -- one line says it
    fold = Fold(spec, Slicer(SLICES), world.counting(), requests_at, state=state)
    return {tile.name: tile.to_bytes() for tile in refold(fold, world.records("answers", partition))}
