"""WebSockets are tunnelled, not mirrored, and counted."""

from __future__ import annotations

import hashlib

from tests.proxy.kit import Connection, Upstream, connect, get, ok, running, wait_for

UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: abc")
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
)


def switching(connection: Connection) -> None:
    connection.message()
    connection.send(SWITCH + b"\x81\x05hello")
    while True:
        connection.send(connection.exactly(4)[::-1])


def test_bytes_pass_both_ways_and_nothing_is_copied():
    """Also those that came right behind either head; the request is counted as excluded."""
    with Upstream(switching) as upstream, running(upstream.port) as proxy:
        with connect(proxy.port) as client:
            client.send(get("/chat", *UPGRADE) + b"abcd")
            line, headers, _ = client.message()
            assert ("HTTP/1.1 101 Switching Protocols", "websocket", "x") == (
                line,
                headers["upgrade"],
                headers["sec-websocket-accept"],
            )
            assert b"\x81\x05hellodcba" == client.exactly(11)
            client.send(b"1234")
            assert b"4321" == client.exactly(4)
        wait_for(lambda: upstream.connections[0].ended.is_set(), "the upstream's end")
        assert (0, {"excluded": 1}) == proxy.settled(1)
        assert (1, {101: 1}) == (proxy.snapshot().counters.tunnels, proxy.snapshot().counters.requests)
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in upstream.received


def test_the_end_of_the_upstream_is_the_end_of_the_client():
    """What it sent last still arrives."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(SWITCH + b"bye")

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get("/chat", *UPGRADE))
        client.message()
        assert b"bye" == client.rest()


def test_much_data_arrives_whole_though_the_client_is_slow():
    """4 MiB against a client that reads only after all was sent: nothing is lost, and memory stays bounded."""
    block = bytes(range(256)) * 4096

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(SWITCH)
        for _ in range(4):
            connection.send(block)

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get("/chat", *UPGRADE))
        client.message()
        assert hashlib.sha256(block * 4).digest() == hashlib.sha256(client.rest()).digest()


def test_an_upstream_that_does_not_switch_just_answers():
    """The connection goes on in HTTP, and the next request is mirrored."""

    def serve(connection: Connection) -> None:
        while True:
            connection.message()
            connection.send(ok())

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get("/chat", *UPGRADE))
        assert "HTTP/1.1 200 OK" == client.message()[0]
        client.send(get("/v1/chat"))
        assert "HTTP/1.1 200 OK" == client.message()[0]
        assert (1, {"excluded": 1}) == proxy.settled(2)


def test_only_websockets_are_offered_upstream():
    """h2c, a WebSocket with POST, and one that Connection does not name are ordinary requests (input 43)."""

    def serve(connection: Connection) -> None:
        while True:
            connection.message()
            connection.send(ok())

    odd = [
        get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        get("/", "Upgrade: websocket"),
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx",
    ]
    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        for request in odd:
            client.send(request)
            assert "HTTP/1.1 200 OK" == client.message()[0]
        assert 3 == proxy.settled(3)[0]
    assert b"pgrade" not in upstream.received
    assert b"h2c" not in upstream.received


def test_a_switch_that_was_not_asked_for_is_refused():
    """101 without a wish, or to another protocol: 502 (input 58)."""
    other = SWITCH.replace(b"Upgrade: websocket", b"Upgrade: h2c")
    for request, answer in ((get("/"), SWITCH), (get("/", *UPGRADE), other)):

        def serve(connection: Connection, answer: bytes = answer) -> None:
            connection.message()
            connection.send(answer)
            connection.rest()

        with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
            client.send(request)
            assert "HTTP/1.1 502 Bad Gateway" == client.message()[0]


def test_a_drain_ends_tunnels():
    """They have no end of their own, so the drain's end is theirs."""
    with Upstream(switching) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get("/chat", *UPGRADE))
        client.message()
        client.exactly(7)
        proxy.drain(0.2)
        wait_for(lambda: upstream.connections[0].ended.is_set(), "the upstream's end")
