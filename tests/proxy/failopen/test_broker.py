"""P7 and P10: a Kafka that is there and of no use to the proxy costs copies, never live requests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient  # type: ignore[attr-defined]

from shadow.adapters.embedded import free_port
from tests.flow.harness import wait_until
from tests.proxy.failopen.timeline import models
from tests.proxy.load import Load, doubling
from tests.proxy.scrape import Scraper
from tests.proxy.slow import SlowLine
from tests.proxy.stack import Stack
from tests.services.kafka import ApacheKafka

ANSWERS = 300
RATE = 200.0
QUEUE_BYTES = 1 << 20
PADDING = 50_000
DELAY_S = 0.5
PLAIN_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@dataclass(frozen=True, slots=True)
class Broker:
    """One node that is reached in three ways: directly, by name and password, and over a slow line."""

    kafka: ApacheKafka
    with_password: str
    slow: str


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """Shared by the tests of this file, which leave it running."""
    plain, controller, password, near = (free_port() for _ in range(4))
    with SlowLine(DELAY_S) as line:
        line.target = near
        listeners = f"PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{password}"
        settings = {
            "listeners": f"{listeners},SLOW://127.0.0.1:{near},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"{listeners},SLOW://127.0.0.1:{line.port}",
            "listener.security.protocol.map": ",".join(
                ("CONTROLLER:PLAINTEXT", "PLAINTEXT:PLAINTEXT", "SASL_PLAINTEXT:SASL_PLAINTEXT", "SLOW:PLAINTEXT")
            ),
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl_plaintext.plain.sasl.jaas.config": f'{PLAIN_LOGIN} user_proxy="right";',
        }
        with ApacheKafka(settings, port=plain) as kafka:
            yield Broker(kafka, f"127.0.0.1:{password}", f"127.0.0.1:{line.port}")


@pytest.fixture
def stack(broker: Broker, tmp_path: Path) -> Iterator[Stack]:
    """A proxy's configuration in front of a model that doubles; nothing runs, and no topic exists."""
    store = f"redis://127.0.0.1:{free_port()}/0"  # nobody asks it
    with (
        models(tmp_path) as (production, _),
        Stack(tmp_path, broker.kafka.bootstrap, store, production=production) as stack,
    ):
        yield stack


def logged_in(stack: Stack, broker: Broker, password: str) -> None:
    """Let the proxy reach Kafka by name and password."""
    stack.tree["kafka"] = {
        "bootstrap.servers": broker.with_password,
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "proxy",
        "sasl.password": password,
    }
    stack.write()


def test_p7_a_wrong_password(stack: Stack, broker: Broker) -> None:
    """
    Every request is answered and counted as `kafka_down`; with the right password, every copy arrives.
    """
    stack.create_topics()
    logged_in(stack, broker, "wrong")
    stack.start_proxy()
    with Scraper(stack.tree["admin"]["proxy"]) as scraper, Load(stack.port, rate=RATE) as load:
        load.more(ANSWERS)
    account = stack.settled(load.answered)
    assert ([], load.answered, 0) == (load.failures, account.seen, account.delivered)
    assert {0} == {each.unaccounted for each in scraper.accounts}
    assert 0 == stack.copies_written()
    assert 0 == stack.ended("proxy")

    logged_in(stack, broker, "right")
    stack.start_proxy()
    stack.wait_for_kafka()
    with Load(stack.port, rate=RATE) as load:
        load.more(ANSWERS)
    account = stack.settled(load.answered)
    assert ([], account.mirrored) == (load.failures, stack.copies_written())
    assert {"excluded"} == set(account.dropped)


def test_p7_a_missing_topic(stack: Stack) -> None:
    """
    Requests before the topic exists are `kafka_down`; once it does, copies arrive without a restart.
    """
    stack.start_proxy()
    with Scraper(stack.tree["admin"]["proxy"]) as scraper, Load(stack.port, rate=RATE) as load:
        load.more(ANSWERS)
        before = stack.account()
        stack.create_topics()
        wait_until(lambda: stack.copies_written() > 0, "a copy arrives")
    account = stack.settled(load.answered)
    assert ([], 0) == (load.failures, before.delivered)
    assert {0} == {each.unaccounted for each in scraper.accounts}
    assert (load.answered, account.delivered) == (account.seen, stack.copies_written())


def test_p7_a_topic_that_is_deleted_and_made_again(stack: Stack, broker: Broker) -> None:
    """
    Copies for a topic that went away are `kafka_down`, and those after its return arrive.
    """
    stack.tree["kafka"] |= {"topic.metadata.propagation.max.ms": 500, "topic.metadata.refresh.interval.ms": 1000}
    stack.write()
    stack.create_topics()
    stack.start_proxy()
    stack.wait_for_kafka()
    requests, admin = stack.topics["requests"], AdminClient({"bootstrap.servers": broker.kafka.bootstrap})
    with Scraper(stack.tree["admin"]["proxy"]) as scraper, Load(stack.port, rate=RATE) as load:
        wait_until(lambda: stack.copies_written() > 0, "a copy arrives")
        admin.delete_topics([requests])[requests].result(30)
        wait_until(lambda: stack.account().dropped.get("kafka_down", 0) > 0, "copies are lost")
        stack.create_topics()
        wait_until(lambda: stack.copies_written() > 0, "a copy arrives again")
    wait_until(lambda: stack.account().seen >= load.answered, "every request is seen")
    assert ([], load.answered) == (load.failures, stack.account().seen)
    assert {0} == {each.unaccounted for each in [*scraper.accounts, stack.account()]}


def test_p7_p9_a_queue_that_is_full(stack: Stack, broker: Broker) -> None:
    """
    While Kafka stands still, a queue of 1 MiB takes what it holds and not more; the rest is `queue_full`, and what
    was taken arrives when Kafka goes on.
    """
    stack.tree["proxy"]["mirror"]["queue"] = "1MiB"
    stack.write()
    stack.create_topics()
    stack.start_proxy()
    stack.wait_for_kafka()
    pid = broker.kafka.pid
    assert pid is not None
    question = partial(doubling, padding=PADDING)
    with (
        Scraper(stack.tree["admin"]["proxy"]) as scraper,
        Load(stack.port, question, rate=RATE) as load,
    ):
        os.kill(pid, signal.SIGSTOP)
        try:
            load.more(ANSWERS)
            wait_until(lambda: stack.account().dropped.get("queue_full", 0) > 0, "the queue is full")
        finally:
            os.kill(pid, signal.SIGCONT)
        load.more(ANSWERS)
    account = stack.settled(load.answered)
    assert ([], load.answered) == (load.failures, account.seen)
    assert {0} == {each.unaccounted for each in scraper.accounts}
    assert max(each.queue_bytes for each in scraper.accounts) <= QUEUE_BYTES
    assert {"excluded", "queue_full"} == set(account.dropped)
    assert account.mirrored == stack.copies_written()


def test_p7_a_slow_broker(stack: Stack, broker: Broker) -> None:
    """
    With a second between question and answer, every request is answered and every copy arrives in the end.
    """
    stack.create_topics()
    stack.tree["kafka"] = {"bootstrap.servers": broker.slow}
    stack.write()
    stack.start_proxy()
    stack.wait_for_kafka()
    with Scraper(stack.tree["admin"]["proxy"]) as scraper, Load(stack.port, rate=RATE) as load, load.phase() as phase:
        load.more(ANSWERS)
    account = stack.settled(load.answered)
    print(f"\np99 beside a slow broker: {phase.p99_ms:.1f} ms")
    assert ([], load.answered) == (load.failures, account.seen)
    assert {0} == {each.unaccounted for each in scraper.accounts}
    assert {"excluded"} == set(account.dropped)
    assert account.mirrored == stack.copies_written()
