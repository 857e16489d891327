"""Notice partitions that nobody owns, though the group's rebalance is over.

Handing a partition over takes two rebalances: its owner gives it up after the first and joins again, which asks for
the second. A static member that dies in between and comes back within its session gets the rest of its old assignment
from the broker without any rebalance; the second half never comes, and the partition stays without an owner until
somebody joins or leaves.

    generation 1  a: 0 1
    generation 2  a: 0     b: none     a is killed while it gives 1 up; its successor gets 0, and 1 is nobody's

The question is librdkafka's old `list_groups`, in a thread since it blocks: its successor, `describe_consumer_groups`,
aborts the process when a broker comes back while it is asked (librdkafka 2.16.0, "Assertion `eonce->refcnt > 0'
failed" in `rd_kafka_admin_coord_response_parse`).
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from shadow.adapters.kafka_client import RECONNECT, ClientLog, error_of, sentence

log = logging.getLogger("shadow.kafka")

LOOK_S: Final = 2.0
"""Between two looks at the group; partitions count as nobody's after two in a row."""
ANSWER_S: Final = 5.0


class Orphans:
    """Looks at a group from one of its members, in passing: no call blocks.

    Args:
        properties: Of the client.
        topic: The only one that the group reads.
        every_s: Between two looks.
    """

    def __init__(self, properties: Mapping[str, Any], topic: str, group: str, every_s: float = LOOK_S) -> None:
        self._admin = AdminClient({**RECONNECT, **properties}, logger=ClientLog())
        self._topic = topic
        self._group = group
        self._every_s = every_s
        self._asked: Future[list[Any]] | None = None
        self._looked_s = time.monotonic()
        self._suspected: frozenset[int] = frozenset()

    def found(self, partitions: int, member_id: str) -> frozenset[int]:
        """Partitions that nobody owned at the last two looks; empty where another member is to act on it.

        Args:
            partitions: How many the topic has.
            member_id: What the broker calls this member.
        """
        if self._asked is None:
            if time.monotonic() - self._looked_s >= self._every_s:
                self._looked_s = time.monotonic()
                self._asked = Future()
                threading.Thread(target=self._ask, args=(self._asked,), name="orphans", daemon=True).start()
            return frozenset()
        if not self._asked.done():
            return frozenset()
        answer, self._asked = self._asked, None
        try:
            orphans = self._unowned(answer.result(), partitions, member_id)
        except KafkaException as raised:
            log.debug("group %s could not be looked at: %s", self._group, sentence(error_of(raised)))
            orphans = frozenset()
        again = orphans & self._suspected
        self._suspected = orphans - again
        return again

    def _ask(self, asked: Future[list[Any]]) -> None:
        try:
            asked.set_result(self._admin.list_groups(self._group, timeout=ANSWER_S))
        except KafkaException as raised:
            asked.set_exception(raised)

    def _unowned(self, groups: list[Any], partitions: int, member_id: str) -> frozenset[int]:
        # Brokers that do not coordinate the group say nothing of its members.
        group = next((each for each in groups if each.members), None)
        # One of them is enough; the group's answer says who it is.
        if group is None or group.state != "Stable" or min(member.id for member in group.members) != member_id:
            return frozenset()
        owned = {place for member in group.members for place in assigned(member.assignment, self._topic)}
        return frozenset(range(partitions)) - owned


def assigned(assignment: bytes, topic: str) -> set[int]:
    """Partitions of a topic in a member's assignment, as Kafka's ConsumerProtocolAssignment carries it.

    It is a version, then for each topic its name and its partitions; what follows is the assignor's own.
    """
    found: set[int] = set()
    if not assignment:
        return found
    _, topics = struct.unpack_from(">hi", assignment)
    at = 6
    for _ in range(topics):
        (length,) = struct.unpack_from(">h", assignment, at)
        name = assignment[at + 2 : at + 2 + length].decode()
        (count,) = struct.unpack_from(">i", assignment, at + 2 + length)
        at += 6 + length
        if name == topic:
            found.update(struct.unpack_from(f">{count}i", assignment, at))
        at += 4 * count
    return found
