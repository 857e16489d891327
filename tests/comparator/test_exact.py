"""Whatever happens to comparator and store, the stored integers are those of one undisturbed fold."""

from __future__ import annotations

import contextlib
import random

import pytest

from tests.comparator.world import PARTITIONS, Killed, World


def test_an_undisturbed_run_stores_the_fold():
    """
    What the comparator stores is what the refold of its log gives, and the traffic holds every kind of record.
    """
    world = World()
    world.play(seed=1)
    world.run()
    world.check()
    heads = [world.head(partition) for partition in range(PARTITIONS)]
    for name in ("duplicate", "late", "dead_letters", "records"):
        assert sum(head["counters"][name] for head in heads) > 0, name
    assert all(len(world.stored(partition)[1]) >= 3 for partition in range(PARTITIONS))


@pytest.mark.parametrize("point", ["read", "folded", "flushed", "saved"])
@pytest.mark.parametrize("seed", range(8))
def test_killed_at_a_point(point, seed):
    """
    A comparator that dies at this point, again and again, changes nothing.
    """
    world, draw = World(), random.Random(seed)
    world.play(seed)
    deaths = 0
    while True:
        left, is_dead = draw.randrange(1, 12), False

        def on(reached):
            nonlocal left, is_dead
            left -= reached == point
            if is_dead or left == 0:
                is_dead = True
                raise Killed

        if deaths == 6:
            break
        try:
            world.run(on)
        except Killed:
            deaths += 1
        else:
            break
    world.run()
    assert deaths > 0
    world.check()


@pytest.mark.parametrize("fault", ["roll_back", "wipe"])
@pytest.mark.parametrize("seed", range(8))
def test_store_that_forgets(fault, seed):
    """
    A store that falls back by some writes, or loses everything, in the middle of the run changes nothing.
    """
    world, draw = World(), random.Random(seed)
    world.play(seed)
    moments = {draw.randrange(3, 20) for _ in range(4)}
    steps = 0

    def on(point):
        nonlocal steps
        steps += point == "saved"
        if point == "saved" and steps in moments:
            moments.discard(steps)
            world.store.wipe() if fault == "wipe" else world.store.roll_back(draw.randrange(1, 3))

    world.run(on, until=lambda: not moments and world.is_settled())
    assert world.metrics.value("shadow_checkpoints_refused_total") > 0
    world.check()


@pytest.mark.parametrize("seed", range(4))
def test_another_version_is_stored(seed):
    """
    A refused checkpoint drops the state, loads what is stored, reads on from there and ends with the same integers.
    """
    world = World()
    world.play(seed)
    other = World(store=world.store)
    other.log, other.clock = world.log, world.clock
    saves = 0

    def on(point):
        nonlocal saves
        saves += point == "saved"
        if point == "read" and saves == 3:
            saves += 1
            # A zombie of another group writes over both partitions, from the same log.
            other.run(group="intruders", member="zombie", read_max=11, until=lambda: True)

    world.run(on)
    assert world.metrics.value("shadow_checkpoints_refused_total") > 0
    world.check()


@pytest.mark.parametrize("seed", range(4))
def test_two_owners_of_one_partition(seed):
    """
    Two comparators that both hold all partitions get in each other's way and change nothing.
    """
    world = World()
    world.play(seed)
    second = World(store=world.store)
    second.log, second.clock = world.log, world.clock
    turns = 0

    def on(point):
        nonlocal turns
        if point == "folded" and turns < 5:
            turns += 1
            left = turns

            def own(point):
                nonlocal left
                left -= point == "saved"
                if left < 0:
                    raise Killed

            with contextlib.suppress(Killed):
                second.run(own, group="others", member="zombie", read_max=5)

    world.run(on)
    assert world.metrics.value("shadow_checkpoints_refused_total") > 0
    world.check()


def test_store_away_stops_the_reading():
    """
    While the store is away nothing more is read, so memory does not grow; back again, everything goes on.
    """
    world = World()
    world.play(seed=3)
    written = []
    steps = 0

    def on(point):
        nonlocal steps
        steps += point == "read"
        if point == "read" and steps == 3:
            world.store.stop()
        if point == "folded" and 3 <= steps < 10:
            written.append(sum(len(world.records("pairs", partition)) for partition in range(PARTITIONS)))
        if point == "read" and steps == 10:
            world.store.start()

    world.run(on, until=lambda: steps > 10 and world.is_settled())
    assert written[1:] == written[1:2] * 6
    assert written[1] < sum(len(world.records("pairs", partition)) for partition in range(PARTITIONS))
    world.check()


def test_store_back_with_another_state_is_read_on():
    """
    A store that was away and comes back without the last writes is loaded, and reading goes on.
    """
    world = World()
    world.play(seed=4)
    steps = 0

    def on(point):
        nonlocal steps
        steps += point == "read"
        if point == "read" and steps == 4:
            world.store.stop()
        if point == "read" and steps == 7:
            world.store.start()
            world.store.roll_back(4)

    world.run(on, until=lambda: steps > 7 and world.is_settled())
    world.check()
