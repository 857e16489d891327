"""Looking at a group for partitions that nobody owns, on a real broker."""

from __future__ import annotations

import subprocess
import sys
from uuid import uuid4

import pytest

from shadow.adapters.kafka import KafkaLog
from shadow.adapters.kafka_group import KafkaGroup
from shadow.adapters.kafka_orphans import Orphans
from tests.contracts.conftest import until
from tests.services.kafka import ApacheKafka

PARTITIONS = 3

LOOKS = """
import sys, time
from shadow.adapters.kafka_orphans import Orphans

orphans = Orphans({"bootstrap.servers": sys.argv[1]}, *sys.argv[2:4], every_s=0.0)
while True:
    orphans.found(1, "nobody")
    time.sleep(0.005)
"""
"""A process that does nothing but look."""


def topic_of(kafka: ApacheKafka) -> str:
    """A new topic."""
    topic = f"orphans-{uuid4().hex[:8]}"
    admin = KafkaLog({"bootstrap.servers": kafka.bootstrap}).admin()
    admin.create_topics({topic: PARTITIONS}, {})
    admin.close()
    return topic


def looks(orphans: Orphans, member_id: str) -> list[frozenset[int]]:
    """What four looks in a row found."""
    found: list[frozenset[int]] = []

    def look() -> bool:
        was_asked = orphans._asked is not None
        partitions = orphans.found(PARTITIONS, member_id)
        if was_asked and orphans._asked is None:
            found.append(partitions)
        return len(found) == 4

    until(look)
    return found


def test_partitions_without_an_owner_are_found_at_the_second_look(kafka: ApacheKafka) -> None:
    """
    A group owns its own topic and nothing of another one; what nobody owns at two looks is found, then suspected anew.
    """
    topic, another = topic_of(kafka), topic_of(kafka)
    properties = {"bootstrap.servers": kafka.bootstrap}
    assigned: list[int] = []

    def on_assigned(found: list[int]) -> dict[int, int]:
        assigned.extend(found)
        return dict.fromkeys(found, 0)

    group = KafkaLog(properties).group(topic, topic, member="m", on_assigned=on_assigned, on_revoked=lambda _: None)
    assert isinstance(group, KafkaGroup)
    try:
        until(lambda: group.read(1, 0.1) or len(assigned) == PARTITIONS)
        everything, nothing = frozenset(range(PARTITIONS)), frozenset[int]()
        member_id = group._consumer.memberid() or ""
        assert member_id.startswith("m-")
        assert [nothing] * 4 == looks(Orphans(properties, topic, topic, every_s=0.0), member_id)
        orphans = Orphans(properties, another, topic, every_s=0.0)
        assert [nothing, everything, nothing, everything] == looks(orphans, member_id)
        assert [nothing] * 4 == looks(orphans, "another member acts")
    finally:
        group.close()


def test_looking_survives_a_broker_that_dies_and_comes_back(kafka: ApacheKafka) -> None:
    """
    librdkafka's newer question aborts the process as soon as the broker is back.
    """
    with ApacheKafka() as broker:
        topic = topic_of(broker)
        command = [sys.executable, "-c", LOOKS, broker.bootstrap, topic, topic]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                for _ in range(2):
                    broker.kill()
                    broker.restart()
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(3)
            finally:
                process.kill()
            assert process.stderr is not None
            assert "Assertion" not in process.stderr.read()
