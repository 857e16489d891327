"""A tile's tick waits until every request of the tile can be read, and not much longer."""

from __future__ import annotations

import logging

from consumers.comparator.output import Output
from consumers.comparator.plan import Owned
from consumers.comparator.ticks import REPLICATED_US, Ticks
from shadow.adapters.avro import decode
from shadow.adapters.logs import Repeated
from shadow.records.answers import Tick
from shadow.stream.fold import Fold
from shadow.stream.slice import Slicer
from tests.comparator.world import TOPICS, World
from tests.stream.builders import RUN, SECOND, SLICES, SPEC, request


class Sending:
    """The ticks of partition 0's owner, at times of the test's choice."""

    def __init__(self, *, is_log_append_time: bool = True) -> None:
        self.world = World()
        log, clock = self.world.log, self.world.clock
        trouble = Repeated(logging.getLogger("shadow.comparator"), every_s=5.0)
        output = Output(log.writer(), RUN, TOPICS, "comparator", clock, trouble)
        self._ticks = Ticks(output, log.admin(), RUN, "requests", clock, trouble, is_log_append_time=is_log_append_time)
        fold = Fold(SPEC, Slicer(SLICES), self.world.counting(), lambda offsets: {})
        self._owned = Owned(fold, None, active_s=1e12)  # no plain ticks

    def request(self, time_us: int) -> None:
        """A request with this append time can be read from now on."""
        now_us, self.world.clock.us = self.world.clock.us, time_us
        self.world.mirror(request(time_us))
        self.world.clock.us = now_us

    def at(self, time_us: int) -> list[tuple[int | None, int]]:
        """Tile and end of every tick sent until this time."""
        self.world.clock.us = time_us
        self._ticks.send(0, self._owned, time_us / 1e6)
        end = self.world.log.admin().ends("answers")[0][1]
        records = self.world.log.admin().read_at("answers", 0, range(end))
        ticks = [content for record in records if isinstance(content := decode(record.value), Tick)]
        return [(tick.tile, tick.requests_end) for tick in ticks]


def test_a_request_that_is_replicated_late_belongs_to_its_tile() -> None:
    """
    Stamped before the tile's end and readable only after it: the tick waits for a request that lies behind.

    The tile ends at 10 s:    9.99 ─┐   10.05: nothing behind the end can be read
                                    └── can be read at 10.1, and so can one of 10.2 at 10.3
    """
    sending = Sending()
    sending.request(4 * SECOND)
    assert sending.at(10 * SECOND + 50_000) == []
    sending.request(10 * SECOND - 10_000)
    assert sending.at(10 * SECOND + 100_000) == []
    sending.request(10 * SECOND + 200_000)
    assert sending.at(10 * SECOND + 300_000) == [(0, 2)]


def test_an_idle_partition_waits_no_longer_than_a_broker_may_be_away() -> None:
    """
    Without a request behind the tile, the end of what can be read is taken after ten seconds.
    """
    sending = Sending()
    sending.request(4 * SECOND)
    assert sending.at(10 * SECOND + REPLICATED_US - 1) == []
    assert sending.at(10 * SECOND + REPLICATED_US) == [(0, 1)]


def test_the_log_is_asked_less_and_less_often() -> None:
    """
    A partition that stays idle is asked some eight times, not at each turn of the loop; a new tile is asked at once.
    """
    sending = Sending()
    turns = range(10 * SECOND, 20 * SECOND, SECOND // 10)
    assert [sending.at(time_us) for time_us in turns] == [[]] * len(turns)
    sending.request(20 * SECOND)
    assert sending.at(20 * SECOND + 1) == [(0, 0)]


def test_producer_times_wait_for_a_fixed_time() -> None:
    """
    Where producers stamp, times do not ascend: a request behind the tile proves nothing, and two seconds must pass.
    """
    sending = Sending(is_log_append_time=False)
    sending.request(11 * SECOND)
    assert sending.at(11 * SECOND + 100_000) == []
    assert sending.at(12 * SECOND) == [(0, 0)]
