"""Membership in a consumer group: cooperative, static, and with offsets that the caller chooses.

A rebalance in the classic cooperative protocol, as seen here:

    broker   │ revoke p2 from a │ both join again │ assign p2 to b │
    member a │ on_revoked([2])  │                 │                │
    member b │                  │                 │ on_assigned([2]) → positions → records of 2

Records of a partition that was fetched before it was revoked are dropped, not given out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from shadow.adapters.kafka_client import (
    METADATA_S,
    Health,
    asking,
    bounds_of,
    check_reachable,
    client,
    consume,
    consumer_properties,
    error_of,
    record_of,
    sentence,
    unavailable,
)
from shadow.adapters.kafka_embedded import end_of
from shadow.adapters.kafka_orphans import Orphans
from shadow.adapters.kafka_reader import check_embedded, error_in
from shadow.errors import BrokenEvidence, ShadowError, Unavailable
from shadow.records.log import LogRecord

log = logging.getLogger("shadow.kafka")

REJOIN_S = 3.0
"""How long a fenced member stays away, so that two processes with one name do not take turns in a hurry."""


class KafkaGroup:
    """Implements `shadow.ports.LogGroup`. One thread at a time."""

    def __init__(
        self,
        properties: Mapping[str, str],
        topic: str,
        group: str,
        member: str,
        on_assigned: Callable[[list[int]], Mapping[int, int] | None],
        on_revoked: Callable[[list[int]], None],
        *,
        is_embedded: bool,
    ) -> None:
        merged = consumer_properties(properties, group)
        if not is_embedded:
            # The embedded broker does not hand over the partitions of members that are static.
            merged["group.instance.id"] = member
        is_classic = merged.get("group.protocol") != "consumer"
        # Where the broker assigns, it finishes every rebalance itself.
        self._orphans = Orphans(properties, topic, group) if is_classic and not is_embedded else None
        self._partitions = 0
        if is_classic:
            merged["partition.assignment.strategy"] = "cooperative-sticky"
            merged.setdefault("heartbeat.interval.ms", str(max(100, int(merged["session.timeout.ms"]) // 3)))
        else:
            merged.pop("session.timeout.ms")  # the broker's business in this protocol
        self._properties = dict(properties)
        self._topic = topic
        self._group = group
        self._member = member
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._is_embedded = is_embedded
        self._health = Health()
        self._positions: dict[int, int] = {}
        self._paused: set[int] = set()
        self._waiting: list[int] = []
        self._trouble: BaseException | None = None
        self._fenced_s: float | None = None
        self._is_closed = False
        self._merged = merged
        self._join()

    def _join(self) -> None:
        self._consumer = client(Consumer, self._merged, self._health)
        self._subscribe()

    def _subscribe(self) -> None:
        asking(
            f"join the group {self._group}",
            lambda: self._consumer.subscribe(
                [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            ),
        )

    def read(self, max_records: int, timeout_s: float) -> list[LogRecord]:
        """The next records; rebalance callbacks run inside this call.

        Raises:
            BrokenEvidence: If a position is not in the log any more.
            Unavailable: If the broker cannot serve, or fenced this member; it joins again by itself.
        """
        if self._fenced_s is not None and time.monotonic() - self._fenced_s >= REJOIN_S:
            self._join_again()
        self._raise_trouble()
        if self._waiting:
            self._start(self._waiting)
        self._adopt()
        records = []
        for message in asking("read", lambda: consume(self._consumer, max_records, timeout_s)):
            if message.error() is not None:
                self._note(message)
                continue
            # One batch may hold records of a partition that was lost or sought meanwhile.
            position = self._positions.get(message.partition())
            if position is not None and message.offset() >= position:
                record = record_of(message)
                self._positions[record.partition] = record.offset + 1
                records.append(record)
        if not records:
            self._raise_trouble()
        check_reachable(self._consumer, self._health, has_records=bool(records))
        return records

    def _adopt(self) -> None:
        """Leave and join again where partitions are nobody's, since only that makes the broker ask for a rebalance."""
        if self._orphans is None or self._health.trouble is not None:
            return
        if self._partitions == 0:
            try:
                found = self._consumer.list_topics(self._topic, timeout=1.0).topics[self._topic]
            except KafkaException as raised:
                log.debug("the partitions of %s are not known yet: %s", self._topic, sentence(error_of(raised)))
                return
            self._partitions = len(found.partitions)
        orphans = self._orphans.found(self._partitions, self._consumer.memberid())
        if orphans:
            log.warning("group %s: nobody owns the partitions %s; joining again", self._group, sorted(orphans))
            self._consumer.unsubscribe()
            self._subscribe()

    def _note(self, message: Any) -> None:
        error = message.error()
        # Of a fatal error the client gives the text only.
        is_fatal = error.code() == KafkaError._FATAL
        if error.code() == KafkaError.FENCED_INSTANCE_ID or (is_fatal and "fenced" in error.str()):
            self._fenced_s = time.monotonic() if self._fenced_s is None else self._fenced_s
            return
        if error.code() == KafkaError._MAX_POLL_EXCEEDED:
            log.warning("group %s: nothing was read for too long; joining again", self._group)
        trouble = error_in(message, self._positions.get(message.partition()))
        self._trouble = self._trouble or trouble

    def _raise_trouble(self) -> None:
        if self._fenced_s is not None:
            raise Unavailable(
                f"another process joined the group {self._group} as member {self._member}, "
                "or a restarted broker forgot it; joining again"
            )
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble

    def _join_again(self) -> None:
        """Join with a new client: a broker's restart can fence a member, and a fenced client never serves again."""
        log.warning("group %s: joining again as member %s", self._group, self._member)
        try:
            self._consumer.close()
        except KafkaException as raised:
            log.warning("group %s: closing failed: %s", self._group, sentence(error_of(raised)))
        # The closing client may have said so already; then nothing is left here.
        lost = sorted(self._positions)
        self._positions.clear()
        self._paused.clear()
        self._waiting.clear()
        self._fenced_s = self._trouble = None
        if lost:
            self._on_revoked(lost)
        self._join()

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        """The protocol gave us partitions. An exception must not pass through the client: it is kept for `read`."""
        added = sorted(partition.partition for partition in partitions)
        # Nothing is assigned in this call where the start fails, so that the client does not begin by itself.
        self._consumer.incremental_assign([])
        if added:
            self._waiting = sorted({*self._waiting, *added})
            try:
                self._start(added)
            except Exception as error:  # noqa: BLE001 - raised again by the read that runs this callback
                self._trouble = error

    def _start(self, partitions: list[int]) -> None:
        """Begin to read partitions; those that cannot begin now are tried again by the next read."""
        positions = self._on_assigned(list(partitions))
        if positions is None:
            positions = self._committed(partitions)
        for partition in partitions:
            position = positions[partition]
            if self._is_embedded:
                try:
                    check_embedded(self._properties, self._consumer, self._topic, partition, position)
                except BrokenEvidence as hole:
                    self._trouble = hole
            self._positions[partition] = position
            place = TopicPartition(self._topic, partition, position)
            self._consumer.incremental_assign([place])
            # The client remembers a pause over a revocation.
            self._consumer.resume([place])
        self._waiting = [partition for partition in self._waiting if partition not in partitions]

    def committed(self, partition: int) -> tuple[int, str] | None:
        """What the group committed last, offset and note; None where nothing was."""
        (place,) = self._places([partition])
        return (place.offset, place.metadata or "") if place.offset >= 0 else None

    def _places(self, partitions: list[int]) -> list[TopicPartition]:
        places = [TopicPartition(self._topic, partition) for partition in partitions]
        found: list[TopicPartition] = asking(
            f"read the offsets of the group {self._group}",
            lambda: self._consumer.committed(places, timeout=METADATA_S),
        )
        for place in found:
            if place.error is not None:
                raise Unavailable(f"kafka could not read the offsets of the group {self._group}: {place.error}")
        return found

    def _committed(self, partitions: list[int]) -> dict[int, int]:
        """Committed offsets; the end of the partition where nothing was committed."""
        positions = {}
        for place in self._places(partitions):
            if place.offset >= 0:
                positions[place.partition] = place.offset
            else:
                positions[place.partition] = self._end(place)
        return positions

    def _end(self, place: TopicPartition) -> int:
        if self._is_embedded:
            return end_of(self._properties, place.topic, place.partition)
        return bounds_of(self._consumer, place.topic, place.partition)[1]

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        taken = sorted(partition.partition for partition in partitions)
        started = [partition for partition in taken if partition in self._positions]
        for partition in taken:
            self._positions.pop(partition, None)
            self._paused.discard(partition)
        self._waiting = [partition for partition in self._waiting if partition not in taken]
        try:
            if started:
                self._on_revoked(started)
        except Exception as error:  # noqa: BLE001 - raised again by the read that runs this callback
            self._trouble = error
        self._consumer.incremental_unassign([TopicPartition(self._topic, partition) for partition in started])

    def pause(self, partitions: Iterable[int]) -> None:
        """Read nothing of these until resumed."""
        owned = sorted(set(partitions) & set(self._positions))
        if owned:
            self._paused |= set(owned)
            asking("pause", lambda: self._consumer.pause([TopicPartition(self._topic, p) for p in owned]))

    def resume(self, partitions: Iterable[int]) -> None:
        """Go on reading these."""
        owned = sorted(set(partitions) & set(self._positions))
        if owned:
            self._paused -= set(owned)
            asking("resume", lambda: self._consumer.resume([TopicPartition(self._topic, p) for p in owned]))

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading an owned partition from this offset."""
        if partition not in self._positions:
            return
        # Assigned anew instead of sought: seeking fails right after an assignment, and after an offset out of range.
        place = TopicPartition(self._topic, partition, offset)
        try:
            self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
            self._consumer.incremental_assign([place])
            self._positions[partition] = offset
            if partition in self._paused:
                self._consumer.pause([place])
        except KafkaException as raised:
            raise unavailable(f"read {self._topic}/{partition} from offset {offset}", raised) from raised

    def commit(self, offsets: Mapping[int, int], notes: Mapping[int, str] | None = None) -> None:
        """Commit next-to-read offsets by partition, each with its note if it has one."""
        foreign = sorted(set(offsets) - set(self._positions))
        if foreign:
            raise Unavailable(f"the partitions {foreign} belong to another member of the group {self._group}")
        if not offsets:
            return
        places = [
            TopicPartition(self._topic, partition, offset, (notes or {}).get(partition, ""))
            for partition, offset in offsets.items()
        ]
        try:
            done = self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as raised:
            error = error_of(raised)
            raise Unavailable(f"kafka could not commit for the group {self._group}: {sentence(error)}") from raised
        for place in done or ():
            if place.error is not None:
                raise Unavailable(f"kafka could not commit {self._topic}/{place.partition}: {place.error}")

    def close(self) -> None:
        """Give everything up and leave. A static member's partitions are free when its session has ended."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._consumer.close()
        except KafkaException as raised:
            log.warning("group %s: closing failed: %s", self._group, sentence(error_of(raised)))
        owned = sorted(self._positions)
        self._positions.clear()
        if owned:
            self._on_revoked(owned)
        if isinstance(self._trouble, ShadowError):
            log.warning("group %s: while closing: %s", self._group, self._trouble)
