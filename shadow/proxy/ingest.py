"""Take copies of live requests that another tool made, and answer each at once.

    mirroring tool --request, whole--> Intake --202, empty--> mirroring tool
                                         |
                                       mirror

Parser, limits, time-outs, drain, sampling and accounts are the proxy's. What differs: nobody is asked for an
answer, so a copy carries none, and it is handed to the mirror as soon as its request was read whole, whether the
tool waits for our answer or closes at once.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Final

from shadow.proxy.accounts import EXCLUDED
from shadow.proxy.exchange import Asker, Context, Exchange
from shadow.proxy.heads import RequestHead
from shadow.proxy.http1 import ClientConnection
from shadow.proxy.server import Proxy

_BACKLOG: Final = 1024
_ACCEPTED: Final = 202
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_SHADOWED: Final = re.compile(rb"\r\nx-shadow:[ \t]*1[ \t]*\r\n", re.IGNORECASE)


def is_shadowed(raw: bytes) -> bool:
    """Whether the head of a request says that one of our workers sent it.

    Copied, a worker's call through a gateway that mirrors would be answered by a worker's call, without end.

    Args:
        raw: A head that `request_head` has read, as it came.
    """
    return _SHADOWED.search(raw) is not None


class Intake(Exchange):
    """A request that is answered by us, as soon as it was read whole."""

    __slots__ = ()

    def __init__(self, context: Context, asker: Asker, head: RequestHead, *, is_shadowed: bool) -> None:
        super().__init__(context, asker, head)
        if is_shadowed:
            self._copy.request.reason = EXCLUDED

    def request_pieces(self, pieces: list[bytes]) -> None:
        """Take pieces of the request's body."""
        self.awaits_continue = False
        self._context.mirror.hold(self._copy.request, pieces)

    def send(self) -> None:
        """Let a client that waits for it send its body; take and answer a request that is complete."""
        if not self._request_ended_at:
            if self.awaits_continue:
                self.awaits_continue = False
                self._asker.write(_CONTINUE)
            return
        if self._end():
            self._context.counters.count_request(_ACCEPTED, time.monotonic() - self._request_ended_at)
            self._context.mirror.put(self._copy)
        self._answer_once_read()

    def client_blocks(self, is_blocked: bool) -> None:
        """Hold our answer back while the client does not read, so that what is to be written stays bounded."""
        self._client_blocked_at = time.monotonic() if is_blocked else 0.0
        if self._request_ended_at:
            self._answer_once_read()

    def check(self, now_s: float) -> None:
        """Apply the time-outs."""
        times = self._context.settings.timeouts
        is_stalled = self._client_blocked_at and now_s - self._client_blocked_at > times.stall_s
        if is_stalled or now_s - self._began_at > times.total_s:
            self._asker.break_off()

    def _answer_once_read(self) -> None:
        if self._client_blocked_at or self._begun:
            return
        self._begun = True
        closes = not self._head.keeps_alive or self._context.is_draining
        lines = [b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n"]
        if closes:
            lines.append(b"Connection: close\r\n")
        elif self._head.minor == 0:
            lines.append(b"Connection: keep-alive\r\n")
        lines.append(b"\r\n")
        self._asker.write(b"".join(lines))
        self._asker.answered(closes=closes)


class IngestConnection(ClientConnection):
    """One connection of a mirroring tool."""

    __slots__ = ()

    def _new_exchange(self, head: RequestHead, raw: bytes) -> Exchange:
        return Intake(self._context, self, head, is_shadowed=is_shadowed(raw))

    def answered(self, *, closes: bool) -> None:
        """See `Asker`; nothing is read from a tool that does not wait for answers while enough of it is there."""
        super().answered(closes=closes)
        if len(self._inbox) > self._context.settings.limits.buffer_bytes_max:
            self.block(True)

    def _go_on(self) -> None:
        self.block(False)
        super()._go_on()


class Ingest(Proxy):
    """A proxy that has no upstream: of its settings, those about an upstream are not used."""

    async def start(self) -> None:
        """Listen. The log need not be there.

        Raises:
            OSError: If the address cannot be listened on.
        """
        settings, loop = self._settings, asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: IngestConnection(self._started(), self._clients),
            settings.listen_host,
            settings.listen_port,
            backlog=_BACKLOG,
            reuse_port=settings.shares_port or None,
            ssl=settings.listen_tls,
            start_serving=False,
        )
        self._context = self._new_context()
        self._context.mirror.start()
        self._sweeper = loop.call_later(self._sweep_s, self._sweep)
        await self._server.start_serving()
