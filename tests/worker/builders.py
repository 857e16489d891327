"""Builders for tests of the worker: requests, servers that misbehave, and a model whose replies a test releases."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from consumers.loop import WallClock
from consumers.worker import Worker
from shadow.adapters.avro import decode, encode
from shadow.adapters.memory_log import MemoryLog
from shadow.metrics import Metrics
from shadow.ports import Log
from shadow.records.answers import ANSWERED, Answer
from shadow.records.log import LogRecord
from shadow.records.replies import Reply
from shadow.records.requests import Live, MirroredRequest, Origin

TOPICS = {"requests": "shadow-requests", "answers": "shadow-answers", "dead_letters": "shadow-dead-letters"}
RUN = "candidate-00000000-1"
GROUP = f"shadow.{RUN}.candidate"


def wait_until(condition: Callable[[], object], what: str, within_s: float = 10.0, every_s: float = 0.002) -> None:
    """Wait for a condition; fail with its name where it does not come true."""
    until_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until_s, f"not within {within_s} s: {what}"
        time.sleep(every_s)


def request(number: int = 1, **changes: Any) -> MirroredRequest:
    """A mirrored chat request that production served."""
    made = MirroredRequest(
        request_id=f"request-{number}",
        key=f"key-{number}",
        event_time_us=number,
        method="POST",
        path="/v1/chat/completions?x=1",
        headers={"content-type": "application/json"},
        body=b'{"model":"assistant","messages":[{"role":"user","content":"hi"}]}',
        u=0.5,
        sample=1.0,
        quotas={},
        origin=Origin("proxy", 1, number, number, {}),
        live=Live("v41", "production", "answered", 200, {}, b"hello", 400, 500),
    )
    return replace(made, **changes)


@contextlib.asynccontextmanager
async def http_server(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A real HTTP server on a free loopback port; gives its URL."""
    app = web.Application(client_max_size=16 << 20)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def raw_server(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A TCP server that answers as its handler says, once the head of a request is read; gives its URL."""
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


class ServerThread:
    """An HTTP server on a loop of its own, for tests that run a whole worker."""

    def __init__(self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        self._handler = handler
        self._loop = asyncio.new_event_loop()
        self._is_up = threading.Event()
        self.url = ""
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with http_server(self._handler) as self.url:
            self._is_up.set()
            await self._stop.wait()
        # Handlers that still sleep, since their caller gave up.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def __enter__(self) -> ServerThread:
        self._thread.start()
        assert self._is_up.wait(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()


REPLY = Reply(ANSWERED, 200, {"content-type": "text/plain"}, b"any", 1, 2, 3)


class HandModel:
    """A model that replies to a request when the test says so, in any order.

    Args:
        is_open: Replies at once where True.
    """

    def __init__(self, *, is_open: bool = False) -> None:
        self.started: list[str] = []
        self.cut_off: list[str] = []
        self.most_at_once = 0
        self.is_closed = False
        self._is_open = is_open
        self._held: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Future[Reply]]] = {}

    async def call(self, request: MirroredRequest, role: str, version: str) -> Reply:
        self.started.append(request.request_id)
        if self._is_open:
            return reply_of(request)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        self._held[request.request_id] = (loop, future)
        self.most_at_once = max(self.most_at_once, len(self._held))
        try:
            return await future
        except asyncio.CancelledError:
            self.cut_off.append(request.request_id)
            raise
        finally:
            self._held.pop(request.request_id, None)

    async def close(self) -> None:
        self.is_closed = True

    def held(self) -> list[str]:
        """Requests that wait for their reply."""
        return list(self._held)

    def release(self, number: int, reply: Reply | None = None) -> None:
        """Reply to one request."""
        wait_until(lambda: f"request-{number}" in self._held, f"request {number} is asked")
        loop, future = self._held[f"request-{number}"]
        made = reply or reply_of(request(number))
        loop.call_soon_threadsafe(lambda: future.done() or future.set_result(made))

    def release_all(self, until: Callable[[], bool]) -> None:
        """Reply to whatever is asked until a condition holds."""

        def answered() -> bool:
            for loop, future in list(self._held.values()):
                loop.call_soon_threadsafe(lambda future=future: future.done() or future.set_result(REPLY))
            return until()

        wait_until(answered, "all are answered")


def reply_of(request: MirroredRequest) -> Reply:
    return Reply(ANSWERED, 200, {"content-type": "text/plain"}, request.request_id.encode(), 1, 2, 3)


def memory_log(partitions: int = 1, **options: Any) -> MemoryLog:
    """A log whose topics exist and whose group begins at the first request."""
    log = MemoryLog(lambda: 1_700_000_000_000_000, **options)
    prepare(log, partitions)
    return log


def prepare(log: Log, partitions: int, topics: Mapping[str, str] = TOPICS, group: str = GROUP) -> None:
    """Create the topics and commit the group's offsets, as the start of a run does."""
    admin = log.admin()
    admin.create_topics({topics["requests"]: partitions, topics["answers"]: partitions, topics["dead_letters"]: 1}, {})
    admin.commit_group(group, topics["requests"], [0] * partitions)
    admin.close()


def send(log: Log, *requests: MirroredRequest, partition: int = 0) -> None:
    """Append requests to the requests topic."""
    send_raw(log, *[encode(request) for request in requests], partition=partition)


def send_raw(log: Log, *values: bytes, partition: int = 0) -> None:
    """Append any bytes to the requests topic."""
    writer = log.writer()
    for value in values:
        headers = {"traceparent": b"00-1-2-01"}
        assert writer.write(TOPICS["requests"], partition, key=b"key", value=value, headers=headers)
    assert writer.flush(10) == 0
    writer.close()


def records_of(log: Log, topic: str, topics: Mapping[str, str] = TOPICS) -> list[LogRecord]:
    """Everything that stands in a topic."""
    admin = log.admin()
    found = []
    for partition, (first, end) in enumerate(admin.ends(topics[topic])):
        found += admin.read_at(topics[topic], partition, list(range(first, end)))
    admin.close()
    return found


def answers_of(log: Log, topics: Mapping[str, str] = TOPICS) -> list[Answer]:
    """Every Answer in the answers topic."""
    return [decode(record.value) for record in records_of(log, "answers", topics)]


def worker_of(log: Log, model: Any, **changes: Any) -> Worker:
    """A candidate's worker."""
    options: dict[str, Any] = {
        "run": RUN,
        "role": "candidate",
        "version": "v42",
        "group": GROUP,
        "member": "worker-1",
        "topics": TOPICS,
        "metrics": Metrics("worker", {"role": ["candidate"]}),
        "clock": WallClock(),
        "drain_s": 0.5,
    }
    return Worker(log, model, **(options | changes))


@contextlib.contextmanager
def running(worker: Worker) -> Iterator[threading.Event]:
    """Run a worker in a thread; it is stopped, and must have stopped, at the end."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def body() -> None:
        try:
            worker.run(stop)
        except BaseException as error:  # noqa: BLE001 - raised again where the test waits
            failures.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(15)
        assert not thread.is_alive(), "the worker does not stop"
        if failures:
            raise failures[0]
