"""P2: Redis emptied, replaced by a replica that lags behind, or missing a primary: every count is right afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from tests.chaos.chaos import Chaos, Strike, members_of, under_traffic
from tests.chaos.offline import check_offline, wait_for_gate
from tests.flow.machine import Machine
from tests.flow.traffic import Traffic
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer
from tests.services.redis_cluster import RedisCluster
from tests.services.switch import TcpSwitch

LOOPBACK = "127.0.0.1"
LARGE = [pytest.mark.soak, pytest.mark.timeout(3600)]
sizes = pytest.mark.parametrize(
    "size", [(3, 6, 2_000, 200), pytest.param((4, 60, 100_000, 500), marks=LARGE)], ids=["small", "large"]
)
"""Seed, moments, requests and requests per second."""
Size = tuple[int, int, int, int]


def play(machine: Machine, size: Size, what: str, strike: Strike) -> None:
    """Harm the store between kills of all processes; every request must end as a pair that is counted once."""
    seed, moments, requests, rate = size
    strikes = {what: strike, **members_of(machine)}
    sent = under_traffic(machine, Chaos(seed, moments, requests, strikes).play, rate=rate)
    wait_for_gate(machine)
    machine.supervisor.stop()
    sums = check_offline(machine)
    print(f"{sent} sent, {sums}")
    assert sent == sums.seen == sums.classes["paired"]
    assert not sums.letters


@sizes
def test_p2_redis_emptied(tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer, size: Size) -> None:
    """
    P2: FLUSHALL between kills: comparators and gate count everything again from the log.
    """
    with (
        RedisServer() as store,
        Machine(tmp_path, kafka.bootstrap, store.url, comparators=2, evidence_deadline="10m") as machine,
    ):

        def empty(traffic: Traffic) -> None:
            with redis.Redis.from_url(store.url) as client:
                client.flushall()

        play(machine, size, "empty redis", empty)


class Pair:
    """A primary and its replica behind one address; after a fail-over the former primary begins anew as the replica."""

    def __init__(self, servers: list[RedisServer], switch: TcpSwitch) -> None:
        self._primary, self._replica = servers
        self._switch = switch
        self._follow()

    def fail_over(self, traffic: Traffic) -> None:
        """Cut the replica off, and let it take over a while later with what it has: an older state comes back."""
        self._ask_replica("NO", "ONE")
        traffic.more(400)
        self._switch.lead_to(self._replica.port)
        self._primary.kill()
        self._primary.restart()
        self._primary, self._replica = self._replica, self._primary
        self._follow()

    def _follow(self) -> None:
        self._ask_replica(LOOPBACK, str(self._primary.port))

    def _ask_replica(self, host: str, port: str) -> None:
        with redis.Redis.from_url(self._replica.url) as client:
            client.replicaof(host, port)


@pytest.fixture
def servers(redis_server: RedisServer) -> Iterator[list[RedisServer]]:
    """Two redis-servers without files."""
    with RedisServer() as one, RedisServer() as other:
        yield [one, other]


@sizes
def test_p2_fail_over_to_a_frozen_replica(
    tmp_path: Path, kafka: ApacheKafka, servers: list[RedisServer], size: Size
) -> None:
    """
    P2: a replica is cut off and takes over later: what it lacks is folded again from the log, and nothing twice.
    """
    with ExitStack() as stack:
        switch = stack.enter_context(TcpSwitch(servers[0].port))
        pair = Pair(servers, switch)
        url = f"redis://{LOOPBACK}:{switch.port}/0"
        machine = stack.enter_context(Machine(tmp_path, kafka.bootstrap, url, comparators=2, evidence_deadline="10m"))
        play(machine, size, "fail over", pair.fail_over)


@sizes
def test_p2_redis_cluster_loses_a_primary(
    tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer, size: Size
) -> None:
    """
    P2: of three primaries with a replica each, the one dies that holds a partition's state or the gate's.
    """
    with (
        RedisCluster() as cluster,
        Machine(tmp_path, kafka.bootstrap, cluster.url, comparators=2, evidence_deadline="10m") as machine,
    ):
        play(machine, size, "kill a primary", losing_primaries(cluster, lambda: machine))


def losing_primaries(cluster: RedisCluster, machine: Callable[[], Machine]) -> Strike:
    """Kill the primary of partition 0, of the gate, of partition 1 and so on in turns; it comes back as a replica."""
    turns = ["/0", "", "/1"]

    def strike(traffic: Traffic) -> None:
        started = machine().started
        assert started is not None
        turns.append(turns.pop(0))
        key = f"shadow:{{{started.run}{turns[-1]}}}:state"
        primary = cluster.primary_of(key)
        primary.kill()
        began_s = time.monotonic()
        cluster.wait(lambda: cluster.primary_of(key) is not primary, "a replica takes over")
        print(f"a replica took over after {time.monotonic() - began_s:.1f} s")
        traffic.more(400)
        primary.restart()
        cluster.wait(cluster.has_replicas, "the killed node follows")

    return strike
