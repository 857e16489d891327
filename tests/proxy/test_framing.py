"""Messages on whose boundaries two readers could disagree: refused, and never seen by the upstream."""

from __future__ import annotations

import pytest

from shadow.proxy.config import Limits, Timeouts
from shadow.proxy.framing import ChunkedReader
from shadow.proxy.heads import Rejected
from tests.proxy.kit import Connection, Upstream, connect, echo, get, post, running, wait_for

HOST = b"Host: a\r\n"


def posted(*fields: bytes, body: bytes = b"", host: bytes = HOST, version: bytes = b"1.1") -> bytes:
    return b"POST / HTTP/%b\r\n%b%b\r\n%b" % (version, host, b"".join(field + b"\r\n" for field in fields), body)


def chunked(body: bytes) -> bytes:
    return posted(b"Transfer-Encoding: chunked", body=body)


def got(*fields: bytes, host: bytes = HOST, target: bytes = b"/") -> bytes:
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (target, host, b"".join(field + b"\r\n" for field in fields))


REFUSED = {
    "1 length and chunked": (posted(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), {400}),
    "1 chunked and length": (posted(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), {400}),
    "2 two lengths": (posted(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), {400}),
    "2 two equal lengths": (posted(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), {400}),
    "3 list of lengths": (posted(b"Content-Length: 5, 5", body=b"hello"), {400}),
    "4 plus": (posted(b"Content-Length: +5", body=b"hello"), {400}),
    "5 minus": (posted(b"Content-Length: -1", body=b"hello"), {400}),
    "6 hexadecimal": (posted(b"Content-Length: 0x5", body=b"hello"), {400}),
    "7 space within": (posted(b"Content-Length: 5 5", body=b"hello"), {400}),
    "8 twenty digits": (posted(b"Content-Length: 18446744073709551617", body=b"h"), {400}),
    "8 many zeros": (posted(b"Content-Length: " + b"0" * 40 + b"5", body=b"hello"), {400}),
    "9 arabic digit": (posted("Content-Length: \u0665".encode(), body=b"hello"), {400}),
    "9 underscore": (posted(b"Content-Length: 1_0", body=b"helloworld"), {400}),
    "9 empty": (posted(b"Content-Length: ", body=b"hello"), {400}),
    "10 xchunked": (posted(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), {400}),
    "11 chunked, identity": (posted(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), {400}),
    "11 gzip, chunked": (posted(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), {400}),
    "11 identity": (posted(b"Transfer-Encoding: identity"), {400}),
    "11 empty": (posted(b"Transfer-Encoding: ", body=b"0\r\n\r\n"), {400}),
    "12 chunked twice": (
        posted(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        {400},
    ),
    "12 chunked, chunked": (posted(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), {400}),
    "13 vertical tab": (posted(b"Transfer-Encoding:\x0bchunked", body=b"0\r\n\r\n"), {400}),
    "13 quoted": (posted(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), {400}),
    "14 space before colon": (posted(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), {400}),
    "14 tab before colon": (posted(b"Content-Length\t: 5", body=b"hello"), {400}),
    "15 folded line": (posted(b"X: a\r\n b"), {400}),
    "15 folded length": (posted(b"Content-Length:\r\n 5", body=b"hello"), {400}),
    "15 leading space": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", {400}),
    "16 bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", {400}),
    "16 bare LF between fields": (got(b"X: a\nY: b"), {400}),
    "16 bare LF at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", {400}),
    "17 bare CR": (got(b"X: a\rY: b"), {400}),
    "17 CR CR LF": (got(b"X: a\r"), {400}),
    "18 NUL": (got(b"X: a\x00b"), {400}),
    "18 BEL": (got(b"X: a\x07b"), {400}),
    "18 DEL": (got(b"X: a\x7fb"), {400}),
    "19 odd name": (got(b"X[1]: a"), {400}),
    "19 empty name": (got(b": a"), {400}),
    "19 no colon": (got(b"nothing"), {400}),
    "19 name beyond ASCII": (got(b"X\xe9: a"), {400}),
    "20 chunked on 1.0": (posted(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", version=b"1.0"), {400}),
    "21 +5": (chunked(b"+5\r\nhello\r\n0\r\n\r\n"), {400}),
    "21 -5": (chunked(b"-5\r\nhello\r\n0\r\n\r\n"), {400}),
    "21 0x5": (chunked(b"0x5\r\nhello\r\n0\r\n\r\n"), {400}),
    "21 5 ;x": (chunked(b"5 ;x\r\nhello\r\n0\r\n\r\n"), {400}),
    "21 leading space": (chunked(b" 5\r\nhello\r\n0\r\n\r\n"), {400}),
    "21 17 digits": (chunked(b"00000000000000005\r\nhello\r\n0\r\n\r\n"), {400}),
    "21 empty size": (chunked(b"\r\nhello\r\n0\r\n\r\n"), {400}),
    "22 no CR LF behind data": (chunked(b"5\r\nhelloXX0\r\n\r\n"), {400}),
    "22 LF behind data": (chunked(b"5\r\nhello\n0\r\n\r\n"), {400}),
    "23 size ends in LF": (chunked(b"0\n\r\n"), {400}),
    "23 bare CR": (chunked(b"5\rhello\r\n0\r\n\r\n"), {400}),
    "24 long extension": (chunked(b"5;" + b"x" * 4097 + b"\r\nhello\r\n0\r\n\r\n"), {400}),
    "25 many extensions": (chunked((b"1;" + b"x" * 3000 + b"\r\na\r\n") * 22 + b"0\r\n\r\n"), {400}),
    "25 NUL in extension": (chunked(b"5;\x00\r\nhello\r\n0\r\n\r\n"), {400}),
    "26 length in trailer": (chunked(b"0\r\nContent-Length: 5\r\n\r\n"), {400}),
    "26 encoding in trailer": (chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n"), {400}),
    "26 host in trailer": (chunked(b"0\r\nHost: b\r\n\r\n"), {400}),
    "26 odd trailer": (chunked(b"0\r\nX : b\r\n\r\n"), {400}),
    "26 bare LF in trailer": (chunked(b"0\r\nX: b\n\r\n"), {400}),
    "29 no host": (got(host=b""), {400}),
    "29 two hosts": (got(b"Host: b"), {400}),
    "29 two equal hosts": (got(b"Host: a"), {400}),
    "29 host with a space": (got(host=b"Host: a b\r\n"), {400}),
    "29 host with userinfo": (got(host=b"Host: u@a\r\n"), {400}),
    "29 host with a path": (got(host=b"Host: a/b\r\n"), {400}),
    "29 empty host": (got(host=b"Host: \r\n"), {400}),
    "30 userinfo in target": (got(target=b"http://u:p@b/"), {400}),
    "31 CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", {405}),
    "32 asterisk with GET": (got(target=b"*"), {400}),
    "33 no slash": (got(target=b"index.html"), {400}),
    "33 other scheme": (got(target=b"ftp://a/"), {400}),
    "33 fragment": (got(target=b"/a#b"), {400}),
    "34 space in target": (got(target=b"/a b"), {400}),
    "34 tab in target": (got(target=b"/a\tb"), {400}),
    "34 NUL in target": (got(target=b"/a\x00b"), {400}),
    "34 beyond ASCII": (got(target=b"/\xe9"), {400}),
    "34 two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    "35 long target": (got(target=b"/" + b"a" * 8192), {414}),
    "36 large head": (got(*[b"X-%d: %b" % (n, b"a" * 700) for n in range(50)]), {431}),
    "36 many fields": (got(*[b"X-%d: a" % n for n in range(100)]), {431}),
    "37 HTTP/0.9": (b"GET /\r\n\r\n", {400, 505}),
    "37 HTTP/1.10": (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", {400, 505}),
    "37 HTTP/2.0": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", {505}),
    "37 HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", {505}),
    "37 PRI": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {505}),
    "37 http/1.1": (b"GET / http/1.1\r\nHost: a\r\n\r\n", {400}),
    "37 HTTP /1.1": (b"GET / HTTP /1.1\r\nHost: a\r\n\r\n", {400}),
    "38 lower-case method": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", {501}),
    "38 long method": (b"A" * 40 + b" / HTTP/1.1\r\nHost: a\r\n\r\n", {501}),
    "38 odd method": (b"GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    "39 connection lists length": (posted(b"Connection: content-length", b"Content-Length: 5", body=b"hello"), {400}),
    "39 connection lists host": (got(b"Connection: close, Host"), {400}),
    "39 connection lists encoding": (got(b"Connection: transfer-encoding"), {400}),
    "39 odd connection": (got(b'Connection: "close"'), {400}),
    "40 underscore": (got(b"X_Forwarded_For: 1.2.3.4"), {400}),
    "40 Content_Length": (got(b"Content_Length: 5"), {400}),
    "42 other expectation": (posted(b"Expect: 200-ok", b"Content-Length: 5", body=b"hello"), {417}),
    "44 TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), {400}),
    "45 PROXY v1": (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", {400}),
    "45 PROXY v2": (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12), {400}),
    "46 three empty lines": (b"\r\n\r\n\r\n" + got(), {400}),
}


@pytest.fixture(scope="module")
def lane():
    """One proxy and one upstream for all inputs of this file."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy:
        yield upstream, proxy


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_and_the_upstream_sees_nothing(lane, name):
    """The client gets a status of 400 and above and a closed connection; no byte reaches the upstream."""
    upstream, proxy = lane
    raw, statuses = REFUSED[name]
    before = len(upstream.received)
    with connect(proxy.port) as client:
        client.send(raw)
        answer = client.rest()

    assert int(answer.split(b" ")[1]) in statuses
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer
    assert len(upstream.received) == before


@pytest.mark.parametrize("name", [name for name in REFUSED if name[:2] not in ("44", "45")])
def test_is_refused_when_it_comes_byte_by_byte(lane, name):
    """The same bytes in pieces of 1 to 7 get the same refusal, and never a whole request upstream."""
    upstream, proxy = lane
    raw, statuses = REFUSED[name]
    before = sum(connection.received.count(b"\r\n0\r\n") for connection in upstream.connections)
    with connect(proxy.port) as client:
        step = 1 if len(raw) < 200 else 701
        try:
            for index in range(0, len(raw), step):
                client.send(raw[index : index + step])
            answer = client.rest()
        except ConnectionError:
            answer = bytes(client.received)
    assert int(answer.split(b" ")[1]) in statuses
    assert sum(connection.received.count(b"\r\n0\r\n") for connection in upstream.connections) == before


def test_refusals_are_not_live_requests():
    """What is refused is counted by status, and nowhere else."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy:
        for _ in range(3):
            with connect(proxy.port) as client:
                client.send(got(host=b""))
                client.rest()
        assert proxy.totals() == (0, 0, {})
        assert proxy.snapshot().counters.malformed == {400: 3}


def test_a_body_that_ends_early_is_aborted():
    """A body shorter than its length (input 27) never becomes a whole request."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy:
        with connect(proxy.port) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        assert proxy.settled(1) == (0, {"aborted": 1})


def test_bytes_behind_the_last_request_are_ignored():
    """What follows a request with Connection: close (input 28) is no request."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get("/", "Connection: close") + get("/smuggled"))
        assert client.rest().count(b"HTTP/1.1 200") == 1
        assert b"smuggled" not in upstream.received


def test_two_empty_lines_are_skipped():
    """Up to two empty lines may stand before a request (input 46)."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"\r\n\r\n" + get())
        assert client.message()[2] == b"fine"


def test_a_refusal_within_a_body_ends_the_upstreams_connection():
    """A broken chunk behind a good one (input 22) gives 400, and the upstream sees the request break off."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(chunked(b"5\r\nhello\r\n"))
        wait_for(lambda: b"hello" in upstream.received)
        client.send(b"zz\r\n")
        assert client.rest().startswith(b"HTTP/1.1 400 ")
        assert upstream.connections[0].ended.wait(10)
        assert b"\r\n0\r\n" not in upstream.received
        assert proxy.totals() == (0, 0, {})


def test_hidden_upgrade_is_not_passed():
    """Upgrade: h2c and websocket (input 43) reach the upstream as plain requests."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAA"))
        assert client.message()[2] == b"fine"
        client.send(posted(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 5", body=b"hello"))
        assert client.message()[2] == b"hello"
        assert b"pgrade" not in upstream.received


def test_slow_heads_and_bodies_time_out():
    """A head or a body that stands still (inputs 47 and 48) gets 408, while others are served."""
    times = Timeouts(head_s=0.2, body_s=0.2, linger_s=0.2)
    with Upstream(echo) as upstream, running(upstream.port, timeouts=times) as proxy:
        with connect(proxy.port) as head, connect(proxy.port) as body, connect(proxy.port) as other:
            head.send(b"GET / HTTP/1.1\r\nHo")
            body.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
            other.send(get())
            assert other.message()[2] == b"fine"
            assert head.rest().startswith(b"HTTP/1.1 408 ")
            assert body.rest().startswith(b"HTTP/1.1 408 ")
        assert proxy.settled(2)[1] == {"aborted": 1}


HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("sent", "later", "status"),
    [
        (HEAD, b"", 408),
        (HEAD + b"\r\n5\r\nhe", b"", 408),
        (HEAD + b"\r\n5\r\nhe", b"llo no\r\n", 400),
        (HEAD + b"\r\nno\r\n", b"", 400),
        (HEAD + b"no\r\n\r\n", b"", 400),
        (b"\r\n" + HEAD + b"no\r\n\r\n", b"", 400),
        (HEAD, b"no\r\n\r\n", 400),
    ],
    ids=[
        "slow head",
        "slow body",
        "late malformed body",
        "malformed body",
        "malformed head",
        "malformed head behind an empty line",
        "late malformed head",
    ],
)
def test_a_refusal_of_head_has_no_body(sent: bytes, later: bytes, status: int):
    """
    Whatever is wrong with a HEAD request, and however late it is found, its answer ends with the head (RFC 9110 9.3.2).
    """
    times = Timeouts(head_s=0.2, body_s=0.2, linger_s=0.2)
    with Upstream(echo) as upstream, running(upstream.port, timeouts=times) as proxy, connect(proxy.port) as client:
        client.send(sent)
        if later:
            client.send(later)
        answer = client.rest()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.endswith(b"\r\n\r\n")


def test_idle_clients_are_let_go():
    """A connection without a request is closed after the idle limit."""
    times = Timeouts(idle_s=0.2, linger_s=0.2)
    with Upstream(echo) as upstream, running(upstream.port, timeouts=times) as proxy, connect(proxy.port) as client:
        assert client.rest() == b""


def test_connections_beyond_the_bound_get_503():
    """The bound on connections is kept, and those within it are served."""
    limits = Limits(connections_max=1)
    with Upstream(echo) as upstream, running(upstream.port, limits=limits) as proxy, connect(proxy.port) as first:
        first.send(get())
        first.message()
        with connect(proxy.port) as second:
            assert second.rest().startswith(b"HTTP/1.1 503 ")
        first.send(get())
        assert first.message()[2] == b"fine"


BROKEN_ANSWERS = {
    "52 length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "53 two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "53 odd length": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "57 many interim answers": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000
    + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "58 unasked switch": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "59 large head": b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n",
    "60 CR in a value": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "60 bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "garbage": b"what is this\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "odd status": b"HTTP/1.1 2000 OK\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nX: ",
    "nothing": b"",
    "odd encoding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello",
}


@pytest.mark.parametrize("name", BROKEN_ANSWERS)
def test_broken_answers_give_502(name):
    """An answer that cannot be read for certain is 502, and its connection is not used again."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(BROKEN_ANSWERS[name])

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(post(b"x"))
        while True:
            line, _, _ = client.message(has_body=False)
            if " 103 " not in line:
                break
        assert line == "HTTP/1.1 502 Bad Gateway"
        assert proxy.copy().live.outcome == "error"
        assert proxy.snapshot().idle_upstream == 0


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_surplus_bytes_are_nobodys_answer(method):
    """Bytes behind an answer (input 54) never become the next client's."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfineHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        )
        connection.rest()

    with Upstream(serve) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        for _ in range(2):
            client.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert client.message(has_body=method == "GET")[2] == (b"fine" if method == "GET" else b"")
        assert len(upstream.connections) == 2


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_chunks_are_read_the_same_however_they_are_cut(step):
    """The payload, the rest and the trailer do not depend on the sizes of the reads."""
    message = b"5;a=b\r\nhello\r\n00A\r\n0123456789\r\n0\r\nX: 1\r\nY: 2\r\n\r\nREST"
    reader = ChunkedReader(Limits())
    payload, rest = b"", None
    for index in range(0, len(message), step):
        piece = message[index : index + step]
        if rest is not None:
            rest += piece
            continue
        pieces, rest = reader.feed(piece)
        payload += b"".join(pieces)
    assert (payload, rest) == (b"hello0123456789", b"REST")
    assert reader.trailers == [(b"X", b"x", b"1"), (b"Y", b"y", b"2")]


def test_a_chunk_extension_without_an_end_is_refused():
    """An extension that never ends is not collected beyond its bound."""
    reader = ChunkedReader(Limits())
    with pytest.raises(Rejected):
        for _ in range(10_000):
            reader.feed(b"5;" if not reader._held else b"x")


def test_a_trailer_is_held_to_the_names_of_a_head():
    """Of a request, names with an underscore are refused, as in its head; credentials are left out on both sides."""
    last = b"0\r\nX-Sum: 1\r\nAuthorization: Bearer secret\r\n\r\n"
    reader = ChunkedReader(Limits(), is_request=True)
    assert reader.feed(last) == ([], b"")
    assert [(b"X-Sum", b"x-sum", b"1")] == reader.trailers
    with pytest.raises(Rejected, match="X_Sum has an underscore"):
        ChunkedReader(Limits(), is_request=True).feed(b"0\r\nX_Sum: 1\r\n\r\n")
    assert ChunkedReader(Limits()).feed(b"0\r\nX_Sum: 1\r\n\r\n") == ([], b"")


def test_a_refused_head_request_gets_no_body():
    """RFC 9110, section 9.3.2: an answer to HEAD has none, whoever gives it."""
    with Upstream(echo) as upstream, running(upstream.port) as proxy, connect(proxy.port) as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n")
        assert client.rest().endswith(b"Connection: close\r\n\r\n")
