"""Every bad request by its number: what its client saw, and what the upstream saw."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.proxy.inputs.case import FINE, Case, chunked, each, sized
from tests.proxy.inputs.lane import Lane, recording
from tests.proxy.inputs.requests_framing import FRAMING
from tests.proxy.inputs.requests_heads import HEADS
from tests.proxy.inputs.requests_more import MORE
from tests.proxy.kit import connect, get


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    """One proxy and one upstream for all cases."""
    with recording() as ready:
        yield ready


@pytest.mark.parametrize("case", each((*FRAMING, *HEADS, *MORE)))
def test_client_and_upstream_see_what_the_table_says(lane: Lane, case: Case):
    """
    The client gets the table's answers and an open or a closed connection, the upstream the table's requests.
    """
    requests, sizes = len(lane.seen), lane.sizes()
    with connect(lane.proxy.port) as client:
        client.send(case.sent)
        statuses = tuple(int(client.message()[0].split(" ")[1]) for _ in case.statuses)
        if case.closes:
            assert b"" == client.rest()
        else:
            client.send(get("/mark-on"))
            assert FINE == client.message()[2]
    lane.mark()
    forwarded = lane.bytes_since(sizes).partition(b"/mark-")[0]

    assert case.statuses == statuses
    assert case.upstream == lane.since(requests)
    if not case.upstream:
        assert forwarded in (b"", b"GET ")
    for line in case.lines:
        assert b"\r\n" + line + b"\r\n" in forwarded
    for text in case.gone:
        assert text not in forwarded.lower()


@pytest.mark.parametrize("case", each(case for case in (*FRAMING, *HEADS, *MORE) if len(case.sent) < 200))
def test_nothing_changes_when_it_comes_byte_by_byte(lane: Lane, case: Case):
    """
    The same bytes one at a time give the same statuses, and the upstream reads the same whole requests.
    """
    requests = len(lane.seen)
    with connect(lane.proxy.port) as client:
        for at in range(len(case.sent)):
            client.send(case.sent[at : at + 1])
        statuses = tuple(int(client.message()[0].split(" ")[1]) for _ in case.statuses)
    lane.mark()

    assert case.statuses == statuses
    assert case.upstream == lane.since(requests)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(sized(b"10"), id="input-27-length"),
        pytest.param(chunked(b"5\r\nhello\r\n"), id="input-27-no-last-chunk"),
        pytest.param(chunked(b"5\r\nhe"), id="input-27-within-a-chunk"),
        pytest.param(chunked(b"5\r\nhello\r\n0\r\n"), id="input-27-no-last-line"),
    ],
)
def test_a_body_that_is_cut_short_is_never_a_request(lane: Lane, sent: bytes):
    """
    A client that ends its side within a body (RFC 9112 8) gets no answer, and the upstream reads no whole request.
    """
    requests = len(lane.seen)
    aborted = lane.dropped("aborted")
    with connect(lane.proxy.port) as client:
        client.send(sent)
        client.peer.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            client.rest()
        assert b"" == bytes(client.received)
    lane.mark()

    assert () == lane.since(requests)
    assert aborted + 1 == lane.dropped("aborted")
