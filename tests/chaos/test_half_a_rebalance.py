"""P17: a member that dies between the two halves of a rebalance leaves no partition without an owner."""

from __future__ import annotations

import subprocess
import sys
import uuid

from shadow.adapters.kafka import KafkaLog
from shadow.ports import LogGroup
from tests.flow.harness import wait_until
from tests.services.kafka import ApacheKafka

SESSION = {"session.timeout.ms": "6000"}

# Dies where it has been told to give a partition up, and nobody else has been given it yet.
DYING = """
import os, signal, sys
from shadow.adapters.kafka import KafkaLog
bootstrap, topic = sys.argv[1:]
group = KafkaLog({"bootstrap.servers": bootstrap}).group(
    topic, topic, member="first",
    on_assigned=lambda found: print(*found, flush=True) or dict.fromkeys(found, 0),
    on_revoked=lambda taken: os.kill(os.getpid(), signal.SIGKILL),
)
while True:
    group.read(10, 0.1)
"""


class Member:
    """A member of the group in this process, and what it owns."""

    def __init__(self, bootstrap: str, topic: str, name: str) -> None:
        self.owned: set[int] = set()
        log = KafkaLog({"bootstrap.servers": bootstrap, **SESSION})
        self.group: LogGroup = log.group(
            topic, topic, member=name, on_assigned=self._take, on_revoked=self.owned.difference_update
        )

    def _take(self, partitions: list[int]) -> dict[int, int]:
        self.owned.update(partitions)
        return dict.fromkeys(partitions, 0)


def test_p17_half_a_rebalance_is_finished(kafka: ApacheKafka) -> None:
    """
    P17: a member dies while it hands a partition over, and comes back before its session has ended: the broker gives
    it the rest of what it had, and asks nobody for the other half. The members notice, and share everything again.
    """
    topic = f"half-{uuid.uuid4().hex[:8]}"
    admin = KafkaLog({"bootstrap.servers": kafka.bootstrap}).admin()
    admin.create_topics({topic: 2}, {})
    admin.close()
    dying = subprocess.Popen([sys.executable, "-c", DYING, kafka.bootstrap, topic], stdout=subprocess.PIPE, text=True)
    members: list[Member] = []
    try:
        assert dying.stdout is not None
        assert "0 1" == dying.stdout.readline().strip()
        members.append(Member(kafka.bootstrap, topic, "second"))

        def is_dead() -> bool:
            members[0].group.read(10, 0.1)
            return dying.poll() is not None

        wait_until(is_dead, "the first member dies while it gives a partition up", 30)
        members.append(Member(kafka.bootstrap, topic, "first"))

        def are_shared() -> bool:
            for member in members:
                member.group.read(10, 0.1)
            return {0, 1} == members[0].owned | members[1].owned

        wait_until(are_shared, "both partitions have an owner", 30)
        assert not members[0].owned & members[1].owned
    finally:
        dying.kill()
        dying.wait()
        assert dying.stdout is not None
        dying.stdout.close()
        for member in members:
            member.group.close()
