"""Pairs in are pairs counted, and a comparator killed at any moment changes no integer."""

from __future__ import annotations

import pytest

from shadow.cli.demo import wait_for_ports
from tests.flow.harness import send, wait_until
from tests.flow.machine import PARTITIONS, Machine


def play(machine: Machine, requests: int, kills: int, seed: int) -> None:
    """Send requests through the real proxy while the comparator is killed; then let everything settle."""
    machine.start()
    wait_for_ports(machine.ports.values(), machine.supervisor)
    wait_until(lambda: all(machine.head(partition) for partition in range(PARTITIONS)), "the first checkpoint")
    killing = machine.killing("comparator", kills, requests / 500, seed)
    statuses = send(machine.ports["proxy"], requests, concurrency=64)
    killing.join(300)
    machine.supervisor.stop(["proxy"])  # drains, and writes the last reports
    machine.settle()
    machine.supervisor.stop()
    assert {200: requests} == statuses


def check(machine: Machine, requests: int) -> None:
    """Classes sum to the requests seen, nothing is lost, and an offline fold gives the same of everything."""
    seen = paired = classes = 0
    for partition in range(PARTITIONS):
        stored, offline = machine.stored(partition), machine.offline(partition)
        assert offline == stored
        account = stored[2]
        assert (0, {}) == (account.lost, account.dropped)
        seen += account.seen
    counts = machine.classes()
    paired, classes = counts["paired"], sum(counts.values())
    print(f"{requests} sent, {seen} seen, {classes} classified, {paired} paired")
    assert requests == seen == classes == paired


def test_every_request_is_counted_once_whatever_is_killed(tmp_path, kafka, redis_server):
    """
    3,000 requests through the real proxy and Kafka, with the comparator killed four times: all paired, none twice.
    """
    with Machine(tmp_path, kafka.bootstrap, redis_server.url, evidence_deadline="10m") as machine:
        play(machine, 3000, kills=4, seed=1)
        check(machine, 3000)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_every_request_of_a_long_run_is_counted_once(tmp_path, kafka, redis_server):
    """
    50,000 requests with the comparator killed at 20 random moments: all paired, none twice.
    """
    with Machine(tmp_path, kafka.bootstrap, redis_server.url, evidence_deadline="10m") as machine:
        play(machine, 50_000, kills=20, seed=2)
        check(machine, 50_000)
