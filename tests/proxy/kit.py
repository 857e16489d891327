"""A proxy in a thread of its own, raw upstreams and clients, and a writer that keeps the port's promises."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop

from shadow.adapters.avro import decode, encode
from shadow.ports import OnDelivery
from shadow.proxy.config import Endpoint, Limits, MirrorSettings, ProxySettings, Redaction, Timeouts
from shadow.proxy.counters import Snapshot
from shadow.proxy.routing import Routing
from shadow.proxy.server import Proxy
from shadow.records.answers import Report
from shadow.records.requests import MirroredRequest

BOUND_S = 10.0
PARTITIONS = 4


def wait_for(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Wait, bounded, until something is true."""
    end = time.monotonic() + BOUND_S
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come true within {BOUND_S} s")


@dataclass
class RecordingWriter:
    """A LogWriter in memory; `fault` is what it does to requests: None, `refuse`, `raise`, `lose`, `hang`."""

    fault: str | None = None
    records: list[tuple[str, int, bytes, bytes, dict[str, bytes]]] = field(default_factory=list)
    flushes: int = 0
    go_on: threading.Event = field(default_factory=threading.Event)
    _due: list[tuple[OnDelivery, str | None, int]] = field(default_factory=list)

    def write(
        self,
        topic: str,
        partition: int,
        *,
        key: bytes,
        value: bytes,
        headers: Mapping[str, bytes] | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> bool:
        if topic == "shadow-requests":
            if self.fault == "refuse":
                return False
            if self.fault == "raise":
                raise RuntimeError("The broker is on fire.")
            if self.fault == "hang":
                self.go_on.wait(BOUND_S)
        is_lost = self.fault == "lose" and topic == "shadow-requests"
        if not is_lost:
            self.records.append((topic, partition, key, value, dict(headers or {})))
        if on_delivery is not None:
            self._due.append((on_delivery, "lost" if is_lost else None, -1 if is_lost else len(self.records)))
        return True

    def poll(self) -> None:
        due, self._due = self._due, []
        for callback, error, offset in due:
            callback(error, offset)

    def flush(self, timeout_s: float) -> int:
        self.flushes += 1
        self.poll()
        return 0

    def close(self) -> None:
        self.poll()

    def copies(self) -> list[MirroredRequest]:
        return [decode(value) for topic, _, _, value, _ in list(self.records) if topic == "shadow-requests"]

    def reports(self) -> list[tuple[int, Report]]:
        return [(p, decode(value)) for topic, p, _, value, _ in list(self.records) if topic == "shadow-answers"]


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self.loop = runner.get_loop()
            self._stop = asyncio.Event()
            self._ready.set()
            runner.run(self._stop.wait())

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(BOUND_S * 3)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(BOUND_S)


@dataclass
class Running:
    """A proxy that serves."""

    proxy: Proxy
    loop: Loop
    writer: RecordingWriter
    is_drained: bool = False

    @property
    def port(self) -> int:
        return self.proxy.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def snapshot(self) -> Snapshot:
        async def take() -> Snapshot:
            return self.proxy.snapshot()

        return self.loop.call(take())

    def drain(self, timeout_s: float = 5.0) -> bool:
        self.is_drained = True
        return self.loop.call(self.proxy.drain(timeout_s))

    def copies(self, count: int) -> list[MirroredRequest]:
        """The copies, once there are so many."""
        return wait_for(lambda: len(found := self.writer.copies()) >= count and found, f"{count} copies")

    def copy(self) -> MirroredRequest:
        (copy,) = self.copies(1)
        return copy

    def totals(self) -> tuple[int, int, dict[str, int]]:
        """Sequence, seen and dropped over all partitions; the invariant is checked on the way."""
        sequence = seen = 0
        dropped: dict[str, int] = {}
        for counts in self.snapshot().partitions.values():
            lost = sum(n for reason, n in counts.dropped.items() if reason != "kafka_down")
            assert counts.seen == counts.sequence + lost
            sequence += counts.sequence
            seen += counts.seen
            for reason, n in counts.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + n
        return sequence, seen, dropped

    def settled(self, seen: int) -> tuple[int, dict[str, int]]:
        """Sequence and dropped, once so many requests are seen and nothing is held."""
        wait_for(lambda: self.totals()[1] >= seen and self.snapshot().held_bytes == 0, f"{seen} seen")
        sequence, now_seen, dropped = self.totals()
        assert now_seen == seen
        return sequence, dropped


@contextmanager
def running(
    upstream_port: int,
    *,
    mirror: Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    redaction: Redaction | None = None,
    writer: RecordingWriter | None = None,
    partitions: Callable[[], int | None] = lambda: PARTITIONS,
    encode_with: Callable[[object], bytes] = encode,
    routing: Routing | None = None,
    **more: Any,
) -> Iterator[Running]:
    """Run a proxy in front of an upstream; `more` are other fields of its settings."""
    chosen = {"methods": ("GET", "POST", "PUT", "HEAD", "DELETE"), "paths": ("/*",), "report_interval_s": 60.0}
    own: dict[str, Any] = {
        "upstreams": (Endpoint("127.0.0.1", upstream_port),),
        "version": "v1",
        "mirror": MirrorSettings(**(chosen | dict(mirror or {}))),
        "process": "proxy-1",
        "limits": limits or Limits(),
        "timeouts": timeouts or Timeouts(linger_s=0.2),
        "redaction": redaction or Redaction(),
    }
    settings = ProxySettings(**(own | more))
    writer = writer or RecordingWriter()
    proxy = Proxy(settings, writer=writer, encode=encode_with, partitions=partitions, routing=routing)
    loop = Loop()
    loop.call(proxy.start())
    alive = Running(proxy, loop, writer)
    try:
        yield alive
    finally:
        if not alive.is_drained:
            alive.drain(1.0)
        loop.close()


class Upstream:
    """A raw upstream: one thread per connection runs `serve(connection)`; every byte that came is kept."""

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[Connection] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def received(self) -> bytes:
        return b"".join(bytes(connection.received) for connection in self.connections)

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            connection = Connection(peer)
            self.connections.append(connection)
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: Connection) -> None:
        try:
            self._serve(connection)
        except (OSError, EOFError):
            connection.ended.set()
        finally:
            connection.peer.close()

    def close(self) -> None:
        # A blocked accept holds the socket: only shutdown wakes it.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            connection.close()

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Connection:
    """One side of a raw HTTP/1 conversation; `ended` is set where the other side closed."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.peer.settimeout(BOUND_S)
        self.peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()
        self.ended = threading.Event()
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self.peer.sendall(data)

    def _more(self) -> bytes:
        data = self.peer.recv(65536)
        if not data:
            self.ended.set()
            raise EOFError
        self.received += data
        return data

    def until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._buffer += self._more()
        end = self._buffer.index(mark) + len(mark)
        found, self._buffer = self._buffer[:end], self._buffer[end:]
        return found

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def message(self, *, has_body: bool = True) -> tuple[str, dict[str, str], bytes]:
        """Start line, headers by lower-case name, body."""
        head = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers = {}
        for line in head[1:-2]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = b""
        if not has_body:
            pass
        elif headers.get("transfer-encoding") == "chunked":
            body = self.chunked()
        elif "content-length" in headers:
            body = self.exactly(int(headers["content-length"]))
        return head[0], headers, body

    def chunked(self) -> bytes:
        body = b""
        while True:
            size = int(self.until(b"\r\n").split(b";")[0], 16)
            if not size:
                while self.until(b"\r\n") != b"\r\n":
                    pass
                return body
            body += self.exactly(size)
            assert self.exactly(2) == b"\r\n"

    def rest(self) -> bytes:
        """Everything until the other side ends; ConnectionError where it is reset."""
        found = self._buffer
        self._buffer = b""
        while True:
            data = self.peer.recv(65536)
            if not data:
                return found
            self.received += data
            found += data

    def close(self) -> None:
        try:
            self.peer.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        finally:
            self.peer.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def connect(port: int) -> Connection:
    return Connection(socket.create_connection(("127.0.0.1", port), timeout=BOUND_S))


def ok(body: bytes = b"fine", *headers: bytes) -> bytes:
    lines = b"".join(line + b"\r\n" for line in headers)
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (lines, len(body), body)


def echo(connection: Connection) -> None:
    """Answer every request with its own body, or `fine`."""
    while True:
        line, _, body = connection.message()
        if line.startswith("HEAD"):
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        else:
            connection.send(ok(body or b"fine", b"Content-Type: application/json"))


def get(path: str = "/", *headers: str) -> bytes:
    lines = "".join(line + "\r\n" for line in headers)
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode("latin-1")


def post(body: bytes, path: str = "/v1/chat", *headers: str) -> bytes:
    lines = "".join(line + "\r\n" for line in headers)
    return f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode("latin-1") + body
