"""The worker on a real Apache Kafka: killed and stopped in the middle, no request stays unanswered."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from shadow.adapters.avro import encode
from shadow.adapters.embedded import EmbeddedBroker
from shadow.adapters.kafka import KafkaLog
from tests.services.kafka import ApacheKafka
from tests.worker.builders import (
    HandModel,
    ServerThread,
    answers_of,
    prepare,
    records_of,
    request,
    running,
    wait_until,
    worker_of,
)
from tests.worker.process import topics_of

PARTITIONS = 4
REQUESTS = 2_000


@contextmanager
def worker_process(bootstrap: str, name: str, url: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.worker.process", bootstrap, name, url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_killed_and_stopped_workers_leave_no_request_unanswered(kafka: ApacheKafka) -> None:
    """
    kill -9, then SIGTERM, then a third worker: each request has an answer in its partition, and few have two.
    """
    name = f"worker-kill-{time.time_ns()}"
    topics = topics_of(name)
    log = KafkaLog({"bootstrap.servers": kafka.bootstrap})
    prepare(log, PARTITIONS, topics, f"shadow.{name}.candidate")
    writer = log.writer()
    for number in range(REQUESTS):
        value = encode(request(number))
        assert writer.write(topics["requests"], number % PARTITIONS, key=b"%d" % number, value=value)
    assert writer.flush(30) == 0
    writer.close()
    calls = 0

    async def model(got: web.Request) -> web.Response:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.01)
        return web.json_response({"answer": got.headers["x-shadow-request-id"]})

    def written() -> int:
        admin = log.admin()
        ends = admin.ends(topics["answers"])
        admin.close()
        return sum(end for _, end in ends)

    def answered() -> Counter[tuple[int, int]]:
        return Counter((answer.request_partition, answer.request_offset) for answer in answers_of(log, topics))

    with ServerThread(model) as server:
        with worker_process(kafka.bootstrap, name, server.url) as process:
            wait_until(lambda: calls > REQUESTS * 0.2, "a fifth is asked", 60)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        asked = calls
        with worker_process(kafka.bootstrap, name, server.url) as process:
            wait_until(lambda: calls > asked + REQUESTS * 0.2, "another fifth is asked", 60)
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=10)
            assert process.returncode == 0, err
            assert "Traceback" not in err
        twice = repeats(answered())
        with worker_process(kafka.bootstrap, name, server.url):
            wait_until(lambda: written() >= REQUESTS + twice, "as many answers as requests", 60, every_s=0.05)

    # The killed worker answered some twice, those since its last commit; the stopped one left none to be repeated.
    places = answered()
    assert len(places) == REQUESTS
    assert repeats(places) == twice
    for record, answer in zip(records_of(log, "answers", topics), answers_of(log, topics), strict=True):
        assert record.partition == answer.request_partition
        assert answer.outcome == "answered"
        assert answer.exchange is not None
        assert record.key == b"%d" % (answer.request_offset * PARTITIONS + answer.request_partition)


def repeats(places: Counter[tuple[int, int]]) -> int:
    return sum(places.values()) - len(places)


def test_the_embedded_broker_serves_a_worker_too(embedded_broker: EmbeddedBroker) -> None:
    """
    The same worker on the embedded broker: each request is answered once, poison is put aside.
    """
    name = f"worker-embedded-{time.time_ns()}"
    topics, group = topics_of(name), f"shadow.{name}.candidate"
    log = KafkaLog({"bootstrap.servers": embedded_broker.bootstrap}, is_embedded=True)
    prepare(log, 2, topics, group)
    writer = log.writer()
    for number in range(200):
        value = b"poison" if number == 50 else encode(request(number))
        assert writer.write(topics["requests"], number % 2, key=b"key", value=value)
    assert writer.flush(30) == 0
    writer.close()

    with running(worker_of(log, HandModel(is_open=True), run=name, group=group, topics=topics)):
        wait_until(lambda: len(answers_of(log, topics)) == 200, "all are answered", 30, every_s=0.2)

    outcomes = Counter(answer.outcome for answer in answers_of(log, topics))
    assert outcomes == {"answered": 199, "unreadable": 1}
    assert len(records_of(log, "dead_letters", topics)) == 1
