"""P1, P6, P17: processes and services killed at random moments change no integer, and no decision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.chaos import Chaos, members_of, restarting, under_traffic
from tests.chaos.offline import check_offline, wait_for_gate
from tests.flow.machine import Machine
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer


@pytest.fixture
def broker(kafka: ApacheKafka) -> Iterator[ApacheKafka]:
    """A Kafka of one test alone, since it is killed. The shared one decides whether there are any."""
    with ApacheKafka() as started:
        yield started


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[RedisServer]:
    """A durable redis-server of one test alone."""
    with RedisServer(is_durable=True) as started:
        yield started


def everything_killed(folder: Path, broker: ApacheKafka, store: RedisServer, size: tuple[int, int, int, int]) -> None:
    """kill -9 of every process but the proxy, and of both services; size: seed, moments, requests, their rate."""
    seed, moments, requests, rate = size
    with Machine(folder, broker.bootstrap, store.url, comparators=2, evidence_deadline="10m") as machine:
        strikes = {**members_of(machine), "redis": restarting(store), "kafka": restarting(broker)}
        sent = under_traffic(machine, Chaos(seed, moments, requests, strikes).play, rate=rate)
        wait_for_gate(machine)
        machine.supervisor.stop()
        sums = check_offline(machine)
    print(f"{sent} sent, {sums}")
    assert sent == sums.seen
    assert not sums.letters


def test_p1_everything_killed_counts_the_same(tmp_path: Path, broker: ApacheKafka, store: RedisServer) -> None:
    """
    P1: two comparators, worker, gate, Redis and Kafka killed while requests flow: every counter, tile and the gate's
    digest equal an offline fold of the same log, classes sum to the requests seen, no pair is doubled.
    """
    everything_killed(tmp_path, broker, store, (1, 6, 1200, 150))


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_p1_everything_killed_at_60_moments(tmp_path: Path, broker: ApacheKafka, store: RedisServer) -> None:
    """
    P1: the same with 100,000 requests and 60 moments.
    """
    everything_killed(tmp_path, broker, store, (2, 60, 100_000, 500))
