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
        self._waiting = 0
        self._moved_s = 0.0

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

        def delivered(error: str | None, offset: int) -> None:
            self._waiting -= 1
            self._moved_s = self._clock()
            self._told(error is None)
            if on_delivery is not None:
                on_delivery(error, offset)

        is_taken = self._writer.write(topic, partition, key=key, value=value, headers=headers, on_delivery=delivered)
        if is_taken:
            if self._waiting == 0:
                self._moved_s = self._clock()
            self._waiting += 1
        return is_taken

    def look(self) -> None:
        """Tell False where records wait and none was acknowledged for a while; called before the metric is read."""
        if self._waiting > 0 and self._clock() - self._moved_s > ACKNOWLEDGED_S:
            self._told(False)

    def poll(self) -> None:
        """Serve delivery callbacks that are due."""
        self._writer.poll()

    def flush(self, timeout_s: float) -> int:
        """Wait until everything is acknowledged; returns how many records are still queued."""
        return self._writer.flush(timeout_s)

    def close(self) -> None:
        """Close the producer."""
        self._writer.close()
