"""Brings the events of the decisions topic to one endpoint: each at least once, with the same id at every sending.

Where it stands is a consumer group of the endpoint's own: an offset, and beside it a note of what waits. So progress
lies where the decisions do, outlives restarts and the loss of Redis, and one process at a time has the endpoint.

By number here and in the body:

 1. Records are read while few enough events wait. A group without an offset (a new endpoint, or one that was not
    served for longer than Kafka keeps offsets) begins with what is as old as events are tried.
 2. One event is sent at a time: new ones first, then what is due again. Others wait meanwhile, other endpoints do not.
 3. Only after the answer is the place committed. A process that ends before it has its event sent again.
 4. What is given up stands in the dead letters, acknowledged, before the place is committed.
 5. 410: nothing is read or sent any more until the endpoint's configuration is another; the place stays, so that it
    then gets all since.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from shadow.adapters.avro import decode, encode
from shadow.adapters.logs import Repeated
from shadow.adapters.webhook import TIMEOUT_S, Resolve, Target, resolved, send
from shadow.errors import BrokenEvidence, InvalidRecord, Unavailable
from shadow.metrics import Metrics
from shadow.notify.events import BODY_TYPE, body_of, event_of
from shadow.notify.place import DELIVERED, GONE, REFUSED, Outcome, Patience, Place
from shadow.ports import Clock, Log, LogGroup, LogWriter
from shadow.records.dead_letters import DeadLetter
from shadow.records.log import LogRecord

log = logging.getLogger("shadow.notifier")

READ_S: Final = 0.2
REST_S: Final = 1.0
FLUSH_S: Final = 5.0
DRAIN_S: Final = 3.0
LOOK_S: Final = 0.1
VALUE_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """What a courier does.

    Args:
        target: Where it sends.
        events: Names of the events that the endpoint wants; None: all.
        configuration: Digest of the endpoint's configuration.
        topic: The decisions topic.
        dead_letters: The topic for what is given up.
        group: The endpoint's own consumer group.
        member: Stable name of this process in it.
        patience: When it tries again, and for how long.
        timeout_s: For one sending.
        resolve: How hosts are resolved.
    """

    target: Target
    events: frozenset[str] | None
    configuration: str
    topic: str
    dead_letters: str
    group: str
    member: str
    patience: Patience = field(default_factory=Patience)
    timeout_s: float = TIMEOUT_S
    resolve: Resolve = resolved

    @property
    def name(self) -> str:
        """Name of the endpoint."""
        return self.target.name


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An event that is ready to be sent."""

    record: LogRecord
    event_id: str
    name: str
    body: bytes


class Courier:
    """Serves one endpoint; one thread.

    Args:
        plan: What it does.
        log_: The log.
        metrics: Counters of this process.
        clock: Wall clock.
        chance: Random numbers in [0, 1), for the jitter.
    """

    def __init__(
        self, plan: Plan, log_: Log, metrics: Metrics, clock: Clock, chance: Callable[[], float] = random.random
    ) -> None:
        self._plan = plan
        self._log = log_
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._place: Place | None = None
        self._loaded: dict[int, _Loaded] = {}
        self._is_changed = False
        self._is_paused = False
        self._writer: LogWriter | None = None
        self._trouble = Repeated(log, every_s=5.0)
        self._reason = f"waiting for {plan.topic}"
        metrics.on_scrape(self._publish)

    def readiness(self) -> tuple[bool, str]:
        """Whether the topic is read; an endpoint that does not answer is no trouble of this process."""
        return self._reason == "ok", self._reason

    def run(self, stop: threading.Event) -> None:
        """Serve the endpoint until told to stop; trouble with Kafka is waited out."""
        with asyncio.Runner() as runner:
            while not stop.is_set():
                try:
                    self._serve(runner, stop)
                except Unavailable as trouble:
                    self._note(str(trouble), stop)
                except Exception:  # a defect of ours must not end the deliveries for good
                    log.exception("%s: failed in Shadow itself; joining again", self._plan.name)
                    self._reason = "failed, joining again"
                    stop.wait(REST_S)
        if self._writer is not None:
            self._writer.close()

    def _serve(self, runner: asyncio.Runner, stop: threading.Event) -> None:
        group = self._join()
        try:
            while not stop.is_set():
                self._turn(group, runner, stop)
        finally:
            self._leave(group)

    def _note(self, trouble: str, stop: threading.Event) -> None:
        """Say that Kafka does not serve, at most every few seconds, and wait a moment."""
        self._reason = trouble
        self._trouble.warning("%s: %s", self._plan.name, trouble)
        stop.wait(READ_S)

    def _join(self) -> LogGroup:
        def assigned(partitions: list[int]) -> Mapping[int, int]:
            self._begin(group.committed(0))
            assert self._place is not None
            return dict.fromkeys(partitions, self._place.position())

        group = self._log.group(
            self._plan.topic,
            self._plan.group,
            member=self._plan.member,
            on_assigned=assigned,
            on_revoked=lambda partitions: self._forget(),
        )
        return group

    def _begin(self, committed: tuple[int, str] | None) -> None:
        """Take the place that was committed, or the first one."""
        self._forget()
        if committed is not None:
            self._place = Place.from_note(*committed)
        else:
            self._place = Place(self._first())
            self._is_changed = True
        if self._place.gone not in ("", self._plan.configuration):
            log.info("%s: its configuration is another one than the receiver refused; sending again", self._plan.name)
            self._place.gone = ""
            self._is_changed = True

    def _first(self) -> int:
        """1. Where an endpoint without a place begins."""
        admin = self._log.admin()
        try:
            since_us = self._clock.now_us() - round(self._plan.patience.give_up_s * 1e6)
            return admin.offset_at(self._plan.topic, 0, since_us)
        finally:
            admin.close()

    def _forget(self) -> None:
        """The partition is another process's, or not ours yet."""
        self._place = None
        self._loaded.clear()
        self._is_changed = self._is_paused = False

    def _leave(self, group: LogGroup) -> None:
        try:
            self._commit(group)
        except Unavailable as trouble:
            log.warning(
                "%s: the last answers are not committed, their events are sent again: %s", self._plan.name, trouble
            )
        group.close()
        self._forget()

    def _turn(self, group: LogGroup, runner: asyncio.Runner, stop: threading.Event) -> None:
        try:
            try:
                self._read(group)
            except BrokenEvidence as hole:
                self._start_anew(group, str(hole))
            if self._place is not None and not self._is_gone:
                self._send_due(self._place, runner, stop)
            self._commit(group)
            self._reason = "ok"  # also while another process serves the endpoint: this one stands by
        except Unavailable as trouble:
            self._note(str(trouble), stop)

    @property
    def _is_gone(self) -> bool:
        return self._place is not None and self._place.gone != ""

    def _read(self, group: LogGroup) -> None:
        # 1. and 5. No more than there is room for, and nothing for an endpoint that wants nothing.
        place = self._place
        is_full = place is not None and (self._is_gone or place.room == 0)
        if is_full is not self._is_paused and place is not None:
            (group.pause if is_full else group.resume)([0])
            self._is_paused = is_full
        room = place.room if place is not None else 1
        wait_s = READ_S if place is None or place.due(self._clock.now_us(), self._loaded) is None else 0.0
        for record in group.read(max(1, room), wait_s):
            if self._place is not None:
                self._take(self._place, record)

    def _take(self, place: Place, record: LogRecord) -> None:
        # A record that waited and is in the topic no more (it was superseded) can never be sent.
        for offset in [at for at in place.waiting if at < record.offset and at not in self._loaded]:
            place.done(offset)
        if place.takes(record.offset):
            loaded = self._loaded_from(record)
            place.read(record.offset, is_wanted=loaded is not None)
            if loaded is not None:
                self._loaded[record.offset] = loaded
        self._is_changed = True

    def _loaded_from(self, record: LogRecord) -> _Loaded | None:
        """What a record has to tell this endpoint; None for nothing."""
        try:
            event = event_of(decode(record.value))
            if event is None or (self._plan.events is not None and event.name not in self._plan.events):
                return None
            return _Loaded(record, event.event_id, event.name, body_of(event, self._plan.topic))
        except InvalidRecord as error:
            # A newer version's record, a tombstone, or one that nobody of ours wrote: nothing can be told of it.
            log.debug("%s: offset %d tells nothing: %s", self._plan.name, record.offset, error)
            return None

    def _send_due(self, place: Place, runner: asyncio.Runner, stop: threading.Event) -> None:
        # 2. One at a time.
        offset = place.due(self._clock.now_us(), self._loaded)
        if offset is None or stop.is_set():
            return
        loaded = self._loaded[offset]
        now_us = self._clock.now_us()
        waiting = place.began(offset, now_us)
        begun_s = time.monotonic()
        outcome = runner.run(self._sent(loaded, now_us, stop))
        if outcome is None:
            return  # cut off by the stop: whether it arrived is unknown, so it is sent again
        self._metrics.observe("shadow_notify_attempt_seconds", time.monotonic() - begun_s, endpoint=self._plan.name)
        self._metrics.inc("shadow_notify_attempts_total", endpoint=self._plan.name, result=outcome.kind)
        self._is_changed = True
        if outcome.kind == DELIVERED:
            log.info("%s: delivered %s %s", self._plan.name, loaded.name, loaded.event_id)
            self._done(place, offset)
        elif outcome.kind == GONE:
            # 5. Nothing more.
            log.warning(
                "%s: %s (gone): nothing is sent until its configuration changes", self._plan.name, outcome.error
            )
            place.gone = self._plan.configuration
        elif outcome.kind == REFUSED or self._plan.patience.is_over(waiting, self._clock.now_us()):
            waiting.due_us = self._clock.now_us() + round(REST_S * 1e6)
            self._put_aside(loaded, outcome, waiting.tries)
            self._done(place, offset)
        else:
            wait_us = self._plan.patience.wait_us(waiting.tries, self._chance(), outcome.wait_s)
            waiting.due_us = self._clock.now_us() + wait_us
            self._trouble.warning(
                "%s: %s not delivered, again in %.0f s: %s", self._plan.name, loaded.name, wait_us / 1e6, outcome.error
            )

    async def _sent(self, loaded: _Loaded, now_us: int, stop: threading.Event) -> Outcome | None:
        """The outcome of one sending; None where a stop cut it off."""
        plan = self._plan
        sending = asyncio.ensure_future(
            send(
                plan.target,
                loaded.event_id,
                loaded.body,
                BODY_TYPE,
                timestamp_s=now_us // 1_000_000,
                resolve=plan.resolve,
                timeout_s=plan.timeout_s,
            )
        )
        until_s = float("inf")
        while not sending.done():
            await asyncio.wait({sending}, timeout=LOOK_S)
            if stop.is_set():
                until_s = min(until_s, time.monotonic() + DRAIN_S)
            if not sending.done() and time.monotonic() > until_s:
                sending.cancel()
                await asyncio.wait({sending})
                return None
        return sending.result()

    def _done(self, place: Place, offset: int) -> None:
        place.done(offset)
        self._loaded.pop(offset, None)

    def _put_aside(self, loaded: _Loaded, outcome: Outcome, tries: int) -> None:
        """4. Write what is given up to the dead letters. Raises Unavailable where that is not acknowledged."""
        record = loaded.record
        error = f"endpoint {self._plan.name}: given up after {tries} sendings: {outcome.error}"
        letter = DeadLetter(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=error,
            process=self._plan.member,
            time_us=self._clock.now_us(),
            value=(record.value or b"")[:VALUE_BYTES_MAX],
        )
        errors: list[str | None] = []
        if self._writer is None:
            self._writer = self._log.writer()
        key = f"{record.topic}/{record.partition}/{record.offset}/{self._plan.name}".encode()
        is_taken = self._writer.write(
            self._plan.dead_letters, 0, key=key, value=encode(letter), on_delivery=lambda e, offset: errors.append(e)
        )
        self._writer.flush(FLUSH_S)
        if not is_taken or errors != [None]:
            raise Unavailable(f"{self._plan.dead_letters} did not take a dead letter: {(errors or ['no answer'])[0]}")
        self._metrics.inc("shadow_dead_letters_total", topic=record.topic)
        log.error("%s: %s %s: %s", self._plan.name, loaded.name, loaded.event_id, error)

    def _commit(self, group: LogGroup) -> None:
        # 3. After the answer.
        if self._is_changed and self._place is not None:
            group.commit({0: self._place.position()}, {0: self._place.note()})
            self._is_changed = False

    def _start_anew(self, group: LogGroup, hole: str) -> None:
        """The place is in the log no more: the topic was made anew. Begin as a new endpoint does."""
        log.warning("%s: %s; beginning with the newest events", self._plan.name, hole)
        self._begin(None)
        assert self._place is not None
        group.seek(0, self._place.position())

    def _publish(self) -> None:
        place, name = self._place, self._plan.name
        waiting = list(place.waiting.values()) if place is not None else []
        now_us = self._clock.now_us()
        oldest_us = min((one.first_us for one in waiting if one.first_us), default=now_us)
        self._metrics.set("shadow_notify_waiting", len(waiting), endpoint=name)
        self._metrics.set("shadow_notify_oldest_seconds", max(0.0, (now_us - oldest_us) / 1e6), endpoint=name)
        self._metrics.set("shadow_notify_gone", int(self._is_gone), endpoint=name)
