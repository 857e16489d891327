"""The ways to break the fakes, which tests of the processes rest on."""

from __future__ import annotations

import pytest

from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.memory_store import MemoryStore
from shadow.errors import BrokenEvidence, Refused, Unavailable
from shadow.ports import Change
from shadow.records.log import LogRecord


def log_of(times_us: list[int] | None = None) -> MemoryLog:
    """A log with one topic of one partition, and one record a, b, c … per time."""
    times = iter(times_us or [])
    log = MemoryLog(lambda: next(times))
    log.admin().create_topics({"t": 1}, {})
    for number in range(len(times_us or [])):
        log.append("t", 0, b"k", bytes([97 + number]), None)
    return log


def offsets(records: list[LogRecord]) -> list[int]:
    return [record.offset for record in records]


def test_append_times_are_the_clocks() -> None:
    """
    A test decides every append time, to the microsecond.
    """
    log = log_of([5, 5, 9])
    assert [record.time_us for record in log.admin().read_at("t", 0, [0, 1, 2])] == [5, 5, 9]
    assert [log.admin().offset_at("t", 0, time_us) for time_us in (5, 6, 10)] == [0, 2, 3]


def test_a_punched_record_is_a_hole() -> None:
    """
    Reading goes over it, so that the caller must notice; asking for it says that it is gone.
    """
    log = log_of([1, 2, 3])
    log.punch("t", 0, 1)
    reader = log.reader()
    reader.assign({("t", 0): 0})
    assert offsets(reader.read(10, 0)) == [0, 2]
    with pytest.raises(BrokenEvidence, match="offset 1 is not in the log"):
        log.admin().read_at("t", 0, [1])


def test_a_hole_in_one_partition_loses_nothing_of_another() -> None:
    """
    After the error the other partition is read from where it stood.
    """
    log = MemoryLog(lambda: 1)
    log.admin().create_topics({"t": 2}, {})
    log.append("t", 0, None, b"a", None)
    reader = log.reader()
    reader.assign({("t", 0): 0, ("t", 1): 9})
    with pytest.raises(BrokenEvidence, match="t/1: offset 9"):
        reader.read(10, 0)
    reader.assign({**reader.positions(), ("t", 1): 0})
    assert offsets(reader.read(10, 0)) == [0]


def test_a_stopped_log_keeps_what_writers_have_queued() -> None:
    """
    Everything else is unavailable meanwhile; nothing is lost.
    """
    log = MemoryLog(lambda: 1)
    log.admin().create_topics({"t": 1}, {})
    writer = log.writer(queue_bytes_max=10)
    log.stop()
    delivered: list[int] = []
    assert writer.write("t", 0, key=b"", value=b"12345678", on_delivery=lambda error, offset: delivered.append(offset))
    assert not writer.write("t", 0, key=b"", value=b"123")
    assert writer.flush(0.01) == 1
    with pytest.raises(Unavailable):
        log.admin().ends("t")
    log.start()
    assert writer.flush(1) == 0
    assert delivered == [0]
    assert log.admin().ends("t") == [(0, 1)]


def test_a_record_for_an_unknown_partition_is_told_to_its_callback() -> None:
    """
    As with Kafka, the error comes with the delivery.
    """
    log = log_of()
    errors: list[str | None] = []
    log.writer().write("t", 7, key=b"", value=b"", on_delivery=lambda error, offset: errors.append(error))
    writer = log.writer()
    writer.write("u", 0, key=b"", value=b"", on_delivery=lambda error, offset: errors.append(error))
    writer.poll()
    assert errors == ["the log has no u/0"]


def test_an_evicted_member_is_a_zombie() -> None:
    """
    It may neither commit nor read on; its next read tells it what it lost, and joins again.
    """
    log = log_of([1, 2])
    told: list[tuple[str, list[int]]] = []
    member = log.group(
        "t",
        "g",
        member="m1",
        on_assigned=lambda partitions: told.append(("+", partitions)) or {0: 0},  # type: ignore[func-returns-value]
        on_revoked=lambda partitions: told.append(("-", partitions)),
    )
    assert offsets(member.read(10, 0)) == [0, 1]
    log.evict("g", "t", "m1")
    with pytest.raises(Unavailable, match="no member"):
        member.commit({0: 2})
    assert offsets(member.read(10, 0)) == [0, 1]
    assert told == [("+", [0]), ("-", [0]), ("+", [0])]


def test_partitions_are_spread_evenly_and_stay_where_they_can() -> None:
    """
    Three members of eight partitions have two or three each; a fourth takes from those that have most.
    """
    log = MemoryLog(lambda: 1)
    log.admin().create_topics({"t": 8}, {})
    owned: dict[str, set[int]] = {}

    def join(name: str) -> None:
        owned[name] = set()
        members.append(
            log.group(
                "t",
                "g",
                member=name,
                on_assigned=lambda partitions: owned[name].update(partitions),
                on_revoked=lambda partitions: owned[name].difference_update(partitions),
            )
        )
        for _ in range(3):
            for member in members:
                member.read(1, 0)

    members: list = []
    for name in ("a", "b", "c"):
        join(name)
    before = {name: set(partitions) for name, partitions in owned.items()}
    assert sorted(map(len, owned.values())) == [2, 3, 3]
    join("d")
    assert [len(partitions) for partitions in owned.values()] == [2, 2, 2, 2]
    assert set(range(8)) == set().union(*owned.values())
    assert all(owned[name] <= before[name] for name in before)


def test_another_logs_records_are_taken_over_as_they_are() -> None:
    """
    Offsets, holes and times of a recorded log stay, so a fold of it gives the same.
    """
    log = log_of()
    records = [LogRecord("t", 0, offset, 1000 + offset, b"k", b"v", {"run": b"r"}) for offset in (5, 6, 9)]
    log.load(records)
    assert log.admin().ends("t") == [(5, 10)]
    reader = log.reader()
    reader.assign({("t", 0): 5})
    assert records == reader.read(10, 0)
    with pytest.raises(ValueError, match="already ends at 10"):
        log.load(records)


def test_a_store_that_fell_back_refuses_the_owner_of_the_lost_version() -> None:
    """
    What a failover to a lagging replica does: an older snapshot, consistent with itself.
    """
    store = MemoryStore()
    store.swap("r/0", None, Change("v1", {"next": b"1"}, tiles={"1": b"t"}))
    store.swap("r/0", "v1", Change("v2", {"next": b"2"}, tiles={"2": b"t"}))
    store.swap("r/0", "v2", Change("v3", {"next": b"3"}))
    store.roll_back(2)
    with pytest.raises(Refused, match="version v1, not v3"):
        store.swap("r/0", "v3", Change("v4", {}))
    assert store.load("r/0") == ("v1", {"next": b"1"})
    assert sorted(store.tile_names("r/0")) == ["1"]
    store.wipe()
    assert store.load("r/0") is None
    store.roll_back()
    assert store.load("r/0") == ("v1", {"next": b"1"})


def test_a_stopped_store_is_unavailable_and_keeps_its_content() -> None:
    """
    Away is not lost.
    """
    store = MemoryStore()
    store.swap("r", None, Change("v1", {}))
    store.stop()
    with pytest.raises(Unavailable):
        store.load("r")
    store.start()
    assert store.load("r") == ("v1", {})
