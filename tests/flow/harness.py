"""The whole stream in one process: real HTTP services and the real links, on whatever log and store it is given."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from consumers.comparator import Comparator, ComparatorPlan
from consumers.gate import Gate
from consumers.loop import WallClock
from consumers.worker import Worker
from shadow.adapters.ask_http import AskPool
from shadow.adapters.avro import encode
from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.model_http import HttpModel
from shadow.cli.wiring import counting_of
from shadow.graders.grader import build
from shadow.metrics import Metrics
from shadow.ports import Log, Store
from shadow.proxy.config import Endpoint, MirrorSettings, ProxySettings
from shadow.proxy.server import Proxy
from shadow.records.decisions import Started
from shadow.records.grades import GraderSpec
from shadow.records.policy import Cap, Floor, Needs, NoRegression, Policy, Quality, Rule, StagePolicy
from shadow.records.slices import SliceSpec
from shadow.stream.slice import Slicer
from shadow.stream.state import FoldSpec

TILE_US = 1_000_000
PARTITIONS = 2


def wait_until(is_true: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Wait for a condition, bounded."""
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s, f"{what} did not happen within {timeout_s:g} s"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: its names, its rules and its graders."""

    run: str = "candidate-00000000-1"
    slices: tuple[SliceSpec, ...] = (SliceSpec("even", json={"$.even": True}),)
    graders: tuple[GraderSpec, ...] = (
        GraderSpec("correct", "numeric", (), {"expected": "json:$.metadata.answer", "tag": "answer"}),
        GraderSpec("tagged", "answer_tag", (), {"tag": "answer"}),
    )
    rules: tuple[Rule, ...] = (
        Quality({"correct": 1.0}, margin=0.1),
        NoRegression("correct", slice="even", margin=0.1, strict=True),
        Cap("tagged", max=0.05),
        Floor("tagged", min=0.9),
    )
    needs: Needs = field(default_factory=lambda: Needs(pairs=300, slice_pairs=100))
    topics: dict[str, str] = field(
        default_factory=lambda: {
            "requests": "requests",
            "answers": "answers",
            "pairs": "pairs",
            "decisions": "decisions",
            "dead_letters": "dead-letters",
        }
    )

    evidence_deadline_us: int = 20_000_000

    @property
    def policy(self) -> Policy:
        stage = StagePolicy("shadow", self.needs, self.rules)
        return Policy((stage,), tile_us=TILE_US, evidence_deadline_us=self.evidence_deadline_us)


class HttpService:
    """A small model server in a thread: JSON in, JSON out; a reply that takes its time is a coroutine."""

    def __init__(self, reply: Callable[[dict[str, Any]], Any], path: str = "/{path:.*}") -> None:
        self._reply = reply
        self._path = path
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> HttpService:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _handle(self, request: web.Request) -> web.Response:
        reply = self._reply(await request.json())
        return web.json_response(await reply if inspect.isawaitable(reply) else reply)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_route("*", self._path, self._handle)
        runner = web.AppRunner(app, access_log=None)

        async def start() -> None:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            self._ready.set()

        self._loop.run_until_complete(start())
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()


class Loop:
    """A link's `run(stop)` in a thread; a failure in it fails the test that stops it."""

    def __init__(self, run: Callable[[threading.Event], object]) -> None:
        self._run = run
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._guarded, daemon=True)

    def __enter__(self) -> Loop:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the link did not stop"
        if self._error is not None:
            raise self._error

    def _guarded(self) -> None:
        try:
            self._run(self._stop)
        except BaseException as error:  # noqa: BLE001 -- raised again by the test that stops the link
            self._error = error


def begin(log: Log, trial: Trial) -> Started:
    """Create the topics and begin the run; the record itself is written too."""
    admin = log.admin()
    names = trial.topics
    partitions = {names[kind]: PARTITIONS for kind in ("requests", "answers", "pairs")}
    stamped = {"message.timestamp.type": "LogAppendTime"}
    admin.create_topics(
        {**partitions, names["decisions"]: 1, names["dead_letters"]: 1},
        {names["requests"]: stamped, names["answers"]: stamped},
    )
    answers_from = tuple(end for _, end in admin.ends(names["answers"]))
    requests_from = tuple(end for _, end in admin.ends(names["requests"]))
    for role in ("candidate", "production", "baseline"):
        admin.commit_group(f"{trial.run}.{role}", names["requests"], requests_from)
    admin.close()
    now_us = WallClock().now_us()
    started = Started(
        run=trial.run,
        attempt=1,
        candidate="v2",
        production="v1",
        digest="0" * 64,
        stage="shadow",
        tile_us=TILE_US,
        first_tile=now_us // TILE_US,
        answers_from=answers_from,
        requests_from=requests_from,
        started_us=now_us,
        expires_us=now_us + 3600 * 1_000_000,
        is_log_append_time=log.is_log_append_time,
    )
    writer = log.decisions(names["decisions"], "test")
    writer.append(trial.run.encode(), lambda records: encode(started))
    writer.close()
    return started


def fold_spec(trial: Trial, started: Started) -> FoldSpec:
    return FoldSpec(
        run=started.run,
        partition=0,
        partitions=PARTITIONS,
        tile_us=TILE_US,
        first_tile=started.first_tile,
        deadlines_us={name: trial.policy.deadline_us(name) for name in trial.policy.comparisons},
        requests_from=started.requests_from[0],
        answers_from=started.answers_from[0],
    )


@contextlib.contextmanager
def comparing(log: Log, store: Store, trial: Trial, started: Started, *, member: str = "comparator") -> Iterator[None]:
    """A comparator at work."""
    asks = AskPool()
    comparator = Comparator(
        ComparatorPlan(started, fold_spec(trial, started), trial.topics, f"{trial.run}.comparator", member),
        log,
        store,
        Slicer(trial.slices),
        counting_of(trial.policy, [build(spec) for spec in trial.graders]),
        asks,
        Metrics("comparator"),
        WallClock(),
    )
    try:
        with Loop(comparator.run):
            yield
    finally:
        asks.close()


@contextlib.contextmanager
def gating(log: Log, store: Store, trial: Trial, started: Started) -> Iterator[Gate]:
    """A gate at work."""
    writer = log.decisions(trial.topics["decisions"], "test")
    gate = Gate(started, trial.policy, store, writer, Metrics("gate"), WallClock())
    try:
        with Loop(gate.run):
            yield gate
    finally:
        writer.close()


@contextlib.contextmanager
def working(
    log: Log, trial: Trial, url: str, role: str = "candidate", *, deadline_us: int = 5_000_000
) -> Iterator[None]:
    """A role's worker at work; its group begins at the log's beginning unless `begin` has placed it."""
    worker = Worker(
        log,
        HttpModel(url, deadline_us=deadline_us),
        run="*" if role == "production" else trial.run,
        role=role,
        version="v2" if role == "candidate" else "v1",
        group=f"{trial.run}.{role}",
        member=f"worker-{role}",
        topics=trial.topics,
        metrics=Metrics("worker"),
        clock=WallClock(),
    )
    with Loop(worker.run):
        yield


class ProxyThread:
    """A proxy in a thread of its own."""

    def __init__(self, log: Log, trial: Trial, upstream_port: int) -> None:
        self._writer = log.writer()
        mirror = MirrorSettings(
            methods=("POST",),
            paths=("/v1/*",),
            report_interval_s=0.5,
            requests_topic=trial.topics["requests"],
            answers_topic=trial.topics["answers"],
        )
        settings = ProxySettings((Endpoint("127.0.0.1", upstream_port),), "v1", mirror)
        self._proxy = Proxy(settings, writer=self._writer, encode=encode, partitions=lambda: PARTITIONS)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self.port = 0
        self.is_drained = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> ProxyThread:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)
        self._writer.close()

    def seen(self) -> int:
        return sum(counts.seen for counts in self._proxy.snapshot().partitions.values())

    def _run(self) -> None:
        async def serve() -> None:
            await self._proxy.start()
            self.port = self._proxy.port
            self._ready.set()
            await self._stop.wait()
            self.is_drained = await self._proxy.drain(10.0)

        self._loop.run_until_complete(serve())
        self._loop.close()


def send(port: int, count: int, *, first: int = 0, concurrency: int = 32) -> dict[int, int]:
    """Send numbered requests as clients would; returns how often each status came back."""
    statuses: dict[int, int] = {}

    async def one(session: aiohttp.ClientSession, number: int, slots: asyncio.Semaphore) -> None:
        body = {"n": number, "even": number % 2 == 0, "metadata": {"answer": str(number * 2)}}
        async with (
            slots,
            session.post(
                f"http://127.0.0.1:{port}/v1/double", json=body, headers={"x-session-id": f"session-{number}"}
            ) as answer,
        ):
            await answer.read()
            statuses[answer.status] = statuses.get(answer.status, 0) + 1

    async def everything() -> None:
        slots = asyncio.Semaphore(concurrency)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
            for begin_at in range(first, first + count, 2000):
                numbers = range(begin_at, min(begin_at + 2000, first + count))
                await asyncio.gather(*(one(session, number, slots) for number in numbers))

    asyncio.run(everything())
    return statuses


def doubled(request: dict[str, Any], *, wrong_every: int = 0) -> dict[str, Any]:
    """The answer of a model that doubles numbers, and is wrong on every so many even ones."""
    number = request["n"]
    is_wrong = wrong_every > 0 and number % (2 * wrong_every) == 0
    return {"answer": f"twice {number} is <answer>{number * 2 + is_wrong}</answer>"}


def records_of(log: Log, topic: str) -> list[Any]:
    """All records of a topic, as they stand in the log."""
    admin, reader = log.admin(), log.reader()
    ends = admin.ends(topic)
    reader.assign({(topic, partition): first for partition, (first, _) in enumerate(ends)})
    wanted = {partition: end for partition, (first, end) in enumerate(ends) if end > first}
    records = []
    deadline_s = time.monotonic() + 30
    while wanted:
        assert time.monotonic() < deadline_s, f"{topic} could not be read to its end: {wanted}"
        for record in reader.read(2000, 0.2):
            records.append(record)
            if record.offset + 1 >= wanted.get(record.partition, 0):
                wanted.pop(record.partition, None)
    reader.close()
    admin.close()
    return sorted(records, key=lambda record: (record.partition, record.offset))


def copy_of(log: Log, topics: list[str], partitions: int = PARTITIONS) -> MemoryLog:
    """A memory log that holds what a real one recorded."""
    memory = MemoryLog(WallClock().now_us)
    admin = memory.admin()
    admin.create_topics(dict.fromkeys(topics, partitions), {})
    for topic in topics:
        memory.load(records_of(log, topic))
    return memory
