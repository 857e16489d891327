"""Properties of the reader of heads, on seeded mutations of good ones."""

from __future__ import annotations

import random

import pytest

from shadow.proxy.config import APPEND, Limits
from shadow.proxy.framing import ChunkedReader
from shadow.proxy.heads import Hop, Rejected, RequestHead, answer_head, check_start, forwarded_request, request_head

LIMITS = Limits()
HOP = Hop(b"192.0.2.1", b"http", APPEND)
SEEDS = [
    b"POST /v1/chat?x=1 HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 5\r\nX-Session-Id: s\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Y\r\nX-Y: 1\r\nTE: trailers\r\n\r\n",
    b"PUT http://b/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\nUser-Agent: x\r\n\r\n",
]
SPLICES = [b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x00", b":", b",", b"0", b"\xff", b"Content-Length: 5\r\n"]
SPLICES += [
    b"Transfer-Encoding: chunked\r\n",
    b"chunked",
    b"Host: b\r\n",
    b"\x0b",
    b";",
    b"_",
    b"Connection: close\r\n",
]


def mutated(chance: random.Random, seed: bytes) -> bytes:
    raw = bytearray(seed)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(raw) + 1)
        kind = chance.randrange(3)
        if kind == 0:
            raw[at:at] = chance.choice(SPLICES)
        elif kind == 1:
            del raw[at : at + chance.randint(1, 4)]
        elif raw:
            raw[at % len(raw)] = chance.randrange(256)
    return bytes(raw)


def forwarded(head: RequestHead) -> bytes:
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    return forwarded_request(head, host=b"up:80", via=b"shadow-1", hop=HOP, request_id=b"r", traceparent=trace)


def test_mutated_requests_are_refused_or_mean_the_same_when_forwarded():
    """Of 30,000 mutations none raises anything else, and what is forwarded is read back with the same boundaries."""
    chance = random.Random(7)
    accepted = 0
    for _ in range(30_000):
        raw = mutated(chance, chance.choice(SEEDS))
        end = raw.find(b"\r\n\r\n") + 4
        try:
            if end == 3:
                check_start(raw, LIMITS)
                continue
            head = request_head(raw[:end], LIMITS)
        except Rejected as rejected:
            assert 400 <= rejected.status <= 599
            continue
        accepted += 1
        again = request_head(forwarded(head), LIMITS)
        assert (head.method, head.target, head.content_length, head.is_chunked) == (
            again.method,
            again.target,
            again.content_length,
            again.is_chunked,
        )
        assert forwarded(head).count(b"\r\n\r\n") == 1
        assert again.host == (head.host or b"up:80")
        # Whoever reads leniently finds the fields once, too.
        for name in (b"\r\ncontent-length:", b"\r\ntransfer-encoding:", b"\r\nhost:"):
            assert forwarded(head).lower().count(name) <= 1
    assert accepted > 3000


def test_mutated_answers_are_refused_or_read():
    """Of 20,000 mutated answers none raises anything but a refusal with 502."""
    chance = random.Random(8)
    seed = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
    for _ in range(20_000):
        raw = mutated(chance, seed)
        end = raw.find(b"\r\n\r\n") + 4
        if end == 3:
            continue
        try:
            answer_head(raw[:end])
        except Rejected as rejected:
            assert rejected.status == 502


def test_mutated_chunks_are_refused_or_read_the_same_at_any_cut():
    """Of 20,000 mutated bodies each gives one result, read whole or byte by byte."""
    chance = random.Random(9)
    seed = b"5;a\r\nhello\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n"

    def read(raw: bytes, step: int) -> tuple[bytes, bytes] | str | None:
        reader, payload = ChunkedReader(LIMITS), b""
        for at in range(0, len(raw), step):
            try:
                pieces, rest = reader.feed(raw[at : at + step])
            except Rejected:
                return "refused"
            payload += b"".join(pieces)
            if rest is not None:
                return payload, rest + raw[at + step :]
        return None

    for _ in range(20_000):
        raw = mutated(chance, seed)
        assert read(raw, len(raw)) == read(raw, 1)


@pytest.mark.parametrize("listed", ["X-A", "x-a, x-b", "close, X-A", ",X-A,"])
def test_listed_fields_go(listed):
    """Fields that Connection names are for this hop only (input 39)."""
    raw = f"GET / HTTP/1.1\r\nHost: a\r\nConnection: {listed}\r\nX-A: 1\r\nX-B: 2\r\n\r\n".encode()
    assert b"x-a" not in forwarded(request_head(raw, LIMITS)).lower()
