"""Connections to the upstream: one answer at a time on each, kept and used again where that is safe."""

from __future__ import annotations

import asyncio
import select
import time
from collections import deque
from typing import Final, Protocol, cast

from shadow.proxy.config import Limits, Timeouts
from shadow.proxy.counters import ProxyCounters
from shadow.proxy.framing import BodyReader, ChunkedReader, CloseReader, LengthReader
from shadow.proxy.heads import AnswerHead, Field, Rejected, answer_head

_FRESH_S: Final = 0.05
"""An idle connection younger than this is not asked whether its peer has closed it."""


class AnswerTaker(Protocol):
    """Who waits for an answer."""

    @property
    def method(self) -> bytes: ...
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
    def answer_begins(self, head: AnswerHead, *, has_body: bool) -> None: ...
    def answer_pieces(self, pieces: list[bytes]) -> None: ...
    def answer_ends(self, trailers: list[Field]) -> None: ...
    def flush(self) -> None:
        """All of one read was given."""
        ...

    def upstream_blocks(self, is_blocked: bool) -> None: ...


class UpstreamConnection(asyncio.Protocol):
    """One connection. `taker` is whoever waits for the answer; None while idle."""

    __slots__ = (
        "_fd",
        "_got_bytes",
        "_has_eof",
        "_head",
        "_held",
        "_interims",
        "_pool",
        "_reader",
        "idle_since",
        "is_reused",
        "taker",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, pool: UpstreamPool) -> None:
        self._pool = pool
        self._fd = -1
        self._held = b""
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
        self.transport.set_write_buffer_limits(high=self._pool.limits.buffer_bytes_max)
        self._pool.opened(self)

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
        if age_s > self._pool.timeouts.upstream_idle_s:
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
        limits = self._pool.limits
        while data:
            end = data.find(b"\r\n\r\n") + 4
            if end == 3 or end > limits.answer_head_bytes_max:
                _check_start(data, limits.answer_head_bytes_max)
                self._held = data
                return None
            head = answer_head(data[:end])
            data = data[end:]
            if head.status >= 200:
                self._begin(taker, head)
                return data
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
                self._reader = ChunkedReader(self._pool.limits)
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
            self._pool.give_back(self)
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
        self._pool.closed(self)
        taker, self.taker = self.taker, None
        if taker is None:
            return
        if self._head is None:
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


class UpstreamPool:
    """The connections to one upstream."""

    def __init__(self, host: str, port: int, *, limits: Limits, timeouts: Timeouts, counters: ProxyCounters) -> None:
        self.limits = limits
        self.timeouts = timeouts
        self._address = (host, port)
        self._counters = counters
        self._idle: deque[UpstreamConnection] = deque()
        self._open: set[UpstreamConnection] = set()
        self._dials: set[asyncio.Task[None]] = set()

    @property
    def idle(self) -> int:
        """Connections that wait for use."""
        return len(self._idle)

    def take(self) -> UpstreamConnection | None:
        """The most recently used connection that is still good."""
        now_s = time.monotonic()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable(now_s):
                connection.is_reused = True
                return connection
            connection.abort()
        return None

    def dial(self, taker: AnswerTaker) -> asyncio.Task[None]:
        """Open a connection for someone; the task may be cancelled."""
        task = asyncio.get_running_loop().create_task(self._dial(taker))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)
        return task

    async def _dial(self, taker: AnswerTaker) -> None:
        loop, connection = asyncio.get_running_loop(), UpstreamConnection(self)
        try:
            async with asyncio.timeout(self.timeouts.connect_s):
                await loop.create_connection(lambda: connection, *self._address)
        except asyncio.CancelledError:
            if connection in self._open:
                connection.abort()
            raise
        except TimeoutError:
            limit_s = self.timeouts.connect_s
            taker.failed(504, "time_out", f"The upstream did not accept a connection within {limit_s:g} s.")
        except OSError:
            taker.failed(502, "connect", "The upstream does not accept connections.")
        else:
            self._counters.upstream_connections += 1
            taker.connected(connection)

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose answer is complete."""
        if len(self._idle) >= self.limits.idle_upstream_connections_max:
            connection.abort()
            return
        connection.idle_since = time.monotonic()
        connection.transport.resume_reading()
        self._idle.append(connection)

    def opened(self, connection: UpstreamConnection) -> None:
        """Know of a connection."""
        self._open.add(connection)

    def closed(self, connection: UpstreamConnection) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        if connection.taker is None and connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now_s: float) -> None:
        """Close the connections that were idle too long."""
        while self._idle and now_s - self._idle[0].idle_since > self.timeouts.upstream_idle_s:
            self._idle.popleft().abort()

    def close(self) -> None:
        """Close everything at once."""
        for task in list(self._dials):
            task.cancel()
        for connection in list(self._open):
            connection.abort()
        self._idle.clear()


def _check_start(data: bytes, bytes_max: int) -> None:
    if len(data) > bytes_max:
        raise Rejected(502, f"The upstream's answer has a head of more than {bytes_max} bytes.")
    if not b"HTTP/1.".startswith(data[:7]) or b"\n" in data.replace(b"\r\n", b""):
        raise Rejected(502, "The upstream's answer is not HTTP/1.")


def _has_input(fd: int) -> bool:
    """Whether the peer sent something, be it the end: an idle connection then cannot be used."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
