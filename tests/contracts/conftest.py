"""What each contract test runs on: the fakes, the embedded services, and the real ones."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from shadow.adapters.embedded import free_port
from shadow.adapters.kafka import KafkaLog
from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.memory_store import MemoryStore
from shadow.adapters.redis import RedisStore
from shadow.ports import Log, LogAdmin, LogGroup, LogReader, LogWriter, Store
from shadow.records.log import LogRecord
from tests.services.redis import RedisServer

PATIENCE_S = 30.0
GROUP = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "300"}
"""Short, since a static member's partitions are free only after its session, and a rebalance waits for heartbeats."""
_numbers = itertools.count()


def until(condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> None:
    """Call until the result is true; a test that waits longer than it should says so."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"did not come true within {timeout_s:g} s"


@dataclass
class SharedLog:
    """One log with what all its tests may share; a producer's or a client's start costs half a second."""

    kind: str
    log: Log
    truncate: Callable[[str, int, int], None] | None

    def __post_init__(self) -> None:
        self.admin: LogAdmin = self.log.admin()
        self.writer: LogWriter = self.log.writer()

    def close(self) -> None:
        self.writer.close()
        self.admin.close()


@dataclass
class LogCase:
    """One log under test; everything opened through it is closed after the test."""

    shared: SharedLog
    handles: ExitStack

    @property
    def kind(self) -> str:
        return self.shared.kind

    @property
    def log(self) -> Log:
        return self.shared.log

    @property
    def admin(self) -> LogAdmin:
        return self.shared.admin

    @property
    def truncate(self) -> Callable[[str, int, int], None] | None:
        return self.shared.truncate

    def opened(self, handle: Any) -> Any:
        self.handles.callback(handle.close)
        return handle

    def topic(self, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        """A new topic of a name that nobody used before."""
        name = f"contract-{next(_numbers)}-{uuid.uuid4().hex[:8]}"
        self.admin.create_topics(
            {name: partitions}, {name: {"message.timestamp.type": "LogAppendTime", **(config or {})}}
        )
        return name

    def writer(self, **options: Any) -> LogWriter:
        writer: LogWriter = self.opened(self.log.writer(**options))
        return writer

    def reader(self, positions: Mapping[tuple[str, int], int]) -> LogReader:
        reader: LogReader = self.opened(self.log.reader())
        reader.assign(positions)
        return reader

    def group(
        self,
        topic: str,
        group: str,
        member: str = "m1",
        on_assigned: Callable[[list[int]], Mapping[int, int] | None] = lambda partitions: None,
        on_revoked: Callable[[list[int]], None] = lambda partitions: None,
    ) -> LogGroup:
        joined: LogGroup = self.opened(
            self.log.group(topic, group, member=member, on_assigned=on_assigned, on_revoked=on_revoked)
        )
        return joined

    def append(self, topic: str, values: Sequence[bytes], partition: int = 0) -> list[int]:
        """Write and wait for the acknowledgements; returns the offsets."""
        writer = self.shared.writer
        done: list[tuple[str | None, int]] = []
        for value in values:
            assert writer.write(
                topic, partition, key=b"k", value=value, on_delivery=lambda error, offset: done.append((error, offset))
            )
        assert writer.flush(PATIENCE_S) == 0
        assert [error for error, _ in done if error is not None] == []
        return [offset for _, offset in done]

    def read(self, source: LogReader | LogGroup, records: int) -> list[LogRecord]:
        """Read until there are so many records."""
        found: list[LogRecord] = []
        until(lambda: found.extend(source.read(1000, 0.2)) or len(found) >= records)
        return found


def _kafka_truncate(bootstrap: str) -> Callable[[str, int, int], None]:
    def truncate(topic: str, partition: int, before: int) -> None:
        client = AdminClient({"bootstrap.servers": bootstrap})
        for future in client.delete_records([TopicPartition(topic, partition, before)]).values():
            future.result(PATIENCE_S)

    return truncate


@pytest.fixture(scope="session", params=["memory", "embedded", "kafka"])
def shared_log(request: pytest.FixtureRequest) -> Iterator[SharedLog]:
    """The log under test, once per session."""
    if request.param == "memory":
        memory = MemoryLog(lambda: time.time_ns() // 1000)
        shared = SharedLog("memory", memory, memory.truncate)
    elif request.param == "embedded":
        bootstrap = request.getfixturevalue("embedded_broker").bootstrap
        shared = SharedLog("embedded", KafkaLog({"bootstrap.servers": bootstrap, **GROUP}, is_embedded=True), None)
    else:
        bootstrap = request.getfixturevalue("kafka").bootstrap
        log = KafkaLog({"bootstrap.servers": bootstrap, **GROUP})
        shared = SharedLog("kafka", log, _kafka_truncate(bootstrap))
    yield shared
    shared.close()


@pytest.fixture
def case(shared_log: SharedLog) -> Iterator[LogCase]:
    """One test's view of it."""
    with ExitStack() as handles:
        yield LogCase(shared_log, handles)


@pytest.fixture(params=["memory", "embedded", "redis", "cluster"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """The store under test."""
    found: Store
    if request.param == "memory":
        found = MemoryStore()
    elif request.param == "embedded":
        found = RedisStore(request.getfixturevalue("embedded_store").url)
    elif request.param == "redis":
        found = RedisStore(request.getfixturevalue("redis_server").url)
    else:
        found = RedisStore(request.getfixturevalue("redis_cluster").url + "?cluster=true")
    yield found
    found.close()


@pytest.fixture(scope="session")
def redis_cluster(redis_server: RedisServer) -> Iterator[RedisServer]:
    """A Redis Cluster of one node, which owns all hash slots."""
    # Where no port is named for the bus, it is ten thousand above: one of those that the system gives to clients.
    cluster = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with RedisServer(arguments=cluster) as node, redis.Redis.from_url(node.url) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO", NEVER_DECODE=True))
        yield node


@pytest.fixture
def slot() -> str:
    """A slot that nobody used before."""
    return f"run-{uuid.uuid4().hex[:8]}/{next(_numbers)}"
