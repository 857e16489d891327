"""What the metric on services is told: by calls that ask, and by acknowledgements that come or do not."""

from __future__ import annotations

import pytest

from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.memory_store import MemoryStore
from shadow.adapters.watched import ACKNOWLEDGED_S, Deliveries, watched_log, watched_store
from shadow.errors import Refused, Unavailable
from shadow.metrics import Metrics
from shadow.ports import Change, LogWriter


class Away(MemoryStore):
    """A store that can be taken away."""

    is_away = False

    def load(self, slot):
        if self.is_away:
            raise Unavailable("redis is away")
        return super().load(slot)


def test_a_store_tells_whether_it_answers():
    """
    An answer is 1, Unavailable is 0 and comes through, and a refusal is an answer.
    """
    metrics, store = Metrics("gate"), Away()
    watched = watched_store(store, metrics.service("redis"))

    def is_up():
        return metrics.value("shadow_service_up", service="redis")

    assert 0 == is_up()
    assert watched.load("r/0") is None
    assert 1 == is_up()
    store.is_away = True
    with pytest.raises(Unavailable):
        watched.load("r/0")
    assert 0 == is_up()
    with pytest.raises(Refused):
        watched.swap("r/0", "unknown", Change("v", {}))


def test_the_handles_of_a_log_tell():
    """
    What asks the broker tells, what only queues does not, and properties come through.
    """
    told = []
    log = watched_log(MemoryLog(lambda: 1), told.append)
    assert log.is_log_append_time
    admin = log.admin()
    assert [] == told
    admin.create_topics({"t": 1}, {})
    assert [True] == told
    assert log.writer().write("t", 0, key=b"", value=b"x")
    assert [True] == told
    assert [(0, 1)] == admin.ends("t")
    assert [True, True] == told


class Held(LogWriter):
    """A producer whose acknowledgements the test gives."""

    def __init__(self):
        self.held = []
        self.settled = 0
        self.due = []

    def write(self, topic, partition, *, key, value, headers=None, on_delivery=None):
        if len(self.held) == 2:
            return False
        self.held.append(on_delivery)
        return True

    def poll(self):
        while self.due:
            self.held[self.settled](*self.due.pop(0))
            self.settled += 1

    @property
    def waiting(self):
        return len(self.held) - self.settled


def test_a_producer_tells_by_acknowledgements():
    """
    An acknowledgement is 1, a failed delivery 0, and so are records that wait while none is acknowledged.
    """
    told, heard, now_s = [], [], [100.0]
    held = Held()
    writer = Deliveries(held, told.append, lambda: now_s[0])

    def write():
        return writer.write("t", 0, key=b"", value=b"", on_delivery=lambda error, offset: heard.append((error, offset)))

    writer.look()
    assert write()
    assert write()
    assert not write()
    now_s[0] += ACKNOWLEDGED_S
    writer.look()
    assert [] == told
    held.due.append((None, 7))
    writer.poll()
    now_s[0] += ACKNOWLEDGED_S
    writer.look()
    assert [True] == told
    now_s[0] += 1
    writer.look()
    assert [True, False] == told
    held.due.append(("refused", -1))
    writer.poll()
    now_s[0] += 100
    writer.look()
    assert ([True, False, False], [(None, 7), ("refused", -1)]) == (told, heard)
