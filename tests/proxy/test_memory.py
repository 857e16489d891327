"""P9: the memory of the proxy does not grow with the requests that it has served, and has the bounds configured."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from shadow.adapters.embedded import free_port
from tests.flow.harness import wait_until
from tests.proxy.load import Load, echoed
from tests.proxy.scrape import Scraper
from tests.proxy.sizes import CONNECTION_BYTES, peak_bytes, rss_bytes
from tests.proxy.stack import Stack
from tests.proxy.streams import StreamingUpstream, streaming
from tests.services.kafka import ApacheKafka

WARM = 10_000
CONNECTIONS = 16
QUEUE_BYTES = 8 << 20
BODY_BYTES = 10_000
ALLOCATOR_BYTES = 8 << 20
"""What an allocator may keep for itself: a few arenas of Python (256 KiB each) and of each thread's malloc."""


@contextmanager
def proxy(folder: Path, bootstrap: str, upstream: StreamingUpstream) -> Iterator[Stack]:
    """A proxy process at work."""

    def change(tree: dict) -> None:
        tree["proxy"]["mirror"] |= {"queue": f"{QUEUE_BYTES >> 20}MiB"}

    store = f"redis://127.0.0.1:{free_port()}/0"  # nobody asks it
    with Stack(folder, bootstrap, store, production=upstream.port, change=change) as stack:
        stack.create_topics()
        stack.start_proxy()
        stack.wait_for_kafka()
        yield stack


@pytest.mark.parametrize(
    "requests",
    [30_000, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_p9_memory_is_flat_over_many_requests(tmp_path: Path, kafka: ApacheKafka, requests: int) -> None:
    """
    Each request has a session of its own, and after the first ten thousand nothing is kept of any.
    """
    with streaming(tmp_path) as upstream, proxy(tmp_path, kafka.bootstrap, upstream) as stack:
        with Load(stack.port, echoed, connections=CONNECTIONS) as load:
            load.more(WARM)
            warm = rss_bytes(stack.pid("proxy"))
            load.more(requests, timeout_s=3000.0)
        account = stack.settled(load.answered)
        end = rss_bytes(stack.pid("proxy"))
    print(f"\n{load.answered} requests: {warm / 2**20:.1f} MiB after {WARM}, {end / 2**20:.1f} MiB at the end")
    assert ([], load.answered, 0) == (load.failures, account.seen, account.unaccounted)
    assert end - warm <= ALLOCATOR_BYTES


class SlowClients:
    """Clients that ask for a flood and do not read it; a context manager. Who is cut off asks anew."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._sockets = [self._asking() for _ in range(count)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slow-clients", daemon=True)

    def __enter__(self) -> SlowClients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        for each in self._sockets:
            each.close()

    def _asking(self) -> socket.socket:
        peer = socket.create_connection(("127.0.0.1", self._port), timeout=30)
        peer.sendall(b"GET /v1/flood HTTP/1.1\r\nHost: a\r\n\r\n")
        return peer

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            for index, peer in enumerate(self._sockets):
                if peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    peer.close()
                    self._sockets[index] = self._asking()


@pytest.mark.parametrize(
    ("clients", "seconds"),
    [(20, 8.0), pytest.param(200, 600.0, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])],
)
def test_p9_memory_is_bounded_without_kafka_and_with_slow_clients(tmp_path: Path, clients: int, seconds: float) -> None:
    """
    Kafka stands still at full load while clients do not read: both queues fill, copies are dropped, and the memory
    stays within queues and buffers as configured, flat in the second half.
    """
    question = partial(echoed, size=BODY_BYTES)
    with (
        ApacheKafka() as kafka,
        streaming(tmp_path) as upstream,
        proxy(tmp_path, kafka.bootstrap, upstream) as stack,
    ):
        with Load(stack.port, echoed, connections=CONNECTIONS) as load:
            load.more(1000)
        pid, idle = stack.pid("proxy"), rss_bytes(stack.pid("proxy"))
        assert kafka.pid is not None
        os.kill(kafka.pid, signal.SIGSTOP)
        with (
            SlowClients(stack.port, clients),
            Load(stack.port, question, connections=CONNECTIONS) as load,
            Scraper(stack.tree["admin"]["proxy"]) as scraper,
        ):
            wait_until(lambda: upstream.state("blocked") == clients, "no flood is taken any more")
            wait_until(lambda: stack.account().dropped.get("queue_full", 0) > 0, "the queues are full")
            time.sleep(seconds / 2)
            half = rss_bytes(pid)
            time.sleep(seconds / 2)
            end, peak = rss_bytes(pid), peak_bytes(pid)
        os.kill(kafka.pid, signal.SIGCONT)
    # The mirror's queue and the producer's have the same bound.
    bound = idle + 2 * QUEUE_BYTES + (clients + CONNECTIONS) * CONNECTION_BYTES + ALLOCATOR_BYTES
    sizes = ", ".join(f"{size / 2**20:.1f}" for size in (idle, half, end, peak, bound))
    print(f"\n{load.answered} requests: idle, half, end, peak and bound in MiB: {sizes}; {scraper.accounts[-1]}")
    assert [] == load.failures
    assert {0} == {each.unaccounted for each in scraper.accounts}
    assert max(each.queue_bytes for each in scraper.accounts) <= QUEUE_BYTES
    assert peak <= bound * 1.1
    assert end - half <= ALLOCATOR_BYTES
