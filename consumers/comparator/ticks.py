"""Append the tick of each tile that ended, and plain ones while a partition is idle."""

from __future__ import annotations

from typing import Final

from consumers.comparator.output import Output
from consumers.comparator.plan import Owned
from shadow.adapters.logs import Repeated
from shadow.errors import Unavailable
from shadow.ports import Clock, LogAdmin
from shadow.records.answers import Tick

TICK_AGAIN_S: Final = 5.0
IDLE_S: Final = 1.0
PRODUCER_TIME_GRACE_US: Final = 2_000_000
"""Without LogAppendTime a request may be appended a little after its own time; its tile's tick waits for it."""


class Ticks:
    """The ticks of one owner.

    Args:
        output: Where they go.
        admin: Knows which request was appended at or after a tile's end.
        run: Run id.
        requests: Name of the requests topic.
        clock: Wall clock; a tick that it sends too early does not count, and is sent again.
        grace_us: How long after its end a tile's tick is sent.
        trouble: Told while Kafka cannot say where a tile ends.
    """

    def __init__(
        self,
        output: Output,
        admin: LogAdmin,
        run: str,
        requests: str,
        clock: Clock,
        grace_us: int,
        trouble: Repeated,
    ) -> None:
        self._output = output
        self._admin = admin
        self._run = run
        self._requests = requests
        self._clock = clock
        self._grace_us = grace_us
        self._trouble = trouble

    def send(self, partition: int, owned: Owned, now_s: float) -> None:
        """Append what is due in a partition."""
        tiles = owned.fold.state.main.tiles
        due, end_us = tiles.next_tick, tiles.end_us(tiles.next_tick)
        tile, sent_s = owned.tick_sent
        if self._clock.now_us() >= end_us + self._grace_us and (tile != due or now_s - sent_s >= TICK_AGAIN_S):
            owned.tick_sent = (due, now_s)
            try:
                requests_end = self._admin.offset_at(self._requests, partition, end_us)
            except Unavailable as trouble:
                self._trouble.warning("kafka: %s", trouble)
                return
            self._output.tick(partition, Tick(self._run, due, requests_end))
        elif now_s - owned.active_s >= IDLE_S:
            owned.active_s = now_s
            self._output.tick(partition, Tick(self._run))
