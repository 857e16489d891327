"""Plain requests through the proxy and back, byte for byte."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from contextlib import suppress

import pytest

from shadow.proxy.config import Limits, Timeouts
from tests.proxy.kit import Connection, Upstream, connect, echo, get, ok, post, running, wait_for


def test_a_post_and_its_answer_pass_unchanged_and_are_copied():
    """The upstream gets the client's bytes, the client the upstream's, and the copy holds both."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        body = bytes(range(256)) * 20
        client.send(post(body, "/v1/chat?x=1", "X-Session-Id: s-1", "Content-Type: text/plain"))
        line, headers, answer = client.message()

        assert ("HTTP/1.1 200 OK", body) == (line, answer)
        copy = proxy.copy()
        assert (body, body) == (copy.body, copy.live.body)
        assert (
            copy.method,
            copy.path,
            copy.key,
            copy.live.version,
            copy.live.role,
        ) == ("POST", "/v1/chat?x=1", "s-1", "v1", "production")
        assert (copy.live.outcome, copy.live.status) == ("answered", 200)
        partition, _, request_id = headers["x-shadow-request"].partition("-")
        assert copy.request_id == request_id
        assert uuid.UUID(request_id).version == 7
        assert proxy.writer.records[0][1] == int(partition)
        assert proxy.writer.records[0][2] == b"s-1"


def test_only_end_to_end_fields_pass():
    """Hop-by-hop and Connection-listed fields go, spoofed x-shadow fields go, Via and trace are added."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(
            get(
                "/a",
                "Connection: close, X-Auth",
                "X-Auth: 1",
                "Keep-Alive: timeout=5",
                "TE: trailers",
                "Upgrade: h2c",
                "HTTP2-Settings: x",
                "Proxy-Authorization: Basic x",
                "X-Shadow-Role: candidate",
                "X-Kept: yes",
                "Authorization: Bearer t",
            )
        )
        client.rest()
        seen = bytes(upstream.received).decode().lower()
        for gone in ("connection:", "x-auth", "keep-alive", "te:", "upgrade", "http2", "proxy-auth", "x-shadow"):
            assert gone not in seen
        assert "x-kept: yes" in seen
        assert "authorization: bearer t" in seen
        assert "via: 1.1 shadow-" in seen
        assert "x-request-id: " in seen
        assert "traceparent: 00-" in seen


def test_the_clients_request_id_and_trace_are_kept():
    """A valid x-request-id and traceparent go upstream, into the copy and into the log's headers as they are."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get("/", "X-Request-Id: mine", f"traceparent: {trace}", "tracestate: a=b"))
        client.message()
        copy = proxy.copy()
        assert ("mine", trace) == (copy.client_request_id, copy.headers["traceparent"])
        assert copy.request_id != "mine"
        assert {"traceparent": trace.encode(), "tracestate": b"a=b", "x-request-id": b"mine"} == (
            proxy.writer.records[0][4]
        )
        assert upstream.received.count(b"traceparent") == 1


def test_a_malformed_trace_is_made_anew():
    """An invalid traceparent is replaced, and its tracestate goes with it."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get("/", "traceparent: 00-zz-1-1", "tracestate: a=b"))
        client.message()
        assert b"tracestate" not in upstream.received
        assert b"00-zz" not in upstream.received


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nETag: x\r\n\r\n", 304),
    ],
)
def test_answers_without_a_body_end_at_their_head(answer, status):
    """After a 204 or 304 the connection serves the next request."""

    def serve(connection: Connection) -> None:
        while True:
            connection.message()
            connection.send(answer)

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        for _ in range(2):
            client.send(get())
            line, _, _ = client.message(has_body=False)
            assert line.startswith(f"HTTP/1.1 {status} ")
        assert len(upstream.connections) == 1


def test_head_keeps_the_length_and_has_no_body():
    """HEAD gets the Content-Length that GET would get, and the next request follows."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + get())
        _, headers, _ = client.message(has_body=False)
        assert headers["content-length"] == "4"
        assert client.message()[2] == b"fine"


def test_connections_are_kept_on_both_sides():
    """Ten requests of one client use one upstream connection."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        for number in range(10):
            client.send(post(b"%d" % number))
            assert client.message()[2] == b"%d" % number
        assert len(upstream.connections) == 1


def test_pipelined_requests_are_answered_in_order_one_at_a_time():
    """200 pipelined GETs (input 50) come back in order, and the upstream never holds two."""

    def serve(connection: Connection) -> None:
        while True:
            line, _, _ = connection.message()
            assert connection._buffer == b""
            connection.send(ok(line.split(" ")[1].encode()))

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"".join(get(f"/{number}") for number in range(200)))
        assert [client.message()[2] for _ in range(200)] == [b"/%d" % number for number in range(200)]
        assert len(upstream.connections) == 1


def test_expect_continue_is_the_upstreams_to_answer():
    """The body is asked for by the upstream's 100, which passes."""

    def serve(connection: Connection) -> None:
        head = connection.until(b"\r\n\r\n")
        assert b"Expect: 100-continue" in head
        connection.send(b"HTTP/1.1 100 Continue\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n")
        connection.send(ok(connection.exactly(5)))

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert client.message()[2] == b"hello"


def test_an_early_answer_passes_and_the_connection_ends():
    """A refusal before the body was sent reaches the client at once, with Connection: close."""

    def serve(connection: Connection) -> None:
        connection.until(b"\r\n\r\n")
        connection.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        connection.rest()

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
        line, headers, body = client.message()
        assert (line, headers["connection"], body) == ("HTTP/1.1 413 Too Large", "close", b"no")
        assert client.rest() == b""
        assert proxy.settled(1) == (0, {"aborted": 1})


def test_chunked_requests_and_trailers_pass():
    """A chunked body arrives whole whatever the sizes of its chunks, with its trailer."""
    seen: list[bytes] = []

    def serve(connection: Connection) -> None:
        connection.until(b"\r\n\r\n")
        seen.append(connection.until(b"0\r\nX-Sum: 7\r\n\r\n"))
        connection.send(ok())

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        message = b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nX-Sum: 7\r\n\r\n"
        for index in range(len(message)):
            client.send(message[index : index + 1])
        client.message()
        assert proxy.copy().body == b"abcde"
        assert b"ext" not in seen[0]


def test_http_1_0_clients_get_answers_that_end_with_the_connection():
    """A chunked answer reaches an HTTP/1.0 client unchunked, and the upstream sees HTTP/1.1 with a Host."""

    def serve(connection: Connection) -> None:
        assert connection.message()[1]["host"].startswith("127.0.0.1:")
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        client.peer.shutdown(socket.SHUT_WR)
        answer = client.rest()
        assert answer.endswith(b"\r\n\r\nabc")
        assert b"chunked" not in answer.lower()


def test_http_1_0_keep_alive_is_kept():
    """An HTTP/1.0 client that asks for it may send a second request."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert client.message()[1]["connection"] == "keep-alive"


def test_an_answer_that_ends_with_its_connection_is_chunked():
    """A close-delimited answer (input 55) reaches the client whole, and its connection goes on."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\nab")
        connection.send(b"cd")

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        for _ in range(2):
            client.send(get())
            assert client.message()[2] == b"abcd"


def test_absolute_form_decides_the_host():
    """The authority of an absolute target wins over the Host field (input 30)."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"GET http://b.example:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n")
        client.message()
        assert upstream.received.startswith(b"GET /x?y HTTP/1.1\r\nHost: b.example:81\r\n")


@pytest.mark.parametrize("size", [1, 65_536, 30_000_000])
def test_bodies_of_every_size_pass_both_ways(size):
    """Large bodies are forwarded whole, with back-pressure, and not copied beyond the bound."""
    pattern = bytes(range(251))
    body = (pattern * (size // 251 + 1))[:size]
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        sender = threading.Thread(target=client.send, args=(post(body),))
        sender.start()
        answer = client.message()[2]
        sender.join()
        assert answer == body
        assert proxy.settled(1) == ((0, {"too_large": 1}) if size > 1 << 20 else (1, {}))


def test_a_loop_is_broken():
    """A proxy in front of itself answers 508 instead of running in circles (input 51)."""
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    # Two proxies of one process name have one name in Via; the second forwards to the first.
    with running(port) as first, running(first.port) as second, connect(second.port) as client:
        client.send(get())
        assert client.message()[0].startswith("HTTP/1.1 508 ")


def test_a_stale_connection_is_replaced_for_get():
    """The upstream closes an idle connection as a GET is sent on it: the GET is sent again, once."""
    closing = threading.Event()

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(ok())
        if len(upstream.connections) == 1:
            connection.until(b"\r\n\r\n")
            closing.set()
            return
        connection.message()

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get())
        client.message()
        client.send(get("/again"))
        assert client.message()[2] == b"fine"
        assert closing.is_set()
        assert proxy.snapshot().counters.retries == 1


def test_a_post_is_never_sent_twice():
    """The same for POST gives 502, since nobody knows whether it was carried out."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(ok())
        connection.message()

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(post(b"1"))
        client.message()
        client.send(post(b"2"))
        assert client.message()[0].startswith("HTTP/1.1 502 ")
        assert upstream.received.count(b"POST") == 2
        assert [copy.live.outcome for copy in proxy.copies(2)] == ["answered", "error"]


def test_a_connection_that_was_seen_to_close_is_not_used():
    """A POST after the upstream closed its idle connection opens a new one."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(ok())

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        for _ in range(3):
            client.send(post(b"1"))
            assert client.message()[2] == b"fine"
            wait_for(lambda: proxy.snapshot().idle_upstream == 0)


def test_an_upstream_that_is_not_there_gives_502():
    """A refused connection is answered with 502, copied as an error, and the client's connection goes on."""
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    with running(port) as proxy, connect(proxy.port) as client:
        for _ in range(2):
            client.send(post(b"x"))
            assert client.message()[0] == "HTTP/1.1 502 Bad Gateway"
        live = proxy.copies(2)[0].live
        assert (live.outcome, live.status) == ("error", 502)


def test_an_upstream_that_is_silent_gives_504():
    """No answer within the limit is 504, and the copy says timeout."""

    def serve(connection: Connection) -> None:
        connection.rest()

    times = Timeouts(answer_s=0.2, linger_s=0.2)
    with Upstream(serve) as upstream, running(upstream.port, timeouts=times) as proxy, connect(proxy.port) as client:
        client.send(post(b"x"))
        assert client.message()[0] == "HTTP/1.1 504 Gateway Timeout"
        live = proxy.copy().live
        assert (live.outcome, live.status) == ("timeout", 504)


def test_fifty_clients_at_once_get_their_own_answers():
    """Fifty connections with twenty requests each never mix their bytes."""
    wrong: list[str] = []

    def ask(port: int, name: int) -> None:
        with connect(port) as client:
            for number in range(20):
                body = f"{name}-{number}".encode() * 50
                client.send(post(body, "/v1/chat", f"X-Session-Id: {name}"))
                if client.message()[2] != body:
                    wrong.append(f"{name}-{number}")

    with Upstream(echo) as upstream, running(upstream.port) as proxy:
        threads = [threading.Thread(target=ask, args=(proxy.port, name)) for name in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert proxy.settled(1000) == (1000, {})
        assert all(copy.body == copy.live.body for copy in proxy.copies(1000))


def test_what_is_sent_ahead_is_bounded():
    """A client that pipelines 4 MB of small requests is read from no faster than it is served."""
    request, count = get("/" + "a" * 200), 20_000
    limits = Limits(buffer_bytes_max=16 << 10)
    with Upstream(echo) as upstream, running(upstream.port, limits=limits) as proxy, connect(proxy.port) as client:

        def send() -> None:
            with suppress(OSError):  # The test reads only some of the answers, and closes.
                client.send(request * count)

        threading.Thread(target=send, daemon=True).start()
        largest = 0
        for number in range(2000):
            assert client.message()[2] == b"fine"
            if number % 20 == 0:
                largest = max(largest, proxy.snapshot().waiting_bytes)
        # One read of the event loop comes on top of the bound.
        assert 0 < largest <= (16 << 10) + (256 << 10)


def test_a_workers_own_call_is_forwarded_and_never_copied():
    """Marked `x-shadow: 1`, it would otherwise be answered by workers without end; the mark itself is not passed on."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(post(b"x", "/v1/chat", "x-shadow: 1"))
        assert client.message()[2] == b"x"
        assert proxy.settled(1) == (0, {"excluded": 1})
        client.send(post(b"x", "/v1/chat", "x-shadow-role: candidate"))
        assert client.message()[2] == b"x"
        assert proxy.settled(2) == (1, {"excluded": 1})
    assert b"x-shadow" not in upstream.received


def test_a_loop_that_stands_still_is_counted():
    """A tenth of a second in which nothing was served is seen by the next look at the time-outs."""

    async def hang() -> None:
        time.sleep(0.1 + 0.6)

    with Upstream(echo) as upstream, running(upstream.port) as proxy:
        before = proxy.snapshot().counters.stalls
        proxy.loop.call(hang())
        wait_for(lambda: proxy.snapshot().counters.stalls > before, "the stall")
