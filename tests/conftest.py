"""Services for the tests: started when a test first asks, once per session, and named at the end of the run."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from shadow.adapters import embedded
from shadow.adapters.embedded import EmbeddedBroker, EmbeddedMissing, EmbeddedStore
from tests.services import ServiceMissing, unavailable
from tests.services.kafka import ApacheKafka, java_program, java_version
from tests.services.redis import RedisServer

_versions = pytest.StashKey[dict[str, str]]()

LONG = (
    "cli/test_start",
    "proxy/failopen",
    "proxy/fuzz/test_fuzz",
    "test_wheel",
    "chaos",
    "answers",
    "cli",
    "proxy",
    "flow",
    "replay",
    "calibration",
    "gate_process",
    "people",
    "offline",
    "notifier",
    "training",
    "feedback",
)
"""Beginnings of the files that take minutes. They come first, so that no test process is left alone with one."""


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of the tests are not remembered among the user's own."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Iterator[ApacheKafka]:
    """A real Apache Kafka. Tests share it: name topics and groups so that they cannot meet."""
    server = ApacheKafka()
    try:
        server.start()
    except ServiceMissing as missing:
        unavailable("Apache Kafka", str(missing), os.environ)
    with_java = f"{server.version} (Java {java_version(java_program())})"
    used(request.config)["Apache Kafka"] = with_java
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A real redis-server. Tests share it: a test that kills or empties one starts its own."""
    server = RedisServer()
    try:
        server.start()
    except ServiceMissing as missing:
        unavailable("redis-server", str(missing), os.environ)
    used(request.config)["redis-server"] = server.version
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def embedded_broker(request: pytest.FixtureRequest) -> Iterator[EmbeddedBroker]:
    """The embedded broker. Tests share it, as they share Kafka."""
    server = EmbeddedBroker()
    try:
        server.start()
    except EmbeddedMissing as missing:
        unavailable("embedded broker", str(missing), os.environ)
    used(request.config)["embedded broker"] = server.version
    with server:
        yield server


@pytest.fixture(scope="session")
def embedded_store(request: pytest.FixtureRequest) -> Iterator[EmbeddedStore]:
    """The embedded store. Tests share it, as they share redis-server."""
    server = EmbeddedStore()
    try:
        server.start()
    except EmbeddedMissing as missing:
        unavailable("embedded store", str(missing), os.environ)
    used(request.config)["embedded store"] = server.version
    with server:
        yield server


def used(config: pytest.Config) -> dict[str, str]:
    """Versions of the services that this session really started, by name."""
    return config.stash.setdefault(_versions, {})


def pytest_configure(config: pytest.Config) -> None:
    """Keep the test processes that run side by side from choosing one port for two servers."""
    if worker := getattr(config, "workerinput", None):
        place, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
        embedded.take_ports_from(range(15_000 + place, 32_000, count))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""
    root = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(root).as_posix() if item.path.is_relative_to(root) else ""
        return next((number for number, start in enumerate(LONG) if path.startswith(start)), len(LONG))

    items.sort(key=place)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that reports which services this one started."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["services"] = used(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Remember what a test process that ends has started."""
    used(node.config).update(getattr(node, "workeroutput", {}).get("services", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what the results were got with."""
    client = f"{confluent_kafka.__version__} (librdkafka {confluent_kafka.libversion()[0]})"
    versions = {**used(config), "confluent-kafka": client, "Python": platform.python_version()}
    terminalreporter.write_line("services: " + ", ".join(f"{name} {version}" for name, version in versions.items()))
