"""The worker of one role: asks a model what it would have answered, and writes the answer beside the request.

    shadow-requests ──read──▶ taken ──call──▶ replied ──write──▶ acknowledged ──commit──▶
    partition p, offset o                     shadow-answers, partition p

One thread owns the Kafka clients and another the model's calls. By number here and in the body:

 1. A request is taken only while few enough are waiting; else partitions are paused, nothing is piled up.
 2. Each request taken ends in exactly one Answer that Kafka acknowledged, whatever the model did, or, where
    the role is not asked, in none. One that cannot be decoded is a dead letter too, and an Answer `unreadable`.
 3. Committed is only the end of the unbroken row of finished requests, so that a request whose answer is not
    acknowledged is read again by the next owner.
 4. A partition that was taken away takes its waiting requests along: its next owner answers them.
 5. A call that a drain cut off writes nothing: it says nothing about the model.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from shadow.adapters.avro import decode, encode
from shadow.adapters.calls import Budget, Calls, Job, Limit, Model
from shadow.adapters.logs import Repeated
from shadow.adapters.outbox import Outbox, Outgoing
from shadow.errors import InvalidRecord, Unavailable
from shadow.metrics import Metrics
from shadow.ports import Clock, Log, LogGroup
from shadow.records.answers import Answer
from shadow.records.comparisons import PRODUCTION
from shadow.records.dead_letters import DeadLetter
from shadow.records.log import LogRecord
from shadow.records.replies import Reply
from shadow.records.requests import MirroredRequest
from shadow.stream.answer import (
    answer_from_reply,
    failed_attempt_answer,
    headers_of,
    is_asked,
    is_served_by,
    unreadable_answer,
    without_bodies,
    without_reply,
)
from shadow.stream.live import Steps, own, production_rate
from shadow.stream.progress import Progress, Taken, Throttle

log = logging.getLogger("shadow.worker")

COMMIT_S: Final = 1.0
COMMIT_IDLE_S: Final = 0.2
READ_BUSY_S: Final = 0.02
READ_IDLE_S: Final = 0.2
REST_S: Final = 0.005
REJOIN_S: Final = 5.0
FLUSH_S: Final = 2.0
NOT_READY_S: Final = 5.0
"""A worker is ready again when Kafka gave no trouble for this long."""
VALUE_BYTES_MAX: Final = 64 * 1024
NO_STEPS: Final[Steps] = MappingProxyType({})


class Worker:
    """Answers the requests topic for one role.

    Args:
        log_: The log.
        model: What to ask; closed at the end.
        run: Run id, or `*` for production's worker.
        role: `candidate`, `production` or `baseline`.
        version: Version of the role.
        group: Consumer group, whose offsets were committed when the run began.
        member: Stable name of this process in the group.
        topics: Topic names by `requests`, `answers`, `dead_letters`.
        metrics: Counters of this process.
        clock: Wall clock.
        rate: Share of the sampling keys that the role is asked for, in [0, 1].
        steps: Steps of the run in which the candidate serves live requests, by decision id.
        concurrency: Least and most calls under way at once.
        budget: Spending cap.
        waiting_max: Most requests taken and not finished.
        waiting_bytes_max: Their most bytes; passed by one batch at most, of requests larger than those before.
        drain_s: How long calls under way may go on after the stop.
    """

    def __init__(
        self,
        log_: Log,
        model: Model,
        *,
        run: str,
        role: str,
        version: str,
        group: str,
        member: str,
        topics: Mapping[str, str],
        metrics: Metrics,
        clock: Clock,
        rate: float = 1.0,
        steps: Steps = NO_STEPS,
        concurrency: tuple[int, int] = (1, 64),
        budget: Budget | None = None,
        waiting_max: int = 512,
        waiting_bytes_max: int = 64 << 20,
        drain_s: float = 4.0,
    ) -> None:
        self._log = log_
        self._run_id = run
        self._role = role
        self._whose = {"run": run, "role": role, "version": version}
        self._group_id = group
        self._member = member
        self._topics = topics
        self._metrics = metrics
        self._clock = clock
        self._rate = rate
        self._steps = steps
        self._throttle = Throttle(waiting_max, waiting_bytes_max)
        self._drain_s = drain_s
        self._budget = budget or Budget()
        self._calls = Calls(model, role, version, Limit(*concurrency), self._budget)
        self._outbox = Outbox(log_.writer(), self._note, lambda: metrics.inc("shadow_kafka_delivery_failures_total"))
        self._shares: dict[int, Progress] = {}
        self._committed: dict[int, int] = {}
        self._is_paused: bool | None = None
        self._was_assigned = False
        self._committed_s = 0.0
        self._troubled_s = float("-inf")
        self._reason = ""
        self._trouble = Repeated(log, every_s=5.0)
        self._budget_said = Repeated(log, every_s=60.0)
        metrics.on_scrape(self._publish)

    def readiness(self) -> tuple[bool, str]:
        """Whether requests are read and answers acknowledged, and what is wrong otherwise."""
        if time.monotonic() - self._troubled_s < NOT_READY_S:
            return False, f"kafka: {self._reason}"
        if not self._was_assigned:
            return False, f"waiting for partitions of {self._topics['requests']}"
        return True, "ok"

    def run(self, stop: threading.Event) -> None:
        """Answer requests until told to stop; then let calls under way end, write and commit.

        Raises:
            BrokenEvidence: If requests that were not answered are not in the log any more.
        """
        self._group = self._join()
        try:
            while not stop.is_set():
                self._step()
        finally:
            self._drain()

    def _join(self) -> LogGroup:
        self._read_s = time.monotonic()
        return self._log.group(
            self._topics["requests"],
            self._group_id,
            member=self._member,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
        )

    def _step(self) -> None:
        # 1. No more than there is room for.
        turn = self._throttle.next(self._waiting(), self._waiting_bytes(), time.monotonic())
        if self._is_paused is not (turn == "pause"):
            self._is_paused = turn == "pause"
            (self._group.pause if self._is_paused else self._group.resume)(sorted(self._shares))
        if turn == "rest":
            time.sleep(REST_S)
        else:
            self._take(self._read())
        self._write_replies()
        self._outbox.send()
        if time.monotonic() - self._committed_s >= (COMMIT_S if self._waiting() else COMMIT_IDLE_S):
            self._commit()

    def _read(self) -> list[LogRecord]:
        waiting = self._waiting()
        room = self._throttle.room(waiting, self._waiting_bytes())
        try:
            records = self._group.read(room, READ_BUSY_S if waiting else READ_IDLE_S)
        except Unavailable as trouble:
            self._note(str(trouble))
            time.sleep(READ_BUSY_S)
            if time.monotonic() - self._read_s >= REJOIN_S and self._kafka_answers():
                self._rejoin()
            return []
        self._read_s = time.monotonic()
        return records

    def _kafka_answers(self) -> bool:
        admin = self._log.admin()
        try:
            admin.ends(self._topics["requests"])
        except Unavailable:
            self._read_s = time.monotonic()  # it is away for everyone: asked again after as long
            return False
        finally:
            admin.close()
        return True

    def _rejoin(self) -> None:
        """Join anew where Kafka answers and only our membership does not: a broker's restart can fence a member."""
        log.warning("%s: joining the group %s again", self._role, self._group_id)
        self._group.close()
        self._revoked(list(self._shares))
        self._group = self._join()

    def _take(self, records: list[LogRecord]) -> None:
        jobs = []
        largest = 0
        for record in records:
            share = self._shares.get(record.partition)
            # A record fetched before its partition was taken away is not ours to answer.
            if share is None or record.offset < share.next:
                continue
            size = len(record.value or b"")
            largest = max(largest, size)
            share.take(record.offset, size)
            item = Taken(share, record, size)
            try:
                request = decode(record.value)
                if not isinstance(request, MirroredRequest):
                    raise InvalidRecord(f"a {type(request).__name__} does not belong into {record.topic}")
            except InvalidRecord as error:
                self._put_aside(item, str(error))
                continue
            # What is written carries the whole exchange: another run's candidate may have served it.
            reason = self._skipped(own(request, self._steps))
            if reason == "failed_live":
                self._count(reason)
                item.request = request
                item.forget_value()
                self._answer(item, failed_attempt_answer(request, record, **self._whose))
                continue
            if reason is not None:
                self._count(reason)
                share.finish(record.offset, size)
                continue
            item.request = request
            item.forget_value()
            jobs.append(Job(item, request))
        self._throttle.saw(largest)
        self._calls.submit(jobs)

    def _skipped(self, request: MirroredRequest) -> str | None:
        """Why the model is not called; None where it is."""
        rate = self._rate
        if self._role == PRODUCTION:
            rate = min(rate, production_rate(request, self._steps))
        if not is_asked(self._role, request.key, rate):
            return "not_asked"
        if not is_served_by(self._role, request):
            return None
        # Both answers are in the exchange then, and without a record nobody would read of them in time.
        has_failed = request.live is not None and request.live.role != self._role
        return "failed_live" if has_failed else "served_live"

    def _put_aside(self, item: Taken, error: str) -> None:
        record = item.record
        item.acks = 2
        self._count("unreadable")
        self._metrics.inc("shadow_dead_letters_total", topic=record.topic)
        now_us = self._clock.now_us()
        letter = DeadLetter(
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=error,
            process=self._member,
            time_us=now_us,
            value=(record.value or b"")[:VALUE_BYTES_MAX],
        )
        key = f"{record.topic}/{record.partition}/{record.offset}".encode()
        item.forget_value()
        self._put(item, self._topics["dead_letters"], 0, key, encode(letter))
        self._answer(item, unreadable_answer(record, error, now_us=now_us, **self._whose))

    def _write_replies(self) -> None:
        for item, reply in self._calls.finished():
            # 4. Its next owner asks again.
            if self._is_ours(item):
                self._count_reply(reply)
                self._answer(item, answer_from_reply(reply, item.request, item.record, **self._whose))

    def _answer(self, item: Taken, answer: Answer) -> None:
        try:
            value = encode(answer)
        except InvalidRecord as error:
            answer = without_reply(answer, f"the reply cannot be written down: {error}")
            value = encode(answer)
        self._put(
            item,
            self._topics["answers"],
            item.record.partition,
            item.record.key or b"",
            value,
            headers_of(item.record, self._run_id),
            smaller=lambda error: encode(without_bodies(answer, error)),
        )

    def _put(
        self,
        item: Taken,
        topic: str,
        partition: int,
        key: bytes,
        value: bytes,
        headers: Mapping[str, bytes] | None = None,
        smaller: Callable[[str], bytes] | None = None,
    ) -> None:
        outgoing = Outgoing(
            topic,
            partition,
            key,
            value,
            # 4. Its next owner writes it.
            is_wanted=lambda: self._is_ours(item),
            done=item.acknowledge,
            headers=headers or {},
            smaller=smaller,
        )
        self._outbox.put(outgoing)

    def _commit(self) -> None:
        # 3. Only what is finished without a gap.
        self._committed_s = time.monotonic()
        offsets = {
            partition: share.position()
            for partition, share in self._shares.items()
            if share.position() not in (-1, self._committed.get(partition))
        }
        if not offsets:
            return
        try:
            self._group.commit(offsets)
        except Unavailable as trouble:
            self._note(str(trouble))
            return
        self._committed.update(offsets)

    def _assigned(self, partitions: list[int]) -> None:
        self._was_assigned = True
        self._is_paused = None  # a partition that comes back may still be paused in the client
        for partition in partitions:
            self._shares[partition] = Progress()
        log.info("%s: answering partitions %s", self._role, sorted(self._shares))

    def _revoked(self, partitions: list[int]) -> None:
        # 4. Whoever has them now reads on from what was committed.
        for partition in partitions:
            self._shares.pop(partition, None)
            self._committed.pop(partition, None)
        self._calls.forget(lambda item: not self._is_ours(item))

    def _drain(self) -> None:
        """Let calls under way end, then write, flush, commit and leave."""
        self._calls.stop()
        until_s = time.monotonic() + self._drain_s
        while self._calls.inflight and time.monotonic() < until_s:
            self._write_replies()
            self._outbox.send()
            time.sleep(REST_S)
        # 5. The rest is cut off.
        self._calls.close()
        self._write_replies()
        unacknowledged = self._outbox.flush(FLUSH_S)
        if unacknowledged:
            log.warning("kafka: %d records are not acknowledged; their requests are answered again", unacknowledged)
        # While Kafka is away a commit would only hold up the end.
        if time.monotonic() - self._troubled_s >= NOT_READY_S:
            self._commit()
        self._group.close()
        self._outbox.close()

    def _waiting(self) -> int:
        return sum(share.waiting() for share in self._shares.values())

    def _waiting_bytes(self) -> int:
        return sum(share.bytes for share in self._shares.values())

    def _is_ours(self, item: Taken) -> bool:
        return self._shares.get(item.record.partition) is item.share

    def _note(self, trouble: str) -> None:
        """Say that Kafka does not serve, at most every few seconds."""
        self._troubled_s = time.monotonic()
        self._reason = trouble
        self._trouble.warning("kafka: %s", trouble)

    def _count(self, result: str) -> None:
        self._metrics.inc("shadow_worker_requests_total", role=self._role, result=result)

    def _count_reply(self, reply: Reply) -> None:
        self._count(reply.outcome)
        if reply.outcome == "refused":
            self._budget_said.warning("%s: %s", self._role, reply.error)
            return
        self._metrics.observe("shadow_worker_call_seconds", reply.duration_us / 1e6, role=self._role)
        if reply.cost_micro:
            self._metrics.inc("shadow_worker_cost_total", reply.cost_micro / 1e6, role=self._role)

    def _publish(self) -> None:
        role = self._role
        self._metrics.set("shadow_worker_inflight", self._calls.inflight, role=role)
        self._metrics.set("shadow_worker_limit", self._calls.limit, role=role)
        self._metrics.set("shadow_worker_waiting", self._waiting(), role=role)
        self._metrics.set("shadow_worker_paused_partitions", len(self._shares) if self._is_paused else 0, role=role)
        self._metrics.set("shadow_worker_budget_spent_ratio", self._budget.spent(), role=role)
        is_up = time.monotonic() - self._troubled_s >= NOT_READY_S
        self._metrics.set("shadow_service_up", int(is_up), service="kafka")
