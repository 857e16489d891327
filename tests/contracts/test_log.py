"""What every log promises to those who write, read and ask."""

from __future__ import annotations

import time

import pytest

from shadow.errors import BrokenEvidence, InvalidRecord
from tests.contracts.conftest import PATIENCE_S, LogCase, until


def test_what_was_written_is_read_in_order(case: LogCase) -> None:
    """
    Key, value, headers, partition and order come back; the callback has the offset at which the record stands.
    """
    topic = case.topic(2)
    writer = case.writer()
    delivered: dict[bytes, int] = {}

    def deliver(value: bytes) -> None:
        assert writer.write(
            topic,
            1,
            key=b"key",
            value=value,
            headers={"run": b"r-1", "traceparent": b"00"},
            on_delivery=lambda error, offset: delivered.__setitem__(value, offset if error is None else -2),
        )

    values = [b"%d" % number for number in range(50)]
    for value in values:
        deliver(value)
    assert writer.flush(PATIENCE_S) == 0

    records = case.read(case.reader({(topic, 0): 0, (topic, 1): 0}), 50)
    assert values == [record.value for record in records]
    assert delivered == {record.value: record.offset for record in records}
    assert {(topic, 1, b"key")} == {(record.topic, record.partition, record.key) for record in records}
    assert records[0].headers == {"run": b"r-1", "traceparent": b"00"}


def test_records_carry_the_time_of_their_append(case: LogCase) -> None:
    """
    Times are microseconds of the log's clock, and never run backwards here.
    """
    topic = case.topic()
    before_us = time.time_ns() // 1000
    case.append(topic, [b"a", b"b"])
    after_us = time.time_ns() // 1000
    first, second = case.read(case.reader({(topic, 0): 0}), 2)
    # Kafka's times are whole milliseconds.
    assert before_us - 1000 <= first.time_us <= second.time_us <= after_us


def test_a_full_queue_takes_nothing_and_calls_nobody(case: LogCase) -> None:
    """
    The queue is bounded until its callbacks are served; a record that was not taken has no callback.
    """
    topic = case.topic()
    writer = case.writer(queue_bytes_max=100_000)
    delivered: list[int] = []
    taken = 0
    while writer.write(
        topic, 0, key=b"", value=bytes(10_000), on_delivery=lambda error, offset: delivered.append(offset)
    ):
        taken += 1
        assert taken <= 10
    assert delivered == []
    assert writer.flush(PATIENCE_S) == 0
    assert taken == len(delivered)
    assert writer.write(topic, 0, key=b"", value=b"again")
    assert writer.flush(PATIENCE_S) == 0


def test_a_record_above_the_limit_is_refused_at_once(case: LogCase) -> None:
    """
    Input 91: the largest record passes, one above the limit never leaves the writer.
    """
    topic = case.topic(1, {"max.message.bytes": "4456448"})
    writer = case.writer()
    assert writer.write(topic, 0, key=b"", value=bytes(4 << 20))
    with pytest.raises(InvalidRecord, match="larger than the 4456448 allowed"):
        writer.write(topic, 0, key=b"", value=bytes(5 << 20))
    assert writer.flush(PATIENCE_S) == 0
    assert [len(record.value or b"") for record in case.read(case.reader({(topic, 0): 0}), 1)] == [4 << 20]


def test_a_callback_may_write_again(case: LogCase) -> None:
    """
    What a delivery causes is written before `flush` returns.
    """
    topic = case.topic()
    writer = case.writer()
    writer.write(
        topic, 0, key=b"", value=b"first", on_delivery=lambda *_: writer.write(topic, 0, key=b"", value=b"second")
    )
    assert writer.flush(PATIENCE_S) == 0
    assert [record.value for record in case.read(case.reader({(topic, 0): 0}), 2)] == [b"first", b"second"]


def test_reading_begins_where_it_is_told(case: LogCase) -> None:
    """
    Each partition has its own position, which moves behind what was given out.
    """
    topic = case.topic(2)
    case.append(topic, [b"a0", b"a1", b"a2"], 0)
    case.append(topic, [b"b0", b"b1"], 1)
    reader = case.reader({(topic, 0): 2, (topic, 1): 1})
    assert {b"a2", b"b1"} == {record.value for record in case.read(reader, 2)}
    assert {(topic, 0): 3, (topic, 1): 2} == reader.positions()


def test_at_the_end_a_reader_gives_nothing_and_goes_on(case: LogCase) -> None:
    """
    The end of a partition is no fault; what is appended later is read.
    """
    topic = case.topic()
    case.append(topic, [b"a"])
    reader = case.reader({(topic, 0): 1})
    assert reader.read(10, 0.2) == []
    case.append(topic, [b"b"])
    assert [record.value for record in case.read(reader, 1)] == [b"b"]


def test_a_record_is_given_out_before_the_time_is_over(case: LogCase) -> None:
    """
    A read with room for many records does not wait for the others.
    """
    topic = case.topic()
    reader = case.reader({(topic, 0): 0})
    case.append(topic, [b"a"])
    began_s = time.monotonic()
    assert [record.value for record in reader.read(1000, PATIENCE_S)] == [b"a"]
    assert time.monotonic() - began_s < PATIENCE_S / 2


def test_no_more_records_than_asked_for(case: LogCase) -> None:
    """
    What is left is given out by the next read.
    """
    topic = case.topic()
    case.append(topic, [b"%d" % number for number in range(25)])
    reader = case.reader({(topic, 0): 0})
    found = []
    while len(found) < 25:
        batch = reader.read(10, PATIENCE_S)
        assert 1 <= len(batch) <= 10
        found += batch
    assert list(range(25)) == [record.offset for record in found]


def test_an_offset_behind_the_end_is_a_hole(case: LogCase) -> None:
    """
    A log that is shorter than a stored offset has lost records: the partition and the offset are named.
    """
    topic = case.topic()
    case.append(topic, [b"a"])
    reader = case.reader({(topic, 0): 77})
    with pytest.raises(BrokenEvidence, match=f"{topic}/0: offset 77 "):
        until(lambda: reader.read(10, 0.2))
    reader.assign({(topic, 0): 0})
    assert [record.value for record in case.read(reader, 1)] == [b"a"]


def test_an_offset_before_the_beginning_is_a_hole(case: LogCase) -> None:
    """
    Retention that passed a stored offset is never skipped over.
    """
    if case.truncate is None:
        pytest.skip("the embedded broker cannot delete records")
    topic = case.topic()
    case.append(topic, [b"%d" % number for number in range(5)])
    case.truncate(topic, 0, 3)
    reader = case.reader({(topic, 0): 1})
    with pytest.raises(BrokenEvidence, match=f"{topic}/0: offset 1 "):
        until(lambda: reader.read(10, 0.2))
    assert case.admin.ends(topic) == [(3, 5)]
    with pytest.raises(BrokenEvidence, match="offset 2 "):
        case.admin.read_at(topic, 0, [2, 4])
    assert [record.value for record in case.admin.read_at(topic, 0, [4])] == [b"4"]


def test_an_existing_topic_is_left_as_it_is(case: LogCase) -> None:
    """
    Creating is idempotent, and an unknown topic is None.
    """
    topic = case.topic(2)
    case.append(topic, [b"a"], 1)
    case.admin.create_topics({topic: 5}, {})
    state = case.admin.topic(topic)
    assert state is not None
    assert state.partitions == 2
    assert state.config["message.timestamp.type"] == "LogAppendTime"
    assert case.admin.ends(topic) == [(0, 0), (0, 1)]
    assert case.admin.topic(f"{topic}-unknown") is None


def test_offsets_are_found_by_time(case: LogCase) -> None:
    """
    The first record at or after a time; the end of the partition where there is none.
    """
    topic = case.topic()
    assert case.admin.offset_at(topic, 0, 0) == 0
    case.append(topic, [b"a", b"b", b"c"])
    began_ms = time.time_ns() // 1_000_000
    until(lambda: time.time_ns() // 1_000_000 > began_ms + 1)
    case.append(topic, [b"d", b"e"])
    times_us = [record.time_us for record in case.read(case.reader({(topic, 0): 0}), 5)]
    assert case.admin.offset_at(topic, 0, 0) == 0
    assert case.admin.offset_at(topic, 0, times_us[3]) == 3
    assert case.admin.offset_at(topic, 0, times_us[2] + 1) == 3
    assert case.admin.offset_at(topic, 0, times_us[4] + 1) == 5
    assert [case.admin.first_at(topic, 0, time_us) for time_us in (times_us[3], times_us[4] + 1)] == [3, None]


def test_single_records_are_read_by_offset(case: LogCase) -> None:
    """
    Near and far offsets, in any order and doubled, come in ascending order; offsets that are not there are named.
    """
    topic = case.topic()
    case.append(topic, [b"%d" % number for number in range(1000)])
    wanted = [999, 3, 4, 3, 700, 10]
    assert [r.value for r in case.admin.read_at(topic, 0, wanted)] == [b"3", b"4", b"10", b"700", b"999"]
    assert case.admin.read_at(topic, 0, []) == []
    with pytest.raises(BrokenEvidence, match="offset 1000 is not in the log"):
        case.admin.read_at(topic, 0, [5, 1000])


def test_a_writer_that_tells_failures_only(case: LogCase) -> None:
    """
    What is delivered is not told, and shows in `waiting`, which falls to 0.
    """
    topic, told = case.topic(), list[tuple[str | None, int]]()
    writer = case.writer(tells_success=False)
    for number in range(3):
        assert writer.write(
            topic, 0, key=b"", value=b"%d" % number, on_delivery=lambda error, offset: told.append((error, offset))
        )
    assert writer.waiting > 0
    assert 0 == writer.flush(PATIENCE_S)
    assert ([], 0) == (told, writer.waiting)


def test_the_number_of_partitions(case: LogCase) -> None:
    """
    Of a topic that is there, and none of one that is not.
    """
    assert (3, None) == (case.admin.partitions(case.topic(3)), case.admin.partitions("nobody-made-this"))
