"""P1 with three brokers: the leader of a partition dies, another one leads on, and no record is lost or doubled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.chaos import Chaos, members_of, under_traffic
from tests.chaos.offline import check_offline, wait_for_gate
from tests.flow.machine import Machine
from tests.flow.traffic import Traffic
from tests.services.kafka import ApacheKafka
from tests.services.kafka_cluster import KafkaCluster
from tests.services.redis import RedisServer

LARGE = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.mark.parametrize(
    "size", [(5, 5, 1_500, 150), pytest.param((6, 60, 100_000, 500), marks=LARGE)], ids=["small", "large"]
)
def test_p1_the_leader_of_three_brokers_is_killed(
    tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer, size: tuple[int, int, int, int]
) -> None:
    """
    P1: three copies of every partition, of which two must acknowledge; leaders of requests and answers die in turns
    between kills of all processes.
    """
    seed, moments, requests, rate = size
    with (
        KafkaCluster() as cluster,
        Machine(
            tmp_path,
            cluster.bootstrap,
            redis_server.url,
            comparators=2,
            evidence_deadline="10m",
            # A tick waits a tile's length for requests that are not replicated yet: longer than the two seconds after
            # which this cluster gives a dead broker up, as the default minute is longer than Kafka's nine seconds.
            change=lambda tree: tree.update(tile="5s"),
        ) as machine,
    ):
        turns = [machine.settings.topics.answers, machine.settings.topics.requests]

        def kill_leader(traffic: Traffic) -> None:
            turns.append(turns.pop(0))
            leader = cluster.leader(turns[-1], 0)
            leader.kill()
            traffic.more(400)
            leader.restart()

        strikes = {"kill a leader": kill_leader, **members_of(machine)}
        sent = under_traffic(machine, Chaos(seed, moments, requests, strikes).play, rate=rate)
        wait_for_gate(machine)
        machine.supervisor.stop()
        sums = check_offline(machine)
    print(f"{sent} sent, {sums}")
    assert sent == sums.seen
    assert sums.present == sums.classes["paired"]
    assert not sums.letters
