"""Bad inputs 77 to 96, on both topics: a dead letter with its reason, counted, and the good ones count."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from shadow.adapters.avro import decode, encode
from shadow.errors import InvalidRecord
from shadow.metrics import Metrics
from shadow.records.answers import Tick
from shadow.records.dead_letters import DeadLetter
from shadow.records.requests import MirroredRequest
from shadow.records.tallies import CLASSES, ClosedTile, Key
from shadow.stream.answer import unreadable_answer
from shadow.stream.state import slot_of, state_from_fields
from tests.comparator.world import World
from tests.inputs.forged import BAD, MARK, Bad, zigzag
from tests.stream.builders import RUN, SECOND, SPEC, answer, request
from tests.worker import builders as worker

GOOD = 5


def settled(world: World) -> dict[str, int]:
    """Fold everything; how many requests of slice `all` in partition 0 are paired, and how many in another class."""
    world.run()
    counts = classes(world)
    return {"paired": counts.pop("paired"), "rest": sum(counts.values())}


def classes(world: World) -> dict[str, int]:
    """Requests of slice `all` by class of partition 0, closed or open, as they are stored."""
    _, fields = world.store.load(slot_of(RUN, 0))
    main = state_from_fields(fields, SPEC).main
    names = world.store.tile_names(slot_of(RUN, 0))
    tallies = [*main.tallies.values()]
    tallies += [ClosedTile.from_bytes(0, value).tally for value in world.store.tiles(slot_of(RUN, 0), names)]
    counts = [tally.vectors.get(Key("all", "classes", ""), [0] * len(CLASSES)) for tally in tallies]
    return {name: sum(count[at] for count in counts) for at, name in enumerate(CLASSES)}


def good_answers(world: World) -> None:
    for offset in range(GOOD):
        world.mirror(request(offset + 1))
        world.append(answer(request(offset + 1), offset, offset))


def letters(world: World) -> dict[bytes, DeadLetter]:
    return {record.key: decode(record.value) for record in world.records("dead_letters", 0)}


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_among_answers(bad: Bad):
    """
    The comparator puts it aside under its position, counts it, and counts every good record.
    """
    world = World()
    good_answers(world)
    forged = replace(answer(None, GOOD, 1), headers={"x": MARK.decode()}, status=200)
    with world.log.changed:
        world.log.append("answers", 0, b"", bad.value_of(forged), {"run": RUN.encode()})
    world.append(answer(request(1), 0, 1, body=b"a repeat"))
    assert {"paired": GOOD, "rest": 0} == settled(world)
    (letter,) = letters(world).values()
    assert (("answers", 0, GOOD), {f"answers/0/{GOOD}".encode()}) == (
        (letter.topic, letter.partition, letter.offset),
        set(letters(world)),
    )
    assert letter.error
    assert "Traceback" not in letter.error
    assert GOOD + 2 == world.head(0)["next"]
    assert 1 == world.head(0)["counters"]["dead_letters"]
    assert 1 == world.metrics.value("shadow_dead_letters_total", topic="answers")


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_among_requests(bad: Bad):
    """
    The worker puts it aside, answers `unreadable` for it so that it is accounted for, and answers the next one.
    """
    log = worker.memory_log()
    forged = worker.request(1, headers={"x": MARK.decode()}, live=None)
    forged = replace(forged, live=worker.request(1).live) if bad.number in (82, 83) else forged
    value = bad.value_of(forged)
    worker.send(log, worker.request(0))
    with log.changed:
        log.append("shadow-requests", 0, b"key", value, {})
    worker.send(log, worker.request(2))
    metrics = Metrics("worker", {"role": ["candidate"]})
    with worker.running(worker.worker_of(log, worker.HandModel(is_open=True), metrics=metrics)):
        worker.wait_until(lambda: len(worker.answers_of(log)) == 3, "three answers")
        worker.wait_until(lambda: worker.records_of(log, "dead_letters"), "the dead letter")
        group = log.group_of(worker.GROUP, "shadow-requests")
        worker.wait_until(lambda: {0: 3} == group.committed, "the offset has moved on")
    outcomes = {each.request_offset: each.outcome for each in worker.answers_of(log)}
    assert {0: "answered", 1: "unreadable", 2: "answered"} == outcomes
    (record,) = worker.records_of(log, "dead_letters")
    letter = decode(record.value)
    assert (b"shadow-requests/0/1", 1) == (record.key, letter.offset)
    assert letter.error
    assert "\n" not in letter.error
    assert 1 == metrics.value("shadow_dead_letters_total", topic="shadow-requests")
    assert 1 == metrics.value("shadow_worker_requests_total", role="candidate", result="unreadable")


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_request_that_cannot_be_read_is_in_one_class(bad: Bad):
    """
    The comparator counts it as `unreadable`, told by the worker's answer or, without one, by the tile's end.
    """
    for is_answered in (True, False):
        world = World()
        good_answers(world)
        live = request(1).live if bad.number in (82, 83) else None
        value = bad.value_of(replace(request(GOOD + 1), headers={"x": MARK.decode()}, live=live))
        with world.log.changed:
            record = world.log.append("requests", 0, b"", value, {})
        if is_answered:
            world.append(unreadable_answer(record, "why", run=RUN, role="candidate", version="v2", now_us=1))
        world.clock.us = 11 * SECOND
        world.append(Tick(RUN, 0, GOOD + 1))
        world.clock.us = 60 * SECOND
        world.append(Tick(RUN))
        assert {"paired": GOOD, "rest": 1} == settled(world)
        assert 1 == classes(world)["unreadable"]


def keyless() -> tuple[MirroredRequest, bytes]:
    """A request, and the same without its sampling key, which no writer of ours makes."""
    whole = request(GOOD + 1, key="somebody")
    return whole, encode(whole).replace(zigzag(8) + b"somebody", zigzag(0), 1)


def test_78_empty_key():
    """
    A request without a sampling key has no partition and no cell: it is refused where it would be written and where
    it is read, and is put aside; an empty key of the Kafka record itself says nothing.
    """
    with pytest.raises(InvalidRecord, match="key is empty"):
        encode(replace(request(1), key=""))
    whole, value = keyless()
    with pytest.raises(InvalidRecord, match="key is empty"):
        decode(value)
    log = worker.memory_log()
    with log.changed:
        log.append("shadow-requests", 0, b"", value, {})
        log.append("shadow-requests", 0, b"", encode(whole), {})
    with worker.running(worker.worker_of(log, worker.HandModel(is_open=True))):
        worker.wait_until(lambda: len(worker.answers_of(log)) == 2, "both are answered")
    assert ["unreadable", "answered"] == [each.outcome for each in worker.answers_of(log)]
    assert 1 == len(worker.records_of(log, "dead_letters"))

    world = World()
    good_answers(world)
    made = encode(answer(whole, GOOD, 1)).replace(zigzag(8) + b"somebody", zigzag(0), 1)
    world.append(made)
    assert {"paired": GOOD, "rest": 0} == settled(world)
    (letter,) = letters(world).values()
    assert "key is empty" in letter.error


@pytest.mark.parametrize("time_us", [0, -1, 253_402_300_799_000_000])
def test_92_times_of_the_year_0_and_9999(time_us):
    """
    A record's own times are shown and never used: tiles follow the log's append time. A request time before the run
    counts in its first tile.
    """
    world = World()
    exchange = replace(request(1), event_time_us=time_us)
    world.mirror(exchange)
    world.append(replace(answer(exchange, 0, 1), started_us=time_us))
    world.append(replace(answer(request(2), 1, 1), request_time_us=min(time_us, 0)))
    world.mirror(request(2))
    world.clock.us = 11 * SECOND
    world.append(Tick(RUN, 0, 2))
    assert {"paired": 2, "rest": 0} == settled(world)
    assert ["0"] == world.store.tile_names(slot_of(RUN, 0))


def test_93_answer_before_its_request_after_expiry_and_twice_with_other_bytes():
    """
    An answer to an offset that is not there yet is a pair when it comes; after its deadline it is late; of two the
    first one counts.
    """
    world = World()
    world.append(answer(request(1), 0, 1))
    world.append(answer(request(1), 0, 1, body=b"other bytes"))
    world.mirror(request(1))
    world.mirror(request(2))
    world.clock.us = 11 * SECOND
    world.append(Tick(RUN, 0, 2))
    world.clock.us = 60 * SECOND
    world.append(Tick(RUN))
    world.append(answer(request(2), 1, 1))
    assert {"paired": 1, "rest": 1} == settled(world)
    counters = world.head(0)["counters"]
    assert (1, 1, 0) == (counters["duplicate"], counters["late"], counters["dead_letters"])


def test_94_unknown_run():
    """
    Another run's records are passed over, decoded or not, and are nobody's dead letters.
    """
    world = World()
    good_answers(world)
    world.append(answer(request(1), 0, 1, run="somebody-else-1"), run="somebody-else-1")
    world.append(b"not even Avro", run="somebody-else-1")
    world.append(answer(request(1), 0, 1, run="somebody-else-1"))
    assert {"paired": GOOD, "rest": 0} == settled(world)
    assert {} == letters(world)
    assert (GOOD, 0) == tuple(world.head(0)["counters"][name] for name in ("records", "duplicate"))


def test_95_many_distinct_values_grow_nothing():
    """
    100,000 keys, headers and paths that differ leave the state, the tiles and the metrics as large as 200 do.
    """
    sizes = []
    for count in (200, 100_000):
        world = World()
        for offset in range(count):
            one = request(offset + 1, key=f"key-{offset}")
            exchange = replace(one, path=f"/v1/{offset}", headers={f"x-{offset}": "1"})
            world.append(answer(exchange, offset, 1))
        world.run(read_max=2000)
        _, fields = world.store.load(slot_of(RUN, 0))
        tally = state_from_fields(fields, SPEC).main.tallies[0]
        sizes.append((set(tally), len(world.metrics.text().splitlines()), len(fields)))
    assert sizes[0] == sizes[1]


def test_96_ten_thousand_headers():
    """
    A record with 10,000 headers in its value is read like any other, and one with as many Kafka headers too.
    """
    world = World()
    exchange = replace(request(1), headers={f"x-{number}": "v" for number in range(10_000)})
    world.mirror(exchange)
    value = encode(answer(exchange, 0, 1))
    with world.log.changed:
        world.log.append("answers", 0, b"", value, {"run": RUN.encode(), **{f"h{n}": b"v" for n in range(10_000)}})
    assert {"paired": 1, "rest": 0} == settled(world)


def test_91_record_at_the_largest_size_and_one_above():
    """
    A value of exactly the size that is read is read; one byte more is refused before anything of it is read.
    """
    record = answer(request(1), 0, 1, body=bytes(100_000))
    value = encode(record)
    assert record == decode(value, bytes_max=len(value))
    tracemalloc.start()
    with pytest.raises(InvalidRecord, match="more than the"):
        decode(value, bytes_max=len(value) - 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000


def test_every_number_has_a_test():
    """
    77 to 96 are all here; 87, 88 and 90 are schemas, which the linter of tests/test_schemas.py refuses.
    """
    tabled = {bad.number for bad in BAD}
    named = {int(name.split("_")[1]) for name in globals() if name.startswith("test_") and name.split("_")[1].isdigit()}
    assert set(range(77, 97)) - {87, 88, 90} <= tabled | named
