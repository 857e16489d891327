"""P16: records that nobody can read, one in a hundred, between kills: no partition waits, each is put aside once."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import pytest

from tests.chaos.chaos import Chaos, members_of, under_traffic
from tests.chaos.offline import check_offline, wait_for_gate
from tests.flow.machine import PARTITIONS, Machine
from tests.flow.traffic import Traffic
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

LARGE = [pytest.mark.soak, pytest.mark.timeout(3600)]


class Garbage:
    """Writes one unreadable record into requests and one into answers for each hundred requests, in a thread."""

    def __init__(self, machine: Machine, seed: int) -> None:
        self._topics = machine.settings.topics
        self._writer = machine.log.writer()
        self._draw = random.Random(seed)
        self.written: set[tuple[str, int, int]] = set()
        self.thrown = 0

    def throw_with(self, traffic: Traffic, is_over: threading.Event) -> None:
        """Keep up with the traffic until told that it is over; then once more, for what was sent last."""
        while not is_over.wait(0.02):
            self._catch_up(traffic.sent)
        self._catch_up(traffic.sent)

    def _catch_up(self, sent: int) -> None:
        while self.thrown < sent // 100:
            for topic in (self._topics.requests, self._topics.answers):
                self._throw(topic, self._draw.randrange(PARTITIONS))
            self.thrown += 1
        self._writer.poll()

    def close(self) -> None:
        """Wait until each stands in the log."""
        assert 0 == self._writer.flush(10)
        self._writer.close()
        assert 2 * self.thrown == len(self.written)

    def _throw(self, topic: str, partition: int) -> None:
        self._writer.write(
            topic,
            partition,
            key=b"garbage",
            value=garbage(self._draw),
            on_delivery=lambda error, offset: self.written.add((topic, partition, offset)),
        )


def garbage(draw: random.Random) -> bytes:
    """A value that is no record: random bytes, every other time behind the marker of one."""
    return draw.choice((b"", b"\xc3\x01")) + draw.randbytes(draw.randrange(60))


@pytest.mark.parametrize(
    "size", [(7, 4, 2_000, 200), pytest.param((8, 60, 100_000, 500), marks=LARGE)], ids=["small", "large"]
)
def test_p16_one_percent_garbage(
    tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer, size: tuple[int, int, int, int]
) -> None:
    """
    P16: garbage in both topics: each record stands among the dead letters once by its position, requests that cannot be
    read are `unreadable`, all others are paired.
    """
    seed, moments, requests, rate = size
    with Machine(tmp_path, kafka.bootstrap, redis_server.url, comparators=2, evidence_deadline="10m") as machine:
        found = Garbage(machine, seed)

        def during(traffic: Traffic) -> None:
            is_over = threading.Event()
            throwing = threading.Thread(target=found.throw_with, args=(traffic, is_over), daemon=True)
            throwing.start()
            try:
                Chaos(seed, moments, requests, members_of(machine)).play(traffic)
            finally:
                is_over.set()
                throwing.join(60)
            found.close()

        sent = under_traffic(machine, during, rate=rate)
        wait_for_gate(machine)
        machine.supervisor.stop()
        sums = check_offline(machine)
    print(f"{sent} sent, {sums}")
    assert found.thrown >= requests // 100
    assert found.written == sums.letters
    assert found.thrown == sums.classes["unreadable"]
    assert sent == sums.seen == sums.classes["paired"]
