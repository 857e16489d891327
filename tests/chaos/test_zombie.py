"""P3: a comparator that sleeps longer than its session, and wakes up while another one has its partitions."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from shadow.cli.supervise import shadow_command
from tests.chaos.chaos import Chaos, Strike, under_traffic
from tests.chaos.offline import check_offline, wait_for_gate
from tests.flow.harness import wait_until
from tests.flow.machine import PARTITIONS, Machine
from tests.flow.traffic import Traffic
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

LARGE = [pytest.mark.soak, pytest.mark.timeout(1800)]
REFUSED = "the stored state is another one"


def positions(machine: Machine) -> list[int]:
    """Where each partition's stored snapshot stands."""
    return [int(machine.head(partition)["next"]) for partition in range(PARTITIONS)]


def wait_for_progress(machine: Machine, what: str) -> None:
    """Wait until the snapshots of all partitions have moved on, whoever writes them."""
    stood = positions(machine)
    wait_until(
        lambda: all(now >= then + 40 for now, then in zip(positions(machine), stood, strict=True)), what, timeout_s=120
    )


def sleeping(machine: Machine, member: str, slept: list[str]) -> Strike:
    """SIGSTOP until others have taken its partitions over and moved them on; then SIGCONT, with what it had in hand."""

    def strike(traffic: Traffic) -> None:
        pid = machine.pid(member)
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for_progress(machine, f"others take over the partitions of {member}")
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_for_progress(machine, f"the partitions go on after {member} woke up")
        slept.append(member)

    return strike


def intruding(machine: Machine, member: str) -> Strike:
    """A second process under a member's name: one of the two is pushed out, and comes again once the other is gone."""

    def strike(traffic: Traffic) -> None:
        command = shadow_command("comparator", "-c", str(machine.config), "--admin-port", "0")
        machine.supervisor.start("intruder", command, {**machine.environment, "SHADOW_MEMBER": member})
        traffic.more(400)
        machine.supervisor.stop(["intruder"])
        wait_for_progress(machine, f"the partitions go on after the intruder under {member}'s name")

    return strike


@pytest.mark.parametrize(
    "size", [(9, 3, 2_000, 150), pytest.param((10, 13, 100_000, 500), marks=LARGE)], ids=["small", "large"]
)
def test_p3_zombies_and_intruders_change_nothing(
    tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer, size: tuple[int, int, int, int]
) -> None:
    """
    P3: comparators that sleep longer than their session, and others under their names: whatever they write after
    somebody else took over, every request is a pair that is counted once.
    """
    seed, moments, requests, rate = size
    slept: list[str] = []
    with Machine(tmp_path, kafka.bootstrap, redis_server.url, comparators=2, evidence_deadline="10m") as machine:
        strikes = {f"sleep {member}": sleeping(machine, member, slept) for member in machine.comparators}
        strikes["intrude"] = intruding(machine, machine.comparators[0])
        sent = under_traffic(machine, Chaos(seed, moments, requests, strikes).play, rate=rate)
        wait_for_gate(machine)
        machine.supervisor.stop()
        logs = [(tmp_path / f"{member}.log").read_text() for member in machine.comparators]
        sums = check_offline(machine)
    refused = sum(text.count(REFUSED) for text in logs)
    print(f"{sent} sent, {sums}; {len(slept)} slept, {refused} checkpoints refused")
    assert set(machine.comparators) == set(slept)
    assert sent == sums.seen == sums.classes["paired"]
    assert not sums.letters
