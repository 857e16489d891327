"""Copy live requests to the log without ever holding one up.

    event loop                      bounded by bytes            one thread
    plan -> tee the bodies -> put   [ copy copy copy ]  ->      mask -> encode -> write, in order

Whatever the log does (refuses, raises, hangs, is not there), the event loop sees a full queue at worst,
and every request is counted (see `shadow.proxy.accounts`).
"""

from __future__ import annotations

import fnmatch
import logging
import queue
import re
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from shadow.errors import InvalidRecord
from shadow.ports import LogWriter, OnDelivery
from shadow.proxy import accounts as reasons
from shadow.proxy.accounts import Accounts
from shadow.proxy.config import MirrorSettings
from shadow.proxy.copies import Copy, Served, Tee, log_headers, mirrored_request, redacted_request
from shadow.proxy.counters import ProxyCounters
from shadow.proxy.redact import Redactor, Unredactable
from shadow.proxy.sampling import Place, rate_of
from shadow.records.answers import Report

_log = logging.getLogger("shadow.proxy")

_POLL_S: Final = 0.05
_GATHER_S: Final = 0.005
_PAUSE_S: Final = 0.001
_BURST_S: Final = 0.0005
_COMPLAINT_S: Final = 5.0
_PATIENCE_S: Final = 3.0
"""How long copies wait, after the start, for the number of partitions; then they are counted as `kafka_down`."""
_DOTS: Final = re.compile(r"(?i)/(?:\.|%2e){1,2}(?:/|%2f|\\|%5c|\Z)")

Encode = Callable[[object], bytes]
Partitions = Callable[[], int | None]
"""Number of partitions of the requests topic, None while unknown; called from both threads, must not block."""


class Mirror:
    """The mirror of one proxy process.

    Args:
        writer: Used by the mirror's thread only.
        encode: Makes a record's bytes; used by the mirror's thread only.
    """

    def __init__(
        self,
        settings: MirrorSettings,
        *,
        served: Served,
        redactor: Redactor,
        writer: LogWriter,
        encode: Encode,
        partitions: Partitions,
        counters: ProxyCounters,
    ) -> None:
        self.accounts = Accounts()
        self.is_on = True
        self._settings = settings
        self._served = served
        self._redactor = redactor
        self._writer = writer
        self._encode = encode
        self._count_partitions = partitions
        self._counters = counters
        self._partitions: int | None = None
        self._methods = frozenset(method.encode() for method in settings.methods)
        self._paths = re.compile("|".join(fnmatch.translate(path) for path in settings.paths) or r"(?!)")
        self._rate_max = settings.rate_max
        # Each of the two has one writer: the event loop adds, the thread releases.
        self._added_bytes = 0
        self._released_bytes = 0
        self._queue: queue.SimpleQueue[Copy | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="shadow-mirror", daemon=True)
        self._hearers: dict[int, OnDelivery] = {}
        self._deadline: float | None = None
        self._complained_at = self._patient_until = float("-inf")

    @property
    def held_bytes(self) -> int:
        """Bodies held: of requests in flight, and of copies that wait."""
        return self._added_bytes - self._released_bytes

    # On the event loop.

    def plan(self, method: bytes, target: bytes, u: float) -> str | None:
        """Why a request will not be copied; None where it may be."""
        if not self.is_on:
            return reasons.OFF
        path = target.partition(b"?")[0].decode("latin-1")
        if method not in self._methods or self._paths.match(path) is None or _DOTS.search(path):
            return reasons.EXCLUDED
        return reasons.SAMPLED_OUT if u >= self._rate_max else None

    def hold(self, tee: Tee, pieces: list[bytes]) -> None:
        """Keep a copy of these pieces, if the bounds allow it."""
        if tee.reason is not None:
            return
        size = sum(map(len, pieces))
        if tee.size + size > self._settings.body_bytes_max:
            self._added_bytes -= tee.stop(reasons.TOO_LARGE)
        elif self.held_bytes + size > self._settings.queue_bytes_max:
            self._added_bytes -= tee.stop(reasons.QUEUE_FULL)
        else:
            tee.parts += pieces
            tee.size += size
            self._added_bytes += size

    def put(self, copy: Copy) -> None:
        """Hand a finished exchange over; it is written, or dropped with the reason of one of its bodies."""
        reason = copy.request.reason or copy.answer.reason
        if reason is None and self.held_bytes + copy.head_bytes > self._settings.queue_bytes_max:
            reason = reasons.QUEUE_FULL
        if reason is not None:
            self.drop(copy, reason)
            return
        self._added_bytes += copy.head_bytes
        self._queue.put(copy)

    def drop(self, copy: Copy, reason: str) -> None:
        """Count a live request that is not copied, and let its bodies go."""
        self._added_bytes -= copy.request.stop(reason) + copy.answer.stop(reason)
        self.accounts.drop(self._place(copy), reason)

    def forget(self, copy: Copy) -> None:
        """Let the bodies go of what turned out to be no request."""
        self._added_bytes -= copy.request.stop("") + copy.answer.stop("")

    def partition(self, place: Place) -> int | None:
        """The partition of a key; None while the number of partitions is unknown."""
        partitions = self._known_partitions()
        return None if partitions is None else place.spread % partitions

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Write what waits and the final reports; blocks. True if all was done within the time.

        Copies that cannot be written in time are dropped as `queue_full`.
        """
        self._deadline = time.monotonic() + timeout_s
        self._queue.put(None)
        self._thread.join(timeout_s + 1.0)
        return not self._thread.is_alive()

    # In the thread.

    def _run(self) -> None:
        report_at = time.monotonic() + self._settings.report_interval_s
        self._patient_until = time.monotonic() + _PATIENCE_S
        is_stopping = False
        while not is_stopping:
            is_stopping = self._write_waiting(report_at)
            if time.monotonic() >= report_at:
                self._report(is_final=False)
                report_at = time.monotonic() + self._settings.report_interval_s
            self._poll()
        # Delivery failures must be known before the last report is written.
        self._flush()
        self._report(is_final=True)
        self._flush()

    def _write_waiting(self, report_at: float) -> bool:
        """Write all that waits, or what comes within a moment; True where it was the last.

        Two threads that want the interpreter at once wake each other for nothing, which costs more than
        the copies. So copies gather for a few milliseconds and are written in bursts that are too short
        to be interrupted (see `shadow.proxy.server`), and between two bursts this thread sleeps.
        """
        waiting = self._queue
        if self._waits_for_partitions():
            time.sleep(_GATHER_S)
            return False
        try:
            copy = waiting.get(timeout=max(0.0, min(_POLL_S, report_at - time.monotonic())))
        except queue.Empty:
            return False
        pause_at = time.monotonic() + _BURST_S
        while copy is not None:
            self._write(copy)
            if time.monotonic() >= pause_at:
                time.sleep(0.0 if self._deadline is not None else _PAUSE_S)
                return False
            try:
                copy = waiting.get_nowait()
            except queue.Empty:
                time.sleep(_GATHER_S)
                return False
        return True

    def _waits_for_partitions(self) -> bool:
        """Whether copies are kept, bounded as always, since the log has just not been asked yet where they go."""
        is_new = self._deadline is None and time.monotonic() < self._patient_until
        return is_new and self._known_partitions() is None

    def _write(self, copy: Copy) -> None:
        held = copy.held_bytes
        try:
            self._write_or_drop(copy)
        finally:
            self._released_bytes += held

    def _write_or_drop(self, copy: Copy) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.accounts.drop(self._place(copy), reasons.QUEUE_FULL)
            return
        partition = self.partition(copy.place) if copy.partition is None else copy.partition
        try:
            headers, body = redacted_request(copy, self._redactor)
            if not self._is_sampled(copy, headers, body):
                self.accounts.drop(self._place(copy), reasons.SAMPLED_OUT)
                return
            if partition is None:
                self.accounts.lost(0)
                return
            counts = self.accounts.next(partition)
            record = mirrored_request(copy, headers, body, served=self._served, counts=counts, redactor=self._redactor)
            value = self._encode(record)
        except InvalidRecord:
            self.accounts.drop(self._place(copy), reasons.TOO_LARGE)
        except Exception as error:  # noqa: BLE001 - a copy that cannot be made safe is dropped, counted and logged
            self._counters.unredactable += 1
            self.accounts.drop(self._place(copy), reasons.REDACTION)
            if not isinstance(error, Unredactable):
                self._complain(f"A copy could not be encoded: {type(error).__name__}.")
        else:
            self._hand_over(copy, partition, value)

    def _is_sampled(self, copy: Copy, headers: dict[str, str], body: bytes) -> bool:
        sample, quotas, slices_of = self._settings.sample, self._settings.quotas, self._settings.slices_of
        if copy.place.u < sample or not quotas or slices_of is None:
            return copy.place.u < sample
        try:
            slices = slices_of(
                copy.head.method.decode("latin-1"), self._redactor.target(copy.head.target), headers, body
            )
        except Exception as error:  # noqa: BLE001 - the base rate stays right whatever the slices say
            self._counters.slice_failures += 1
            self._complain(f"The slices of a request could not be told: {type(error).__name__}.")
            return False
        return copy.place.u < rate_of(sample, quotas, slices)

    def _hand_over(self, copy: Copy, partition: int, value: bytes) -> None:
        write = partial(
            self._writer.write,
            self._settings.requests_topic,
            partition,
            key=copy.key.encode("utf-8", "surrogatepass"),
            value=value,
            headers=log_headers(copy),
            on_delivery=self._hearer(partition),
        )
        try:
            is_taken = write()
            if not is_taken:
                self._poll()
                is_taken = write()
        except InvalidRecord:
            self.accounts.drop(partition, reasons.TOO_LARGE)
        except Exception as error:  # noqa: BLE001 - no fault of the log may stop the mirror; counted and logged
            self.accounts.lost(partition)
            self._complain(f"The log does not take copies: {error}")
        else:
            if is_taken:
                self.accounts.handed(partition)
                self._counters.copies += 1
            else:
                self.accounts.drop(partition, reasons.QUEUE_FULL)

    def _hearer(self, partition: int) -> OnDelivery:
        """What is told of a partition's copies: one function for all of them."""
        try:
            return self._hearers[partition]
        except KeyError:
            hearer = self._hearers[partition] = partial(self._delivered, partition)
            return hearer

    def _delivered(self, partition: int, error: str | None, offset: int) -> None:
        if error is not None:
            self._counters.undelivered += 1
            self.accounts.unacknowledged(partition)
            self._complain(f"A copy was not delivered: {error}")

    def _report(self, *, is_final: bool) -> None:
        for partition in range(self._known_partitions() or 0):
            counts = self.accounts.counts(partition)
            served = self._served
            report = Report(served.process, served.epoch_us, counts.sequence, counts.seen, counts.dropped, is_final)
            try:
                is_taken = self._writer.write(
                    self._settings.answers_topic,
                    partition,
                    key=served.process.encode(),
                    value=self._encode(report),
                )
            except Exception as error:  # noqa: BLE001 - the counters are cumulative: the next report says it all
                is_taken = False
                self._complain(f"The log does not take reports: {error}")
            if not is_taken:
                self._counters.reports_refused += 1

    def _poll(self) -> None:
        try:
            self._writer.poll()
        except Exception as error:  # noqa: BLE001 - the log's trouble is logged and does not stop the mirror
            self._complain(f"The log does not answer: {error}")

    def _flush(self) -> None:
        remaining_s = max(0.0, (self._deadline or 0.0) - time.monotonic())
        try:
            left = self._writer.flush(remaining_s)
        except Exception as error:  # noqa: BLE001 - the log's trouble is logged and does not stop the drain
            self._complain(f"The log does not answer: {error}")
        else:
            if left:
                _log.warning("%d records were not acknowledged when the proxy stopped.", left)

    def _known_partitions(self) -> int | None:
        if self._partitions is None:
            try:
                self._partitions = self._count_partitions() or None
            except Exception as error:  # noqa: BLE001 - the live path asks too; unknown is a safe answer, and logged
                self._complain(f"The number of partitions cannot be told: {error}")
        return self._partitions

    def _place(self, copy: Copy) -> int:
        partition = self.partition(copy.place) if copy.partition is None else copy.partition
        return 0 if partition is None else partition

    def _complain(self, text: str) -> None:
        now = time.monotonic()
        if now - self._complained_at >= _COMPLAINT_S:
            self._complained_at = now
            _log.warning("%s Live traffic is not affected; lost copies are counted.", text)
