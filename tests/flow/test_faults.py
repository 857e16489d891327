"""Services killed, emptied and restarted under traffic: no live request fails, and every count is right afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from shadow.adapters.avro import decode, encode
from shadow.adapters.kafka import KafkaLog
from shadow.cli.demo import wait_for_ports
from shadow.errors import Unavailable
from shadow.ports import LogGroup
from shadow.records.answers import Tick
from tests.flow.harness import records_of, wait_until
from tests.flow.machine import PARTITIONS, Machine
from tests.flow.traffic import Traffic
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer


@pytest.fixture
def broker(kafka: ApacheKafka) -> Iterator[ApacheKafka]:
    """A Kafka of one test alone, since it is killed. The shared one decides whether there are any."""
    with ApacheKafka() as started:
        yield started


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisServer]:
    """A durable redis-server of one test alone."""
    with RedisServer(is_durable=True, arguments=("--appendfsync", "always")) as started:
        yield started


def play(machine: Machine, fault: Callable[[Traffic], None]) -> Traffic:
    """Let a fault happen while requests flow, then let everything settle."""
    machine.start()
    wait_for_ports(machine.ports.values(), machine.supervisor)
    wait_until(lambda: all(machine.head(partition) for partition in range(PARTITIONS)), "the first checkpoint")
    with Traffic(machine.ports["proxy"]) as traffic:
        traffic.more(300)
        fault(traffic)
        traffic.more(300)
    machine.supervisor.stop(["proxy"])  # drains, and writes the last reports
    machine.settle()
    machine.supervisor.check()
    machine.supervisor.stop()
    return traffic


def check(machine: Machine, traffic: Traffic) -> int:
    """No request failed, each is in a class or counted as dropped, a refold agrees; returns the dropped ones."""
    present = dropped = seen = 0
    for partition in range(PARTITIONS):
        stored, offline = machine.stored(partition), machine.offline(partition)
        assert offline == stored
        account = stored[2]
        assert account.lost == 0
        seen += account.seen
        present += account.present
        dropped += sum(account.dropped.values())
    assert {200: traffic.sent} == traffic.statuses
    assert traffic.sent == seen == present + dropped
    assert present == sum(machine.classes().values())
    print(f"{traffic.sent} sent, {present} classified, {dropped} dropped")
    return dropped


def test_redis_killed_and_restarted(tmp_path: Path, kafka: ApacheKafka, store: RedisServer) -> None:
    """
    redis-server dies while requests flow and comes back with what it had acknowledged: nothing is lost or doubled.
    """

    def fault(traffic: Traffic) -> None:
        store.kill()
        traffic.more(300)
        store.restart()

    with Machine(tmp_path, kafka.bootstrap, store.url) as machine:
        assert check(machine, play(machine, fault)) == 0


def test_redis_emptied(tmp_path: Path, kafka: ApacheKafka, store: RedisServer) -> None:
    """
    FLUSHALL while requests flow: the comparator rebuilds everything from the log, closed tiles included.
    """
    with Machine(tmp_path, kafka.bootstrap, store.url) as machine:

        def fault(traffic: Traffic) -> None:
            wait_until(lambda: machine.closed() > 2, "some tiles are closed")
            with redis.Redis.from_url(store.url) as connection:
                connection.flushall()

        assert check(machine, play(machine, fault)) == 0


def test_kafka_killed_and_restarted(tmp_path: Path, broker: ApacheKafka, redis_server: RedisServer) -> None:
    """
    The broker dies while requests flow and comes back: members that it forgot join again, copies wait or are counted.
    """

    def fault(traffic: Traffic) -> None:
        broker.kill()
        traffic.more(300)
        broker.restart()

    with Machine(tmp_path, broker.bootstrap, redis_server.url) as machine:
        check(machine, play(machine, fault))


def test_a_fenced_member_joins_again(kafka: ApacheKafka) -> None:
    """
    A member that another process pushed out, or a restarted broker forgot, says so, joins again by itself and reads
    on where it says, although its partition was paused before.
    """
    log = KafkaLog({"bootstrap.servers": kafka.bootstrap})
    topic = f"fenced-{uuid.uuid4().hex[:8]}"
    admin, writer = log.admin(), log.writer()
    admin.create_topics({topic: 1}, {})
    writer.write(topic, 0, key=b"", value=b"a")
    assert 0 == writer.flush(10)
    revoked: list[int] = []

    def member() -> LogGroup:
        return log.group(
            topic, topic, member="m", on_assigned=lambda found: dict.fromkeys(found, 0), on_revoked=revoked.extend
        )

    first = member()
    wait_until(lambda: bool(first.read(10, 0.1)), "the first member reads")
    first.pause([0])
    second = member()
    wait_until(lambda: bool(second.read(10, 0.1)), "the second member reads")
    with pytest.raises(Unavailable, match="joining again"):
        wait_until(lambda: bool(first.read(10, 0.1)), "the first member is fenced")
    second.close()

    def reads() -> bool:
        try:
            return bool(first.read(10, 0.1))
        except Unavailable:
            return False

    wait_until(reads, "the first member reads again", timeout_s=30)
    assert [0, 0] == revoked
    first.close()
    writer.close()
    admin.close()


def garbage(machine: Machine, topic: str, partition: int) -> list[bytes | None]:
    """Values that cannot be read, or do not belong into this topic and partition."""
    records = records_of(machine.log, topic)
    mine = next(record.value for record in records if record.partition == partition)
    tick = encode(Tick(machine.started.run if machine.started else ""))
    values: list[bytes | None] = [None, b"", b"\xc3\x01" + bytes(8) + b"x", mine + b"!", mine[:-3], b"{" * 50]
    return [*values, tick] if topic == machine.settings.topics.requests else values


def test_foreign_records_are_put_aside_once(tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer) -> None:
    """
    Garbage of several kinds in both topics under traffic: each once among the dead letters with error and position,
    the partitions go on, and a refold of the same log agrees.
    """
    with Machine(tmp_path, kafka.bootstrap, redis_server.url) as machine:
        topics = machine.settings.topics
        written: set[tuple[str, int, int]] = set()

        def fault(traffic: Traffic) -> None:
            writer = machine.log.writer()
            for topic in (topics.requests, topics.answers):
                for partition in range(PARTITIONS):
                    wait_until(
                        lambda t=topic, p=partition: machine.log.admin().ends(t)[p][1] > 0, "the partition has records"
                    )
                    for value in garbage(machine, topic, partition):
                        writer.write(
                            topic,
                            partition,
                            key=b"garbage",
                            value=value,
                            on_delivery=lambda error, offset, t=topic, p=partition: written.add((t, p, offset)),
                        )
            assert 0 == writer.flush(10)
            writer.close()

        machine.start()
        wait_for_ports(machine.ports.values(), machine.supervisor)
        with Traffic(machine.ports["proxy"]) as traffic:
            traffic.more(200)
            fault(traffic)
            traffic.more(200)
        machine.supervisor.stop(["proxy"])
        machine.settle()
        machine.supervisor.check()
        machine.supervisor.stop()
        for partition in range(PARTITIONS):
            assert machine.offline(partition) == machine.stored(partition)
        letters = [decode(record.value) for record in records_of(machine.log, topics.dead_letters)]
    assert {200: traffic.sent} == traffic.statuses
    assert len(written) == 26
    assert sorted(written) == sorted((each.topic, each.partition, each.offset) for each in letters)
    assert all(each.error for each in letters)
