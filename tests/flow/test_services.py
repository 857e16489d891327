"""The same flow on real and embedded services, and its log refolded on the fakes."""

from __future__ import annotations

import uuid

import pytest

from shadow.adapters.kafka import KafkaLog
from shadow.adapters.memory_store import MemoryStore
from shadow.adapters.redis import RedisStore
from shadow.records.comparisons import tile_numbers
from shadow.stream.state import slot_of
from tests.flow.harness import (
    PARTITIONS,
    HttpService,
    ProxyThread,
    Trial,
    begin,
    comparing,
    copy_of,
    doubled,
    gating,
    send,
    wait_until,
    working,
)


@pytest.fixture(params=["real", "embedded"])
def services(request):
    """A log and a store: Apache Kafka with redis-server, or the embedded ones."""
    if request.param == "real":
        kafka, redis = request.getfixturevalue("kafka"), request.getfixturevalue("redis_server")
        log = KafkaLog({"bootstrap.servers": kafka.bootstrap})
    else:
        broker, redis = request.getfixturevalue("embedded_broker"), request.getfixturevalue("embedded_store")
        log = KafkaLog({"bootstrap.servers": broker.bootstrap}, is_embedded=True)
    store = RedisStore(redis.url)
    yield log, store
    store.close()


def own_trial() -> Trial:
    """A trial whose run and topics are its own on shared services."""
    token = uuid.uuid4().hex[:8]
    kinds = ("requests", "answers", "pairs", "decisions", "dead_letters")
    return Trial(run=f"candidate-{token}-1", topics={kind: f"{kind}-{token}" for kind in kinds})


def test_request_to_decision_and_the_same_digest_on_the_fakes(services):
    """
    The flow promotes on these services, and the fakes, fed the log that it recorded, give the same tiles and digest.
    """
    log, store = services
    trial = own_trial()
    with (
        HttpService(doubled) as production,
        HttpService(doubled) as candidate,
    ):
        started = begin(log, trial)
        with (
            ProxyThread(log, trial, production.port) as proxy,
            working(log, trial, candidate.url),
            comparing(log, store, trial, started),
            gating(log, store, trial, started) as gate,
        ):
            statuses = send(proxy.port, 600)
            wait_until(lambda: gate.decision is not None, "a decision")
    decision = gate.decision
    last = decision.tile

    memory, fake_store = copy_of(log, [trial.topics["requests"], trial.topics["answers"]]), MemoryStore()
    memory.admin().create_topics(dict.fromkeys((trial.topics["pairs"], trial.topics["dead_letters"]), PARTITIONS), {})
    memory.admin().create_topics({trial.topics["decisions"]: 1}, {})
    with comparing(memory, fake_store, trial, started):
        wait_until(lambda: all(last in closed_in(fake_store, started.run, p) for p in range(PARTITIONS)), "the refold")
    with gating(memory, fake_store, trial, started) as second:
        wait_until(lambda: second.decision is not None, "the same decision")

    assert {200: 600} == statuses
    assert ("promote", "promote") == (decision.decision, second.decision.decision)
    for partition in range(PARTITIONS):
        slot, tiles = slot_of(started.run, partition), [str(n) for n in range(started.first_tile, last + 1)]
        assert store.tiles(slot, tiles) == fake_store.tiles(slot, tiles)
    assert (decision.tile, decision.tiles_digest) == (second.decision.tile, second.decision.tiles_digest)


def closed_in(store, run, partition):
    """Numbers of the tiles that a partition has closed."""
    return tile_numbers(store.tile_names(slot_of(run, partition)))
