"""One component of a running stack goes away in every way, one after the other, while clients go on asking.

    down at start | started | undisturbed | killed  | restarted | stopped | continued
    away            comes     there         SIGKILL   comes       SIGSTOP   SIGCONT

A phase ends after so many answers, and once what comes is there; `stopped` lasts
so long besides.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shadow.adapters.embedded import free_port
from shadow.cli.demo import wait_for_ports
from shadow.cli.supervise import Supervisor
from shadow.records.answers import Report
from shadow.records.requests import MirroredRequest
from tests.proxy.load import Load, Phase
from tests.proxy.scrape import NOTHING, Account, Scraper
from tests.proxy.stack import ROLES, Stack

AWAY = ("down at start", "killed", "stopped")
PHASES = ("down at start", "started", "undisturbed", "killed", "restarted", "stopped", "continued")


class Component(Protocol):
    """Something that may be away."""

    @property
    def pid(self) -> int | None: ...

    def kill(self) -> None:
        """End it at once, where it runs."""
        ...

    def restart(self) -> None: ...


class Role:
    """One of our own processes as a component."""

    def __init__(self, stack: Stack, name: str) -> None:
        self._stack = stack
        self._name = name

    @property
    def pid(self) -> int:
        return self._stack.pid(self._name)

    def kill(self) -> None:
        self._stack.kill(self._name)

    def restart(self) -> None:
        self._stack.start(self._name)


@dataclass(frozen=True, slots=True)
class Pace:
    """How much happens in each phase."""

    rate: float = 150.0
    answers: int = 200
    stopped_s: float = 5.0


@dataclass(slots=True)
class Timeline:
    """What was seen from outside, and what stands in the log.

    Args:
        phases: Requests through the proxy.
        direct: Requests to production itself at the same time: what the machine does to everybody.
        sent: Requests in all through the proxy.
        failures: Of any phase, and of the moments between two.
        fallen: Our processes that ended by themselves.
        accounts: At every scrape, in order.
        final: After the last request.
        exit_code: Of the proxy, asked to end.
    """

    component: str
    phases: dict[str, Phase] = field(default_factory=dict)
    direct: dict[str, Phase] = field(default_factory=dict)
    sent: int = 0
    failures: list[str] = field(default_factory=list)
    fallen: list[str] = field(default_factory=list)
    accounts: list[Account] = field(default_factory=list)
    final: Account = NOTHING
    copies: list[tuple[int, MirroredRequest]] = field(default_factory=list)
    reports: list[tuple[int, Report]] = field(default_factory=list)
    exit_code: int = -1

    def ratio(self, phase: str) -> float:
        """p99 of a phase by that of the undisturbed one, through the proxy."""
        return self.phases[phase].p99_ms / self.phases["undisturbed"].p99_ms

    def shown(self) -> str:
        """One line a phase."""
        lines = [f"{self.component}: {self.sent} requests, {self.final}"]
        for name, phase in self.phases.items():
            counts = f"{len(phase.latencies_s):6} answers, {len(phase.failures)} failures"
            p99 = f"p99 {phase.p99_ms:.1f} ms ({self.ratio(name):.2f}), directly {self.direct[name].p99_ms:.1f} ms"
            lines.append(f"  {name:14} {counts}, {p99}")
        return "\n".join(lines)


@contextmanager
def models(folder: Path) -> Iterator[tuple[int, int]]:
    """Production and candidate as processes; their ports."""
    ports = free_port(), free_port()
    with Supervisor(folder) as supervisor:
        for name, port in zip(("production", "candidate"), ports, strict=True):
            supervisor.start(name, [sys.executable, "-m", "tests.flow.doubling", "--port", str(port)])
        wait_for_ports(ports, supervisor)
        yield ports


def play(name: str, stack: Stack, component: Component, pace: Pace) -> Timeline:
    """Play the whole timeline on a stack whose run has begun and of which no process runs."""
    timeline = Timeline(name)
    component.kill()
    others = [role for role in ROLES if role != name]
    stack.start(*others)
    stack.wait_serving(others)
    if name != "kafka":
        stack.wait_for_kafka()
    with (
        Load(stack.production, rate=pace.rate / 3, connections=2) as direct,
        Load(stack.port, rate=pace.rate) as load,
        Scraper(stack.tree["admin"]["proxy"]) as scraper,
    ):
        _play_phases(timeline, stack, component, pace, load, direct)
    timeline.sent = load.answered
    timeline.final = stack.settled(load.answered)
    timeline.failures, timeline.fallen = load.failures, stack.fallen
    timeline.accounts = scraper.accounts
    timeline.exit_code = stack.ended("proxy")
    timeline.copies = stack.copies()
    timeline.reports = stack.final_reports()
    print("\n" + timeline.shown())
    return timeline


def _play_phases(timeline: Timeline, stack: Stack, component: Component, pace: Pace, load: Load, direct: Load) -> None:
    @contextmanager
    def phase(name: str) -> Iterator[None]:
        with load.phase() as timeline.phases[name], direct.phase() as timeline.direct[name]:
            yield
            load.more(pace.answers)

    with phase("down at start"):
        pass
    with phase("started"):
        component.restart()
        stack.wait_ready()
    with phase("undisturbed"):
        pass
    with phase("killed"):
        component.kill()
    with phase("restarted"):
        component.restart()
        stack.wait_ready()
    with phase("stopped"):
        pid = component.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        time.sleep(pace.stopped_s)
    with phase("continued"):
        os.kill(pid, signal.SIGCONT)
        stack.wait_ready()
