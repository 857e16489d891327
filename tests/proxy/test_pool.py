"""Several upstreams: who is chosen, who is passed over, and what becomes of names."""

from __future__ import annotations

import socket
import threading

import pytest

from shadow.proxy.config import Endpoint, Health, Timeouts
from tests.proxy.kit import Connection, Upstream, connect, echo, get, ok, post, running, wait_for


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def local(*ports: int) -> tuple[Endpoint, ...]:
    return tuple(Endpoint("127.0.0.1", port) for port in ports)


def test_requests_under_way_are_spread_over_the_upstreams():
    """Six requests that wait at once are three at each of two upstreams."""
    free = threading.Event()

    def hold(connection: Connection) -> None:
        while True:
            connection.message()
            free.wait(10.0)
            connection.send(ok())

    with Upstream(hold) as one, Upstream(hold) as other, running(0, upstreams=local(one.port, other.port)) as proxy:
        clients = [connect(proxy.port) for _ in range(6)]
        for count, client in enumerate(clients, 1):
            client.send(get())
            wait_for(lambda count=count: (one.received + other.received).count(b"GET") == count)
        assert (3, 3) == (one.received.count(b"GET"), other.received.count(b"GET"))
        free.set()
        assert ["HTTP/1.1 200 OK"] * 6 == [client.message()[0] for client in clients]
        for client in clients:
            client.close()


def test_an_upstream_that_refuses_is_replaced_and_then_passed_over():
    """Nobody notices, not even with POST, since nothing was sent; after three failures it is not asked any more."""
    with Upstream(echo) as good:
        dead = closed_port()
        health = Health(failures_max=3, out_s=3600.0)
        with running(0, upstreams=local(dead, good.port), health=health) as proxy, connect(proxy.port) as client:
            for number in range(12):
                client.send(post(b"%d" % number, "/v1/chat", "Connection: close" if number == 11 else "x-n: 1"))
                assert b"%d" % number == client.message()[2]
            counters = proxy.snapshot().counters
        assert ({}, {200: 12}) == (counters.failures, counters.requests)


def test_an_upstream_that_is_back_is_used_again():
    """After its time out it gets requests again; while all are out, all are used."""
    with Upstream(echo) as good:
        port = closed_port()
        with (
            running(0, upstreams=local(port), health=Health(failures_max=1, out_s=3600.0)) as proxy,
            connect(proxy.port) as client,
        ):
            client.send(get())
            assert "HTTP/1.1 502 Bad Gateway" == client.message()[0]
            client.send(get())
            assert "HTTP/1.1 502 Bad Gateway" == client.message()[0]
            assert {"connect": 2} == proxy.snapshot().counters.failures
        with running(0, upstreams=local(port, good.port), health=Health(failures_max=1, out_s=0.05)) as proxy:
            with connect(proxy.port) as client:
                client.send(get("/1", "Connection: close"))
                client.rest()

            with Listener(port) as back:

                def reaches_it() -> bool:
                    with connect(proxy.port) as client:
                        client.send(post(b"again", "/v1/chat", "Connection: close"))
                        client.rest()
                    return b"again" in back.received

                wait_for(reaches_it, "the upstream that is back")


class Listener(Upstream):
    """An echo on a given port."""

    def __init__(self, port: int) -> None:
        super().__init__(echo)
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = port
        threading.Thread(target=self._accept, daemon=True).start()


def test_a_name_is_looked_up_and_one_that_is_unknown_is_said():
    """`localhost` serves, whichever of its addresses does; a name that nobody knows is 502 and counted."""
    with Upstream(echo) as upstream:
        with running(0, upstreams=(Endpoint("localhost", upstream.port),)) as proxy, connect(proxy.port) as client:
            client.send(post(b"by name"))
            assert b"by name" == client.message()[2]
            assert b"Host: a\r\n" in upstream.received
        with running(0, upstreams=(Endpoint("nobody.invalid", 80),)) as proxy, connect(proxy.port) as client:
            client.send(get())
            line, _, body = client.message()
            assert ("HTTP/1.1 502 Bad Gateway", b"The upstream's name is not known.\n") == (line, body)
            assert {"resolve": 1, "connect": 1} == proxy.snapshot().counters.failures


def test_names_are_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that moves to another address takes new requests along, and idle connections to the old one are closed."""
    with Upstream(echo) as old, Upstream(echo) as new:
        where = [old.port]

        async def resolved(endpoint: Endpoint) -> list[tuple[str, int, str]]:
            # The system's own names cannot be changed here; what it answers is all that is replaced.
            return [("127.0.0.1", where[0], endpoint.host)]

        monkeypatch.setattr("shadow.proxy.pool._resolved", resolved)
        with (
            running(
                0,
                upstreams=(Endpoint("moves.test", 80),),
                health=Health(resolve_s=0.01),
                timeouts=Timeouts(linger_s=0.2, idle_s=0.2),
            ) as proxy,
            connect(proxy.port) as client,
        ):
            client.send(post(b"before"))
            assert b"before" == client.message()[2]
            where[0] = new.port
            wait_for(lambda: all(connection.ended.is_set() for connection in old.connections), "the old one's end")
            client.close()
            with connect(proxy.port) as other:
                other.send(post(b"after"))
                assert b"after" == other.message()[2]
        assert (b"after" in new.received, b"after" in old.received) == (True, False)


def test_a_request_that_left_in_two_pieces_is_not_sent_again():
    """PUT, half over an idle connection that the upstream closed meanwhile: 502, and never its second half alone."""
    first, halves = threading.Event(), threading.Event()

    def serve(connection: Connection) -> None:
        line, _, _ = connection.message()
        connection.send(ok())
        if line.startswith("GET"):
            first.set()
            connection.until(b"half")
            halves.wait(10.0)
            connection.peer.close()  # What it did not read makes this a reset.
        else:
            connection.rest()

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get())
        client.message()
        client.send(b"PUT /f HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf")
        wait_for(lambda: b"half" in upstream.received)
        client.send(b"rest")
        halves.set()
        assert "HTTP/1.1 502 Bad Gateway" == client.message()[0]
        assert 1 == len(upstream.connections)
