"""What ingest answers, what it writes, and that every copy is accounted for, over raw sockets."""

from __future__ import annotations

import json
import socket
import struct
import threading

import pytest

from shadow.proxy.sampling import partition_of, u_of
from tests.ingest.kit import ACCEPTED, taking
from tests.proxy.kit import PARTITIONS, RecordingWriter, Running, connect, get, post, wait_for


def give(ingest: Running, *requests: bytes) -> None:
    """Give copies on one connection, one after the other."""
    with connect(ingest.port) as tool:
        for request in requests:
            tool.send(request)
            assert (ACCEPTED, b"") == (tool.message()[0], b"")


def test_a_copy_is_accepted_and_recorded_without_an_answer():
    """
    The tool gets an empty 202, and the log what the proxy would write, but for the answer that nobody saw.
    """
    asked = post(b'{"n": 1}', "/v1/double?a=b%20c", "Content-Type: application/json", "X-Session-Id: session-1")
    with taking() as ingest:
        with connect(ingest.port) as tool:
            tool.send(asked)
            line, headers, body = tool.message()
        copy = ingest.copy()
        sequence, dropped = ingest.settled(1)
    assert (ACCEPTED, {"content-length": "0"}, b"") == (line, headers, body)
    assert copy.live is None
    assert ("POST", "/v1/double?a=b%20c", b'{"n": 1}') == (copy.method, copy.path, copy.body)
    assert {"content-type": "application/json"} == {
        name: copy.headers[name] for name in copy.headers if name != "traceparent"
    }
    assert ("session-1", u_of("session-1"), 1.0) == (copy.key, copy.u, copy.sample)
    assert ("ingest-1", 1, 1) == (copy.origin.process, copy.origin.sequence, copy.origin.seen)
    assert [partition_of("session-1", PARTITIONS)] == [record[1] for record in ingest.writer.records[:1]]
    assert (1, {}) == (sequence, dropped)


def test_the_host_that_a_tool_writes_changes_nothing():
    """
    Envoy puts `-shadow` behind the host and before the port; the copies are the same.
    """
    hosts = (b"production.example", b"production.example-shadow", b"production.example-shadow:80")
    requests = [
        post(b"{}", "/v1/a", "x-session-id: s", "x-request-id: r").replace(b"Host: a", b"Host: " + h) for h in hosts
    ]
    with taking() as ingest:
        give(ingest, *requests)
        copies = ingest.copies(3)
    seen = {(copy.key, copy.path, copy.headers["x-request-id"], copy.client_request_id, copy.body) for copy in copies}
    assert {("s", "/v1/a", "r", "r", b"{}")} == seen
    assert [["traceparent", "x-request-id"]] * 3 == [sorted(copy.headers) for copy in copies]


def test_the_id_of_the_live_request_is_carried_and_is_no_key():
    """
    The tool's copy has the live request's x-request-id; without a session or user the key is an id of our own.
    """
    with taking() as ingest:
        give(ingest, get("/v1/a", "x-request-id: live-1"), get("/v1/a", "x-request-id: live-1"), get("/v1/a"))
        copies = ingest.copies(3)
        headers = [record[4] for record in ingest.writer.records]
    assert ["live-1", "live-1", None] == [copy.client_request_id for copy in copies]
    assert [copy.request_id for copy in copies] == [copy.key for copy in copies]
    assert 3 == len({copy.request_id for copy in copies})
    assert [b"live-1", b"live-1", copies[2].request_id.encode()] == [each["x-request-id"] for each in headers]


def test_a_trace_of_the_live_request_is_carried():
    """
    The W3C trace travels with the record, as it does from the proxy; what is none is replaced.
    """
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with taking() as ingest:
        give(ingest, get("/v1/a", f"traceparent: {trace}"), get("/v1/a", "traceparent: broken"))
        ingest.copies(2)
        kept, made = (record[4]["traceparent"].decode() for record in ingest.writer.records)
    assert trace == kept
    assert 55 == len(made)


def test_calls_of_our_own_workers_are_not_copied_again():
    """
    A request marked `x-shadow: 1` came from a worker through the gateway; copied, it would go in a circle.
    """
    marks = ("x-shadow: 1", "X-Shadow:1", "X-SHADOW: \t1 ")
    with taking() as ingest:
        give(ingest, *(post(b"{}", "/v1/a", mark) for mark in marks), post(b"{}", "/v1/a", "x-shadow-note: 1"))
        sequence, dropped = ingest.settled(4)
    assert (1, {"excluded": 3}) == (sequence, dropped)


@pytest.mark.parametrize("end", ["close", "half-close", "reset"])
def test_a_tool_that_reads_no_answer_has_not_aborted(end):
    """
    Once a copy was sent whole it counts, however the tool ends the connection.
    """
    with taking() as ingest:
        for number in range(20):
            tool = socket.create_connection(("127.0.0.1", ingest.port))
            tool.sendall(post(b"{}", "/v1/a", f"x-session-id: {number}"))
            if end == "half-close":
                tool.shutdown(socket.SHUT_WR)
            elif end == "reset":
                wait_for(lambda number=number: ingest.totals()[1] > number)
                tool.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            tool.close()
        assert (20, {}) == ingest.settled(20)
        assert {202: 20} == ingest.snapshot().counters.requests


def test_half_a_copy_is_none():
    """
    A copy whose body never ends is dropped as aborted; its bytes are let go.
    """
    with taking() as ingest:
        with connect(ingest.port) as tool:
            tool.send(post(b"x" * 1000)[:-1])
            wait_for(lambda: ingest.snapshot().held_bytes)
        assert (0, {"aborted": 1}) == ingest.settled(1)


def test_copies_follow_each_other_on_one_connection():
    """
    Of copies sent without waiting each is answered, in order, and recorded in order.
    """
    with taking() as ingest, connect(ingest.port) as tool:
        tool.send(b"".join(post(b"%d" % number, "/v1/a", "x-session-id: s") for number in range(500)))
        assert {ACCEPTED} == {tool.message()[0] for _ in range(500)}
        assert [b"%d" % number for number in range(500)] == [copy.body for copy in ingest.copies(500)]


def test_the_sample_is_the_proxys():
    """
    Keys with a hash below the rate are copied, the others are sampled out; all are accepted.
    """
    keys = [f"session-{number}" for number in range(200)]
    with taking(sample=0.3) as ingest:
        give(ingest, *(post(b"{}", "/v1/a", f"x-session-id: {key}") for key in keys))
        sequence, dropped = ingest.settled(200)
        copied = [copy.key for copy in ingest.writer.copies()]
    wanted = [key for key in keys if u_of(key) < 0.3]
    assert wanted == copied
    assert (len(wanted), {"sampled_out": 200 - len(wanted)}) == (sequence, dropped)


def test_a_quota_raises_a_rare_slice():
    """
    Requests of the slice are copied at its own rate, the others at the base.
    """
    rare = {"rare": {"json": {"$.kind": "rare"}}}
    with taking(sample=0.01, quotas={"rare": 1.0}, slices=rare) as ingest:
        bodies = [b'{"kind": "rare"}', b'{"kind": "usual"}']
        give(
            ingest,
            *(post(bodies[n % 2], "/v1/a", f"x-session-id: {n}", "Content-Type: application/json") for n in range(100)),
        )
        ingest.settled(100)
        copied = [copy.body for copy in ingest.writer.copies()]
    assert 50 == copied.count(bodies[0])
    assert sum(u_of(str(n)) < 0.01 for n in range(1, 100, 2)) == copied.count(bodies[1])


def test_what_is_not_allowed_is_accepted_and_excluded():
    """
    Methods and paths outside the lists, and dots in a path, are counted as excluded.
    """
    with taking(methods=["POST"], paths=["/v1/*"]) as ingest:
        give(ingest, get("/v1/a"), post(b"{}", "/admin"), post(b"{}", "/v1/../admin"), post(b"{}", "/v1/a"))
        assert (1, {"excluded": 3}) == ingest.settled(4)


def test_credentials_never_reach_the_log():
    """
    A tool passes on the user's credentials; no record holds them, and configured fields are masked.
    """
    secrets = ("Authorization: Bearer canary-1", "Cookie: a=canary-2", "X-Api-Key: canary-3")
    asked = post(
        b'{"user": "canary-4"}', "/v1/a?token=canary-5", "Content-Type: application/json", "x-tenant: t", *secrets
    )
    with taking(redact={"headers": ["x-tenant"], "json": ["$.user"]}) as ingest:
        give(ingest, asked)
        copy = ingest.copy()
        values = b"".join(record[3] for record in ingest.writer.records)
    assert b"canary" not in values
    assert "t" == copy.headers["x-tenant"]
    assert ["user"] == list(json.loads(copy.body))


def test_bodies_beyond_the_bound_are_read_and_dropped():
    """
    The tool is answered as always, and the connection serves on.
    """
    with taking(body_max="1KiB") as ingest:
        give(ingest, post(b"x" * 1025), post(b"x" * 1024), post(b"x" * 3_000_000))
        assert (1, {"too_large": 2}) == ingest.settled(3)


def test_a_log_that_hangs_costs_copies_and_no_answer():
    """
    While nothing can be written a bounded amount is held, the rest is dropped as queue_full.
    """
    writer = RecordingWriter(fault="hang")
    with taking(queue="1MiB", writer=writer) as ingest:
        give(ingest, *(post(b"x" * 100_000) for _ in range(30)))
        assert 0 < ingest.snapshot().held_bytes <= 1 << 20
        writer.go_on.set()
        sequence, dropped = ingest.settled(30)
    assert {"queue_full": 30 - sequence} == dropped
    assert 0 < sequence < 30


def test_the_kill_switch():
    """
    Switched off, copies are accepted and counted as off.
    """
    with taking() as ingest:
        ingest.proxy.switch(False)
        give(ingest, post(b"{}"))
        assert (0, {"off": 1}) == ingest.settled(1)


def test_a_tool_that_waits_to_be_told_may_send_its_body():
    """
    `Expect: 100-continue` is answered before the body, and the copy is whole.
    """
    head, _, body = post(b"late", "/v1/a", "Expect: 100-continue").partition(b"\r\n\r\n")
    with taking() as ingest, connect(ingest.port) as tool:
        tool.send(head + b"\r\n\r\n")
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == tool.until(b"\r\n\r\n")
        tool.send(body)
        assert ACCEPTED == tool.message()[0]
        assert b"late" == ingest.copy().body


@pytest.mark.parametrize(
    ("request_line", "headers", "expected"),
    [
        (b"GET /v1/a HTTP/1.0\r\n", b"", "close"),
        (b"GET /v1/a HTTP/1.0\r\n", b"Connection: keep-alive\r\n", "keep-alive"),
        (b"GET /v1/a HTTP/1.1\r\nHost: a\r\n", b"Connection: close\r\n", "close"),
        (b"HEAD /v1/a HTTP/1.1\r\nHost: a\r\n", b"", None),
    ],
)
def test_a_connection_lives_as_long_as_the_tool_says(request_line, headers, expected):
    """
    HTTP/1.0 without keep-alive and `Connection: close` end after one copy, all else goes on.
    """
    with taking() as ingest, connect(ingest.port) as tool:
        tool.send(request_line + headers + b"\r\n")
        line, answered, _ = tool.message()
        assert (ACCEPTED, expected) == (line, answered.get("connection"))
        if expected == "close":
            assert b"" == tool.rest()
        else:
            tool.send(get("/v1/b"))
            assert ACCEPTED == tool.message()[0]


def test_a_chunked_copy_is_recorded_as_one_body():
    """
    Chunks are put together; a malformed one refuses the request, which is then none.
    """
    head = b"POST /v1/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    with taking() as ingest:
        give(ingest, head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        with connect(ingest.port) as tool:
            tool.send(head + b"3\r\nabcX")
            assert "HTTP/1.1 400 Bad Request" == tool.message()[0]
        assert b"abcde" == ingest.copy().body
        assert (1, {}) == ingest.settled(1)
        assert {400: 1} == ingest.snapshot().counters.malformed


def test_what_is_no_request_is_refused_as_by_the_proxy():
    """
    The parser is the same: two lengths are a smuggling attempt, and end the connection.
    """
    with taking() as ingest, connect(ingest.port) as tool:
        tool.send(b"POST /v1/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}}")
        assert "HTTP/1.1 400 Bad Request" == tool.message()[0]
        assert b"" == tool.rest()
        assert (0, {}) == ingest.settled(0)


def test_names_with_an_underscore_are_taken():
    """
    The proxy refuses them because an upstream may read them as another name; here nothing goes on.
    """
    with taking() as ingest:
        give(ingest, get("/v1/a", "x_session_id: s"))
        copy = ingest.copy()
        assert copy.request_id == copy.key


def test_a_body_that_stands_still_is_given_up():
    """
    After the time-out the tool is told so, and the copy counts as aborted.
    """
    with taking(timeouts={"body_s": 0.1}) as ingest, connect(ingest.port) as tool:
        tool.send(post(b"xx")[:-1])
        assert "HTTP/1.1 408 Request Timeout" == tool.message()[0]
        assert (0, {"aborted": 1}) == ingest.settled(1)


def test_a_body_that_drips_for_ever_is_given_up():
    """
    Pieces that come often enough do not hold a connection beyond the total time.
    """
    with taking(timeouts={"total_s": 0.3}) as ingest, connect(ingest.port) as tool:
        tool.send(b"POST /v1/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        with pytest.raises(OSError):
            while not ingest.totals()[1]:
                tool.send(b"x")
            tool.send(b"x")
            tool.rest()
        assert (0, {"aborted": 1}) == ingest.settled(1)


def test_a_tool_that_reads_nothing_is_not_answered_without_bound():
    """
    Once its side is full no further copy is answered or read; after the time-out the connection is ended, and all that
    was read whole counts.
    """
    with taking(timeouts={"stall_s": 0.5}, paths=["/none"]) as ingest:
        tool = socket.socket()
        tool.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        tool.settimeout(30)
        tool.connect(("127.0.0.1", ingest.port))
        sent = 0
        many = get("/") * 2000
        with tool, pytest.raises(OSError):
            while True:
                tool.sendall(many)
                sent += 2000
        wait_for(lambda: ingest.snapshot().open_clients == 0)
        _, seen, dropped = ingest.totals()
    assert {"excluded": seen} == dropped
    assert 0 < seen
    assert sent < 1_000_000


def test_a_drain_lets_a_copy_end():
    """
    A copy that is being sent when the drain begins is answered and written; the connection ends then.
    """
    with taking() as ingest, connect(ingest.port) as tool, connect(ingest.port) as idle:
        asked = post(b"xy")
        tool.send(asked[:-1])
        wait_for(lambda: ingest.snapshot().active)
        ended: list[bool] = []
        thread = threading.Thread(target=lambda: ended.append(ingest.drain(5.0)))
        thread.start()
        assert b"" == idle.rest()
        tool.send(asked[-1:])
        line, headers, _ = tool.message()
        thread.join(10)
        assert (ACCEPTED, "close") == (line, headers["connection"])
        assert [True] == ended
        assert [b"xy"] == [copy.body for copy in ingest.writer.copies()]
        finals = [report for _, report in ingest.writer.reports() if report.is_final]
        assert (PARTITIONS, 1) == (len(finals), sum(report.seen for report in finals))
