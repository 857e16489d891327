"""What every log promises to those who decide."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from shadow.adapters.avro import encode
from shadow.errors import BrokenEvidence, Usage
from shadow.records.log import LogRecord
from tests.contracts.conftest import LogCase, until
from tests.notifier.records import decision

COMPACTED = {"cleanup.policy": "compact"}


def values(records: Sequence[LogRecord]) -> list[bytes | None]:
    return [record.value for record in records]


def test_a_decision_sees_all_before_it(case: LogCase) -> None:
    """
    `build` gets every record in order; what it returns is the next one.
    """
    topic = case.topic(1, COMPACTED)
    writer = case.opened(case.log.decisions(topic, topic))
    seen: list[list[bytes | None]] = []

    def build(value: bytes, records: Sequence[LogRecord]) -> bytes:
        seen.append(values(records))
        return value

    first = writer.append(b"r/1", lambda records: build(b"one", records))
    second = writer.append(b"r/2", lambda records: build(b"two", records))
    assert seen == [[], [b"one"]]
    assert (second.key, second.value) == (b"r/2", b"two")
    assert first.offset < second.offset
    found = case.read(case.reader({(topic, 0): 0}), 2)
    assert [(first.offset, b"one"), (second.offset, b"two")] == [(r.offset, r.value) for r in found]


def test_an_event_carries_its_attributes(case: LogCase) -> None:
    """
    A record that is an event has CloudEvents headers, with the topic as its source; the value is untouched.
    """
    topic = case.topic(1, COMPACTED)
    writer = case.opened(case.log.decisions(topic, topic))
    value = encode(decision("rollback"))
    written = writer.append(b"r/1", lambda records: value)
    (found,) = case.read(case.reader({(topic, 0): 0}), 1)
    assert value == found.value
    assert (
        {
            "ce_specversion": b"1.0",
            "ce_id": decision().decision_id.encode(),
            "ce_source": f"/{topic}".encode(),
            "ce_type": b"shadow.rollback",
            "ce_subject": decision().run.encode(),
            "ce_time": b"2025-11-30T14:19:05.678901Z",
            "content-type": b"application/avro",
        }
        == dict(found.headers)
        == dict(written.headers)
    )


def test_nothing_to_decide_writes_nothing(case: LogCase) -> None:
    """
    None means that the topic stays as it is.
    """
    topic = case.topic(1, COMPACTED)
    writer = case.opened(case.log.decisions(topic, topic))
    writer.append(b"r/1", lambda records: b"one")
    assert writer.append(b"r/2", lambda records: None) is None
    assert values(case.read(case.reader({(topic, 0): 0}), 1)) == [b"one"]


def test_the_marks_of_transactions_are_holes_that_are_no_loss(case: LogCase) -> None:
    """
    Decisions are read over the offsets between them, and asking for such an offset says that nothing is there.
    """
    topic = case.topic(1, COMPACTED)
    writer = case.opened(case.log.decisions(topic, topic))
    offsets = [writer.append(b"r/%d" % step, lambda records: b"x").offset for step in range(2)]
    assert offsets[1] - offsets[0] == 2
    # A commit returns before the broker has written its mark; only then readers of committed records see it.
    until(lambda: case.admin.ends(topic)[0][1] > offsets[1])
    assert offsets == [record.offset for record in case.admin.read_at(topic, 0, offsets)]
    with pytest.raises(BrokenEvidence, match=f"offset {offsets[0] + 1} is not in the log"):
        case.admin.read_at(topic, 0, [offsets[0] + 1])


def test_a_writer_that_was_fenced_looks_again(case: LogCase) -> None:
    """
    Another writer comes first between looking and writing: the first one sees its record before it writes.
    """
    topic = case.topic(1, COMPACTED)
    slow = case.opened(case.log.decisions(topic, topic))
    fast = case.opened(case.log.decisions(topic, topic))
    seen: list[list[bytes | None]] = []

    def build(records: Sequence[LogRecord]) -> bytes:
        seen.append(values(records))
        if len(seen) == 1:
            fast.append(b"r/1", lambda _: b"fast")
        return b"slow"

    assert slow.append(b"r/2", build) is not None
    assert seen == [[], [b"fast"]]
    assert values(case.read(case.reader({(topic, 0): 0}), 2)) == [b"fast", b"slow"]


def test_one_step_is_decided_once_by_many_writers(case: LogCase) -> None:
    """
    Three gates want the same step at the same moment: one record.
    """
    topic = case.topic(1, COMPACTED)
    writers = [case.opened(case.log.decisions(topic, topic)) for _ in range(3)]
    together = threading.Barrier(len(writers))
    results: list[LogRecord | None] = []

    def decide(number: int) -> None:
        together.wait()
        results.append(
            writers[number].append(
                b"r/1", lambda records: None if b"r/1" in [r.key for r in records] else b"gate %d" % number
            )
        )

    threads = [threading.Thread(target=decide, args=(number,)) for number in range(len(writers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    written = [result for result in results if result is not None]
    assert len(results) == 3
    assert len(written) == 1
    assert [written[0].value] == values(case.read(case.reader({(topic, 0): 0}), 1))


def test_an_error_while_deciding_leaves_the_topic_as_it_is(case: LogCase) -> None:
    """
    What `build` raises comes out, nothing is written, and the writer can be used again.
    """
    topic = case.topic(1, COMPACTED)
    writer = case.opened(case.log.decisions(topic, topic))

    def refuse(records: Sequence[LogRecord]) -> bytes:
        raise Usage("the run is held")

    with pytest.raises(Usage, match="the run is held"):
        writer.append(b"r/1", refuse)
    assert writer.append(b"r/1", lambda records: b"one").value == b"one"
    assert values(case.read(case.reader({(topic, 0): 0}), 1)) == [b"one"]
