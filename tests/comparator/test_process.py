"""Holes, dead letters, ticks and asks of the comparator process."""

from __future__ import annotations

import pytest

from shadow.adapters.avro import decode
from shadow.records.answers import RecordedGrade, Tick
from shadow.stream.fold import MARK_GRACE_US
from tests.comparator.world import PARTITIONS, Killed, Services, World
from tests.stream.builders import CORRECT, REWARD, RUN, SECOND, answer, request


def contents(world: World, kind: type, partition: int = 0) -> list:
    """Decoded records of a kind in an answers partition."""
    found = [decode(record.value) for record in world.records("answers", partition) if b"garbage" != record.value]
    return [content for content in found if isinstance(content, kind)]


@pytest.mark.parametrize("fault", ["punch", "truncate"])
def test_hole_breaks_its_partition_only(fault):
    """
    A record that is missing from the log breaks its partition, which is stored with the gap's name; the other goes on.
    """
    world = World()
    world.play(seed=1)
    end = world.log.admin().ends("answers")[1][1]
    if fault == "punch":
        world.log.punch("answers", 0, 5)
    else:
        world.log.truncate("answers", 0, 5)

    said = []

    def until():
        said.append(world.current.readiness())
        head = world.head(1)
        return bool(world.broken(0)) and head is not None and head["next"] >= end

    world.run(until=until)
    missing = "offsets 5 to 5" if fault == "punch" else "offsets 0 to 4"
    assert f"answers/0: {missing} are missing from the log; the run cannot be completed" == world.broken(0)
    assert (False, world.broken(0)) == said[-1]
    assert world.refolded(1) == world.stored(1)
    said.clear()
    world.run(until=until)  # the next owner knows it from the store
    assert (False, world.broken(0)) == said[-1]


def test_a_hole_is_stored_again_after_the_store_was_emptied():
    """
    The owner of a broken partition goes on telling everybody, although it folds nothing of it any more.
    """
    world = World()
    world.play(seed=1)
    world.log.punch("answers", 0, 5)
    missing = "answers/0: offsets 5 to 5 are missing from the log; the run cannot be completed"
    wiped, looks = [], []

    def until():
        if not wiped and world.broken(0):
            world.store.wipe()
            wiped.append(world.broken(0))
        looks.extend(wiped)
        return len(looks) > 60 or (bool(wiped) and bool(world.broken(0)))

    world.run(until=until)
    assert ([""], missing) == (wiped, world.broken(0))


def test_request_that_is_gone_breaks_its_partition():
    """
    A request that must be read and is not in the log breaks its partition, and no half-folded record is stored.
    """
    world = World()
    world.mirror(request(1))
    world.clock.us = 5 * SECOND
    world.append(answer(None, 0, 1))
    world.clock.us = 12 * SECOND
    world.append(Tick(RUN, 0, 1))
    world.clock.us = 60 * SECOND
    world.append(Tick(RUN))
    world.log.truncate("requests", 0, 1)

    world.run(until=lambda: bool(world.broken(0)))
    assert "requests/0" in world.broken(0)
    head = world.head(0)
    assert head is None or head["next"] <= 2


def test_undecodable_records_are_put_aside_once_by_key():
    """
    A record that cannot be decoded is in the dead letters under its position, counted once, however often it is read.
    """
    world = World()
    for number in range(3):
        world.append(b"garbage" if number != 1 else Tick(RUN))
    deaths = 0

    def on(point):
        nonlocal deaths
        if point == "flushed" and deaths < 3:
            deaths += 1
            raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            world.run(on)
    world.run(on)
    assert 2 == world.head(0)["counters"]["dead_letters"]
    assert {b"answers/0/0", b"answers/0/2"} == {record.key for record in world.records("dead_letters", 0)}


def test_tick_is_appended_once_a_tile():
    """
    One tick a tile end, with the first request offset after it, or the end once a request might have come long ago.
    """
    world = World()
    world.mirror(request(1))
    world.clock.us = 12 * SECOND
    world.mirror(request(2))
    world.run(until=lambda: len(contents(world, Tick)) > 0 and world.is_settled())
    assert [Tick(RUN, 0, 1)] == contents(world, Tick)

    world.clock.us = 40 * SECOND
    world.run(until=lambda: len(contents(world, Tick)) >= 3 and world.is_settled())
    assert [Tick(RUN, 0, 1), Tick(RUN, 1, 2), Tick(RUN, 2, 2)] == [
        t for t in contents(world, Tick) if t.tile is not None
    ]


def test_plain_ticks_while_idle():
    """
    An idle partition gets plain ticks, which move its watermark.
    """
    world = World()
    world.run(until=lambda: all(Tick(RUN) in contents(world, Tick, p) for p in range(PARTITIONS)))


def waiting_world() -> World:
    world = World(graders=(CORRECT, REWARD))
    world.mirror(request(1))
    world.clock.us = 2 * SECOND
    world.append(answer(request(1), 0, 1))
    return world


def test_mark_stands_before_the_grade():
    """
    Before a grader's service is asked, a mark stands in the log; the grade comes behind it and counts.
    """
    world = waiting_world()
    marks = []
    services = Services(lambda ask: marks.append(len(contents(world, RecordedGrade))) or b'{"score": 0.9}')
    world.run(services=services, until=lambda: world.decided(0) == 1)
    assert [1, 1] == marks
    assert ["asked", "passed", "passed"] == [grade.outcome for grade in contents(world, RecordedGrade)]


def test_asks_again_after_a_restart():
    """
    A comparator that dies between the mark and the grade is followed by one that asks again, without a second mark.
    """
    world = waiting_world()
    silent = Services(lambda ask: None)
    world.run(services=silent, until=lambda: len((world.head(0) or {}).get("counters", {})) > 0 and world.is_settled())
    assert 2 == len(silent.asked)
    services = Services()
    world.run(services=services, until=lambda: world.decided(0) == 1)
    assert 2 == len(services.asked)
    assert 1 == sum(grade.outcome == "asked" for grade in contents(world, RecordedGrade))


def test_asks_again_after_an_error():
    """
    A service that does not answer is asked again while the pair waits.
    """
    world = waiting_world()
    replies = iter([None, None])
    services = Services(lambda ask: next(replies, b'{"score": 0.9}'))
    world.run(services=services, until=lambda: world.decided(0) == 1)
    assert 4 == len(services.asked)


def test_grade_that_never_comes_is_broken_by_log_time():
    """
    When the log's time has passed the mark by the budget and its grace, the grade is broken and the pair counts.
    """
    world = waiting_world()
    services = Services(lambda ask: None)
    world.run(services=services, until=lambda: bool(contents(world, RecordedGrade)) and world.is_settled())
    assert 0 == world.decided(0)
    world.clock.us += 10 * SECOND + MARK_GRACE_US + 1
    world.append(Tick(RUN))
    world.run(services=services, until=lambda: world.decided(0) == 1)
    world.run(services=services)
    world.check()
