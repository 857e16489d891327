"""Notice partitions that nobody owns, though the group's rebalance is over.

Handing a partition over takes two rebalances: its owner gives it up after the first and joins again, which asks for
the second. A static member that dies in between and comes back within its session gets the rest of its old assignment
from the broker without any rebalance; the second half never comes, and the partition stays without an owner until
somebody joins or leaves.

    generation 1  a: 0 1
    generation 2  a: 0     b: none     a is killed while it gives 1 up; its successor gets 0, and 1 is nobody's
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import ConsumerGroupState, KafkaException
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
        member: This member's name in the group.
    """

    def __init__(self, properties: Mapping[str, Any], topic: str, group: str, member: str) -> None:
        self._admin = AdminClient({**RECONNECT, **properties}, logger=ClientLog())
        self._topic = topic
        self._group = group
        self._member = member
        self._asked: Future[Any] | None = None
        self._looked_s = time.monotonic()
        self._suspected: frozenset[int] = frozenset()

    def found(self, partitions: int) -> frozenset[int]:
        """Partitions that nobody owned at the last two looks; empty where another member is to act on it.

        Args:
            partitions: How many the topic has.
        """
        if self._asked is None:
            if time.monotonic() - self._looked_s >= LOOK_S:
                self._looked_s = time.monotonic()
                asked = self._admin.describe_consumer_groups([self._group], request_timeout=ANSWER_S)
                self._asked = asked[self._group]
            return frozenset()
        if not self._asked.done():
            return frozenset()
        answer, self._asked = self._asked, None
        try:
            orphans = self._unowned(answer.result(), partitions)
        except KafkaException as raised:
            log.debug("group %s could not be looked at: %s", self._group, sentence(error_of(raised)))
            orphans = frozenset()
        again = orphans & self._suspected
        self._suspected = orphans - again
        return again

    def _unowned(self, group: Any, partitions: int) -> frozenset[int]:
        names = [member.group_instance_id or member.member_id for member in group.members]
        # One of them is enough; the group's answer says who it is.
        if group.state != ConsumerGroupState.STABLE or min(names, default="") != self._member:
            return frozenset()
        owned = {
            place.partition
            for member in group.members
            for place in member.assignment.topic_partitions
            if place.topic == self._topic
        }
        return frozenset(range(partitions)) - owned
