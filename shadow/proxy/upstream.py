"""A connection to an upstream: one answer at a time, read strictly; and the address that it goes to."""

from __future__ import annotations

import asyncio
import re
import select
from collections import deque
from typing import Final, Protocol, cast

from shadow.proxy.config import Limits, Timeouts
from shadow.proxy.framing import BodyReader, ChunkedReader, CloseReader, LengthReader
from shadow.proxy.heads import AnswerHead, Field, Rejected, answer_head

_FRESH_S: Final = 0.05
"""An idle connection younger than this is not asked whether its peer has closed it."""
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")


class AnswerTaker(Protocol):
    """Who waits for an answer."""

    @property
    def method(self) -> bytes: ...
    @property
    def upgrades(self) -> bool:
        """Whether it asked for a WebSocket."""
        ...

    @property
    def is_sent(self) -> bool:
        """Whether the whole request was given to the connection."""
        ...

    def connected(self, connection: UpstreamConnection) -> None: ...
    def failed(self, status: int, kind: str, reason: str) -> None:
        """No answer will come, or not all of it."""
        ...

    def lost_before_answer(self) -> None:
        """The connection ended before the first byte of an answer."""
        ...

    def interim(self, head: AnswerHead) -> None: ...
    def upgraded(self, connection: UpstreamConnection, head: AnswerHead, behind: bytes) -> None:
        """The connection is a tunnel from here on, and the taker's; `behind` are its first bytes."""
        ...

    def answer_begins(self, head: AnswerHead, *, has_body: bool) -> None: ...
    def answer_pieces(self, pieces: list[bytes]) -> None: ...
    def answer_ends(self, trailers: list[Field]) -> None: ...
    def flush(self) -> None:
        """All of one read was given."""
        ...

    def upstream_blocks(self, is_blocked: bool) -> None: ...


class Address:
    """One socket address of the upstream.

    Args:
        name: The endpoint's host, for TLS.
    """

    __slots__ = ("dialing", "failures", "host", "idle", "name", "open", "out_until_s", "port")

    def __init__(self, host: str, port: int, name: str) -> None:
        self.host = host
        self.port = port
        self.name = name
        self.idle: deque[UpstreamConnection] = deque()
        self.open: set[UpstreamConnection] = set()
        self.dialing = 0
        self.failures = 0
        self.out_until_s = 0.0

    @property
    def busy(self) -> int:
        """Requests that it answers, or is about to."""
        return len(self.open) - len(self.idle) + self.dialing

    def close_idle(self) -> None:
        """Close the connections that wait for use."""
        while self.idle:
            self.idle.popleft().abort()


class Keeper(Protocol):
    """Who keeps the connections, as a connection needs it."""

    limits: Limits
    timeouts: Timeouts

    def opened(self, connection: UpstreamConnection) -> None: ...
    def closed(self, connection: UpstreamConnection) -> None: ...
    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose answer is complete."""
        ...

    def blame(self, connection: UpstreamConnection) -> None:
        """Count a connection that ended without an answer, or with what is none."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """One connection. `taker` is whoever waits for the answer; None while idle."""

    __slots__ = (
        "_checked",
        "_fd",
        "_got_bytes",
        "_has_eof",
        "_head",
        "_held",
        "_interims",
        "_keeper",
        "_reader",
        "address",
        "idle_since",
        "is_reused",
        "taker",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, keeper: Keeper, address: Address) -> None:
        self._keeper = keeper
        self.address = address
        self._fd = -1
        self._held = b""
        self._checked = 0
        self._head: AnswerHead | None = None
        self._reader: BodyReader | None = None
        self._interims = 0
        self._got_bytes = False
        self._has_eof = False
        self.idle_since = 0.0
        self.is_reused = False
        self.taker: AnswerTaker | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # uvloop's transports have the methods, and another ancestor.
        self.transport = cast(asyncio.Transport, transport)
        self._fd = transport.get_extra_info("socket").fileno()
        self.transport.set_write_buffer_limits(high=self._keeper.limits.buffer_bytes_max)
        self._keeper.opened(self)

    def attach(self, taker: AnswerTaker) -> None:
        """Begin to wait for an answer."""
        self.taker = taker
        self._got_bytes = False
        self._interims = 0

    def abort(self) -> None:
        """Close at once; nobody is told."""
        self.taker = None
        self.transport.abort()

    def is_usable(self, now_s: float) -> bool:
        """Whether an idle connection can still carry a request, as far as can be seen from here."""
        if self.transport.is_closing():
            return False
        age_s = now_s - self.idle_since
        if age_s > self._keeper.timeouts.upstream_idle_s:
            return False
        return age_s < _FRESH_S or not _has_input(self._fd)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        taker = self.taker
        if taker is None:
            self.transport.abort()  # Nobody asked, so it could only be taken for the next request's answer.
            return
        self._got_bytes = True
        try:
            self._read(taker, data)
        except Rejected as rejected:
            self._keeper.blame(self)
            self.abort()
            taker.failed(502, "broken", rejected.reason)

    def _read(self, taker: AnswerTaker, data: bytes) -> None:
        if self._head is None:
            rest = self._read_head(taker, data)
            if rest is None or self.taker is not taker:
                return
            if self._reader is None:
                self._end(taker, rest)
                return
            data = rest
        assert self._reader is not None
        pieces, behind = self._reader.feed(data) if data else ([], None)
        if pieces:
            taker.answer_pieces(pieces)
        if behind is not None and self.taker is taker:
            self._end(taker, behind)
        else:
            taker.flush()

    def _read_head(self, taker: AnswerTaker, data: bytes) -> bytes | None:
        """Bytes behind the final head, None while it has not come."""
        if self._held:
            data, self._held = self._held + data, b""
        limits = self._keeper.limits
        while data:
            end = data.find(b"\r\n\r\n", max(0, self._checked - 3)) + 4
            if end == 3 or end > limits.answer_head_bytes_max:
                _check_start(data, limits.answer_head_bytes_max, self._checked)
                self._held, self._checked = data, len(data)
                return None
            self._checked = 0
            head = answer_head(data[:end])
            data = data[end:]
            if head.status >= 200:
                self._begin(taker, head)
                return data
            if head.status == 101 and head.upgrades and taker.upgrades:
                self.taker = None
                taker.upgraded(self, head, data)
                return None
            self._interims += 1
            if head.status == 101 or self._interims > limits.interim_answers_max:
                raise Rejected(502, f"The upstream sent {self._interims} interim answers, the last one {head.status}.")
            taker.interim(head)
            if self.taker is not taker:
                return None
        return None

    def _begin(self, taker: AnswerTaker, head: AnswerHead) -> None:
        self._head = head
        self._reader = None
        if taker.method != b"HEAD" and head.status not in (204, 304):
            if head.is_chunked:
                self._reader = ChunkedReader(self._keeper.limits)
            elif head.content_length is None:
                self._reader = CloseReader()
            elif head.content_length:
                self._reader = LengthReader(head.content_length)
        has_body = taker.method != b"HEAD" and head.status not in (204, 304)
        taker.answer_begins(head, has_body=has_body)

    def _end(self, taker: AnswerTaker, behind: bytes) -> None:
        head, reader = self._head, self._reader
        assert head is not None
        trailers = reader.trailers if isinstance(reader, ChunkedReader) else []
        self.taker = self._head = self._reader = None
        if head.keeps_alive and not behind and taker.is_sent and not self.transport.is_closing():
            self._keeper.give_back(self)
        else:
            # What follows the answer belongs to nobody; what was not sent of the request cannot be taken back.
            self.transport.abort()
        taker.answer_ends(trailers)

    def eof_received(self) -> bool:
        """See asyncio."""
        self._has_eof = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._keeper.closed(self)
        taker, self.taker = self.taker, None
        if taker is None:
            return
        if self._head is None:
            if not self.is_reused or self._got_bytes:
                self._keeper.blame(self)
            if self._got_bytes:
                taker.failed(502, "broken", "The upstream closed the connection within its answer's head.")
            else:
                taker.lost_before_answer()
        elif isinstance(self._reader, CloseReader) and self._has_eof and exc is None:
            taker.answer_ends([])
        else:
            taker.failed(502, "truncated", "The upstream closed the connection within its answer.")

    def pause_writing(self) -> None:
        """See asyncio."""
        if self.taker is not None:
            self.taker.upstream_blocks(True)

    def resume_writing(self) -> None:
        """See asyncio."""
        if self.taker is not None:
            self.taker.upstream_blocks(False)


def _check_start(data: bytes, bytes_max: int, checked: int) -> None:
    if len(data) > bytes_max:
        raise Rejected(502, f"The upstream's answer has a head of more than {bytes_max} bytes.")
    if not b"HTTP/1.".startswith(data[:7]) or _BARE_LF.search(data, max(0, checked - 1)):
        raise Rejected(502, "The upstream's answer is not HTTP/1.")


def _has_input(fd: int) -> bool:
    """Whether the peer sent something, be it the end: an idle connection then cannot be used."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
