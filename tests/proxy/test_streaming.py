"""Answers that come in pieces, slow peers, and peers that leave."""

from __future__ import annotations

import json
import socket
import struct
import threading

import pytest

from shadow.proxy.config import Timeouts
from tests.proxy.kit import Connection, Upstream, connect, echo, get, ok, post, running, wait_for

EVENT = b'data: {"choices": [{"delta": {"content": "%d"}, "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"delta": {}, "finish_reason": "length"}]}\n\ndata: [DONE]\n\n'
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_each_event_arrives_before_the_next_one_is_made():
    """The upstream makes event n+1 only after the client has event n: nothing is held back."""
    got = threading.Semaphore(0)

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(STREAM_HEAD)
        for number in range(20):
            connection.send(chunk(EVENT % number))
            assert got.acquire(timeout=10)
        connection.send(chunk(LAST) + b"0\r\n\r\n")

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(post(b"{}"))
        client.until(b"\r\n\r\n")
        body = b""
        for number in range(20):
            event = client.exactly(int(client.until(b"\r\n"), 16))
            client.exactly(2)
            assert event == EVENT % number
            body += event
            got.release()
        body += client.chunked()

        live = proxy.copy().live
        assert live.body == body
        assert live.is_stream
        assert live.finish_reason == "length"
        assert 0 <= live.first_byte_us <= live.duration_us


def test_the_finish_reason_of_a_whole_answer_is_recorded():
    """A JSON answer states its finish reason too."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(ok(json.dumps({"choices": [{"finish_reason": "stop"}]}).encode()))

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(post(b"{}"))
        client.message()
        live = proxy.copy().live
        assert (live.finish_reason, live.is_stream) == ("stop", False)


def test_a_request_streams_upwards_piece_by_piece():
    """The upstream gets each piece of a request before the client sends the next."""
    got = threading.Semaphore(0)

    def serve(connection: Connection) -> None:
        connection.until(b"\r\n\r\n")
        for number in range(10):
            assert connection.exactly(4) == b"%04d" % number
            got.release()
        connection.send(ok())

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n")
        for number in range(10):
            client.send(b"%04d" % number)
            assert got.acquire(timeout=10)
        assert client.message()[2] == b"fine"
        assert proxy.copy().body == b"".join(b"%04d" % number for number in range(10))


def test_a_client_that_leaves_while_waiting_cancels_the_upstream():
    """The upstream's connection ends while it still works on the answer."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.message()

    with Upstream(serve) as upstream, running(upstream.port) as proxy:
        with connect(proxy.port) as client:
            client.send(post(b"x"))
            wait_for(lambda: b"POST" in upstream.received)
        assert upstream.connections[0].ended.wait(10)
        assert proxy.settled(1) == (0, {"aborted": 1})


def test_a_client_that_leaves_within_an_answer_cancels_the_upstream():
    """A stream whose reader is gone is ended, and counted as aborted."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(STREAM_HEAD)
        while True:
            connection.send(chunk(EVENT % 1))
            if connection.peer.recv(1) == b"":
                raise EOFError

    with Upstream(serve) as upstream, running(upstream.port) as proxy:
        with connect(proxy.port) as client:
            client.send(post(b"x"))
            client.until(b"data:")
        assert upstream.connections[0].ended.wait(10)
        assert proxy.settled(1) == (0, {"aborted": 1})


@pytest.mark.parametrize(
    "begun",
    [
        STREAM_HEAD + chunk(EVENT % 1),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ],
    ids=["chunked", "length", "bad chunk"],
)
def test_an_answer_that_breaks_off_is_never_whole_for_the_client(begun):
    """The client's connection is reset (input 56), and the copy says error."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(begun)

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(post(b"x"))
        with pytest.raises(ConnectionResetError):
            client.rest()
        assert not client.received.endswith(b"\r\n0\r\n\r\n")
        live = proxy.copy().live
        assert (live.outcome, live.status) == ("error", 200)


def test_an_answer_without_length_that_is_reset_is_not_whole():
    """A close-delimited answer that ends in a reset does not get a clean end."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        going.wait(10)
        connection.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    going = threading.Event()
    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(post(b"x"))
        client.until(b"half\r\n")
        going.set()
        with pytest.raises(ConnectionResetError):
            client.rest()


def test_an_answer_that_stands_still_is_broken_off():
    """No byte for longer than the gap limit ends the stream as broken, with the outcome timeout."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(STREAM_HEAD + chunk(EVENT % 1))
        connection.rest()

    times = Timeouts(gap_s=0.2, linger_s=0.2)
    with Upstream(serve) as upstream, running(upstream.port, timeouts=times) as proxy, connect(proxy.port) as client:
        client.send(post(b"x"))
        with pytest.raises(ConnectionResetError):
            client.rest()
        assert proxy.copy().live.outcome == "timeout"


def test_a_slow_reader_holds_its_upstream_back_and_nobody_else():
    """While one client does not read, its upstream is stopped within the buffers, and others are served."""
    sent = [0]

    def serve(connection: Connection) -> None:
        line, _, _ = connection.message()
        if "/big" not in line:
            connection.send(ok())
            return
        connection.peer.settimeout(1.0)
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        try:
            for _ in range(1024):
                connection.send(b"a" * 65536)
                sent[0] += 65536
        except TimeoutError:
            stopped.set()
            connection.peer.settimeout(10)
            connection.rest()

    stopped = threading.Event()
    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as slow:
        slow.send(get("/big"))
        assert stopped.wait(20)
        assert sent[0] < 32 << 20
        with connect(proxy.port) as other:
            other.send(get("/small"))
            assert other.message()[2] == b"fine"


def test_a_reader_that_never_reads_is_cut_off():
    """A client that takes nothing for longer than the stall limit loses its connection."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        while True:
            connection.send(b"a" * 65536)

    times = Timeouts(stall_s=0.3, linger_s=0.2)
    with Upstream(serve) as upstream, running(upstream.port, timeouts=times) as proxy, connect(proxy.port) as client:
        client.send(get("/"))
        wait_for(lambda: proxy.snapshot().open_clients == 1)
        wait_for(lambda: proxy.snapshot().open_clients == 0)
        assert proxy.settled(1) == (0, {"aborted": 1})


def test_answer_trailers_pass():
    """A trailer of a chunked answer reaches the client."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 3\r\n\r\n")

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get())
        client.until(b"2\r\nab\r\n")
        assert client.until(b"0\r\nX-Sum: 3\r\n\r\n") == b"0\r\nX-Sum: 3\r\n\r\n"


def test_a_drain_finishes_what_is_in_flight():
    """During a drain no new connection is taken, the running answer ends well, and the copy is written."""
    going = threading.Event()

    def serve(connection: Connection) -> None:
        connection.message()
        assert going.wait(10)
        connection.send(ok(b"late"))

    with Upstream(serve) as upstream, running(upstream.port) as proxy:
        with connect(proxy.port) as idle, connect(proxy.port) as client:
            idle.send(b"")
            client.send(post(b"x"))
            wait_for(lambda: b"POST" in upstream.received)
            port = proxy.port
            drained: list[bool] = []
            thread = threading.Thread(target=lambda: drained.append(proxy.drain(10)))
            thread.start()
            assert idle.rest() == b""
            with pytest.raises(ConnectionRefusedError):
                connect(port)
            going.set()
            _, headers, body = client.message()
            assert (body, headers["connection"]) == (b"late", "close")
            client.close()
            thread.join()
        assert drained == [True]
        assert len(proxy.writer.copies()) == 1
        assert [report.is_final for _, report in proxy.writer.reports()] == [True] * 4


def test_a_drain_ends_in_time_whatever_hangs():
    """An answer that does not come within the drain is cut off, and the drain says so."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.rest()

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(post(b"x"))
        wait_for(lambda: b"POST" in upstream.received)
        assert proxy.drain(0.2) is False
        assert sum(report.seen for _, report in proxy.writer.reports()) == 1
        with pytest.raises(ConnectionResetError):
            client.rest()


def test_a_connection_is_kept_after_a_stream():
    """A chunked answer does not cost the upstream's connection."""

    def serve(connection: Connection) -> None:
        while True:
            connection.message()
            connection.send(STREAM_HEAD + chunk(EVENT % 1) + b"0\r\n\r\n")

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        for _ in range(5):
            client.send(post(b"x"))
            assert client.message()[2] == EVENT % 1
        assert len(upstream.connections) == 1


def test_the_echo_of_many_chunks_is_whole():
    """A thousand small chunks in one write come back as one body."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + b"".join(chunk(b"%d," % n) for n in range(1000)) + b"0\r\n\r\n")
        assert client.message()[2] == b"".join(b"%d," % n for n in range(1000))
