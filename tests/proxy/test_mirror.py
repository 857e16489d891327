"""What is copied, what is not, and that every request is accounted for."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import pytest

from shadow.adapters.avro import decode, encode
from shadow.adapters.memory_log import MemoryLog
from shadow.errors import InvalidRecord
from shadow.proxy.config import MirrorSettings, Redaction
from shadow.proxy.redact import Redactor, Unredactable
from shadow.proxy.sampling import key_of, partition_of, rate_of, u_of
from shadow.stream.account import Accounts, Mark
from tests.proxy.kit import (
    PARTITIONS,
    Connection,
    RecordingWriter,
    Running,
    Upstream,
    connect,
    echo,
    get,
    ok,
    post,
    running,
    wait_for,
)


def ask(proxy: Running, count: int, *headers: str, path: str = "/v1/chat", body: bytes = b"{}") -> None:
    with connect(proxy.port) as client:
        for number in range(count):
            client.send(post(body, path, f"X-Session-Id: s-{number}", *headers))
            assert client.message()[0] == "HTTP/1.1 200 OK"


def test_sequences_are_dense_and_in_log_order():
    """Per partition the sequences are 1, 2, 3 in the order of the log, and each record's sum is right."""
    with Upstream(echo) as upstream, running(upstream.port, mirror={"sample": 0.5}) as proxy:
        ask(proxy, 200)
        proxy.settled(200)
        last: dict[int, int] = {}
        for copy, record in zip(proxy.writer.copies(), proxy.writer.records, strict=True):
            origin = copy.origin
            assert origin.sequence == last.get(record[1], 0) + 1
            last[record[1]] = origin.sequence
            assert origin.seen == origin.sequence + sum(origin.dropped.values())
            assert record[1] == partition_of(copy.key, 4)
            assert copy.u == u_of(copy.key) < copy.sample == 0.5
        sequence, dropped = proxy.settled(200)
        assert sequence == len(proxy.writer.records)
        assert dropped == {"sampled_out": 200 - sequence}
        assert 60 < sequence < 140


def test_the_comparator_agrees_on_the_accounts():
    """Folding the records and the final reports gives seen = present + dropped, with nothing lost."""
    with Upstream(echo) as upstream, running(upstream.port, mirror={"sample": 0.3}) as proxy:
        ask(proxy, 150)
        proxy.settled(150)
        proxy.drain()
        for partition in range(4):
            accounts = Accounts()
            records = [
                r for r, raw in zip(proxy.writer.copies(), proxy.writer.records, strict=False) if raw[1] == partition
            ]
            for offset, copy in enumerate(records):
                o = copy.origin
                accounts.present(o.process, o.epoch_us, Mark(o.sequence, o.seen, dict(o.dropped)), offset=offset)
            ((_, final),) = [(p, r) for p, r in proxy.writer.reports() if p == partition]
            assert final.is_final
            mark = Mark(final.sequence, final.seen, dict(final.dropped))
            accounts.report(final.process, final.epoch_us, mark, is_final=True)
            accounts.tick(len(records))
            accounts.advance(len(records))
            account = accounts.account()
            assert (len(records), 0) == (account.present, account.lost)
            assert account.seen == account.present + sum(account.dropped.values())


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("refuse", (0, {"queue_full": 30})),
        ("raise", (30, {"kafka_down": 30})),
        ("lose", (30, {"kafka_down": 30})),
    ],
)
def test_no_fault_of_the_log_reaches_a_live_request(fault, expected):
    """A writer that refuses, raises or loses costs copies, each of them counted, and no answer."""
    writer = RecordingWriter(fault=fault)
    with Upstream(echo) as upstream, running(upstream.port, writer=writer) as proxy:
        ask(proxy, 30)
        assert proxy.settled(30)[0] == expected[0]
        proxy.drain()
        assert proxy.totals() == (expected[0], 30, expected[1])


def test_the_mirror_recovers_without_a_restart():
    """Copies flow again once the writer takes them."""
    writer = RecordingWriter(fault="raise")
    with Upstream(echo) as upstream, running(upstream.port, writer=writer) as proxy:
        ask(proxy, 10)
        proxy.settled(10)
        writer.fault = None
        ask(proxy, 10)
        assert proxy.settled(20) == (20, {"kafka_down": 10})
        assert len(writer.copies()) == 10


def test_a_log_that_hangs_fills_a_bounded_queue():
    """While the writer hangs, bodies are held up to the bound, the rest is queue_full, and all is served."""
    writer = RecordingWriter(fault="hang")
    bound = 200_000
    with Upstream(echo) as upstream, running(upstream.port, writer=writer, mirror={"queue_bytes_max": bound}) as proxy:
        ask(proxy, 40, body=b"x" * 10_000)
        held = proxy.snapshot().held_bytes
        assert 0 < held <= bound
        writer.go_on.set()
        sequence, dropped = proxy.settled(40)
        assert dropped == {"queue_full": 40 - sequence}
        assert 0 < sequence < 40
        assert len(writer.copies()) == sequence


def test_an_encoder_that_raises_is_counted():
    """An encoder's failure drops the copy, and live traffic goes on; InvalidRecord is too_large."""
    calls: list[int] = []

    def broken(record: object) -> bytes:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError
        if len(calls) == 2:
            raise InvalidRecord("It is too large.")
        return encode(record)

    with Upstream(echo) as upstream, running(upstream.port, encode_with=broken) as proxy:
        ask(proxy, 5)
        assert proxy.settled(5) == (3, {"redaction": 1, "too_large": 1})


def test_without_kafka_at_the_start_requests_are_served_and_counted():
    """While the partitions are unknown copies count as kafka_down under partition 0; then they flow."""
    known: list[int | None] = [None]
    with Upstream(echo) as upstream, running(upstream.port, partitions=lambda: known[0]) as proxy:
        with connect(proxy.port) as client:
            client.send(get())
            assert "x-shadow-request" not in client.message()[1]
        proxy.settled(1)
        known[0] = 4
        ask(proxy, 10)
        assert proxy.settled(11) == (11, {"kafka_down": 1})
        assert len(proxy.writer.copies()) == 10


@pytest.mark.parametrize(
    ("path", "method", "is_copied"),
    [
        ("/v1/chat", "POST", True),
        ("/v1/a/b?x=/v2", "POST", True),
        ("/v2/chat", "POST", False),
        ("/v1/chat", "PUT", False),
        ("/v1/../admin", "POST", False),
        ("/v1/%2e%2E/admin", "POST", False),
        ("/v1/x/.", "POST", False),
        ("/v2?/v1/chat", "POST", False),
    ],
)
def test_only_allowed_methods_and_paths_are_copied(path, method, is_copied):
    """Methods and paths are an allow-list, and dots cannot lead out of it."""
    mirror = {"methods": ("POST",), "paths": ("/v1/*",)}
    with Upstream(echo) as upstream, running(upstream.port, mirror=mirror) as proxy, connect(proxy.port) as client:
        client.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".encode())
        assert client.message()[0] == "HTTP/1.1 200 OK"
        assert proxy.settled(1) == ((1, {}) if is_copied else (0, {"excluded": 1}))


def test_the_kill_switch_stops_copies_only():
    """With the mirror off requests are served and counted as off."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy:
        proxy.proxy.switch(False)
        ask(proxy, 3)
        proxy.proxy.switch(True)
        ask(proxy, 2)
        assert proxy.settled(5) == (2, {"off": 3})


@pytest.mark.parametrize(("size", "expected"), [(1000, (1, {})), (1001, (0, {"too_large": 1}))])
def test_the_bound_of_a_body_is_exact(size, expected):
    """A body of the bound is copied, one byte more is not (input 69), for requests and answers."""
    with Upstream(echo) as upstream, running(upstream.port, mirror={"body_bytes_max": 1000}) as proxy:
        ask(proxy, 1, body=b"x" * size)
        assert proxy.settled(1) == expected


def test_quotas_raise_the_rate_of_their_slices():
    """A slice at quota 1.0 over a base of 0.1 is copied whole, and the rest by the base rate alone."""

    def slices_of(method: str, path: str, headers: Any, body: bytes) -> frozenset[str]:
        if b"broken" in body:
            raise RuntimeError
        return frozenset({"all", "rare"} if b"rare" in body else {"all"})

    mirror = {"sample": 0.1, "quotas": {"rare": 1.0}, "slices_of": slices_of}
    with Upstream(echo) as upstream, running(upstream.port, mirror=mirror) as proxy:
        ask(proxy, 100, body=b"common")
        ask(proxy, 100, body=b"rare")
        ask(proxy, 100, body=b"broken")
        proxy.settled(300)
        copies = proxy.writer.copies()
        assert sum(copy.body == b"rare" for copy in copies) == 100
        expected = sum(u_of(f"s-{number}") < 0.1 for number in range(100))
        assert [sum(copy.body == body for copy in copies) for body in (b"common", b"broken")] == [expected, expected]
        assert all(copy.quotas == {"rare": 1.0} for copy in copies)


def test_reports_come_each_interval_for_every_partition():
    """Each partition gets the cumulative counters again and again, and a last report at the end."""
    with Upstream(echo) as upstream, running(upstream.port, mirror={"report_interval_s": 0.05}) as proxy:
        ask(proxy, 20)
        proxy.settled(20)
        wait_for(lambda: len(proxy.writer.reports()) >= 8)
        proxy.drain()
        reports = proxy.writer.reports()
        assert {partition for partition, _ in reports} == {0, 1, 2, 3}
        final = {partition: report for partition, report in reports if report.is_final}
        assert sum(report.seen for report in final.values()) == 20
        for partition, report in final.items():
            assert report.process == "proxy-1"
            mine = [earlier.seen for other, earlier in reports if other == partition]
            assert mine == sorted(mine)


def test_sums_hold_at_every_moment_under_load():
    """While 20 clients send and the writer refuses now and then, every scrape adds up."""
    writer = RecordingWriter()
    with Upstream(echo) as upstream, running(upstream.port, writer=writer, mirror={"sample": 0.7}) as proxy:
        threads = [threading.Thread(target=ask, args=(proxy, 50)) for _ in range(20)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            writer.fault = None if writer.fault else "refuse"
            proxy.totals()
        writer.fault = None
        sequence, dropped = proxy.settled(1000)
        assert sequence == len(writer.copies())
        assert sequence + sum(dropped.values()) == 1000


def test_the_memory_log_holds_what_was_served():
    """On a log with the port's promises each request's key decides its partition, and all copies are acknowledged."""
    log = MemoryLog(lambda: 1)
    partitions = {"shadow-requests": 4, "shadow-answers": 4}
    log.admin().create_topics(partitions, {})
    with Upstream(echo) as upstream, running(upstream.port, writer=log.writer()) as proxy:
        ask(proxy, 40)
        proxy.settled(40)
        assert proxy.drain()
        ends = [end for _, end in log.admin().ends("shadow-requests")]
        assert ends == [sum(partition_of(f"s-{number}", 4) == p for number in range(40)) for p in range(4)]
        assert log.admin().ends("shadow-answers") == [(0, 1)] * 4
        record = log.admin().read_at("shadow-requests", ends.index(max(ends)), [0])[0]
        assert decode(record.value).key.encode() == record.key
        assert proxy.totals() == (40, 40, {})


CANARY = "canary-7f3a9c"


def test_no_secret_reaches_the_log():
    """Credentials in headers, cookies, masked JSON and query parameters are in no record, in no form."""

    def serve(connection: Connection) -> None:
        while True:
            connection.message()
            body = json.dumps({"user": CANARY, "choices": [{"text": "hello", "user": CANARY}]}).encode()
            connection.send(ok(body, b"Content-Type: application/json", f"Set-Cookie: id={CANARY}".encode()))

    redaction = Redaction(headers=("x-tenant",), json=("$.user", "$..user", "$.a[*].secret"))
    with (
        Upstream(serve) as upstream,
        running(upstream.port, redaction=redaction) as proxy,
        connect(proxy.port) as client,
    ):
        body = json.dumps({"user": CANARY, "text": "hello", "a": [{"secret": CANARY}, {"secret": [CANARY]}]}).encode()
        headers = [
            f"{name}: {CANARY}" for name in ("Authorization", "Cookie", "X-Api-Key", "Proxy-Authorization", "X-Other")
        ]
        client.send(post(body, f"/v1/chat?api_key={CANARY}&x=1&TOKEN={CANARY}", "X-Tenant: t-1", *headers))
        answer = client.message()[2]
        assert CANARY.encode() in answer
        assert upstream.received.count(CANARY.encode()) == 9

        copy = proxy.copy()
        proxy.drain()
        raw = repr(proxy.writer.records)
        for form in (CANARY, base64.b64encode(CANARY.encode()).decode().rstrip("="), CANARY.encode().hex()):
            assert form not in raw
        assert copy.headers["x-tenant"] == "t-1"
        assert copy.path == "/v1/chat?api_key=***&x=1&TOKEN=***"
        assert json.loads(copy.body) == {"user": "***", "text": "hello", "a": [{"secret": "***"}, {"secret": "***"}]}


def test_a_copy_that_cannot_be_redacted_is_dropped():
    """A body that should be JSON and is not cannot be masked: served, and not copied."""
    with Upstream(echo) as upstream, running(upstream.port, redaction=Redaction(json=("$.user",))) as proxy:
        ask(proxy, 1, "Content-Type: application/json", body=b'{"user": "x"')
        ask(proxy, 1, "Content-Type: application/json", body=b'{"user": "x"}')
        assert proxy.settled(2) == (1, {"redaction": 1})


REDACTOR = Redactor(Redaction(json=("$.user", "$..key")))


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b'{"user":"u"}', {}, b'{"user":"***"}'),
        (b'{"user":{"key":1}}', {}, b'{"user":"***"}'),
        (b'{"key":{"key":"s"}}', {}, b'{"key":"***"}'),
        (b'{"user":"s","user":"t","b":1}', {}, b'{"user":"***","b":1}'),
        (b'[{"key":"s"}]', {}, b'[{"key":"***"}]'),
        (b"plain", {"content-type": "text/plain"}, b"plain"),
        (b"", {"content-type": "application/json"}, b""),
        (
            b'data: {"key":"s"}\n\ndata: [DONE]\n\n',
            {"content-type": "text/event-stream; charset=utf-8"},
            b'data: {"key":"***"}\n\ndata: [DONE]\n\n',
        ),
        (b'data:{"key":"s"}\r\n\r\n', {"content-type": "text/event-stream"}, b'data: {"key":"***"}\r\n\r\n'),
    ],
)
def test_json_paths_are_masked(body, headers, expected):
    """Every place that a path names is masked, in documents and in event streams."""
    assert REDACTOR.body(body, headers) == expected


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", {}),
        (b'{"a": NaN}', {"content-type": "application/json"}),
        (b"\x1f\x8b", {"content-type": "application/json", "content-encoding": "gzip"}),
        (b'data: {"user":\ndata: "s"}\n\n', {"content-type": "text/event-stream"}),
        (b'{"user":1}\n{"user":2}', {"content-type": "application/x-ndjson"}),
        (b"[" * 100_000, {"content-type": "application/json"}),
        (b'{"a":"\\ud800"}', {"content-type": "application/json"}),
    ],
)
def test_what_cannot_be_read_is_refused(body, headers):
    """A body in which the paths cannot be looked for raises, so that its copy is dropped."""
    with pytest.raises(Unredactable):
        REDACTOR.body(body, headers)


def test_settings_that_would_leak_are_refused():
    """Credentials can be neither a recorded header nor a sampling key, and rates lie in (0, 1]."""
    with pytest.raises(ValueError, match="never recorded"):
        Redaction(headers=("Cookie",))
    with pytest.raises(ValueError, match="credentials"):
        MirrorSettings(("POST",), ("/*",), keys=("header:Authorization",))
    with pytest.raises(ValueError, match="must be in"):
        MirrorSettings(("POST",), ("/*",), sample=0)
    with pytest.raises(ValueError, match="slices_of"):
        MirrorSettings(("POST",), ("/*",), quotas={"a": 1.0})


def test_keys_fall_back_from_session_to_user_to_request():
    """The first header that is there gives the key; a long one is hashed."""
    names = (b"x-session-id", b"x-user-id")
    assert key_of({b"x-session-id": b"s", b"x-user-id": b"u"}, names, "r") == "s"
    assert key_of({b"x-user-id": b"u"}, names, "r") == "u"
    assert key_of({}, names, "r") == "r"
    assert len(key_of({b"x-session-id": b"s" * 1000}, names, "r")) == 32
    assert key_of({b"x-session-id": b"\xff"}, names, "r") == "\xff"


def test_hashes_are_stable_even_and_independent():
    """u and the partition are fixed for all time, spread evenly, and say nothing about each other."""
    assert partition_of("session-7", 8) == 3
    assert u_of("session-7") == 0.28713173104214584
    keys = [f"k-{number}" for number in range(8000)]
    low = [key for key in keys if u_of(key) < 0.25]
    assert 1800 < len(low) < 2200
    counts = [sum(partition_of(key, 4) == partition for key in low) for partition in range(4)]
    assert min(counts) > 400
    assert all(0 <= u_of(key) < 1 for key in keys)


def test_the_highest_rate_wins():
    """The effective rate is the highest of the base and the quotas that apply."""
    assert rate_of(0.1, {"a": 0.5, "b": 0.9}, ["a"]) == 0.5
    assert rate_of(0.6, {"a": 0.5}, ["a"]) == 0.6
    assert rate_of(0.1, {"a": 0.5}, []) == 0.1


@pytest.mark.parametrize(
    ("query", "recorded"),
    [
        ("api_key=secret&q=1", "api_key=***&q=1"),
        ("q=1&API%5FKEY=secret", "q=1&API%5FKEY=***"),
        ("q=1;token=secret;r=2", "q=1;token=***;r=2"),
        ("api_key[]=secret&api_key%5Ba%5D=secret", "api_key[]=***&api_key%5Ba%5D=***"),
        ("token", "token"),
        ("tokens=kept&a=b=token=c", "tokens=kept&a=b=token=c"),
        ("+token=secret", "+token=***"),
    ],
)
def test_credentials_in_a_query_are_masked_however_they_are_written(query, recorded):
    """Encoded names, both separators and brackets; what only looks like one stays."""
    redactor = Redactor(Redaction())
    assert f"/v1/chat?{recorded}" == redactor.target(f"/v1/chat?{query}".encode())


def test_copies_wait_for_the_number_of_partitions_after_the_start():
    """Requests that come before the topic is known are copied once it is, and none is lost."""
    known: list[int] = []
    with Upstream(echo) as upstream, running(upstream.port, partitions=lambda: known[0] if known else None) as proxy:
        ask(proxy, 20)
        known.append(PARTITIONS)
        assert (20, {}) == proxy.settled(20)
        assert 20 == len(proxy.writer.copies())
