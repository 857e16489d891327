"""Clients that ask on kept connections, at a steady rate or as fast as they are answered, and check every byte."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import orjson

from tests.flow.harness import wait_until

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")
_ANSWER_S = 60.0
_FAILURES_MAX = 20
ENDED = "the connection ended"


@dataclass(frozen=True, slots=True)
class Question:
    """One request, whole, and the body that its answer must have."""

    request: bytes
    answer: bytes


Ask = Callable[[int], Question]


def doubling(number: int, padding: int = 0) -> Question:
    """A question for `tests.flow.doubling`; every tenth one goes to a path that is not copied."""
    document = {"n": number, "even": number % 2 == 0, "metadata": {"answer": str(number * 2)}, "padding": "x" * padding}
    body, path = orjson.dumps(document), "/v1/double" if number % 10 else "/other"
    lines = f"POST {path} HTTP/1.1\r\nHost: a\r\nx-session-id: session-{number}\r\nContent-Type: application/json\r\n"
    request = f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body
    return Question(request, orjson.dumps({"answer": f"twice {number} is <answer>{number * 2}</answer>"}))


def echoed(number: int, size: int = 100) -> Question:
    """A question for `tests.proxy.streams`, which sends the body back."""
    body = (b'{"n":%d,"padding":"' % number).ljust(size - 2, b"x") + b'"}'
    lines = f"POST /v1/echo HTTP/1.1\r\nHost: a\r\nx-session-id: session-{number}\r\n"
    return Question(f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body, body)


@dataclass(slots=True)
class Phase:
    """What became of the requests that were begun within one stretch of time.

    Args:
        latencies_s: From the moment at which a request was due to the last byte of its answer.
    """

    failures: list[str] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the latencies."""
        ordered = sorted(self.latencies_s)
        return ordered[int(len(ordered) * 0.99)] * 1000 if ordered else 0.0


class Load:
    """Requests in a thread until told to stop; a context manager.

    `answered` counts the requests whose answer came or failed to come, `failures` says what was wrong with the first
    twenty of them.

    Args:
        rate: Requests per second in all; None: each connection asks as soon as it was answered.
        ends_well: Whether a connection that ends between two answers is no failure, as while a server drains; its
            client then asks no more.
    """

    def __init__(
        self,
        port: int,
        ask: Ask = doubling,
        *,
        connections: int = 4,
        rate: float | None = None,
        ends_well: bool = False,
    ) -> None:
        self._port = port
        self._ask = ask
        self._connections = connections
        self._pace_s = connections / rate if rate is not None else 0.0
        self._ends_well = ends_well
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)
        self._phase = Phase()
        self._numbers = itertools.count()
        self.answered = 0
        self.failures: list[str] = []

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Wait until the last client has ended."""
        self._thread.join(_ANSWER_S * 2)
        assert not self._thread.is_alive(), "the clients did not end"

    @contextmanager
    def phase(self) -> Iterator[Phase]:
        """Requests that are begun meanwhile belong to this phase."""
        self._phase = phase = Phase()
        try:
            yield phase
        finally:
            self._phase = Phase()

    def more(self, count: int, timeout_s: float = 120.0) -> None:
        """Wait until so many more requests were answered."""
        until = self.answered + count
        wait_until(lambda: self.answered >= until, f"{count} more answers", timeout_s)

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(each) for each in range(self._connections)))

    async def _client(self, index: int) -> None:
        due_s = time.monotonic() + index * self._pace_s / self._connections
        connection = _Connection(self._port)
        while not self._stop.is_set():
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            number, phase = next(self._numbers), self._phase
            trouble = await connection.trouble_with(self._ask(number))
            if trouble == ENDED and self._ends_well:
                break
            now_s = time.monotonic()
            phase.latencies_s.append(now_s - due_s)
            if trouble is not None and len(self.failures) < _FAILURES_MAX:
                self.failures.append(f"request {number}: {trouble}")
                phase.failures.append(self.failures[-1])
            self.answered += 1
            due_s = due_s + self._pace_s if self._pace_s else now_s
        connection.close()


class _Connection:
    """One connection of a client, opened where there is none."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._has_begun = False

    async def trouble_with(self, question: Question) -> str | None:
        """Ask; returns what is wrong with the answer, `ENDED` where not a byte of one came."""
        self._has_begun = False
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._asked(question)
        except (OSError, EOFError) as error:
            self.close()
            is_cut = isinstance(error, ConnectionError) or (
                isinstance(error, asyncio.IncompleteReadError) and not error.partial
            )
            return ENDED if is_cut and not self._has_begun else f"{type(error).__name__}: {error}"

    async def _asked(self, question: Question) -> str | None:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(question.request)
        head = await reader.readuntil(b"\r\n\r\n")
        self._has_begun = True
        length = _LENGTH.search(head)
        if length is None:
            return f"an answer without a length: {head!r}"
        body = await reader.readexactly(int(length[1]))
        if not head.startswith(b"HTTP/1.1 200 ") or body != question.answer:
            return f"{head!r} {body[:200]!r}"
        return None

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
