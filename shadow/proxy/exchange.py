"""One live request and its answer, from the head's end to the last byte, and the copy that is made of both.

    client --head,pieces,end--> Exchange --written anew--> upstream
    client <--written anew----- Exchange <--head,pieces,end-- upstream
                                   |
                                 mirror

Everything of one read is written at once, so no event waits for the next one. Whoever is slow stops the
other side's reading. An exchange ends exactly once: answered, failed, left by its client, or discarded
because it turned out to be malformed.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import Final, Protocol

import uuid_utils

from shadow.proxy.accounts import ABORTED, EXCLUDED, OFF
from shadow.proxy.candidates import Candidates
from shadow.proxy.config import ProxySettings
from shadow.proxy.copies import Copy, Tee
from shadow.proxy.counters import ProxyCounters
from shadow.proxy.framing import chunk, last_chunk
from shadow.proxy.heads import AnswerHead, Field, Hop, RequestHead, forwarded_request
from shadow.proxy.mirror import Mirror
from shadow.proxy.pool import UpstreamPool
from shadow.proxy.sampling import key_of, place_of
from shadow.proxy.tunnel import Lost
from shadow.proxy.upstream import UpstreamConnection
from shadow.records.answers import ERROR, TIMEOUT
from shadow.records.votes import token_of

_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
_REASONS: Final = {502: b"Bad Gateway", 504: b"Gateway Timeout"}

_NO_BODY, _LENGTH, _CHUNKED, _UNTIL_CLOSE = range(4)


class Asker(Protocol):
    """The client's connection, as an exchange needs it."""

    def write(self, data: bytes) -> None: ...
    def block(self, is_blocked: bool) -> None:
        """Stop or go on reading the request's body."""
        ...

    @property
    def hop(self) -> Hop: ...
    @property
    def is_gone(self) -> bool:
        """Whether its connection is ending, so that it gets nothing more."""
        ...

    def answered(self, *, closes: bool) -> None: ...
    def tunnel(self, upstream: asyncio.Transport, upstream_lost: Lost) -> None:
        """Pass bytes both ways from now on."""
        ...

    def break_off(self) -> None:
        """End the connection so that the answer cannot be taken for a whole one."""
        ...


@dataclass(slots=True)
class Context:
    """What all connections of a proxy share."""

    settings: ProxySettings
    mirror: Mirror
    counters: ProxyCounters
    pool: UpstreamPool
    candidates: Candidates
    host: bytes
    via: bytes
    key_names: tuple[bytes, ...]
    is_draining: bool = False
    active: set[Exchange] = field(default_factory=set)


class Exchange:
    """See the module. Times are of the monotonic clock, in seconds.

    `awaits_continue` is True while the client waits to be told that it may send its body.
    """

    __slots__ = (
        "_asker",
        "_began_at",
        "_begun",
        "_body",
        "_client_blocked_at",
        "_closes",
        "_connection",
        "_context",
        "_copy",
        "_dial",
        "_first_byte_at",
        "_has_written",
        "_head",
        "_is_over",
        "_is_started",
        "_out",
        "_out_bytes",
        "_own_s",
        "_pool",
        "_replay",
        "_request_ended_at",
        "_to_client",
        "_touched_at",
        "_upstream_blocked",
        "awaits_continue",
        "is_sent",
        "upgrades",
    )

    def __init__(self, context: Context, asker: Asker, head: RequestHead) -> None:
        self._context = context
        self._asker = asker
        self._head = head
        request_id = str(uuid_utils.uuid7())
        key = key_of(head.values, context.key_names, request_id)
        place = place_of(key)
        is_excluded = head.upgrades or head.is_shadow
        reason = EXCLUDED if is_excluded else context.mirror.plan(head.method, head.target, place.u)
        tee = Tee(reason=reason)
        self._copy = Copy(request_id, key, place, context.mirror.partition(place), head, tee, Tee(reason=reason))
        self._pool = context.pool
        # What may not be copied was never tried on the candidate, so it may not be sent there either.
        if reason not in (EXCLUDED, OFF):
            self._pool = context.candidates.pool_for(self._copy) or context.pool
        trace = f"00-{request_id.replace('-', '')}-{random.getrandbits(64) | 1:016x}-01"
        self._out = [
            forwarded_request(
                head,
                host=context.host,
                via=context.via,
                hop=asker.hop,
                request_id=request_id.encode(),
                traceparent=trace.encode(),
            )
        ]
        self._out_bytes = 0
        self._to_client: list[bytes] = []
        self._connection: UpstreamConnection | None = None
        self._dial: asyncio.Task[None] | None = None
        self._replay: bytes | None = None
        self._own_s: float | None = None
        self._body = _NO_BODY
        self._closes = False
        self._has_written = self._is_started = self._begun = self._is_over = self._upstream_blocked = False
        self._began_at = self._touched_at = time.monotonic()
        self._request_ended_at = self._first_byte_at = self._client_blocked_at = 0.0
        self.is_sent = False
        self.upgrades = head.upgrades
        self.awaits_continue = head.expects_continue
        context.active.add(self)

    @property
    def method(self) -> bytes:
        """The request's method."""
        return self._head.method

    @property
    def has_begun(self) -> bool:
        """Whether the client got the head of an answer."""
        return self._begun

    # From the client.

    def request_pieces(self, pieces: list[bytes]) -> None:
        """Take pieces of the request's body."""
        self.awaits_continue = False
        self._context.mirror.hold(self._copy.request, pieces)
        if self._head.is_chunked:
            pieces = [chunk(pieces)]
        self._out += pieces
        self._out_bytes += sum(map(len, pieces))

    def request_ends(self, trailers: list[Field]) -> None:
        """Know that the request is complete."""
        if self._head.is_chunked:
            self._out.append(last_chunk(trailers))
        self._request_ended_at = self._touched_at = time.monotonic()
        self._copy.event_time_us = time.time_ns() // 1000

    def send(self) -> None:
        """Send what came so far, or wait for a connection to do so."""
        if self._is_over:
            return
        if not self._is_started:
            self._is_started = True
            if self._pool is not self._context.pool and self._pool.is_out:
                self._fall_back("passed over after several failures in a row")
            self._connect()
        elif self._connection is not None:
            self._write()
        if self._connection is not None and self._request_ended_at:
            self._own_s = time.monotonic() - self._request_ended_at
        if self._connection is None and self._out_bytes > self._context.settings.limits.buffer_bytes_max:
            self._asker.block(True)

    def client_left(self) -> None:
        """Cancel the upstream's work; nobody waits for the answer."""
        if self._end():
            self._context.counters.count_request(0)
            self._context.mirror.drop(self._copy, self._copy.request.reason or ABORTED)

    def discard(self) -> bool:
        """Give up a request that turned out to be malformed; returns whether an answer had begun."""
        if self._end():
            self._context.mirror.forget(self._copy)
        return self._begun

    def client_blocks(self, is_blocked: bool) -> None:
        """Stop reading the answer while the client does not take it."""
        now_s = time.monotonic()
        self._client_blocked_at = now_s if is_blocked else 0.0
        self._touched_at = now_s
        connection = self._connection
        if connection is not None and not connection.transport.is_closing():
            if is_blocked:
                connection.transport.pause_reading()
            else:
                connection.transport.resume_reading()

    def check(self, now_s: float) -> None:
        """Apply the time-outs."""
        times = self._context.settings.timeouts
        quiet_s = now_s - self._touched_at
        if now_s - self._began_at > times.total_s:
            self._fail(504, "time_out", f"The exchange took longer than {times.total_s:g} s.")
        elif self._client_blocked_at:
            if now_s - self._client_blocked_at > times.stall_s:
                self._asker.break_off()
        elif self._begun:
            if quiet_s > times.gap_s:
                self._fail(504, "time_out", f"The upstream's answer stood still for {times.gap_s:g} s.")
        elif self._dial is None and (self._request_ended_at or self.awaits_continue) and quiet_s > times.answer_s:
            self._fail(504, "time_out", f"The upstream did not answer within {times.answer_s:g} s.")
        elif self._upstream_blocked and quiet_s > times.gap_s:
            self._fail(504, "time_out", f"The upstream did not read the request for {times.gap_s:g} s.")

    # From the upstream.

    def connected(self, connection: UpstreamConnection) -> None:
        """Use the connection that was opened."""
        self._dial = None
        if self._is_over:
            connection.abort()
            return
        self._attach(connection)
        self._write()
        self._asker.block(False)

    def failed(self, status: int, kind: str, reason: str) -> None:
        """Tell the client that no whole answer comes: by a status, or, within an answer, by a broken connection."""
        dial, self._dial = self._dial, None
        if self._is_over:
            return
        if dial is not None and self._pool is not self._context.pool:
            # Nothing was sent to the candidate.
            self._fall_back(reason)
            self._connect()
            return
        self._fail(status, kind, reason)

    def _fail(self, status: int, kind: str, reason: str) -> None:
        self._context.counters.count_failure(kind)
        self._copy.outcome = TIMEOUT if kind == "time_out" else ERROR
        if self._begun:
            self.flush()
            self._finish()
            self._asker.break_off()
            return
        self._answer(status, reason)

    def lost_before_answer(self) -> None:
        """Send the request again where that cannot do harm, else fail."""
        connection, self._connection = self._connection, None
        replay, self._replay = self._replay, None
        if replay is not None and not self._is_over:
            self._out.insert(0, replay)
            self._has_written = False
            if connection is not None and connection.is_reused:
                # The upstream closed an idle connection while the request was under way to it.
                self._context.counters.retries += 1
                self._dial = self._pool.dial(self)
            else:
                self._fall_back("the connection ended without an answer")
                self._connect()
            return
        self.failed(502, "broken", "The upstream closed the connection without an answer.")

    def interim(self, head: AnswerHead) -> None:
        """Pass on an interim answer (100, 103)."""
        self._touched_at = time.monotonic()
        self.awaits_continue = False
        if self._head.minor == 1:
            lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
            lines += [b"%b: %b\r\n" % (name, value) for name, _, value in head.fields]
            lines.append(b"\r\n")
            self._asker.write(b"".join(lines))

    def answer_begins(self, head: AnswerHead, *, has_body: bool) -> None:
        """Write the answer's head."""
        self._first_byte_at = self._touched_at = time.monotonic()
        self._begun = True
        copy, request = self._copy, self._head
        copy.status, copy.answer_fields, copy.answer_head_bytes = head.status, head.fields, head.size
        self._closes = not request.keeps_alive or not self._request_ended_at or self._context.is_draining
        length = None if head.status == 204 else head.content_length
        if not has_body:
            self._body = _NO_BODY
        elif length is not None:
            self._body = _LENGTH
        elif request.minor == 1:
            self._body = _CHUNKED
        else:
            self._body, self._closes = _UNTIL_CLOSE, True
        lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
        lines += [b"%b: %b\r\n" % (name, value) for name, _, value in head.fields]
        if length is not None:
            lines.append(b"Content-Length: %d\r\n" % length)
        self._to_client = lines
        self._end_head()

    def _end_head(self) -> None:
        lines, copy = self._to_client, self._copy
        if self._body == _CHUNKED:
            lines.append(b"Transfer-Encoding: chunked\r\n")
        if copy.partition is not None:
            token = token_of(
                copy.partition,
                copy.request_id,
                copy.key,
                copy.decision_id,
                is_routed=copy.candidate is not None,
            )
            lines.append(b"x-shadow-request: %b\r\n" % token.encode())
        if self._closes:
            lines.append(b"Connection: close\r\n")
        elif self._head.minor == 0:
            lines.append(b"Connection: keep-alive\r\n")
        lines.append(b"\r\n")

    def answer_pieces(self, pieces: list[bytes]) -> None:
        """Pass on pieces of the answer's body."""
        now_s = time.monotonic()
        if now_s - self._touched_at > self._copy.gap_s:
            self._copy.gap_s = now_s - self._touched_at
        self._touched_at = now_s
        self._context.mirror.hold(self._copy.answer, pieces)
        if self._body == _CHUNKED:
            self._to_client.append(chunk(pieces))
        else:
            self._to_client += pieces

    def flush(self) -> None:
        """Write what is to be written."""
        if self._to_client:
            self._asker.write(b"".join(self._to_client))
            self._to_client = []

    def answer_ends(self, trailers: list[Field]) -> None:
        """Finish a whole answer."""
        if self._body == _CHUNKED:
            self._to_client.append(last_chunk(trailers))
        self._connection = None
        self.flush()
        self._finish()
        self._asker.answered(closes=self._closes)

    def upstream_blocks(self, is_blocked: bool) -> None:
        """Stop reading the request while the upstream does not take it."""
        self._upstream_blocked = is_blocked
        self._touched_at = time.monotonic()
        self._asker.block(is_blocked)

    def upgraded(self, connection: UpstreamConnection, head: AnswerHead, behind: bytes) -> None:
        """Leave the connections to each other; the exchange ends here, and is counted as excluded."""
        if self._asker.is_gone:
            self._connection = connection
            self.client_left()
            return
        lines = [b"HTTP/1.1 101 %b\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" % head.reason]
        lines += [b"%b: %b\r\n" % (name, value) for name, _, value in head.fields]
        self._asker.write(b"".join([*lines, b"\r\n", behind]))
        self._connection = None
        counters = self._context.counters
        counters.tunnels += 1
        counters.count_request(101)
        self._end()
        self._context.mirror.drop(self._copy, EXCLUDED)
        self._asker.tunnel(connection.transport, connection.connection_lost)

    # Both.

    def _connect(self) -> None:
        connection = self._pool.take()
        if connection is None:
            self._dial = self._pool.dial(self)
        else:
            self.connected(connection)

    def _fall_back(self, reason: str) -> None:
        """Let production serve what the candidate cannot; counts against the candidate."""
        self._copy.failed_attempt = reason
        self._context.counters.fallbacks += 1
        self._pool = self._context.pool

    def _attach(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        connection.attach(self)
        if self._client_blocked_at:
            connection.transport.pause_reading()

    def _write(self) -> None:
        connection = self._connection
        if not self._out or connection is None or connection.transport.is_closing():
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out = []
        self._out_bytes = 0
        # Only what left in one piece can be sent again.
        is_whole = not self._has_written and self._request_ended_at > 0
        may_repeat = connection.is_reused or self._pool is not self._context.pool
        self._replay = data if is_whole and may_repeat and self.method in _IDEMPOTENT else None
        self._has_written = True
        self.is_sent = self._request_ended_at > 0
        connection.transport.write(data)

    def _answer(self, status: int, reason: str) -> None:
        """Answer in the upstream's place."""
        body = reason.encode() + b"\n"
        fields: list[Field] = [(b"Content-Type", b"content-type", b"text/plain; charset=utf-8")]
        head = AnswerHead(status, _REASONS[status], 1, fields, {}, len(body), False, True)
        has_body = self.method != b"HEAD"
        self.answer_begins(head, has_body=has_body)
        if has_body:
            self.answer_pieces([body])
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        self.answer_ends([])

    def _finish(self) -> None:
        """Hand over the copy of an exchange whose client got all that there is."""
        if not self._end():
            return
        now_s = time.monotonic()
        copy, ended_at = self._copy, self._request_ended_at
        own_s = None if self._own_s is None else self._own_s + now_s - self._touched_at
        self._context.counters.count_request(copy.status, own_s)
        if not ended_at:
            # Answered before the request was read whole: half a request is no evidence.
            self._context.mirror.drop(copy, copy.request.reason or ABORTED)
            return
        copy.first_byte_us = max(0, int((self._first_byte_at - ended_at) * 1e6))
        copy.duration_us = max(0, int((now_s - ended_at) * 1e6))
        self._context.mirror.put(copy)

    def _end(self) -> bool:
        """Let go of the upstream; False where the exchange was over before."""
        if self._is_over:
            return False
        self._is_over = True
        self._context.active.discard(self)
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        return True
