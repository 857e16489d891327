"""Bad inputs of the topics on a real Apache Kafka, which has limits and stamps of its own."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import closing
from dataclasses import replace

import pytest
import yaml
from confluent_kafka import Producer

from shadow.adapters.avro import decode, encode
from shadow.adapters.data import data_dir
from shadow.adapters.kafka import KafkaLog
from shadow.adapters.kafka_client import RECORD_BYTES_MAX
from shadow.adapters.memory_store import MemoryStore
from shadow.cli.view import running_counts
from shadow.errors import InvalidRecord
from shadow.records.replies import Reply
from tests.flow.harness import PARTITIONS, Trial, begin, comparing, records_of, wait_until
from tests.inputs.forged import BAD, MARK
from tests.services.kafka import ApacheKafka
from tests.stream.builders import answer
from tests.worker.builders import HandModel, answers_of, prepare, request, running, worker_of
from tests.worker.process import topics_of

GOOD = 20
YEAR_9999_MS = 253_370_764_800_000


@pytest.fixture
def log(kafka: ApacheKafka) -> KafkaLog:
    return KafkaLog({"bootstrap.servers": kafka.bootstrap})


def own_trial() -> Trial:
    token = uuid.uuid4().hex[:8]
    return Trial(
        run=f"candidate-{token}-1",
        topics={kind: f"{kind}-{token}" for kind in ("requests", "answers", "pairs", "decisions", "dead_letters")},
    )


def test_each_bad_input_among_good_ones(log: KafkaLog, kafka: ApacheKafka):
    """
    Every value that cannot be decoded, in both topics between good records: each is one dead letter under its
    position and reason; the good ones are pairs, and a request that cannot be read is `unreadable`.
    """
    trial, store = own_trial(), MemoryStore()
    started = begin(log, trial)
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 0})
    for number in range(GOOD):
        producer.produce(trial.topics["requests"], encode(request(number)), b"k", 0)
    for bad in BAD:
        exchange = request(1, headers={"x": MARK.decode()}, live=request(1).live if bad.number in (82, 83) else None)
        made = replace(answer(None, 0, 1, run=trial.run), headers={"x": MARK.decode()})
        producer.produce(trial.topics["requests"], bad.value_of(exchange), b"k", 0)
        producer.produce(trial.topics["answers"], bad.value_of(made), b"k", 1, headers={"run": trial.run.encode()})
    assert 0 == producer.flush(10)

    def classes() -> dict[str, int]:
        return {name: count for name, count in counted()["classes"].items() if count}

    def counted():
        return running_counts(store, trial.run, PARTITIONS)

    worker = worker_of(log, HandModel(is_open=True), run=trial.run, group=f"{trial.run}.candidate", topics=trial.topics)
    with running(worker), comparing(log, store, trial, started):
        wait_until(lambda: {"paired": GOOD, "unreadable": len(BAD)} == classes(), "all are decided")
        wait_until(lambda: len(records_of(log, trial.topics["dead_letters"])) == 2 * len(BAD), "the dead letters")
    letters = [decode(record.value) for record in records_of(log, trial.topics["dead_letters"])]
    assert all(letter.error and "\n" not in letter.error for letter in letters)
    expected = {(trial.topics["requests"], 0, GOOD + n) for n in range(len(BAD))}
    expected |= {(trial.topics["answers"], 1, n) for n in range(len(BAD))}
    assert expected == {(letter.topic, letter.partition, letter.offset) for letter in letters}


def test_91_the_largest_record_and_one_byte_more(log: KafkaLog):
    """
    The broker takes every record that the producer takes, random bytes included; a larger one is refused at once.
    """
    topic = f"sizes-{uuid.uuid4().hex[:8]}"
    with closing(log.admin()) as admin, closing(log.writer()) as writer:
        config = yaml.safe_load((data_dir("schemas") / "topics.yaml").read_text())["shadow-answers"]["config"]
        admin.create_topics({topic: 1}, {topic: config})
        told: list[str | None] = []
        taken = refused = 0
        for size in range(RECORD_BYTES_MAX - 100, RECORD_BYTES_MAX + 2, 3):
            try:
                assert writer.write(
                    topic, 0, key=b"", value=os.urandom(size), on_delivery=lambda error, _: told.append(error)
                )
                taken += 1
            except InvalidRecord as error:
                refused += 1
                assert f"larger than the {RECORD_BYTES_MAX} allowed" in str(error)
            assert 0 == writer.flush(10)
    assert taken > 0
    assert refused > 0
    assert [None] * taken == told


def test_91_a_topic_that_takes_less_than_the_producer(log: KafkaLog):
    """
    An answer that only the broker refuses is written without bodies, as `too_large`, and the partition goes on.
    """
    name = f"small-{uuid.uuid4().hex[:8]}"
    topics, group = topics_of(name), f"shadow.{name}.candidate"
    with closing(log.admin()) as admin:
        admin.create_topics({topics["answers"]: 1}, {topics["answers"]: {"max.message.bytes": "1048588"}})
    prepare(log, 1, topics, group)
    with closing(log.writer()) as writer:
        for number in range(2):
            writer.write(topics["requests"], 0, key=b"k", value=encode(request(number)))
        assert 0 == writer.flush(10)
    model = HandModel()
    with running(worker_of(log, model, run=name, group=group, topics=topics)):
        model.release(0, Reply("answered", 200, {}, os.urandom(2_000_000), 1, 2, 3))
        model.release(1)
        wait_until(lambda: len(answers_of(log, topics)) == 2, "both are answered")
    outcomes = {each.request_offset: (each.outcome, len(each.body)) for each in answers_of(log, topics)}
    assert {0: ("too_large", 0), 1: ("answered", len(b"request-1"))} == outcomes


@pytest.mark.parametrize("stamp_ms", [1, YEAR_9999_MS], ids=["1970", "9999"])
def test_92_the_broker_stamps(log: KafkaLog, kafka: ApacheKafka, stamp_ms: int):
    """
    A producer's time stamp of long ago or of the year 9999 is replaced by the append time.
    """
    topic = f"times-{uuid.uuid4().hex[:8]}"
    with closing(log.admin()) as admin:
        admin.create_topics({topic: 1}, {topic: {"message.timestamp.type": "LogAppendTime"}})
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    began_us = time.time_ns() // 1000
    producer.produce(topic, b"x", partition=0, timestamp=stamp_ms)
    assert 0 == producer.flush(10)
    (record,) = records_of(log, topic)
    assert abs(record.time_us - began_us) < 60_000_000


def test_96_ten_thousand_headers(log: KafkaLog):
    """
    A record with 10,000 headers is read like any other.
    """
    topic = f"headers-{uuid.uuid4().hex[:8]}"
    with closing(log.admin()) as admin, closing(log.writer()) as writer:
        admin.create_topics({topic: 1}, {})
        headers = {f"h{number}": b"v" for number in range(10_000)}
        assert writer.write(topic, 0, key=b"k", value=b"x", headers=headers)
        assert 0 == writer.flush(10)
    (record,) = records_of(log, topic)
    assert headers == record.headers
