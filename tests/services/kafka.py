"""Run one real Apache Kafka node (KRaft, broker and controller in one process)."""

from __future__ import annotations

import base64
import logging
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata  # type: ignore[attr-defined]

from shadow.adapters.embedded import LOOPBACK, ServerProcess, free_port
from tests.services import ServiceMissing
from tests.services.jars import RECIPE, VERSION, kafka_jars
from tests.services.server import Server

_JAVA_MIN = 17
_SERVES_S = 240.0  # a broker among many processes on few cores takes minutes, and then serves

# The two broker.* times: a broker that was killed serves again after about 7 s; with the defaults only after 12 s,
# because the controller waits for the dead registration's session to end. With less than this a node that waits for a
# core among other tests is given up by its own controller.
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.session.timeout.ms": "4000",
    "broker.heartbeat.interval.ms": "500",
    "message.max.bytes": "8388608",
    "replica.fetch.max.bytes": "8388608",
}

# The client reports every refused connection while the node starts; waiting for it is what we do.
_silent = logging.getLogger("tests.services.kafka.client")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class ApacheKafka(Server):
    """One node in a directory of its own, on free loopback ports; a context manager.

    Records survive `kill` and `restart`; `stop` removes them.

    Args:
        settings: Broker settings by name, added to ours or in their place.
        cluster_id: Id that it shares with other nodes, whose `controller.quorum.voters` stand in the settings; None:
            it is alone.
        port: Of the broker; None for a free one.
        is_measured: Whether its speed matters. Java then compiles what runs often a second time, which costs a broker
            that lives for a minute more than half of its CPU time.

    Raises:
        ServiceMissing: If Java or the jars cannot be had (at start).
        Unavailable: If the node does not serve (at start).
    """

    version = VERSION

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        cluster_id: str | None = None,
        port: int | None = None,
        is_measured: bool = False,
    ) -> None:
        super().__init__("kafka", stop_s=15.0)
        self._settings = dict(settings or {})
        self._cluster_id = cluster_id
        self._wanted_port = port
        self._java = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC"] + ([] if is_measured else ["-XX:TieredStopAtLevel=1"])
        self._port = 0

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    def start(self) -> Self:
        """Format a new directory, start, and wait until it serves."""
        super().start()
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self) -> Self:
        """Format a new directory and start, without waiting until it serves: a cluster needs several for that."""
        return super().start()

    def wait(self) -> None:
        """Wait until it serves.

        Raises:
            Unavailable: If it ended, or does not serve within four minutes.
        """
        if self._process is not None:
            self._process.wait_until(self._serves, timeout_s=_SERVES_S)

    def restart(self) -> None:
        """Start again on the same directory and port; stops it first where it runs."""
        if self._process is not None:
            self._process.stop(timeout_s=self._stop_s)
        self._run(java_program(), kafka_jars())
        self.wait()

    def _launch(self) -> None:
        java, libs = java_program(), kafka_jars()
        self._port = self._wanted_port or free_port()
        self._write_settings(free_port())
        self._format(java, libs)
        self._run(java, libs)

    def _write_settings(self, controller_port: int) -> None:
        broker, controller = self.bootstrap, f"{LOOPBACK}:{controller_port}"
        alone = {"controller.quorum.bootstrap.servers": controller} if self._cluster_id is None else {}
        settings = {
            **_SETTINGS,
            **alone,
            "listeners": f"PLAINTEXT://{broker},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{broker}",
            "log.dirs": str(self.directory / "data"),
            **self._settings,
        }
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (self.directory / "server.properties").write_text("".join(lines))

    def _format(self, java: str, libs: Path) -> None:
        """Give the data directory its cluster id."""
        command = [java, "-XX:TieredStopAtLevel=1", "-cp", f"{libs}/*", "kafka.tools.StorageTool", "format"]
        identity = ["--standalone", "-t", new_cluster_id()] if self._cluster_id is None else ["-t", self._cluster_id]
        done = subprocess.run(
            [*command, *identity, "-c", str(self.directory / "server.properties")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
        )
        if done.returncode != 0:
            raise RuntimeError(f"Kafka's format ended with code {done.returncode}: {done.stdout.decode()[-500:]}")

    def _run(self, java: str, libs: Path) -> None:
        logs = f"-Dlog4j2.configurationFile={RECIPE / 'log4j2.yaml'}"
        self._process = ServerProcess(
            [java, *self._java, logs, "-cp", f"{libs}/*", "kafka.Kafka", str(self.directory / "server.properties")],
            log_path=self.directory / "server.log",
            cwd=self.directory,
        )

    def _serves(self) -> bool:
        """Whether the port answers, and every partition has the node as its leader.

        A node that was killed answers before the controller has let it in again; it leads nothing until then.
        """
        try:
            socket.create_connection((LOOPBACK, self._port), timeout=1.0).close()
            metadata = metadata_of(self.bootstrap, 2.0)
        except (OSError, KafkaException):
            return False
        leaders = {part.leader for topic in metadata.topics.values() for part in topic.partitions.values()}
        return self._port in {broker.port for broker in metadata.brokers.values()} and leaders <= set(metadata.brokers)


def metadata_of(bootstrap: str, timeout_s: float) -> ClusterMetadata:
    """Brokers, topics and leaders. Raises KafkaException where nobody answers."""
    return AdminClient({"bootstrap.servers": bootstrap}, logger=_silent).list_topics(timeout=timeout_s)


def java_program() -> str:
    """Path of a Java that can run it.

    Raises:
        ServiceMissing: If there is none, or it is older than 17.
    """
    java = shutil.which("java")
    if java is None:
        raise ServiceMissing(f"Java is not installed; Kafka {VERSION} needs {_JAVA_MIN} or newer")
    version = java_version(java)
    if int(version.partition(".")[0]) < _JAVA_MIN:
        raise ServiceMissing(f"Java is {version}; Kafka {VERSION} needs {_JAVA_MIN} or newer")
    return java


@cache
def java_version(java: str) -> str:
    """Version of a Java program, as in `17.0.15`; `0` where it does not tell."""
    done = subprocess.run([java, "-version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    found = re.search(rb'version "([0-9.]+)', done.stderr)
    return found.group(1).decode() if found else "0"


def new_cluster_id() -> str:
    """16 random bytes as Kafka writes them; a leading dash would be read as an option."""
    text = "-"
    while text.startswith("-"):
        text = base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")
    return text
