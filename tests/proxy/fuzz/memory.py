"""An event loop without sockets: what the proxy listens to and dials are transports in memory.

Nothing here waits: a turn of the loop runs what is ready, and a timer runs when a turn finds it due.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

_silent, _silent_peer = socket.socketpair()


class NeverReady(selectors.BaseSelector):
    """A selector that knows its files and never finds one ready, so that a turn of the loop takes no time."""

    def __init__(self) -> None:
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See `BaseSelector`."""
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, fileobj, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See `BaseSelector`."""
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See `BaseSelector`."""
        return []

    def get_map(self) -> dict[Any, selectors.SelectorKey]:
        """See `BaseSelector`."""
        return self._keys


class MemorySocket:
    """What the proxy asks of a transport's socket; `is_reset` once it was told to end with a reset."""

    def __init__(self) -> None:
        self.is_reset = False

    def fileno(self) -> int:
        """A file on which nothing ever comes."""
        return _silent.fileno()

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        """Linger for no time, which resets the connection at its close."""
        assert (socket.SOL_SOCKET, socket.SO_LINGER) == (level, option)
        self.is_reset = True

    def getsockname(self) -> tuple[str, int]:
        """An address that nobody dials."""
        return "127.0.0.1", 1


class MemoryTransport(asyncio.Transport):
    """One side of a connection; the other side is the test: it gives bytes, and `on_write` gets what was written.

    A write behind the end of the own side raises, as it does in asyncio.
    """

    def __init__(self, protocol: asyncio.Protocol, on_write: Callable[[bytes], None]) -> None:
        self.socket = MemorySocket()
        super().__init__({"socket": self.socket, "peername": ("127.0.0.1", 9)})
        self._protocol = protocol
        self._on_write = on_write
        self._waiting: list[bytes | None] = []
        self._is_paused = False
        self._is_closing = False
        self.has_ended = False
        self.was_aborted = self.was_lost = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See asyncio."""
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def give(self, data: bytes | None) -> None:
        """Bytes of the other side, or None for its end; they wait while the protocol does not read."""
        self._waiting.append(data)
        if len(self._waiting) == 1:  # what came earlier and still waits is taken first
            self._give_waiting()

    def lose(self) -> None:
        """The other side resets the connection."""
        self.was_lost = True
        self._end(ConnectionResetError())

    def pause_reading(self) -> None:
        """See asyncio."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """See asyncio."""
        self._is_paused = False
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._give_waiting)

    def _give_waiting(self) -> None:
        while self._waiting and not self._is_paused and not self._is_closing:
            data = self._waiting.pop(0)
            if data is not None:
                self._protocol.data_received(data)
            elif not self._protocol.eof_received():
                self.close()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio."""
        if self.has_ended:
            raise RuntimeError("A write behind the end of the own side.")
        if not self._is_closing:
            self._on_write(bytes(data))

    def write_eof(self) -> None:
        """See asyncio."""
        self.has_ended = True

    def can_write_eof(self) -> bool:
        """See asyncio."""
        return True

    def is_closing(self) -> bool:
        """See asyncio."""
        return self._is_closing

    def close(self) -> None:
        """See asyncio."""
        self._end(None)

    def abort(self) -> None:
        """See asyncio."""
        self.was_aborted = True
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See asyncio."""

    def get_write_buffer_size(self) -> int:
        """See asyncio: everything was taken at once."""
        return 0


class MemoryServer:
    """What `create_server` returns; `connect` is the test's way in."""

    def __init__(self, protocol_factory: Callable[[], asyncio.Protocol]) -> None:
        self._protocol_factory = protocol_factory
        self.sockets = (MemorySocket(),)

    async def start_serving(self) -> None:
        """See asyncio."""

    def close(self) -> None:
        """See asyncio."""

    def connect(self, on_write: Callable[[bytes], None]) -> tuple[MemoryTransport, asyncio.Protocol]:
        """Open a connection to the server."""
        protocol = self._protocol_factory()
        transport = MemoryTransport(protocol, on_write)
        protocol.connection_made(transport)
        return transport, protocol


Dial = Callable[[asyncio.Protocol], MemoryTransport]


class MemoryLoop(asyncio.SelectorEventLoop):
    """The loop. `dial` answers every connection that the proxy opens, or raises OSError.

    What would run in another thread runs at once, so that one input is one sequence of steps.
    """

    def __init__(self) -> None:
        super().__init__(NeverReady())
        self.server: MemoryServer | None = None
        self.dial: Dial | None = None
        self.escaped: list[dict[str, Any]] = []
        self.set_exception_handler(lambda loop, context: self.escaped.append(context))

    async def create_server(self, protocol_factory: Any, *args: Any, **kwargs: Any) -> Any:
        """See asyncio."""
        self.server = MemoryServer(protocol_factory)
        return self.server

    async def create_connection(self, protocol_factory: Any, *args: Any, **kwargs: Any) -> Any:
        """See asyncio."""
        assert self.dial is not None
        protocol = protocol_factory()
        transport = self.dial(protocol)
        protocol.connection_made(transport)
        return transport, protocol

    def run_in_executor(self, executor: Executor | None, func: Callable[..., Any], *args: Any) -> Any:
        """See asyncio."""
        future = self.create_future()
        future.set_result(func(*args))
        return future


@contextmanager
def memory_loop() -> Iterator[MemoryLoop]:
    """A loop, and an interpreter that lets the mirror's thread run only where the loop waits for it.

    Otherwise that thread would write copies as they come, and wait some milliseconds for the next one each time.
    """
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1.0)
    loop = MemoryLoop()
    try:
        yield loop
    finally:
        loop.close()
        sys.setswitchinterval(before_s)
