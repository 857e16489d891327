"""Faults while the decision is near: nothing is promoted that the log alone does not promote."""

from __future__ import annotations

import json
import random
import threading
from pathlib import Path

import pytest

from shadow.cli.demo import wait_for_ports
from tests.flow.harness import send, wait_until
from tests.flow.machine import Machine
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

ROLES = ("gate", "comparator", "worker")


def stage(machine: Machine) -> str:
    view = json.loads(machine.run("status", "-o", "json").stdout or "{}")
    return str(view.get("stage", ""))


def play(machine: Machine, store: RedisServer, requests: int, faults: int, seed: int) -> None:
    """Kill every component in the seconds in which the run reaches what it needs, then let it decide."""
    draw = random.Random(seed)
    machine.start()
    wait_for_ports(machine.ports.values(), machine.supervisor)
    statuses: dict[int, int] = {}
    sending = threading.Thread(target=lambda: statuses.update(send(machine.ports["proxy"], requests, concurrency=8)))
    sending.start()
    # In this thread, because the kernel ends redis-server with the thread that started it.
    for fault in range(faults):
        sending.join(draw.uniform(0.2, 1.5))
        victim = (*ROLES, "redis")[fault % 4]
        if victim == "redis":
            store.kill()
            sending.join(draw.uniform(0.1, 1.0))
            store.restart()
        else:
            machine.kill(victim)
    sending.join(300)
    assert {200: requests} == statuses
    wait_until(lambda: stage(machine) == "done", "the decision", timeout_s=120)
    machine.supervisor.stop(["proxy", *ROLES])
    replayed = machine.run("replay", "-o", "json")
    document = json.loads(replayed.stdout)
    assert (0, True, "promote") == (replayed.returncode, document["identical"], document["decision"]["decision"])
    assert document["recorded"] == document["decision"]


def test_a_promotion_among_faults_is_what_the_log_says(tmp_path: Path, kafka: ApacheKafka) -> None:
    """P6: gate, comparator, worker and Redis are killed around the decision; a replay decides the same to the byte."""
    with RedisServer(is_durable=True) as store, Machine(tmp_path, kafka.bootstrap, store.url, pairs=500) as machine:
        play(machine, store, 1500, faults=8, seed=6)


@pytest.mark.soak
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("seed", range(10))
def test_promotions_among_many_faults_are_what_the_log_says(tmp_path: Path, kafka: ApacheKafka, seed: int) -> None:
    """P6: the same ten times, with forty faults each."""
    with RedisServer(is_durable=True) as store, Machine(tmp_path, kafka.bootstrap, store.url, pairs=4000) as machine:
        play(machine, store, 12_000, faults=40, seed=seed)
