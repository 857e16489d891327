"""P12: but for what belongs to one hop, both sides get the other's bytes; P8: what that costs in time is measured."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
import time

import numpy as np
import pytest

from tests.proxy.kit import BOUND_S, Connection, Upstream, connect, echo, get, ok, post, running

MIB = bytes(range(256)) * 4096
OWN = ("via", "x-request-id", "traceparent", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
"""What the proxy adds to a request that has none of them."""

SENT = (
    b"POST /v1/p%C3%A4th?q=%20a&b=c;d HTTP/1.1\r\nHost: shadow.test:81\r\nContent-Type: application/json\r\n"
    b'X-Odd: a  b\tc, "d" \xc3\xa4\r\nx-twice: 1\r\nx-twice: 2\r\nCookie: a=b; c=d\r\nAuthorization: Bearer t\r\n'
)
GOT = (
    b'Server: odd/1.0\r\nSet-Cookie: a=1; Path=/\r\nSet-Cookie: b=2\r\nX-Odd: a  b\tc, "d" \xc3\xa4\r\n'
    b'ETag: "x"\r\nCache-Control: no-store\r\n'
)


def fields(raw: bytes, without: tuple[str, ...]) -> list[bytes]:
    """The lines of a head but for its first one and these fields."""
    lines = raw.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [line for line in lines if line.split(b":")[0].lower().decode() not in without]


def test_p12_request_and_answer_pass_unchanged():
    """Target, fields in their order and spelling, repeated ones, and every byte value of a body, both ways."""

    def serve(connection: Connection) -> None:
        connection.until(b"\r\n\r\n")
        connection.exactly(len(MIB))
        connection.send(b"HTTP/1.1 200 Fine With Me\r\n%bContent-Length: %d\r\n\r\n%b" % (GOT, len(MIB), MIB))

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"%bContent-Length: %d\r\n\r\n%b" % (SENT, len(MIB), MIB))
        head = client.until(b"\r\n\r\n")
        assert MIB == client.exactly(len(MIB))
        came = upstream.received
    assert came.startswith(b"POST /v1/p%C3%A4th?q=%20a&b=c;d HTTP/1.1\r\n")
    assert sorted(fields(SENT + b"Content-Length: %d\r\n\r\n" % len(MIB), ())) == sorted(fields(came, OWN))
    assert fields(SENT + b"\r\n", ()) == fields(came, (*OWN, "content-length"))
    assert came.endswith(MIB)
    assert head.startswith(b"HTTP/1.1 200 Fine With Me\r\n")
    assert fields(b"\r\n" + GOT + b"\r\n", ()) == fields(head, ("content-length", "x-shadow-request"))


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: 1\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\nX: 1\r\n\r\n"),
        (b"GET", b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 5\r\n\r\n'),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n"),
        (b"GET", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ],
    ids=["HEAD", "204", "304", "empty", "trailers", "103"],
)
def test_p12_messages_without_a_plain_body(method, answer):
    """The answer arrives as it was sent, but for the id that each carries and the end of the connection."""

    def serve(connection: Connection) -> None:
        connection.until(b"\r\n\r\n")
        connection.send(answer)

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"%b / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % method)
        came = re.sub(rb"(?:x-shadow-request: [^\r]+|Connection: close)\r\n", b"", client.rest())
        assert sorted(answer.split(b"\r\n")) == sorted(came.split(b"\r\n"))
        assert answer.rpartition(b"\r\n\r\n")[2] == came.rpartition(b"\r\n\r\n")[2]


def test_p12_a_client_that_ends_its_side_still_gets_its_answer():
    """Having said that this is its last request, it shuts down its sending side while the upstream thinks."""
    free = threading.Event()

    def serve(connection: Connection) -> None:
        connection.message()
        free.wait(BOUND_S)
        connection.send(ok(b"thought of"))

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get("/", "Connection: close"))
        client.peer.shutdown(socket.SHUT_WR)
        free.set()
        assert client.rest().endswith(b"thought of")


def test_p12_a_hundred_megabytes_each_way():
    """Request and answer of 100 MB arrive with the same hash; neither is copied, and neither is held."""
    count = 100

    def serve(connection: Connection) -> None:
        connection.until(b"\r\n\r\n")
        for _ in range(count):
            found.update(connection.exactly(len(MIB)))
        connection.received.clear()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (count * len(MIB)))
        for _ in range(count):
            connection.send(MIB)

    found, got_back, expected = hashlib.sha256(), hashlib.sha256(), hashlib.sha256(MIB * count)
    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"POST /v1/chat HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (count * len(MIB)))
        largest = 0
        for _ in range(count):
            client.send(MIB)
            largest = max(largest, proxy.snapshot().held_bytes)
        client.until(b"\r\n\r\n")
        for _ in range(count):
            got_back.update(client.exactly(len(MIB)))
        assert (expected.digest(), expected.digest()) == (found.digest(), got_back.digest())
        assert largest <= 1 << 20
        assert (0, {"too_large": 1}) == proxy.settled(1)


def test_p8_what_the_proxy_adds_is_measured():
    """
    2,000 requests, one after another, in turn to the upstream and through the proxy: all are answered, and the added
    times are printed. No time decides: docs/benchmarks.md has them, taken on a quiet machine.
    """
    body, times_us = post(b"q" * 1024), {"direct": list[float](), "proxied": list[float]()}
    with Upstream(echo) as upstream, running(upstream.port) as proxy:
        with connect(upstream.port) as direct, connect(proxy.port) as proxied:
            for _ in range(1000):
                for name, client in (("direct", direct), ("proxied", proxied)):
                    began = time.perf_counter()
                    client.send(body)
                    assert b"q" * 1024 == client.message()[2]
                    times_us[name].append((time.perf_counter() - began) * 1e6)
        assert (1000, {}) == proxy.settled(1000)
    added = [np.quantile(times_us["proxied"], q) - np.quantile(times_us["direct"], q) for q in (0.5, 0.99)]
    print(f"added: p50 {added[0]:.0f} µs, p99 {added[1]:.0f} µs, with client, upstream and proxy in one interpreter")
