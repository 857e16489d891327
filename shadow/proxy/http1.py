"""A client's connection: read its requests one after another, strictly, and write the answers in order.

    HEAD --head--> BODY --end--> ANSWER --answered--> HEAD ...
      \\______________\\______ refused, closing _________\\--> LINGER

One request is in flight at a time; what the client sends meanwhile waits, bounded, in `_inbox`. A connection that
is upgraded leaves these states for a tunnel.

A client that ends its sending side within a request has left. One that does so while it waits for an
answer has left too, and the upstream's work is cancelled, unless it had announced that this was its last
request (`Connection: close`, or HTTP/1.0 without keep-alive): then the answer is still written.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from http import HTTPStatus
from typing import Final, cast

from shadow.proxy.exchange import Context, Exchange
from shadow.proxy.framing import BodyReader, ChunkedReader, LengthReader
from shadow.proxy.heads import Hop, Rejected, RequestHead, check_start, passed_through, request_head
from shadow.proxy.tunnel import Lost, TunnelSide, join

_HEAD, _BODY, _ANSWER, _LINGER, _TUNNEL = range(5)
_BLOCKED, _FULL = 1, 2
_RESET: Final = struct.pack("ii", 1, 0)
_LEADING_LINES_MAX: Final = 2


class ClientConnection(asyncio.Protocol):
    """One connection of a client."""

    __slots__ = (
        "_checked",
        "_clients",
        "_context",
        "_deadline_s",
        "_exchange",
        "_has_eof",
        "_head_since_s",
        "_inbox",
        "_is_tls",
        "_is_write_blocked",
        "_keeps_alive",
        "_leading",
        "_paused",
        "_reader",
        "_state",
        "_touched_s",
        "_transport",
        "_tunnel",
        "hop",
    )

    _transport: asyncio.Transport

    def __init__(self, context: Context, clients: set[ClientConnection]) -> None:
        self._context = context
        self._clients = clients
        self._state = _HEAD
        self._inbox = b""
        self._reader: BodyReader | None = None
        self._exchange: Exchange | None = None
        self._is_write_blocked = False
        self._keeps_alive = True
        self._has_eof = False
        self._is_tls = False
        self._tunnel: TunnelSide | None = None
        self.hop = Hop(b"", b"http", context.settings.forwarded)
        self._leading = 0
        self._checked = 0
        self._paused = 0
        self._head_since_s = 0.0
        self._touched_s = time.monotonic()
        self._deadline_s = 0.0

    # asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # uvloop's transports have the methods, and another ancestor.
        self._transport = cast(asyncio.Transport, transport)
        context, limits = self._context, self._context.settings.limits
        self._is_tls = transport.get_extra_info("sslcontext") is not None
        peer, scheme = transport.get_extra_info("peername"), b"https" if self._is_tls else b"http"
        self.hop = Hop(str(peer[0]).encode() if peer else b"unknown", scheme, context.settings.forwarded)
        self._transport.set_write_buffer_limits(high=limits.buffer_bytes_max)
        is_full = len(self._clients) >= limits.connections_max
        self._clients.add(self)
        context.counters.connections += 1
        if is_full:
            context.counters.refused_connections += 1
            self._refuse(Rejected(503, f"There are {limits.connections_max} connections already."))

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._state == _LINGER:
            return
        if self._inbox:
            data, self._inbox = self._inbox + data, b""
        if self._state == _ANSWER:
            self._keep(data)
            return
        self._consume(data)

    def eof_received(self) -> bool:
        """See asyncio."""
        self._has_eof = True
        exchange = self._exchange
        if exchange is None:
            return False
        if self._state == _ANSWER and not self._keeps_alive and not self._is_tls:
            return True
        self._leave()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._clients.discard(self)
        self._state = _LINGER
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_left()

    def pause_writing(self) -> None:
        """See asyncio."""
        self._is_write_blocked = True
        if self._exchange is not None:
            self._exchange.client_blocks(True)

    def resume_writing(self) -> None:
        """See asyncio."""
        self._is_write_blocked = False
        if self._exchange is not None:
            self._exchange.client_blocks(False)

    # Reading.

    def _consume(self, data: bytes) -> None:
        try:
            while data and self._state in (_HEAD, _BODY):
                data = self._read_head(data) if self._state == _HEAD else self._read_body(data)
        except Rejected as rejected:
            self._refuse(rejected, data)
            return
        if data:
            self._keep(data)
        # Only now, so that a request whose first bytes are wrong is never seen by the upstream.
        exchange = self._exchange
        if exchange is not None:
            exchange.send()

    def _keep(self, data: bytes) -> None:
        self._inbox = data
        if self._state == _ANSWER and len(data) > self._context.settings.limits.buffer_bytes_max:
            self._pause(_FULL)

    def _read_head(self, data: bytes) -> bytes:
        """Read a head; returns the bytes behind it, or nothing where it has not ended."""
        limits = self._context.settings.limits
        if not self._head_since_s:
            self._head_since_s = time.monotonic()
        while data.startswith(b"\r\n"):
            self._leading += 1
            if self._leading > _LEADING_LINES_MAX:
                raise Rejected(400, "There are too many empty lines before the request.")
            data, self._checked = data[2:], 0
        end = data.find(b"\r\n\r\n", max(0, self._checked - 3)) + 4
        if end == 3:
            if data:
                check_start(data, limits, self._checked)
            self._inbox, self._checked = data, len(data)
            return b""
        self._checked = 0
        head = request_head(data[:end], limits)
        if passed_through(head, self._context.via):
            raise Rejected(508, "The request has passed through this proxy before.")
        self._begin(head)
        return data[end:]

    def _begin(self, head: RequestHead) -> None:
        self._head_since_s = 0.0
        self._leading = 0
        self._keeps_alive = head.keeps_alive
        self._touched_s = time.monotonic()
        exchange = self._exchange = self._new_exchange(head)
        if self._is_write_blocked:
            exchange.client_blocks(True)  # The last answer is still being taken.
        if head.is_chunked:
            self._reader = ChunkedReader(self._context.settings.limits, is_request=True)
        elif head.content_length:
            self._reader = LengthReader(head.content_length)
        else:
            exchange.request_ends([])
            self._state = _ANSWER
            return
        self._state = _BODY

    def _new_exchange(self, head: RequestHead) -> Exchange:
        """What answers a request."""
        return Exchange(self._context, self, head)

    def _read_body(self, data: bytes) -> bytes:
        """Read a part of a body; returns the bytes behind its end, or nothing where it has not ended."""
        reader, exchange = self._reader, self._exchange
        assert reader is not None and exchange is not None
        self._touched_s = time.monotonic()
        pieces, behind = reader.feed(data)
        if pieces:
            exchange.request_pieces(pieces)
        if behind is None:
            return b""
        exchange.request_ends(reader.trailers if isinstance(reader, ChunkedReader) else [])
        self._reader = None
        self._state = _ANSWER
        return behind

    def _go_on(self) -> None:
        if self._state == _HEAD and self._inbox and not self._transport.is_closing():
            data, self._inbox = self._inbox, b""
            self._consume(data)
        if self._paused & _FULL and len(self._inbox) <= self._context.settings.limits.buffer_bytes_max:
            self._resume(_FULL)

    @property
    def is_gone(self) -> bool:
        """See `Asker`."""
        return self._transport.is_closing()

    @property
    def waiting_bytes(self) -> int:
        """What the client sent ahead of its turn."""
        return len(self._inbox)

    # Pausing.

    def _pause(self, flag: int) -> None:
        if not self._paused and not self._transport.is_closing():
            self._transport.pause_reading()
        self._paused |= flag

    def _resume(self, flag: int) -> None:
        if self._paused and not self._paused & ~flag and not self._transport.is_closing():
            self._transport.resume_reading()
        self._paused &= ~flag
        self._touched_s = time.monotonic()

    def block(self, is_blocked: bool) -> None:
        """See `Asker`."""
        if is_blocked:
            self._pause(_BLOCKED)
        elif self._paused & _BLOCKED:
            self._resume(_BLOCKED)

    # Writing.

    def tunnel(self, upstream: asyncio.Transport, upstream_lost: Lost) -> None:
        """See `Asker`."""
        self._exchange = None
        self._state = _TUNNEL
        self._resume(self._paused)
        data, self._inbox = self._inbox, b""
        self._tunnel = join(self._transport, self.connection_lost, upstream, upstream_lost)
        if data:
            self._tunnel.data_received(data)

    def write(self, data: bytes) -> None:
        """See `Asker`."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def answered(self, *, closes: bool) -> None:
        """See `Asker`."""
        self._exchange = None
        self._touched_s = time.monotonic()
        if closes or self._has_eof or self._context.is_draining:
            self._linger()
            return
        self._state = _HEAD
        self._resume(_BLOCKED)
        if self._inbox:
            asyncio.get_running_loop().call_soon(self._go_on)

    def break_off(self) -> None:
        """See `Asker`: what was written is still sent, then the connection is reset."""
        exchange, self._exchange = self._exchange, None
        self._state = _LINGER
        self._deadline_s = time.monotonic() + self._context.settings.timeouts.linger_s
        if exchange is not None:
            exchange.client_left()
        if self._transport.is_closing():
            return
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if self._is_tls:
            self._transport.abort()  # To close it would say in TLS that the answer was whole.
        else:
            self._transport.close()

    def _leave(self) -> None:
        """The client is gone."""
        exchange, self._exchange = self._exchange, None
        self._state = _LINGER
        if exchange is not None:
            exchange.client_left()
        self._transport.abort()

    def _refuse(self, rejected: Rejected, data: bytes = b"") -> None:
        """Answer a request that is not passed on, and end the connection.

        Args:
            data: What has come of its head, where that is not whole.
        """
        self._context.counters.count_malformed(rejected.status)
        exchange, self._exchange = self._exchange, None
        is_head = data.lstrip(b"\r\n").startswith(b"HEAD ") if exchange is None else exchange.method == b"HEAD"
        if exchange is not None and exchange.discard():
            self.break_off()
            return
        self._write_refusal(rejected, has_body=not is_head)

    def _write_refusal(self, rejected: Rejected, *, has_body: bool) -> None:
        body = rejected.reason.encode() + b"\n"
        phrase = HTTPStatus(rejected.status).phrase.encode()
        self.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%b" % (rejected.status, phrase, len(body), body if has_body else b"")
        )
        self._linger()

    def _linger(self) -> None:
        """End our side, and read on for a moment: closing at once could destroy the answer on its way."""
        self._state = _LINGER
        self._inbox = b""
        self._deadline_s = time.monotonic() + self._context.settings.timeouts.linger_s
        if self._transport.is_closing():
            return
        self._resume(self._paused)
        if self._has_eof or self._is_tls:
            self._transport.close()
        else:
            self._transport.write_eof()

    # Time.

    def check(self, now_s: float) -> None:
        """Apply the time-outs."""
        times = self._context.settings.timeouts
        exchange = self._exchange
        if self._state == _LINGER:
            limit_s = self._deadline_s
            if not self._transport.is_closing() and self._transport.get_write_buffer_size():
                limit_s += times.stall_s
            if now_s > limit_s:
                self._transport.abort()
        elif self._state == _HEAD:
            if self._head_since_s:
                if now_s - self._head_since_s > times.head_s:
                    slow = Rejected(408, f"The header section did not end within {times.head_s:g} s.")
                    self._refuse(slow, self._inbox)
            elif now_s - self._touched_s > times.idle_s:
                self._linger()
        elif self._tunnel is not None:
            if now_s - max(self._tunnel.touched_s, self._tunnel.other.touched_s) > times.gap_s:
                self._tunnel.close()
        elif exchange is not None:
            # A client that waits for 100 Continue, or that we do not read from, is not slow.
            is_due = self._state == _BODY and not self._paused and not exchange.awaits_continue
            if is_due and now_s - self._touched_s > times.body_s:
                self._time_out(exchange, Rejected(408, f"The body stood still for {times.body_s:g} s."))
            else:
                exchange.check(now_s)

    def _time_out(self, exchange: Exchange, rejected: Rejected) -> None:
        """The client does not send its body: a live request, aborted by its client."""
        self._exchange = None
        has_begun = exchange.has_begun
        exchange.client_left()
        if has_begun:
            self.break_off()
        else:
            self._write_refusal(rejected, has_body=exchange.method != b"HEAD")

    def retire(self) -> None:
        """Close, if no request is being read or answered (at a drain)."""
        if self._state == _HEAD and not self._head_since_s:
            self._linger()

    def abort(self) -> None:
        """Close now; an answer that is under way is broken off."""
        self.break_off()
