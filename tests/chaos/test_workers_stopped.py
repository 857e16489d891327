"""Workers that are stopped are Shadow's own trouble: everything comes late, and nobody is blamed."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from shadow.cli.demo import wait_for_ports
from shadow.records.decisions import HOLD
from shadow.records.tallies import ClosedTile, Key, Tally
from shadow.stream.state import slot_of
from tests.flow.harness import send, wait_until
from tests.flow.machine import PARTITIONS, Machine
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

PERFECT = [sys.executable, "-m", "tests.flow.doubling"]


@dataclass(frozen=True, slots=True)
class Outage:
    """How long the workers are away, and what flows meanwhile."""

    stopped_s: float
    deadline: str
    before: int
    during: int
    after: int


def closed_of(machine: Machine) -> Tally:
    """All closed tiles of the run added up."""
    assert machine.started is not None
    total = Tally()
    for partition in range(PARTITIONS):
        slot = slot_of(machine.started.run, partition)
        names = machine.store.tile_names(slot)
        for name, value in zip(names, machine.store.tiles(slot, names), strict=True):
            assert value is not None
            total.add(ClosedTile.from_bytes(int(name), value).tally)
    return total


def late_of(machine: Machine) -> int:
    """Records that came when the tile of their request had closed."""
    return sum(int(machine.head(partition)["counters"]["late"]) for partition in range(PARTITIONS))


def play(machine: Machine, outage: Outage) -> None:
    """Traffic before, during and after the workers' absence; the gate looks at it all the time."""
    machine.start()
    wait_for_ports(machine.ports.values(), machine.supervisor)
    wait_until(lambda: all(machine.head(partition) for partition in range(PARTITIONS)), "the first checkpoint")
    port = machine.ports["proxy"]
    answers = machine.folder / "worker.log"
    wait_until(lambda: "answering partitions" in answers.read_text(), "the worker is at work")
    assert {200: outage.before} == send(port, outage.before)
    wait_until(lambda: machine.classes()["paired"] == outage.before, "the first requests are paired")
    machine.supervisor.stop(["worker"])
    ended_s = time.monotonic() + outage.stopped_s
    slow = threading.Thread(target=lambda: send(port, outage.during, first=outage.before, concurrency=4))
    slow.start()
    slow.join(120)
    wait_until(lambda: machine.classes()["missing"] == outage.during, "their deadline is over", outage.stopped_s + 60)
    time.sleep(max(0.0, ended_s - time.monotonic()))
    held = json.loads(machine.run("status", "-o", "json").stdout)
    assert held["decision"] is None
    assert HOLD == held["judgement"]["decision"]
    unmet = {each["condition"] for each in held["judgement"]["conditions"] if not each["met"]}
    assert "coverage" in unmet
    machine.start_role("worker")
    wait_until(lambda: late_of(machine) == outage.during, "everything of the outage comes late", timeout_s=300)
    assert {200: outage.after} == send(port, outage.after, first=outage.before + outage.during)
    machine.supervisor.stop(["proxy"])
    machine.settle()
    machine.supervisor.stop(["comparator"])  # what is stored stands still while it is compared


def check(machine: Machine, outage: Outage) -> None:
    """Everything of the outage is late and missing, and no grade speaks against the candidate."""
    counts = machine.classes()
    assert (outage.before + outage.after, outage.during) == (counts["paired"], counts["missing"])
    assert outage.during == late_of(machine)
    tally = closed_of(machine)
    for name in ("correct", "tagged"):
        both, production_only, candidate_only, neither = tally.vectors[Key("all", "graders", name)]
        assert (0, 0, 0) == (production_only, candidate_only, neither)
        assert both > 0
    assert all(machine.offline(partition) == machine.stored(partition) for partition in range(PARTITIONS))
    view = json.loads(machine.run("status", "-o", "json").stdout)
    assert view["decision"] is None


def test_workers_stopped_past_the_deadline(tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer) -> None:
    """
    Workers that are away for longer than the evidence deadline: their requests are missing, their answers late, the
    gate holds and says coverage, and nothing is counted against the candidate.
    """
    outage = Outage(stopped_s=0.0, deadline="10s", before=300, during=200, after=300)
    with Machine(
        tmp_path, kafka.bootstrap, redis_server.url, evidence_deadline=outage.deadline, deadline="3s", candidate=PERFECT
    ) as machine:
        play(machine, outage)
        check(machine, outage)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_workers_stopped_for_five_minutes(tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer) -> None:
    """
    The same for five minutes, with a deadline of one, and more traffic.
    """
    outage = Outage(stopped_s=300.0, deadline="60s", before=5000, during=10_000, after=5000)
    with Machine(
        tmp_path, kafka.bootstrap, redis_server.url, evidence_deadline=outage.deadline, candidate=PERFECT
    ) as machine:
        play(machine, outage)
        check(machine, outage)
