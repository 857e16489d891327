"""Keep records until Kafka acknowledged them: a full queue, a broker that is away, a failed delivery lose none."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from shadow.adapters.kafka_client import BATCH_BYTES_MAX, TOO_LARGE
from shadow.errors import InvalidRecord, Unavailable
from shadow.ports import LogWriter


@dataclass(slots=True)
class Outgoing:
    """One record to write.

    Args:
        is_wanted: Asked before each attempt; a record that is not wanted any more is dropped.
        done: Called once, when the record is acknowledged.
        smaller: Makes a smaller value, of the sentence that the first one was too large; None where it cannot.
    """

    topic: str
    partition: int
    key: bytes
    value: bytes
    is_wanted: Callable[[], bool]
    done: Callable[[], None]
    headers: Mapping[str, bytes] = field(default_factory=dict)
    smaller: Callable[[str], bytes] | None = None


class Outbox:
    """Writes records in order, again where delivery failed. It is the caller's to bound what is put in.

    Args:
        writer: The producer; closed with the outbox.
        on_trouble: Gets a sentence where Kafka does not take or acknowledge a record.
        on_failure: Called for each record whose delivery failed.
    """

    def __init__(
        self, writer: LogWriter, on_trouble: Callable[[str], None], on_failure: Callable[[], None] = lambda: None
    ) -> None:
        self._writer = writer
        self._on_trouble = on_trouble
        self._on_failure = on_failure
        self._unsent: deque[Outgoing] = deque()

    def put(self, outgoing: Outgoing) -> None:
        """Write this record with the next `send`."""
        self._unsent.append(outgoing)

    def send(self) -> None:
        """Hand records to the producer until its queue is full, and take in what was acknowledged; never waits.

        Raises:
            InvalidRecord: If a record is too large and has no smaller value.
        """
        while self._unsent:
            outgoing = self._unsent[0]
            if outgoing.is_wanted():
                try:
                    if not self._hand_over(outgoing):
                        break
                except Unavailable as trouble:
                    self._on_trouble(str(trouble))
                    break
            self._unsent.popleft()
        self._writer.poll()

    def flush(self, timeout_s: float) -> int:
        """Send and wait until everything is acknowledged; returns how many records are not."""
        until_s = time.monotonic() + timeout_s
        while True:
            self.send()
            unacknowledged = self._writer.flush(max(0.0, until_s - time.monotonic())) + len(self._unsent)
            if not unacknowledged or time.monotonic() >= until_s:
                return unacknowledged

    def close(self) -> None:
        """Close the producer; what was not acknowledged is given up."""
        self._writer.close()

    def _hand_over(self, outgoing: Outgoing) -> bool:
        try:
            return self._write(outgoing)
        except InvalidRecord as error:
            if outgoing.smaller is None:
                raise
            outgoing.value = outgoing.smaller(str(error))
            outgoing.smaller = None
            return self._write(outgoing)

    def _write(self, outgoing: Outgoing) -> bool:
        def delivered(error: str | None, offset: int) -> None:
            if error is None:
                outgoing.done()
                return
            self._on_failure()
            self._on_trouble(error)
            is_at_fault = TOO_LARGE in error and len(outgoing.value) > BATCH_BYTES_MAX
            if is_at_fault and outgoing.smaller is not None:
                # The topic takes less than the producer: written again as it is, it would be refused for ever.
                outgoing.value = outgoing.smaller(f"{outgoing.topic} does not take it: {error}")
                outgoing.smaller = None
            self._unsent.append(outgoing)

        return self._writer.write(
            outgoing.topic,
            outgoing.partition,
            key=outgoing.key,
            value=outgoing.value,
            headers=outgoing.headers,
            on_delivery=delivered,
        )
