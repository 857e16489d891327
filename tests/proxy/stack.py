"""The roles of one run as processes, started one by one through the command line, with admin ports that are known."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from shadow.adapters.avro import decode
from shadow.adapters.kafka import KafkaLog
from shadow.cli import wiring
from shadow.cli.supervise import Supervisor, shadow_command
from shadow.records.answers import Report
from shadow.records.requests import MirroredRequest
from tests.cli.conftest import CommandLine, configuration, written
from tests.flow.harness import records_of, wait_until
from tests.proxy.scrape import Account, account

ROLES = ("proxy", "worker", "comparator", "gate")
NEVER = 10_000_000
"""Pairs at which the run would be promoted: more than any test sends."""


class Stack:
    """A run on these services; topics, run and ports are its own. A context manager: all processes are stopped.

    `fallen` says which processes ended without being asked to.

    Args:
        bootstrap: Kafka, for the processes and for reading what they wrote.
        change: Changes the configuration before it is written.
    """

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        redis_url: str,
        *,
        production: int,
        candidate: int | None = None,
        log_level: str = "info",
        environment: Mapping[str, str] | None = None,
        change: Callable[[dict[str, Any]], object] = lambda tree: None,
    ) -> None:
        self.folder = folder
        self._log_level = log_level
        self.tree = configuration(bootstrap, redis_url)
        self.tree["proxy"]["upstream"] = f"http://127.0.0.1:{production}"
        self.tree["workers"]["candidate"]["url"] = f"http://127.0.0.1:{candidate or production}"
        self.tree["stages"]["shadow"]["needs"]["pairs"] = NEVER
        change(self.tree)
        self._config = written(folder, self.tree)
        self._command = CommandLine(folder)
        self._command.environment |= environment or {}
        self._supervisor = Supervisor(folder)
        self.log = KafkaLog({"bootstrap.servers": bootstrap})
        self.fallen: list[str] = []
        self.topics: dict[str, Any] = self.tree["topics"]

    def __enter__(self) -> Stack:
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.stop()

    @property
    def port(self) -> int:
        """Where the proxy serves."""
        return int(self.tree["proxy"]["listen"].rpartition(":")[2])

    @property
    def production(self) -> int:
        """Port of production itself."""
        return int(self.tree["proxy"]["upstream"].rpartition(":")[2])

    def begin(self) -> None:
        """Create the topics and begin the run."""
        done = self._command("start", "--unsafe")
        assert 0 == done.returncode, done.stderr

    def write(self) -> None:
        """Write the configuration again, after a change of `tree`; processes that start later read it."""
        written(self.folder, self.tree)

    def create_topics(self) -> None:
        """Create the topics alone, which is all that a proxy needs."""
        wiring.create_topics(wiring.settings_from(self._config), self.log)

    def start(self, *roles: str) -> None:
        """Start processes, without waiting for them."""
        for role in roles:
            command = shadow_command(role, "-c", str(self._config), "--log-level", self._log_level)
            self._supervisor.start(role, command, self._command.environment)

    def start_proxy(self) -> None:
        """Start the proxy, and wait until it serves."""
        self.start("proxy")
        self.wait_ready(["proxy"])

    def pid(self, role: str) -> int:
        return next(child.process.pid for child in self._supervisor.children if child.name == role)

    def kill(self, role: str) -> None:
        """kill -9; a role that does not run stays away."""
        for child in self._supervisor.children:
            if child.name == role:
                os.kill(child.process.pid, signal.SIGKILL)
        self._supervisor.stop([role])

    def ended(self, role: str, timeout_s: float = 60.0) -> int:
        """Ask a process to end, and wait for its exit code."""
        child = next(child for child in self._supervisor.children if child.name == role)
        child.process.send_signal(signal.SIGTERM)
        code = child.process.wait(timeout_s)
        self._supervisor.stop([role])
        return code

    def readiness(self, role: str) -> int:
        """Status of /readyz: 200 or 503; 0 where nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.tree['admin'][role]}/readyz", timeout=2):
                return 200
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def wait_ready(self, roles: Iterable[str] = ROLES) -> None:
        """Wait until these roles can work; one that ended by itself is noted in `fallen` and started again."""

        def are_ready() -> bool:
            for child in self._supervisor.children:
                if (code := child.process.poll()) is not None:
                    self.fallen.append(f"{child.name} ended with exit code {code}: {child.last_lines(1)}")
                    self._supervisor.stop([child.name])
                    self.start(child.name)
            return all(self.readiness(role) == 200 for role in roles)

        wait_until(are_ready, "all roles are ready", 120.0)

    def wait_serving(self, roles: Iterable[str]) -> None:
        """Wait until the proxy can work, and these roles have come so far as to say whether they can."""
        wait_until(lambda: all(self.readiness(role) for role in roles), "all roles answer their probes", 120.0)
        self.wait_ready(["proxy"])

    def wait_for_kafka(self) -> None:
        """Wait for a proxy's first report: from then on it knows the topic, and copies are not `kafka_down`."""
        wait_until(lambda: any(not report.is_final for _, report in self.reports()), "the proxy reaches Kafka")

    def account(self) -> Account:
        """What the proxy counted so far."""
        return account(self.tree["admin"]["proxy"])

    def settled(self, seen: int) -> Account:
        """The proxy's counters, once it has seen so many requests and what it copied stands in the topic."""

        def is_settled() -> bool:
            now = self.account()
            return now.seen >= seen and self.copies_written() >= now.delivered

        try:
            wait_until(is_settled, "every request is seen, and every copy written")
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.account()}, {self.copies_written()} written, {seen} sent") from error
        return self.account()

    def copies_written(self) -> int:
        """Records in the topic of requests."""
        with closing(self.log.admin()) as admin:
            return sum(end - first for first, end in admin.ends(self.topics["requests"]))

    def copies(self) -> list[tuple[int, MirroredRequest]]:
        """Partition and copy, in log order."""
        return [(record.partition, decode(record.value)) for record in records_of(self.log, self.topics["requests"])]

    def reports(self) -> list[tuple[int, Report]]:
        """Partition and report of every proxy, in log order."""
        found = [(record.partition, decode(record.value)) for record in records_of(self.log, self.topics["answers"])]
        return [(partition, each) for partition, each in found if isinstance(each, Report)]

    def final_reports(self) -> list[tuple[int, Report]]:
        """Partition and report of every proxy that has drained."""
        return [(partition, report) for partition, report in self.reports() if report.is_final]
