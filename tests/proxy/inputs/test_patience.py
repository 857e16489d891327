"""Inputs that take their time or come in numbers: slow senders, idle connections, loops, long streams."""

from __future__ import annotations

import resource
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from shadow.proxy.config import Limits, Timeouts
from tests.proxy.inputs.case import LAST, chunked, got, posted
from tests.proxy.inputs.lane import Lane, recording
from tests.proxy.kit import BOUND_S, Connection, Upstream, connect, echo, get, running, wait_for

DRIBBLE_S = 0.02
HOLDING = """
import socket, sys
port, count = map(int, sys.argv[1:])
held = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def lane() -> Iterator[Lane]:
    """A proxy whose upstream writes down what it reads."""
    with recording() as ready:
        yield ready


def dribble(client: Connection, data: bytes) -> bytes:
    """Send one byte at a time until an answer comes, which must be before the last byte; returns the answer."""
    for at in range(len(data)):
        client.send(data[at : at + 1])
        if select.select([client.peer], [], [], DRIBBLE_S)[0]:
            return client.rest()
    raise AssertionError("All was sent, and nothing had come.")


@pytest.mark.parametrize("number", [pytest.param(47, id="input-47-head-byte-by-byte")])
def test_head_that_never_stands_still_ends_in_time(number: int):
    """
    Single bytes do not renew a head's time: the client gets 408 while it still sends.
    """
    times = Timeouts(head_s=0.3, linger_s=BOUND_S)
    with Upstream(echo) as upstream, running(upstream.port, timeouts=times) as proxy, connect(proxy.port) as client:
        answer = dribble(client, got(b"X: " + b"a" * 4000))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"" == upstream.received


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(posted(b"Content-Length: 10", body=b"hello"), id="input-48-length-stands-still"),
        pytest.param(chunked(b"5\r\nhel"), id="input-48-chunk-stands-still"),
    ],
)
def test_body_that_stands_still_ends_in_time(sent: bytes):
    """
    A body of which nothing more comes gives 408 and a closed connection, and its copy is counted as aborted.
    """
    times = Timeouts(body_s=0.2, linger_s=BOUND_S)
    with Upstream(echo) as upstream, running(upstream.port, timeouts=times) as proxy, connect(proxy.port) as client:
        client.send(sent)
        assert client.rest().startswith(b"HTTP/1.1 408 ")
        assert (0, {"aborted": 1}) == proxy.settled(1)


@pytest.mark.parametrize("number", [pytest.param(48, id="input-48-body-without-end")])
def test_body_that_never_stands_still_ends_with_the_exchange(number: int):
    """
    Single bytes of a body renew its time, and not that of the whole exchange: the client gets 504.
    """
    times = Timeouts(total_s=0.3, linger_s=BOUND_S)
    with Upstream(echo) as upstream, running(upstream.port, timeouts=times) as proxy, connect(proxy.port) as client:
        client.send(posted(b"Content-Length: 5000"))
        assert dribble(client, b"a" * 4000).startswith(b"HTTP/1.1 504 ")
        assert (0, {"aborted": 1}) == proxy.settled(1)


@pytest.mark.parametrize("number", [pytest.param(48, id="input-48-slow-and-whole")])
def test_slow_body_is_served(lane: Lane, number: int):
    """
    A body that comes one byte at a time, each after the last one arrived upstream, is one whole request.
    """
    with connect(lane.proxy.port) as client:
        client.send(posted(b"Content-Length: 10"))
        for at in range(10):
            client.send(b"%d" % at)
            wait_for(lambda end=b"\r\n\r\n" + b"0123456789"[: at + 1]: lane.upstream.received.endswith(end))
        assert "HTTP/1.1 200 OK" == client.message()[0]
    assert [b"0123456789"] == [seen.body for seen in lane.seen]


@pytest.mark.parametrize("count", [pytest.param(300, id="input-49-300-idle")])
def test_idle_connections_are_held_up_to_the_bound(count: int):
    """
    With the bound reached by idle connections the next one gets 503, each of them is served, and a place gets free.
    """
    limits = Limits(connections_max=count)
    with Upstream(echo) as upstream, running(upstream.port, limits=limits) as proxy, ExitStack() as stack:
        idle = [stack.enter_context(connect(proxy.port)) for _ in range(count)]
        wait_for(lambda: count == proxy.snapshot().open_clients)
        with connect(proxy.port) as surplus:
            assert surplus.rest().startswith(b"HTTP/1.1 503 ")
        for client in (idle[0], idle[-1]):
            client.send(get())
            assert b"fine" == client.message()[2]
        idle.pop().close()
        wait_for(lambda: count > proxy.snapshot().open_clients)
        with connect(proxy.port) as client:
            client.send(get())
            assert b"fine" == client.message()[2]


@contextmanager
def idle_process(port: int, count: int) -> Iterator[None]:
    """A process of its own that holds so many connections, since both ends in one process need twice the files."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(port), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        try:
            assert child.stdout is not None
            assert b"open\n" == child.stdout.readline()
            yield
        finally:
            child.kill()


def rss_kib() -> int:
    """Memory of this process that is in use now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


@pytest.mark.soak
@pytest.mark.parametrize("count", [pytest.param(10_000, id="input-49-10000-idle")])
def test_ten_thousand_idle_connections(count: int):
    """
    10,000 idle connections cost at most 16 KiB each; the next one gets 503, and when they go all is free again.
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with Upstream(echo) as upstream, running(upstream.port, limits=Limits(connections_max=count)) as proxy:
        before = rss_kib()
        with connect(proxy.port) as early, idle_process(proxy.port, count - 1):
            wait_for(lambda: count == proxy.snapshot().open_clients)
            each_kib = (rss_kib() - before) / count
            print(f"{each_kib:.1f} KiB for each idle connection")
            with connect(proxy.port) as surplus:
                assert surplus.rest().startswith(b"HTTP/1.1 503 ")
            for _ in range(100):
                early.send(get())
                assert b"fine" == early.message()[2]
            assert each_kib < 16
        wait_for(lambda: 0 == proxy.snapshot().open_clients)


@pytest.mark.parametrize("count", [pytest.param(200, id="input-50-200-pipelined")])
def test_pipelined_requests_are_read_as_so_many(lane: Lane, count: int):
    """
    GETs and chunked POSTs in one write reach the upstream in order, each once (RFC 9112 9.3.2).
    """
    sent = [chunked(b"3\r\n%03d\r\n" % at + LAST) if at % 2 else got(target=b"/%d" % at) for at in range(count)]
    with connect(lane.proxy.port) as client:
        client.send(b"".join(sent))
        statuses = {client.message()[0] for _ in range(count)}
    assert {"HTTP/1.1 200 OK"} == statuses
    expected = [(b"POST", b"/", b"%03d" % at) if at % 2 else (b"GET", b"/%d" % at, b"") for at in range(count)]
    assert expected == [(seen.method, seen.target, seen.body) for seen in lane.seen]


@pytest.mark.parametrize("number", [pytest.param(51, id="input-51-loop")])
def test_request_that_comes_back_is_refused(number: int):
    """
    An upstream that sends its requests back to the proxy gets 508 for them (RFC 5842 7.2): one turn, and no more.
    """

    def serve(connection: Connection) -> None:
        with connect(ports[0]) as again:
            again.send(connection.until(b"\r\n\r\n"))
            connection.send(again.rest())

    ports: list[int] = []
    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        ports.append(proxy.port)
        client.send(get())
        assert "HTTP/1.1 508 Loop Detected" == client.message()[0]
        assert 1 == len(upstream.connections)
        assert {508: 1} == proxy.snapshot().counters.malformed


@pytest.mark.parametrize("events", [pytest.param(100, id="input-61-stream-beyond-the-cap")])
def test_stream_beyond_the_cap_flows_on_and_is_not_copied(events: int):
    """
    Each event of a long stream arrives before the next one is made; its copy, beyond the cap, is `too_large`.
    """
    has_event = threading.Semaphore(0)

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(events):
            event = b"data: %04d\n\n" % at
            connection.send(b"%x\r\n%b\r\n" % (len(event), event))
            assert has_event.acquire(timeout=BOUND_S)
        connection.send(LAST)

    capped = {"body_bytes_max": 500}
    with Upstream(serve) as upstream, running(upstream.port, mirror=capped) as proxy, connect(proxy.port) as client:
        client.send(get())
        client.until(b"\r\n\r\n")
        for at in range(events):
            assert b"c\r\ndata: %04d\n\n\r\n" % at == client.until(b"\n\n\r\n")
            has_event.release()
        assert LAST == client.until(LAST)
        assert (0, {"too_large": 1}) == proxy.settled(1)
