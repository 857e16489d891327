"""P7 and P9 with a thousand streams at once through one proxy process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shadow.adapters.embedded import free_port
from tests.flow.harness import wait_until
from tests.proxy.sizes import CONNECTION_BYTES, peak_bytes, rss_bytes
from tests.proxy.stack import Stack
from tests.proxy.streams import LAST_CHUNK, StreamingUpstream, body, streaming, unchunked
from tests.services.kafka import ApacheKafka

STREAMS = 1000
EVENTS = 200
QUEUE_BYTES = 4 << 20


@contextmanager
def proxy(folder: Path, kafka: ApacheKafka, upstream: StreamingUpstream, **mirror: object) -> Iterator[Stack]:
    """A proxy process in front of the upstream, and the topics that it writes to."""

    def change(tree: dict) -> None:
        tree["proxy"]["mirror"] |= {"methods": ["GET"], "queue": f"{QUEUE_BYTES >> 20}MiB", **mirror}

    store = f"redis://127.0.0.1:{free_port()}/0"  # nobody asks it
    with Stack(folder, kafka.bootstrap, store, production=upstream.port, change=change) as stack:
        stack.create_topics()
        stack.start_proxy()
        stack.wait_for_kafka()
        yield stack


async def read_stream(
    port: int, stream: int, count: int, begun: Callable[[], object] = lambda: None, *, timeout_s: float = 120.0
) -> bytes:
    """A stream's chunked body as it came, whole or not; its first event is told."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /v1/stream/{stream}/{count} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    raw = b""
    try:
        async with asyncio.timeout(timeout_s):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), head
            while not raw.endswith(b"\r\n" + LAST_CHUNK):
                data = await reader.read(1 << 16)
                if not data:
                    break
                if not raw:
                    begun()
                raw += data
    except ConnectionResetError:
        pass  # a broken stream: what came until then is what the test asks for
    finally:
        writer.close()
    return raw


async def read_streams(port: int, count: int, begun: Callable[[], object] = lambda: None) -> list[bytes]:
    """All streams at once."""
    return await asyncio.gather(*(read_stream(port, each, count, begun) for each in range(STREAMS)))


def test_a_thousand_streams_come_whole_beside_one_that_nobody_reads(tmp_path: Path, kafka: ApacheKafka) -> None:
    """
    P7, P9: every stream comes to the byte while one client has stopped reading, the proxy's memory stays within
    what it was configured to hold, and every stream is accounted for.
    """
    with streaming(tmp_path, together=STREAMS) as upstream, proxy(tmp_path, kafka, upstream) as stack:
        idle_bytes = rss_bytes(stack.pid("proxy"))
        with socket.create_connection(("127.0.0.1", stack.port)) as stuck:
            stuck.sendall(b"GET /v1/flood HTTP/1.1\r\nHost: a\r\n\r\n")
            wait_until(lambda: upstream.state("blocked") == 1, "the flood is not taken any more")
            raws = asyncio.run(read_streams(stack.port, EVENTS))
            assert 1 == upstream.state("blocked")
        peak = peak_bytes(stack.pid("proxy"))
        account = stack.settled(STREAMS + 1)
    wrong = [each for each, raw in enumerate(raws) if unchunked(raw) != body(each, EVENTS)]
    assert [] == wrong
    print(f"\n{STREAMS} streams of {EVENTS} events: {idle_bytes >> 20} MiB idle, {peak >> 20} MiB at most, {account}")
    # The mirror's queue and the producer's have the same bound.
    assert peak - idle_bytes <= 2 * QUEUE_BYTES + (STREAMS + 1) * CONNECTION_BYTES
    assert (0, STREAMS + 1) == (account.unaccounted, account.seen)
    assert account.mirrored > 0


def test_an_upstream_that_dies_breaks_every_stream(tmp_path: Path, kafka: ApacheKafka) -> None:
    """
    P7: production is killed within a thousand streams, and none of them looks like one that has ended.
    """
    begun = []

    async def kill_within_all(port: int, pid: int) -> list[bytes]:
        reading = asyncio.create_task(read_streams(port, 1_000_000, lambda: begun.append(None)))
        while len(begun) < STREAMS and not reading.done():
            await asyncio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)
        return await reading

    with streaming(tmp_path, together=STREAMS, pace_ms=100) as upstream, proxy(tmp_path, kafka, upstream) as stack:
        raws = asyncio.run(kill_within_all(stack.port, upstream.pid))
        account = stack.settled(STREAMS)
    assert STREAMS == len(begun)
    assert [] == [each for each, raw in enumerate(raws) if raw.endswith(LAST_CHUNK)]
    assert (0, STREAMS) == (account.unaccounted, account.seen)


@pytest.mark.parametrize(
    ("count", "pace_ms"),
    [(300, 5.0), pytest.param(3600, 1000.0, marks=[pytest.mark.soak, pytest.mark.timeout(4500)])],
    ids=["short", "hour"],
)
def test_a_long_stream_comes_whole_and_its_copy_is_too_large(
    tmp_path: Path, kafka: ApacheKafka, count: int, pace_ms: float
) -> None:
    """
    A stream whose body grows beyond `body_max` goes on to its end, and its copy is dropped as `too_large`.
    """
    timeout_s = 60.0 + 1.2 * count * pace_ms / 1000
    with streaming(tmp_path, pace_ms=pace_ms) as upstream, proxy(tmp_path, kafka, upstream, body_max="4KiB") as stack:
        raw = asyncio.run(read_stream(stack.port, 7, count, timeout_s=timeout_s))
        account = stack.settled(1)
    assert len(body(7, count)) > 4 << 10
    assert body(7, count) == unchunked(raw)
    assert (1, {"too_large": 1}) == (account.seen, account.dropped)
