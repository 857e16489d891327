"""Tell, call by call, whether a service answers: what `shadow_service_up` shows.

Watched       everything that asks the service: an answer says that it is there, Unavailable that it is not
Deliveries    a producer, which never waits: acknowledgements say that it is there, their absence that it is not
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from shadow.errors import Unavailable
from shadow.ports import Log, LogWriter, OnDelivery, Store

Told = Callable[[bool], object]

ACKNOWLEDGED_S: Final = 5.0
"""A producer whose records wait longer than this without a single acknowledgement is cut off."""

_HEARERS_MAX: Final = 1024

_HANDLES: Final = frozenset({"reader", "group", "admin", "decisions"})
"""Methods of a log whose results ask the broker themselves."""
_SILENT: Final = frozenset({"close", "pause", "resume", "seek", "assign", "positions", "writer"})
"""Methods that ask nothing, or only queue something."""


class Watched:
    """Passes every call on to a port and tells how it ended.

    A result that neither raised nor asked (see `_SILENT`) tells nothing. Calls pass through unchanged.

    Args:
        port: A log, one of its handles, or a store.
        told: Gets True after an answer, False after Unavailable; any thread.
    """

    def __init__(self, port: object, told: Told) -> None:
        self._port = port
        self._told = told

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found) or name in _SILENT:
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                result = found(*args, **kwargs)
            except Unavailable:
                self._told(False)
                raise
            if name in _HANDLES:
                return Watched(result, self._told)
            self._told(True)
            return result

        return call


def watched_log(log: Log, told: Told) -> Log:
    """A log whose readers, groups, admins and decision writers tell; its producers do not."""
    return cast(Log, Watched(log, told))


def watched_store(store: Store, told: Told) -> Store:
    """A store that tells."""
    return cast(Store, Watched(store, told))


class Deliveries:
    """A producer that tells whether its records are acknowledged; implements `shadow.ports.LogWriter`.

    Args:
        writer: The producer.
        told: Gets True with an acknowledgement, False where a delivery failed or none comes.
        clock: Monotonic seconds.
    """

    def __init__(self, writer: LogWriter, told: Told, clock: Callable[[], float] = time.monotonic) -> None:
        self._writer = writer
        self._told = told
        self._clock = clock
        self._written = 0
        self._settled = 0
        self._failed = 0
        self._moved_s = 0.0
        self._hearers: dict[OnDelivery | None, OnDelivery] = {}

    def write(
        self,
        topic: str,
        partition: int,
        *,
        key: bytes,
        value: bytes,
        headers: Mapping[str, bytes] | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> bool:
        """Queue one record."""
        hearer = self._hearers.get(on_delivery) or self._hearer(on_delivery)
        is_taken = self._writer.write(topic, partition, key=key, value=value, headers=headers, on_delivery=hearer)
        if is_taken:
            if self._written == self._settled:
                self._moved_s = self._clock()
            self._written += 1
        return is_taken

    def _hearer(self, on_delivery: OnDelivery | None) -> OnDelivery:
        def delivered(error: str | None, offset: int) -> None:
            if error is not None:
                self._failed += 1
                self._told(False)
            if on_delivery is not None:
                on_delivery(error, offset)

        if len(self._hearers) >= _HEARERS_MAX:
            self._hearers.clear()
        self._hearers[on_delivery] = delivered
        return delivered

    @property
    def waiting(self) -> int:
        """Records accepted that are neither acknowledged nor failed."""
        return self._writer.waiting

    def look(self) -> None:
        """Tell False where records wait and none was acknowledged for a while; called before the metric is read."""
        if self._written > self._settled and self._clock() - self._moved_s > ACKNOWLEDGED_S:
            self._told(False)

    def poll(self) -> None:
        """Serve delivery callbacks that are due, and tell True where something was acknowledged."""
        failed = self._failed
        self._writer.poll()
        settled = self._written - self._writer.waiting
        if settled > self._settled:
            self._moved_s = self._clock()
            if settled - self._settled > self._failed - failed:
                self._told(True)
            self._settled = settled

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is acknowledged; returns how many records are still queued."""
        return self._writer.flush(timeout_s)

    def close(self) -> None:
        """Close the producer."""
        self._writer.close()
