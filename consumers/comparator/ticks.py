"""Append the tick of each tile that ended, and plain ones while a partition is idle.

A tick says which requests belong to its tile, so it must not be sent before all of them can be read. The log's time
is stamped when the leader appends a record, and the record can be read when it is replicated, some milliseconds later,
or seconds while a broker is away:

    requests   ── 98 ── 99 ──│─ 100 ──     99 is stamped before the tile's end, and can be read after it
                             │   └ can be read, so 99 can: the tile's requests end at 100
                          tile's end

Where no request follows, the end of what can be read is taken after a while.
"""

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
REPLICATED_US: Final = 10_000_000
"""How long a tile without a request behind it waits at most: a broker that died is given up after 9 s by default."""
ASK_AGAIN_US: Final = 50_000
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
        trouble: Told while Kafka cannot say where a tile ends.
        is_log_append_time: Whether the broker stamps records, so that times ascend.
    """

    def __init__(
        self,
        output: Output,
        admin: LogAdmin,
        run: str,
        requests: str,
        clock: Clock,
        trouble: Repeated,
        *,
        is_log_append_time: bool,
    ) -> None:
        self._output = output
        self._admin = admin
        self._run = run
        self._requests = requests
        self._clock = clock
        self._trouble = trouble
        self._is_log_append_time = is_log_append_time
        self._asked: dict[int, tuple[int, int]] = {}

    def send(self, partition: int, owned: Owned, now_s: float) -> None:
        """Append what is due in a partition."""
        tiles = owned.fold.state.main.tiles
        due, end_us = tiles.next_tick, tiles.end_us(tiles.next_tick)
        tile, sent_s = owned.tick_sent
        is_over = self._clock.now_us() >= end_us
        if is_over and (tile != due or now_s - sent_s >= TICK_AGAIN_S):
            try:
                requests_end = self._requests_end(partition, end_us, owned.fold.spec.tile_us)
            except Unavailable as trouble:
                owned.tick_sent = (due, now_s)
                self._trouble.warning("kafka: %s", trouble)
                return
            if requests_end is not None:
                owned.tick_sent = (due, now_s)
                self._output.tick(partition, Tick(self._run, due, requests_end))
                return
        if now_s - owned.active_s >= IDLE_S:
            owned.active_s = now_s
            self._output.tick(partition, Tick(self._run))

    def _requests_end(self, partition: int, end_us: int, tile_us: int) -> int | None:
        """First request offset behind a tile; None while it is not known."""
        late_us = self._clock.now_us() - end_us
        if not self._is_log_append_time:
            # Times do not ascend: a request behind the tile says nothing of the one before it.
            is_known = late_us >= PRODUCER_TIME_GRACE_US
            return self._admin.offset_at(self._requests, partition, end_us) if is_known else None
        if late_us >= min(REPLICATED_US, tile_us):
            return self._admin.offset_at(self._requests, partition, end_us)
        asked_for_us, again_us = self._asked.get(partition, (0, 0))
        if asked_for_us == end_us and late_us < again_us:
            return None
        # Asked less and less often, since a partition without a request behind the tile is mostly an idle one.
        self._asked[partition] = (end_us, max(ASK_AGAIN_US, 2 * late_us))
        return self._admin.first_at(self._requests, partition, end_us)
