"""Inputs 62 to 69: bodies that are captured, and what the comparator's reader makes of the copies."""

from __future__ import annotations

import ast
import gzip
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

import shadow
from shadow.bodies import INFLATED_BYTES_MAX, Unreadable
from shadow.graders.graded import make_graded
from shadow.proxy.config import Redaction
from shadow.records.requests import MirroredRequest
from tests.proxy.inputs.lane import PATIENT
from tests.proxy.kit import Connection, Upstream, connect, get, ok, post, running

BOMB = gzip.compress(bytes(100 << 20), 9)
LAUGHS = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">%b]><l>&z;</l>' % b"".join(
    b'<!ENTITY %c "%b">' % (letter, b"&%c;" % (letter - 1) * 10) for letter in b"bcdefghijklmnopqrstuvwxyz"
)
PART = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nv\r\n'


def exchanged(body: bytes, *headers: bytes) -> MirroredRequest:
    """The copy of an exchange whose request and answer have this body; the client must get it untouched."""

    def serve(connection: Connection) -> None:
        assert body == connection.message()[2]
        connection.send(ok(body, *headers))

    with Upstream(serve) as upstream, running(upstream.port, timeouts=PATIENT) as proxy, connect(proxy.port) as client:
        client.send(post(body, "/", *(header.decode() for header in headers)))
        assert body == client.message()[2]
        copy = proxy.copy()
        assert (body, body) == (copy.body, copy.live.body)
        return copy


def text_of(copy: MirroredRequest) -> str:
    """The text that graders see of the copied answer."""
    live = copy.live
    assert live is not None
    graded = make_graded(
        role="production",
        request=copy,
        outcome=live.outcome,
        status=live.status,
        headers=live.headers,
        body=live.body,
    )
    return graded.text()


def peak_bytes(act: Callable[[], object]) -> int:
    """The most memory that was in use beyond the start."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("body", [pytest.param(BOMB, id="input-62-gzip-bomb")])
def test_bomb_is_never_inflated_by_the_proxy(body: bytes):
    """
    100 MB of zeros pass in their 100 kB, and with paths to mask the copy is dropped and not opened.
    """

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(ok(body, b"Content-Encoding: gzip", b"Content-Type: application/json"))

    def pass_through() -> None:
        with connect(proxy.port) as client:
            client.send(get())
            assert body == client.message()[2]
            assert (0, {"redaction": 1}) == proxy.settled(1)

    masked = Redaction(json=("$.secret",))
    with Upstream(serve) as upstream, running(upstream.port, redaction=masked, timeouts=PATIENT) as proxy:
        assert peak_bytes(pass_through) < 16 << 20


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        pytest.param(BOMB, b"gzip", id="input-63-gzip-bomb"),
        pytest.param(gzip.compress(gzip.compress(BOMB)), b"gzip, gzip, gzip", id="input-64-bomb-in-three-layers"),
    ],
)
def test_bomb_is_inflated_to_its_limit_only(body: bytes, encoding: bytes):
    """
    The reader stops at 1 MiB, says so, and needs little more memory than that.
    """
    copy = exchanged(body, b"Content-Encoding: " + encoding)

    def read() -> None:
        with pytest.raises(Unreadable, match=f"inflates to more than {INFLATED_BYTES_MAX:,} bytes"):
            text_of(copy)

    assert peak_bytes(read) < 8 << 20


@pytest.mark.parametrize("layers", [pytest.param(4, id="input-64-four-layers")])
def test_too_many_layers_are_refused(layers: int):
    """
    A body that was encoded four times is not read, and the reason says the number.
    """
    body = b"hello"
    for _ in range(layers):
        body = gzip.compress(body)
    copy = exchanged(body, b"Content-Encoding: " + b", ".join([b"gzip"] * layers))
    with pytest.raises(Unreadable, match="encoded 4 times"):
        text_of(copy)


@pytest.mark.parametrize(
    ("body", "headers", "text"),
    [
        pytest.param(b"plain", (b"Content-Encoding: gzip",), "plain", id="input-65-plain-called-gzip"),
        pytest.param(b"plain", (b"Content-Encoding: deflate",), "plain", id="input-65-plain-called-deflate"),
        pytest.param(
            gzip.compress(b"plain", mtime=0)[:15],
            (b"Content-Encoding: gzip",),
            "plai",
            id="input-65-gzip-is-read-as-far-as-it-goes",
        ),
        pytest.param(LAUGHS, (b"Content-Type: application/xml",), LAUGHS.decode(), id="input-66-billion-laughs"),
        pytest.param(
            PART * 10_000 + b"--x--\r\n",
            (b"Content-Type: multipart/form-data; boundary=x",),
            (PART * 10_000 + b"--x--\r\n").decode(),
            id="input-67-10000-parts",
        ),
        pytest.param(b"a\xff\xfeb\xc3", (), "a\ufffd\ufffdb\ufffd", id="input-68-invalid-utf-8"),
        pytest.param(b"\xed\xa0\x80", (), "\ufffd\ufffd\ufffd", id="input-68-surrogate-in-utf-8"),
        pytest.param(b"\xff\xfea\x00b\x00", (), "ab", id="input-68-utf-16-little-endian"),
        pytest.param(b"\xfe\xff\x00a\x00b", (), "ab", id="input-68-utf-16-big-endian"),
        pytest.param(b"\xff\xfea\x00b", (), "a\ufffd", id="input-68-utf-16-cut-short"),
        pytest.param(b"\xef\xbb\xbfab", (), "ab", id="input-68-utf-8-with-a-mark"),
    ],
)
def test_body_passes_untouched_and_is_read_as_text(body: bytes, headers: tuple[bytes, ...], text: str):
    """
    Both peers and the copy get the same bytes, whatever they are, and the reader makes the table's text of them.
    """
    assert text == text_of(exchanged(body, *headers))


@pytest.mark.parametrize("name", [pytest.param(name, id=f"input-66-no-{name}") for name in ("xml", "zipfile")])
def test_no_reader_of_dangerous_formats_is_there(name: str):
    """
    No module of ours imports a parser of XML or an opener of archives.
    """
    paths = [path for path in Path(shadow.__file__).parent.rglob("*.py") if name in imported(path)]
    assert [] == paths


def imported(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize(
    ("request_size", "answer_size", "result"),
    [
        pytest.param(1000, 1000, (1, {}), id="input-69-both-at-the-cap"),
        pytest.param(1001, 1000, (0, {"too_large": 1}), id="input-69-request-beyond"),
        pytest.param(1000, 1001, (0, {"too_large": 1}), id="input-69-answer-beyond"),
        pytest.param(1001, 1001, (0, {"too_large": 1}), id="input-69-both-beyond"),
    ],
)
def test_cap_is_inclusive_and_the_live_bodies_are_whole(
    request_size: int, answer_size: int, result: tuple[int, dict[str, int]]
):
    """
    A body of the cap's size is copied, one byte more is not; the peers get every byte in any case.
    """

    def serve(connection: Connection) -> None:
        assert request_size == len(connection.message()[2])
        connection.send(ok(b"b" * answer_size))

    capped = {"body_bytes_max": 1000}
    with Upstream(serve) as upstream, running(upstream.port, mirror=capped) as proxy, connect(proxy.port) as client:
        client.send(post(b"a" * request_size))
        assert b"b" * answer_size == client.message()[2]
        assert result == proxy.settled(1)
