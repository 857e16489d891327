"""Every bad answer by its number: what the client gets of it, and what becomes of the connections."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.proxy.inputs.answers_table import ANSWERS
from tests.proxy.inputs.case import FINE, AnswerCase, Seen, each
from tests.proxy.inputs.lane import PATIENT, Lane, read_request
from tests.proxy.kit import BOUND_S, Connection, Upstream, connect, ok, running

_RESET = struct.pack("ii", 1, 0)


@contextmanager
def answering(case: AnswerCase, has_read: threading.Event) -> Iterator[Lane]:
    """A proxy whose upstream answers its first request with the case, and every other one well."""

    def serve(connection: Connection) -> None:
        while True:
            lane.seen.append(read_request(connection))
            if len(lane.seen) > 1:
                connection.send(ok(FINE))
                continue
            connection.send(case.sent)
            if case.then == "resets":
                # A reset may destroy what was not read yet.
                assert has_read.wait(BOUND_S)
                connection.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            if case.then != "stays":
                return

    with Upstream(serve) as upstream, running(upstream.port, timeouts=PATIENT) as proxy:
        lane = Lane(proxy, upstream)
        yield lane


def request(method: bytes, target: bytes) -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: a\r\n\r\n" % (method, target)


def broken_body(client: Connection, case: AnswerCase, headers: dict[str, str], has_read: threading.Event) -> bytes:
    """What the client gets of an answer that breaks off, whose connection must end in a reset."""
    body = b""
    if case.then == "resets":
        assert case.body is not None
        if "transfer-encoding" in headers:
            client.until(b"\r\n")
        body = client.exactly(len(case.body))
        has_read.set()
        with pytest.raises(ConnectionResetError):
            client.rest()
        return body
    with pytest.raises(ConnectionResetError):
        body = client.chunked() if "transfer-encoding" in headers else client.exactly(1 << 20)
    rest = bytes(client.received).partition(b"\r\n\r\n")[2]
    return rest.removeprefix(b"5\r\n").removesuffix(b"\r\n") if "transfer-encoding" in headers else rest


@pytest.mark.parametrize("case", each(ANSWERS))
def test_client_gets_what_the_table_says(case: AnswerCase):
    """
    The client gets the table's answer, whole or recognisably broken; the next request goes over the table's connection.
    """
    has_read = threading.Event()
    with answering(case, has_read) as lane, connect(lane.proxy.port) as client:
        client.send(request(case.method, b"/case"))
        interims = tuple(int(client.message(has_body=False)[0].split(" ")[1]) for _ in case.interims)
        has_body = case.method != b"HEAD" and case.status not in (204, 304)
        line, headers, body = client.message(has_body=has_body and not case.breaks_off)
        if case.breaks_off:
            body = broken_body(client, case, headers, has_read)
        received = bytes(client.received)
        with connect(lane.proxy.port) if case.breaks_off else client as next_client:
            next_client.send(request(b"GET", b"/next"))
            assert FINE == next_client.message()[2]
        live = lane.proxy.copies(2)[0].live

        assert case.interims == interims
        assert case.status == int(line.split(" ")[1])
        if case.body is not None:
            assert case.body == body
        assert (Seen(case.method, b"/case"), Seen(b"GET", b"/next")) == tuple(lane.seen)
        assert (1 if case.reuses else 2) == len(lane.upstream.connections)
        assert not any(text in received for text in case.gone)
        assert ("error" if case.breaks_off or case.status >= 500 else "answered") == live.outcome
        if not case.breaks_off and has_body:
            assert body == live.body


@pytest.mark.parametrize("case", each(case for case in ANSWERS if len(case.sent) < 200 and case.then != "resets"))
def test_status_is_the_same_when_it_comes_byte_by_byte(case: AnswerCase):
    """
    The same answer one byte at a time gives the client the same status, and never a byte that it must not get.
    """

    def serve(connection: Connection) -> None:
        read_request(connection)
        for at in range(len(case.sent)):
            connection.send(case.sent[at : at + 1])
        if case.then == "stays":
            connection.rest()

    with (
        Upstream(serve) as upstream,
        running(upstream.port, timeouts=PATIENT) as proxy,
        connect(proxy.port) as client,
    ):
        client.send(request(case.method, b"/case"))
        interims = tuple(int(client.message(has_body=False)[0].split(" ")[1]) for _ in case.interims)
        line, _, _ = client.message(has_body=False)
        proxy.settled(1)

        assert case.interims == interims
        assert case.status == int(line.split(" ")[1])
        assert not any(text in bytes(client.received) for text in case.gone)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhello", id="more-length"),
        pytest.param(
            b"POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", id="more-chunked"
        ),
    ],
)
def test_answer_before_the_request_was_complete_ends_both_connections(sent: bytes):
    """
    An early answer passes (RFC 9112 9.5), what the client still owed is thrown away, and the upstream's connection,
    which waits for it, never carries another request.
    """

    def serve(connection: Connection) -> None:
        if b"/early" in connection.until(b"\r\n\r\n"):
            connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        else:
            connection.send(ok(FINE))
        connection.exactly(1 << 20)

    with Upstream(serve) as upstream, running(upstream.port, timeouts=PATIENT) as proxy, connect(proxy.port) as client:
        client.send(sent)
        line, headers, body = client.message()
        assert ("HTTP/1.1 413 Too Large", "close", b"no") == (line, headers["connection"], body)
        assert b"" == client.rest()
        client.send(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        with connect(proxy.port) as next_client:
            next_client.send(request(b"GET", b"/next"))
            assert FINE == next_client.message()[2]
        assert upstream.connections[0].ended.wait(BOUND_S)
        assert [False, True] == [b"/next" in connection.received for connection in upstream.connections]
        assert b"smuggled" not in upstream.received
