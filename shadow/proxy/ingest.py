"""Take copies of live requests that another tool made, and answer each at once.

    mirroring tool --request, whole--> Intake --202, empty--> mirroring tool
                                         |
                                       mirror

Parser, limits, time-outs, drain, sampling and accounts are the proxy's. What differs: nobody is asked for an
answer, so a copy carries none, and it is handed to the mirror as soon as its request was read whole, whether the
tool waits for our answer or closes at once.
"""

from __future__ import annotations

import time
from typing import Final

from shadow.proxy.exchange import Exchange
from shadow.proxy.heads import RequestHead
from shadow.proxy.http1 import ClientConnection
from shadow.proxy.server import Proxy

_ACCEPTED: Final = 202
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Intake(Exchange):
    """A request that is answered by us, as soon as it was read whole."""

    __slots__ = ()

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

    def _new_exchange(self, head: RequestHead) -> Exchange:
        return Intake(self._context, self, head)


class Ingest(Proxy):
    """A proxy that has no upstream: of its settings, those about an upstream are not used."""

    def _new_connection(self) -> ClientConnection:
        return IngestConnection(self._started(), self._clients)
