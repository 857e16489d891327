"""P15: a proxy process that is asked to end at full load loses no live request and no copy."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shadow.adapters.embedded import free_port
from tests.flow.harness import wait_until
from tests.proxy.load import Load, echoed
from tests.proxy.stack import Stack
from tests.proxy.streams import StreamingUpstream, streaming
from tests.services.kafka import ApacheKafka

CONNECTIONS = 32
BEFORE = 2000
"""Answers before the proxy is asked to end."""


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[StreamingUpstream]:
    with streaming(tmp_path) as upstream:
        yield upstream


@pytest.fixture
def stack(tmp_path: Path, kafka: ApacheKafka, upstream: StreamingUpstream) -> Iterator[Stack]:
    """A proxy at work."""
    store = f"redis://127.0.0.1:{free_port()}/0"  # nobody asks it
    with Stack(tmp_path, kafka.bootstrap, store, production=upstream.port) as stack:
        stack.create_topics()
        stack.start_proxy()
        stack.wait_for_kafka()
        yield stack


def test_p15_at_full_load_nothing_is_lost(stack: Stack, upstream: StreamingUpstream) -> None:
    """
    Every request that reached production was answered whole, every copy stands in the topic, and the last reports
    say so; the exit code is 0.
    """
    with Load(stack.port, echoed, connections=CONNECTIONS, ends_well=True) as load:
        load.more(BEFORE)
        assert 0 == stack.ended("proxy")
        load.join()
    reports = [report for _, report in stack.final_reports()]
    assert [] == load.failures
    assert load.answered == upstream.state("echoed")
    assert (load.answered, 2) == (sum(report.seen for report in reports), len(reports))
    assert {0} == {sum(report.dropped.values()) for report in reports}
    assert sum(report.sequence for report in reports) == stack.copies_written()


def test_p15_a_second_signal_does_not_wait(stack: Stack, upstream: StreamingUpstream) -> None:
    """
    While a drain waits for an answer that does not end, another SIGTERM ends the process with its own exit code.
    """
    with socket.create_connection(("127.0.0.1", stack.port)) as stuck:
        stuck.sendall(b"GET /v1/flood HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: upstream.state("blocked") == 1, "the flood is not taken any more")
        os.kill(stack.pid("proxy"), signal.SIGTERM)
        wait_until(lambda: is_refused(stack.port), "the drain has begun")
        assert 128 + signal.SIGTERM == stack.ended("proxy")


def is_refused(port: int) -> bool:
    """Whether nobody listens on a port any more."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
