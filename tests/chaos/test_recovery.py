"""P17: how long recovery takes, and how fresh the counts are: measured and printed, for docs/benchmarks.md."""

from __future__ import annotations

import bisect
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from shadow.cli.demo import wait_for_ports
from tests.chaos.offline import check_offline, wait_for_gate
from tests.flow.harness import wait_until
from tests.flow.machine import PARTITIONS, Machine
from tests.flow.traffic import Traffic
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

RATE = int(os.environ.get("SHADOW_RATE", "1000"))
SPAN_S = 20.0
LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from a harm until what stood in the log just after it is decided, and until the lag is as usual."""

    decided_s: float
    usual_s: float
    largest: int

    def __str__(self) -> str:
        return (
            f"decided what stood in the log after {self.decided_s:.1f} s, caught up after {self.usual_s:.1f} s; "
            f"lag up to {self.largest} requests"
        )


class Lag:
    """Requests in the log that the stored snapshots do not stand behind yet."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._admin = machine.log.admin()

    def now(self) -> int:
        """Of all partitions."""
        ends = self._admin.ends(self._machine.settings.topics.requests)
        return sum(end for _, end in ends) - sum(self._bases())

    def usual(self, seconds: float) -> int:
        """The largest while nothing is wrong."""
        end_s = time.monotonic() + seconds
        largest = 0
        while time.monotonic() < end_s:
            largest = max(largest, self.now())
            time.sleep(LOOK_S)
        return largest

    def recovery(self, harm: Callable[[], None], usual: int) -> Recovery:
        """Do harm, and look until the lag is as usual again."""
        began_s = time.monotonic()
        harm()
        ends = [end for _, end in self._admin.ends(self._machine.settings.topics.requests)]
        largest = 0

        def is_decided() -> bool:
            nonlocal largest
            largest = max(largest, self.now())
            return all(base >= end for base, end in zip(self._bases(), ends, strict=True))

        def is_usual() -> bool:
            nonlocal largest
            now = self.now()
            largest = max(largest, now)
            return now <= usual

        wait_until(is_decided, "what stood in the log is decided", 240)
        decided_s = time.monotonic() - began_s
        wait_until(is_usual, "the lag is as usual again", 240)
        return Recovery(decided_s, time.monotonic() - began_s, largest)

    def _bases(self) -> list[int]:
        return [self._machine.head(each)["comparisons"]["candidate-production"]["base"] for each in range(PARTITIONS)]

    def close(self) -> None:
        self._admin.close()


def freshness(machine: Machine, traffic: Traffic, seconds: float) -> list[float]:
    """Seconds from a request's answer until it is in the running counts, one for each look at the clients."""
    answered: list[tuple[float, int]] = []
    visible: list[tuple[float, int]] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(LOOK_S / 2):
            answered.append((time.monotonic(), traffic.sent))

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        visible.append((time.monotonic(), sum(machine.classes().values())))
        time.sleep(LOOK_S)
    is_over.set()
    watching.join(10)
    counts = [count for _, count in visible]
    found = []
    for at_s, count in answered:
        place = bisect.bisect_left(counts, count)
        if place < len(visible):
            found.append(max(0.0, visible[place][0] - at_s))
    return sorted(found)


def rebuild_s(machine: Machine, store: RedisServer, lag: Lag) -> float:
    """Seconds that one comparator takes, from its start, to count the whole log again with an empty store."""
    machine.supervisor.stop([*machine.comparators, "gate"])
    with redis.Redis.from_url(store.url) as client:
        client.flushall()
    began_s = time.monotonic()
    machine.start_role("comparator")
    wait_until(lambda: all(machine.head(each) for each in range(PARTITIONS)) and lag.now() == 0, "it is rebuilt", 300)
    return time.monotonic() - began_s


def replay_s(machine: Machine) -> tuple[float, Any]:
    """Seconds of `shadow replay`, and what it found."""
    began_s = time.monotonic()
    replayed = machine.run("replay", "-o", "json")
    seconds = time.monotonic() - began_s
    document = json.loads(replayed.stdout)
    assert (0, True) == (replayed.returncode, document["identical"])
    return seconds, document


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_p17_recovery_and_freshness(tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer) -> None:
    """
    P17: kill -9 of a comparator and of a worker, with a new process at once and without one; a rebuild from the log;
    and how soon a request is counted. No figure decides; the counts do.
    """
    lines = []
    with (
        RedisServer() as store,
        Machine(tmp_path, kafka.bootstrap, store.url, comparators=2, evidence_deadline="10m") as machine,
    ):
        machine.start()
        wait_for_ports(machine.ports.values(), machine.supervisor)
        wait_until(lambda: all(machine.head(each) for each in range(PARTITIONS)), "the first checkpoint")
        lag = Lag(machine)
        with Traffic(machine.ports["proxy"], rate=RATE, concurrency=64) as traffic:
            traffic.more(RATE * 3)
            began_s, began = time.monotonic(), traffic.sent
            fresh = freshness(machine, traffic, SPAN_S)
            usual = lag.usual(10.0)
            live = (traffic.sent - began) / (time.monotonic() - began_s)
            lines += [
                f"live rate {live:.0f} requests/s (wanted: {RATE}); usual lag up to {usual} requests",
                f"request answered -> in the running counts: p50 {fresh[len(fresh) // 2]:.2f} s, "
                f"p99 {fresh[int(len(fresh) * 0.99)]:.2f} s, {len(fresh)} looks",
            ]
            harms: dict[str, Callable[[], None]] = {
                "comparator killed, another one started at once": lambda: machine.kill("comparator"),
                "worker killed, another one started at once": lambda: machine.kill("worker"),
                "comparator killed, the other one takes over": lambda: lost(machine, "comparator-2"),
            }
            for what, harm in harms.items():
                lines.append(f"{what}: {lag.recovery(harm, usual)}")
        machine.supervisor.stop(["proxy"])
        machine.settle()
        seconds = rebuild_s(machine, store, lag)
        rate = traffic.sent / seconds
        lines.append(
            f"rebuilt {traffic.sent} requests in {seconds:.1f} s by one process, its start included: "
            f"{rate:.0f}/s, {rate / live:.1f} x the live rate"
        )
        machine.start_role("gate")
        wait_for_gate(machine)
        seconds, document = replay_s(machine)
        lines.append(
            f"replayed {document['records']} records in {seconds:.1f} s by one process, its start included: "
            f"{traffic.sent / seconds:.0f} requests/s, {traffic.sent / seconds / live:.1f} x the live rate"
        )
        print("\n  " + "\n  ".join(lines))
        machine.supervisor.stop()
        lag.close()
        sums = check_offline(machine)
    print(f"  {traffic.sent} sent, {sums}")
    assert {200: traffic.sent} == dict(traffic.statuses)
    assert traffic.sent == sums.seen == sums.classes["paired"]


def lost(machine: Machine, member: str) -> None:
    """kill -9, and nobody in its place."""
    os.kill(machine.pid(member), signal.SIGKILL)
    machine.supervisor.stop([member])
