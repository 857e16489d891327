"""An upstream of its own process: it streams events, floods who asks for it, and echoes what is posted.

    POST /...                 the body again
    GET /v1/stream/ID/COUNT   so many events, one every `--pace-ms`, once `--together` streams wait
    GET /v1/flood             events without an end, as fast as they are taken
    GET /state                JSON: whole requests of the first kind, open streams, floods that are not taken any more

A stream's bytes are a function of its id and length (see `body`), so a client can check each of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import uvloop

from shadow.adapters.embedded import free_port
from shadow.adapters.orphan import end_with_parent
from shadow.cli.demo import wait_for_ports
from shadow.cli.supervise import Supervisor

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_FLOOD_BYTES = 16 << 10
LAST_CHUNK = b"0\r\n\r\n"


def event(stream: int, number: int) -> bytes:
    """One event of a stream."""
    return b'data: {"stream":%d,"event":%d}\n\n' % (stream, number)


def body(stream: int, count: int) -> bytes:
    """All that a stream carries."""
    return b"".join(event(stream, number) for number in range(count))


def unchunked(raw: bytes) -> bytes:
    """The content of a chunked body that came whole."""
    parts, at = [], 0
    while True:
        end = raw.index(b"\r\n", at)
        size = int(raw[at:end], 16)
        if not size:
            assert raw[end:] == b"\r\n\r\n", "something follows the last chunk"
            return b"".join(parts)
        parts.append(raw[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


@dataclass
class _Server:
    """What all connections share."""

    together: int
    pace_s: float
    echoed: int = 0
    waiting: list[_Peer] = field(default_factory=list)
    streams: list[_Peer] = field(default_factory=list)
    floods: list[_Peer] = field(default_factory=list)

    def join(self, peer: _Peer) -> None:
        """Let a stream wait for the others."""
        self.waiting.append(peer)
        if len(self.waiting) + len(self.streams) >= self.together:
            self.streams += self.waiting
            self.waiting = []

    def tick(self) -> None:
        """Send each stream its next event."""
        asyncio.get_running_loop().call_later(self.pace_s, self.tick)
        self.streams = [peer for peer in self.streams if peer.next_event()]

    def state(self) -> bytes:
        blocked = sum(peer.is_blocked for peer in self.floods)
        streams = len(self.streams) + len(self.waiting)
        return json.dumps({"echoed": self.echoed, "streams": streams, "blocked": blocked}).encode()


class _Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._inbox = b""
        self._stream = self._count = self._sent = 0
        self.is_blocked = False
        self._floods = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._inbox += data
        head, found, rest = self._inbox.partition(b"\r\n\r\n")
        if not found:
            return
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        if method == b"POST":
            size = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            if len(rest) < size:
                return
            self._server.echoed += 1
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, rest))
        else:
            self._get(target.decode().split("/"))
        self._inbox = b""

    def _get(self, parts: list[str]) -> None:
        if parts[1:] == ["state"]:
            answer = self._server.state()
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer))
            return
        self._transport.write(_HEAD)
        if parts[2] == "flood":
            self._server.floods.append(self)
            self._floods = True
            self._flood()
        else:
            self._stream, self._count, self._sent = int(parts[3]), int(parts[4]), 0
            self._server.join(self)

    def next_event(self) -> bool:
        """Send the next event; False once all are sent or the peer has gone."""
        if self._transport.is_closing():
            return False
        data = event(self._stream, self._sent)
        self._sent += 1
        is_last = self._sent == self._count
        self._transport.write(b"%x\r\n%b\r\n%b" % (len(data), data, LAST_CHUNK if is_last else b""))
        return not is_last

    def _flood(self) -> None:
        data = b"data: " + b"x" * _FLOOD_BYTES + b"\n\n"
        while not self.is_blocked and not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def pause_writing(self) -> None:
        self.is_blocked = True

    def resume_writing(self) -> None:
        self.is_blocked = False
        if self._floods:
            self._flood()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._floods:
            self._server.floods.remove(self)


@dataclass
class StreamingUpstream:
    """The process, as a test sees it."""

    port: int
    supervisor: Supervisor

    @property
    def pid(self) -> int:
        return self.supervisor.children[0].process.pid

    def state(self, name: str) -> int:
        """One of the numbers of /state, asked directly and not through the proxy."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/state", timeout=30) as answer:
            return int(json.loads(answer.read())[name])


@contextmanager
def streaming(folder: Path, *, together: int = 1, pace_ms: float = 20.0) -> Iterator[StreamingUpstream]:
    """Run the upstream."""
    port = free_port()
    command = [sys.executable, "-m", "tests.proxy.streams", "--port", str(port)]
    with Supervisor(folder) as supervisor:
        supervisor.start("upstream", [*command, "--together", str(together), "--pace-ms", str(pace_ms)])
        wait_for_ports([port], supervisor)
        yield StreamingUpstream(port, supervisor)


async def _serve(port: int, together: int, pace_ms: float) -> None:
    server = _Server(together, pace_ms / 1000)
    listening = await asyncio.get_running_loop().create_server(lambda: _Peer(server), "127.0.0.1", port, backlog=2048)
    server.tick()
    await listening.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--together", type=int, required=True)
    parser.add_argument("--pace-ms", type=float, required=True)
    arguments = parser.parse_args()
    end_with_parent()
    uvloop.run(_serve(arguments.port, arguments.together, arguments.pace_ms))
