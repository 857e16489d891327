"""A connection that was upgraded (WebSocket): bytes both ways, with back-pressure, until one side ends.

    client <--> TunnelSide  other  TunnelSide <--> upstream

Nothing of it is copied.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

Lost = Callable[[Exception | None], None]


class TunnelSide(asyncio.Protocol):
    """One of the two connections; takes over from the protocol that read the messages before.

    Args:
        on_lost: `connection_lost` of the former protocol, which keeps the books.
    """

    __slots__ = ("_on_lost", "_transport", "other", "touched_s")

    other: TunnelSide

    def __init__(self, transport: asyncio.Transport, on_lost: Lost) -> None:
        self._transport = transport
        self._on_lost = on_lost
        self.touched_s = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self.touched_s = time.monotonic()
        self.other.write(data)

    def eof_received(self) -> bool:
        """See asyncio: WebSocket has no half-closed connections."""
        self.other.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._on_lost(exc)
        self.other.close()

    def pause_writing(self) -> None:
        """See asyncio."""
        self.other.pause_reading(True)

    def resume_writing(self) -> None:
        """See asyncio."""
        self.other.pause_reading(False)

    def write(self, data: bytes) -> None:
        """Send what the other side got."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """End it once everything is sent."""
        if not self._transport.is_closing():
            self._transport.close()

    def pause_reading(self, is_paused: bool) -> None:
        """Stop reading while the other side cannot write."""
        if self._transport.is_closing():
            return
        if is_paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


def join(client: asyncio.Transport, client_lost: Lost, upstream: asyncio.Transport, upstream_lost: Lost) -> TunnelSide:
    """Connect two transports; returns the client's side."""
    near, far = TunnelSide(client, client_lost), TunnelSide(upstream, upstream_lost)
    near.other, far.other = far, near
    client.set_protocol(near)
    upstream.set_protocol(far)
    return near
