r"""One input: what a client and an upstream do, written as bytes, and what came of it.

    3 bytes   client's bytes   \0|   answer   \0,   answer   \0.   ...
    |              with \0,  a turn of the loop: what is behind it comes later
    |                   \0.  the client ends its side      \0!  the client resets     \0~  five minutes pass
    |              answers:   \0,  nothing more   \0.  the end   \0!  a reset   \0?  the next dial is refused
    |
    step of the client's pieces (0: whole), step of the upstream's, and flags

Each request that the upstream reads whole takes the next answer; when none is left, a plain one. When the client is
gone, another one asks for /mark: what went before must not be mixed with its request or its answer.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from shadow.adapters.avro import encode
from shadow.proxy.config import Endpoint, Limits, MirrorSettings, ProxySettings
from shadow.proxy.counters import Snapshot
from shadow.proxy.http1 import ClientConnection
from shadow.proxy.server import Proxy
from tests.proxy.fuzz.memory import MemoryLoop, MemoryTransport
from tests.proxy.fuzz.readers import Arriving
from tests.proxy.inputs.case import Seen, got
from tests.proxy.kit import PARTITIONS, RecordingWriter, ok

ANSWERS: Final = b"\0|"
TURN, END, RESET, REFUSAL, WAIT = b",", b".", b"!", b"?", b"~"

EARLY: Final = 1
"""The upstream answers when it has the head."""
HASTY: Final = 2
"""The loop turns once behind what the client sends, and not until all is quiet."""
BLOCKED: Final = 4
"""The client takes nothing until it has sent everything."""
SLUGGISH: Final = 8
"""The upstream takes nothing for a turn of the loop behind each write."""

MARK: Final = Seen(b"GET", b"/mark")
MARKED: Final = b"marked"
"""What the other client asks, and the body that it gets."""

SMALL: Final = Limits(
    head_bytes_max=1024,
    target_bytes_max=256,
    fields_max=20,
    extension_bytes_max=32,
    extensions_bytes_max=64,
    trailer_bytes_max=128,
    answer_head_bytes_max=1024,
    interim_answers_max=4,
    buffer_bytes_max=256,
)
"""Bounds that a short input reaches."""

_MARK: Final = re.compile(rb"\x00([|,.!?~])")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")
_BODY_BYTES_MAX: Final = 256
_QUIET_TURNS: Final = 8
_WAIT_S: Final = 301.0
"""More than the client or the upstream may stand still by the default time-outs."""
_TURNS_FIXED, _TURNS_A_BYTE = 200, 4

Act = tuple[bytes, bytes]
"""A piece of bytes, and the mark of what follows it."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A parsed input."""

    client: tuple[Act, ...]
    answers: tuple[Act, ...] = ()
    client_step: int = 0
    upstream_step: int = 0
    flags: int = 0

    @property
    def sent(self) -> bytes:
        """All bytes of the client."""
        return b"".join(piece for piece, _ in self.client)


@dataclass(slots=True)
class Outcome:
    """What came of a scene.

    Args:
        forwarded: Bytes that the upstream got, by connection.
        received: Bytes that the client got.
        was_open: Whether the client's connection was open when all had come to rest.
        waiting: Requests that waited for an answer then.
        has_ended: Whether the proxy ended the client's connection in order.
        rests: Whether everything came to rest within a number of turns that is bounded by the input's size.
        marked: Bytes that the other client got.
        is_drained: Whether the proxy said that its drain left nothing behind.
        escaped: Exceptions that no one caught.
    """

    forwarded: list[bytearray] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    was_open: bool = False
    waiting: int = 0
    has_ended: bool = False
    marked: bytearray = field(default_factory=bytearray)
    rests: bool = True
    is_drained: bool = False
    escaped: list[str] = field(default_factory=list)
    writer: RecordingWriter = field(default_factory=RecordingWriter)
    snapshot: Snapshot | None = None


def scene_of(data: bytes) -> Scene:
    """Read an input; every sequence of bytes is one."""
    client_step, upstream_step, flags = (*data[:3], 0, 0, 0)[:3]
    client, _, answers = data[3:].partition(ANSWERS)
    acts: list[Act] = []
    for act in _acts(client):
        acts.append(act)
        if act[1] in (END, RESET):
            break
    return Scene(tuple(acts), tuple(_acts(answers)) if answers else (), client_step, upstream_step, flags)


def input_of(client: bytes, answers: bytes = b"", *, steps: tuple[int, int] = (0, 0), flags: int = 0) -> bytes:
    """The bytes of an input."""
    return bytes((*steps, flags)) + client + ANSWERS + answers


def _acts(data: bytes) -> Iterator[Act]:
    parts = _MARK.split(data)
    for at in range(0, len(parts), 2):
        yield parts[at], parts[at + 1] if at + 1 < len(parts) else TURN


def _cuts(piece: bytes, step: int) -> Iterator[bytes]:
    step = step or len(piece) or 1
    for at in range(0, len(piece), step):
        yield piece[at : at + step]


class _Upstream:
    """Answers every request that h11 finds in what was forwarded."""

    def __init__(self, scene: Scene, outcome: Outcome) -> None:
        self._scene = scene
        self._outcome = outcome
        self._answers = list(scene.answers)
        self._transports: list[MemoryTransport] = []
        self._arriving: list[Arriving] = []
        self._answered: list[int] = []
        self._plain = ok()

    def mark(self) -> None:
        """Forget the answers that are left, and answer the other client."""
        self._answers.clear()
        self._plain = ok(MARKED)

    def dial(self, protocol: asyncio.Protocol) -> MemoryTransport:
        """Take a connection, or refuse it."""
        if self._answers and self._answers[0][1] == REFUSAL:
            self._answers.pop(0)
            raise ConnectionRefusedError
        number = len(self._transports)
        transport = MemoryTransport(protocol, partial(self._take, number, protocol))
        self._transports.append(transport)
        self._arriving.append(Arriving())
        self._answered.append(0)
        self._outcome.forwarded.append(bytearray())
        return transport

    def _take(self, number: int, protocol: asyncio.Protocol, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._outcome.forwarded[number] += data
        self._arriving[number].receive(data)
        if self._scene.flags & SLUGGISH:
            protocol.pause_writing()
            loop.call_soon(protocol.resume_writing)
        loop.call_soon(self._answer, number)

    def _answer(self, number: int) -> None:
        arriving = self._arriving[number]
        due = arriving.begun if self._scene.flags & EARLY else arriving.whole
        while self._answered[number] < due:
            self._answered[number] += 1
            piece, mark = self._answers.pop(0) if self._answers else (self._plain, TURN)
            transport = self._transports[number]
            for cut in _cuts(piece, self._scene.upstream_step):
                transport.give(cut)
            if mark == END:
                transport.give(None)
            elif mark == RESET:
                transport.lose()


class _Play:
    """One scene on its way."""

    def __init__(self, scene: Scene, loop: MemoryLoop, limits: Limits) -> None:
        self.outcome = Outcome()
        self._scene = scene
        self._loop = loop
        self._turns_max = _TURNS_FIXED + _TURNS_A_BYTE * (
            len(scene.sent) + sum(len(piece) for piece, _ in scene.answers)
        )
        mirror = MirrorSettings(_METHODS, ("/*", "[*]"), body_bytes_max=_BODY_BYTES_MAX, report_interval_s=3600.0)
        settings = ProxySettings((Endpoint("127.0.0.1", 80),), "v1", mirror, process="proxy-1", limits=limits)
        self._proxy = Proxy(settings, writer=self.outcome.writer, encode=encode, partitions=lambda: PARTITIONS)

    async def run(self) -> None:
        """Play it to its end; then the client goes, and the proxy is drained."""
        outcome, proxy, loop = self.outcome, self._proxy, self._loop
        upstream = _Upstream(self._scene, outcome)
        loop.dial = upstream.dial
        await proxy.start()
        assert loop.server is not None
        transport, protocol = loop.server.connect(outcome.received.extend)
        await self._send(transport, protocol)
        await self._rest()
        outcome.was_open = not transport.is_closing() and not transport.has_ended
        outcome.waiting = proxy.snapshot().active
        outcome.has_ended = transport.has_ended or (
            transport.is_closing() and not (transport.was_aborted or transport.was_lost or transport.socket.is_reset)
        )
        transport.give(None)
        await self._rest()
        transport.lose()
        await self._rest()
        upstream.mark()
        other, _ = loop.server.connect(outcome.marked.extend)
        other.give(got(target=MARK.target))
        await self._rest()
        other.lose()
        await self._rest()
        outcome.is_drained = await proxy.drain(30.0)
        outcome.snapshot = proxy.snapshot()

    async def _send(self, transport: MemoryTransport, protocol: asyncio.Protocol) -> None:
        scene = self._scene
        if scene.flags & BLOCKED:
            protocol.pause_writing()
        for piece, mark in scene.client:
            for cut in _cuts(piece, scene.client_step):
                transport.give(cut)
                await asyncio.sleep(0)
            if not scene.flags & HASTY:
                await self._rest()
            if mark == END:
                transport.give(None)
            elif mark == RESET:
                transport.lose()
            elif mark == WAIT:
                assert isinstance(protocol, ClientConnection)
                protocol.check(time.monotonic() + _WAIT_S)
        if scene.flags & BLOCKED:
            protocol.resume_writing()

    async def _rest(self) -> None:
        """Let the loop turn until nothing has moved for some turns."""
        outcome = self.outcome
        quiet, before = 0, -1
        for _ in range(self._turns_max):
            await asyncio.sleep(0)
            now = len(outcome.received) + len(outcome.marked) + sum(map(len, outcome.forwarded))
            quiet = quiet + 1 if now == before else 0
            before = now
            if quiet == _QUIET_TURNS:
                return
        outcome.rests = False


def play(scene: Scene, loop: MemoryLoop, limits: Limits = SMALL) -> Outcome:
    """Play a scene with a proxy of its own.

    Raises:
        Exception: Whatever the proxy raised where its caller would have got it.
    """
    loop.escaped.clear()
    stage = _Play(scene, loop, limits)
    loop.run_until_complete(stage.run())
    stage.outcome.escaped += [repr(context) for context in loop.escaped]
    return stage.outcome
