"""What Kafka alone can do wrong: be away, come back, and not understand its properties."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, KafkaError
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from shadow.adapters.kafka import KafkaLog
from shadow.adapters.kafka_admin import KafkaAdmin
from shadow.adapters.kafka_client import ClientLog, Health, bounds_of, check_reachable, client, consumer_properties
from shadow.errors import Unavailable, Usage
from tests.contracts.conftest import PATIENCE_S, until
from tests.services import ServiceMissing
from tests.services.kafka import ApacheKafka


@pytest.fixture
def nowhere() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def broker(kafka: ApacheKafka) -> Iterator[ApacheKafka]:
    """A broker of one test alone, since it is killed. The shared one decides whether there are any."""
    try:
        with ApacheKafka() as started:
            yield started
    except ServiceMissing as missing:
        pytest.skip(str(missing))


def test_nothing_waits_for_a_broker_that_is_away(nowhere: str) -> None:
    """
    Writing takes what fits the queue, at once, and gives it up when it is closed, each record with its error.
    """
    writer = KafkaLog({"bootstrap.servers": nowhere}).writer(queue_bytes_max=100_000)
    errors: list[str | None] = []
    began_s = time.monotonic()
    taken = 0
    while writer.write("t", 0, key=b"", value=bytes(10_000), on_delivery=lambda error, _: errors.append(error)):
        writer.poll()
        taken += 1
        assert taken <= 10
    assert time.monotonic() - began_s < 1.0
    assert taken == writer.flush(0.1)
    assert errors == []
    writer.close()
    assert taken == len(errors)
    assert None not in errors


def test_reading_from_a_broker_that_is_away_says_so(nowhere: str, capfd: pytest.CaptureFixture[str]) -> None:
    """
    An empty answer would look like an idle partition. Nothing goes to the terminal.
    """
    reader = KafkaLog({"bootstrap.servers": nowhere}).reader()
    reader.assign({("t", 0): 0})
    with pytest.raises(Unavailable, match="kafka does not answer"):
        until(lambda: reader.read(10, 0.2))
    reader.close()
    assert capfd.readouterr() == ("", "")


def test_records_that_were_fetched_do_not_hide_that_the_broker_is_away(nowhere: str) -> None:
    """
    The client tells once that no broker is left. Records of the same call may be older, so they are given out, and
    the next call without records still says it.
    """
    health = Health()
    consumer = client(Consumer, {"bootstrap.servers": nowhere, "group.id": "g"}, health)
    health.on_error(KafkaError(KafkaError._ALL_BROKERS_DOWN))
    check_reachable(consumer, health, has_records=True)
    with pytest.raises(Unavailable):
        check_reachable(consumer, health, has_records=False)
    consumer.close()


def test_records_are_delivered_once_over_a_killed_broker(broker: ApacheKafka) -> None:
    """
    The broker is killed in the middle and comes back: everything accepted stands there once, in order, and the same
    reader and writer go on.
    """
    log = KafkaLog({"bootstrap.servers": broker.bootstrap})
    admin = log.admin()
    admin.create_topics({"t": 1}, {})
    writer, reader = log.writer(), log.reader()
    reader.assign({("t", 0): 0})
    delivered: list[int] = []
    errors: list[str] = []

    def deliver(first: int, last: int) -> None:
        for number in range(first, last):
            assert writer.write(
                "t",
                0,
                key=b"",
                value=b"%d" % number,
                on_delivery=lambda error, offset: delivered.append(offset) if error is None else errors.append(error),
            )

    deliver(0, 500)
    until(lambda: writer.poll() or delivered)
    deliver(500, 1000)
    broker.kill()
    deliver(1000, 1500)
    with pytest.raises(Unavailable):
        until(lambda: reader.read(1000, 0.2) and False)
    broker.restart()
    assert writer.flush(PATIENCE_S) == 0
    assert errors == []
    assert list(range(1500)) == sorted(delivered)
    reader.assign({("t", 0): 0})
    found: list[bytes | None] = []

    def read_on() -> bool:
        try:
            found.extend(record.value for record in reader.read(1000, 0.2))
        except Unavailable:
            return False  # the reader may notice the return later than the writer
        return len(found) >= 1500

    until(read_on)
    assert [b"%d" % number for number in range(1500)] == found
    writer.close()
    reader.close()
    admin.close()


@pytest.mark.parametrize(("name", "value"), [("bootstrap.serverz", "x:1"), ("acks", "some")])
def test_properties_that_librdkafka_refuses_are_named(name: str, value: str) -> None:
    """
    One sentence with the property instead of a traceback.
    """
    with pytest.raises(Usage, match=name):
        KafkaLog({"bootstrap.servers": "x:1", name: value}).writer()


def test_the_same_line_of_the_client_is_a_warning_once(caplog: pytest.LogCaptureFixture) -> None:
    """
    A broker that is away makes several lines a second; only the first one is for people.
    """
    caplog.set_level(logging.DEBUG, "shadow.kafka")
    client_log = ClientLog()
    for _ in range(3):
        client_log.log(logging.ERROR, "%s [%s] %s", "FAIL", "rdkafka#producer-1", "Connection refused")
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.DEBUG, logging.DEBUG]


def test_a_partition_that_is_unknown_for_a_moment_is_asked_for_again(kafka: ApacheKafka) -> None:
    """
    One that is made only while the question is put is found, though librdkafka would believe for minutes that it does
    not exist; one that never comes is told of after ten seconds.
    """
    topic = f"grown-{uuid4()}"
    server = {"bootstrap.servers": kafka.bootstrap}
    admin = KafkaAdmin(server, is_embedded=False)
    admin.create_topics({topic: 1}, {})
    consumer = client(Consumer, consumer_properties(server, f"group-{uuid4()}"), Health())
    other = AdminClient(server)

    def grow() -> None:
        other.create_partitions([NewPartitions(topic, 2)])[topic].result(30)

    growing = threading.Timer(1.0, grow)
    try:
        assert (0, 0) == bounds_of(consumer, topic, 0)
        with pytest.raises(Unavailable, match=f"{topic}/1 ends: .*_UNKNOWN_PARTITION"):
            bounds_of(consumer, topic, 1)
        growing.start()
        assert (0, 0) == bounds_of(consumer, topic, 1)
    finally:
        growing.join(60)
        consumer.close()
        admin.close()
