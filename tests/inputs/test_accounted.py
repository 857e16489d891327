"""Seen = sum of all classes, as the comparator's metrics say it: at every checkpoint, with losses and without."""

from __future__ import annotations

import pytest

from shadow.metrics import DROP_REASONS, UNKNOWN_REASON
from shadow.records.answers import Report, Tick
from tests.comparator.world import PARTITIONS, World
from tests.stream.builders import RUN, SECOND, answer, request


def sums(world: World, partition: int) -> dict[str, float]:
    """The metrics of a partition's account."""
    labels = {"run": RUN, "partition": str(partition)}
    found = {
        name: world.metrics.value(f"shadow_requests_{name}", **labels) for name in ("seen", "present", "lost", "open")
    }
    for reason in (*DROP_REASONS, UNKNOWN_REASON):
        found[reason] = world.metrics.value("shadow_requests_dropped", reason=reason, **labels)
    found["unaccounted"] = world.metrics.value(
        "shadow_requests_unaccounted", comparison="candidate-production", **labels
    )
    return found


def check(found: dict[str, float]) -> None:
    """The invariant."""
    dropped = sum(found[reason] for reason in (*DROP_REASONS, UNKNOWN_REASON))
    assert found["seen"] == found["present"] + dropped + found["lost"], found
    assert 0 == found["unaccounted"], found


def test_every_live_request_is_in_one_class():
    """
    Of 12 requests that a proxy saw, 6 stand in the topic, 3 were dropped for two reasons, one of which only another
    version of the proxy knows, one copy was lost on its way, and 2 are open until a tick and their decision.
    """
    world = World()
    #  sequence   1  2  3  4  5  6  7     4 is nowhere in the topic
    #  seen       1  2  3  5  7  9 10     of them dropped: 2 queue_full, 1 of an unknown reason
    dropped = {1: {}, 2: {}, 3: {}, 5: {"queue_full": 2}, 6: {"queue_full": 2, "flood": 1}, 7: {}}
    dropped[7] = dropped[6]
    seen = {1: 1, 2: 2, 3: 3, 5: 7, 6: 9, 7: 10}
    for offset, number in enumerate(seen):
        exchange = request(number, dropped=dropped[number], seen=seen[number])
        world.mirror(exchange)
        world.append(answer(exchange, offset, 1))
    world.append(Report("proxy", 1, 7, 10, dropped[7], False))
    world.run()
    assert 10 == sums(world, 0)["open"]
    check(sums(world, 0))

    world.clock.us = 11 * SECOND
    world.append(Tick(RUN, 0, len(seen)))
    world.append(Report("proxy", 1, 9, 12, dropped[7], False))
    world.run()
    found = sums(world, 0)
    check(found)
    assert (10, 6, 2, 1) == (found["seen"], found["present"], found["queue_full"], found[UNKNOWN_REASON])
    assert (1, 2) == (found["lost"], found["open"])


@pytest.mark.parametrize("seed", range(3))
def test_the_sum_holds_at_every_checkpoint(seed):
    """
    Seeded traffic with repeats, garbage, late and missing answers: nobody who looks at the metrics sees a sum that
    is not right, and at the end each request that was decided is present.
    """
    world = World()
    world.play(seed)
    looks = 0

    def on(point):
        nonlocal looks
        if point == "saved":
            looks += 1
            for partition in range(PARTITIONS):
                check(sums(world, partition))

    world.run(on)
    assert looks > 5
    for partition in range(PARTITIONS):
        found = sums(world, partition)
        assert world.decided(partition) == found["present"]
        assert 0 == found["lost"]
