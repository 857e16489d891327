"""A TCP switch: one port that leads to a server, and to another one when told.

    client ──► switch ──► primary            client ──► switch     primary (cut)
                                                           └─────► replica, since `lead_to`

What a fail-over looks like behind a virtual address: every connection breaks, the next one finds another server.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Self

from shadow.adapters.embedded import LOOPBACK

_READ_BYTES = 1 << 16
_WAIT_S = 0.1


class TcpSwitch:
    """A context manager; threads may call `lead_to`.

    Args:
        target: Port on loopback to which connections lead at first.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="switch", daemon=True)
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]

    def lead_to(self, target: int) -> None:
        """Break every connection, and lead the next ones to another port."""
        with self._lock:
            self._target = target
            for connection in list(self._peers):
                # The thread sees the end of both sides and closes them.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        for connection in [self._listener, *self._peers]:
            connection.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            for key, _ in self._selector.select(_WAIT_S):
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._listener:
                    self._accept()
                elif source in self._peers:
                    self._pass_on(source)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        with self._lock:
            try:
                server = socket.create_connection((LOOPBACK, self._target), timeout=1.0)
            except OSError:
                client.close()  # nobody there: the client sees a broken connection and comes again
                return
            for one, other in ((client, server), (server, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.settimeout(10.0)
                self._peers[one] = other
                self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        target = self._peers[source]
        try:
            data = source.recv(_READ_BYTES)
            if data:
                target.sendall(data)
                return
        except OSError:
            pass  # a broken side ends the other one, as below
        with self._lock:
            for connection in (source, target):
                self._selector.unregister(connection)
                self._peers.pop(connection, None)
                connection.close()
