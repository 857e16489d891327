"""Run one engine on fresh topics, and take its figures and its counts."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from benchmarks.comparator import GRADERS, RUN, SLICES
from benchmarks.peers.environments import python_of, streams_class_path
from benchmarks.peers.job import Counts, Work
from benchmarks.peers.load import PARTITIONS, Load, create_topics, fill
from shadow.adapters.data import data_dir
from shadow.adapters.embedded import ServerProcess
from shadow.adapters.redis import RedisStore
from shadow.records.comparisons import tile_name
from shadow.records.tallies import ClosedTile, Tally
from shadow.stream.state import slot_of
from tests.services.kafka import ApacheKafka, java_program
from tests.services.redis import RedisServer

ROOT: Final = Path(__file__).parents[2]
RUN_S: Final = 900
CLOSE_S: Final = 60
HEAP: Final = "-Xmx512m"


class RunFailed(Exception):
    """An engine did not do its work; the text says why in one sentence."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one engine in one run.

    Args:
        pairs: How many it should count.
        counted: Counts over all slices that it made; None for the comparator, which counts much more.
        wall_s: From the first record to the last count; of two processes the longer one.
        cpu_s: User and system time between the same two moments, of all its processes.
        rss_bytes: Peak resident memory of its largest process.
        counts: What it counted; None for the comparator.
        tallies: What the comparator counted, by minute; None for the others.
        more: What else it says of itself.
    """

    pairs: int
    counted: int | None
    wall_s: float
    cpu_s: float
    rss_bytes: int
    versions: Mapping[str, str]
    counts: Counts | None
    tallies: Mapping[int, Tally] | None
    more: Mapping[str, Any]

    @property
    def pairs_per_s(self) -> float:
        return self.pairs / self.wall_s

    @property
    def cpu_us(self) -> float:
        """CPU time of a pair, microseconds."""
        return self.cpu_s / self.pairs * 1e6


class Bench:
    """One broker, one load and a directory for a whole comparison.

    Args:
        kafka: A started broker.
        load: The records.
        directory: Each run gets a directory of its own in it.
    """

    def __init__(self, kafka: ApacheKafka, load: Load, directory: Path) -> None:
        self._kafka = kafka
        self._load = load
        self._directory = directory
        self._numbers = count(1)

    def python(self, engine: str, module: str, pairs: int, environment: str | None = None) -> Measured:
        """Run a Python engine in its own environment; None is the project's.

        Raises:
            RunFailed: If it ends without figures, or takes too long.
            EnvironmentMissing: If its environment cannot be made.
        """
        python = Path(sys.executable) if environment is None else python_of(environment)
        return self._peer(engine, [str(python), "-m", f"benchmarks.peers.{module}"], pairs, {})

    def streams(self, engine: str, pairs: int, *, is_repartitioned: bool, is_re2: bool) -> Measured:
        """Run Kafka Streams in one of its shapes, with RE2 or with Java's own patterns. Raises as `python` does."""
        command = [java_program(), HEAP, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", streams_class_path()]
        options = {"schemas": str(data_dir("schemas")), "is_repartitioned": is_repartitioned, "is_re2": is_re2}
        return self._peer(engine, [*command, "peers.Main"], pairs, options)

    def comparators(self, engine: str, pairs: int, *, processes: int, writes_pairs: bool) -> Measured:
        """Run one or two comparators on a Redis of their own, until every tile is closed.

        Raises:
            RunFailed: If one ends without figures, if a tile does not close, or if one of two had both partitions.
        """
        command = [sys.executable, "-m", "benchmarks.peers.ours"]
        with ExitStack() as stack:
            redis = stack.enter_context(RedisServer())
            work = self._work(engine, pairs, redis.url, requests=True)
            children = []
            for number in range(processes):
                options = {"member": f"comparator-{number}", "writes_pairs": writes_pairs}
                own = {**work, "share": pairs // processes, "options": options}
                children.append(stack.enter_context(self._started(command, own, number)))
            documents = [_result(process, result, RUN_S) for process, result in children]
            tallies = _closed(redis.url, self._load, pairs, [process for process, _ in children])
        partitions = [document["partitions"] for document in documents]
        if sorted(map(len, partitions)) != [PARTITIONS // processes] * processes:
            raise RunFailed(f"the comparators were given the partitions {partitions}, which is not {processes} shares")
        checkpoints = sum(document["checkpoints"] for document in documents)
        versions = {**documents[0]["versions"], "redis-server": redis.version}
        return _measured(pairs, documents, versions, counts=None, tallies=tallies, more={"checkpoints": checkpoints})

    def _peer(self, engine: str, command: list[str], pairs: int, options: Mapping[str, Any]) -> Measured:
        work = {**self._work(engine, pairs, "", requests=False), "options": options}
        with self._started(command, work, 0) as (process, result):
            document = _result(process, result, RUN_S)
        counts = {(minute, slice): vector for minute, slice, vector in document["counts"]}
        more = {"late": document["late"]} if document.get("late") else {}
        return _measured(pairs, [document], document["versions"], counts=counts, tallies=None, more=more)

    def _work(self, engine: str, pairs: int, redis: str, *, requests: bool) -> dict[str, Any]:
        """Fresh topics with the load in them, and the work on them."""
        number = next(self._numbers)
        kinds = ("answers", "requests", "pairs", "dead_letters") if requests else ("answers",)
        topics = {kind: f"run-{number}-{kind.replace('_', '-')}" for kind in kinds}
        create_topics(self._kafka.bootstrap, topics)
        fill(self._kafka.bootstrap, self._load, pairs, answers=topics["answers"], requests=topics.get("requests"))
        directory = self._directory / f"run-{number}"
        directory.mkdir()
        work = Work(
            engine=engine,
            bootstrap=self._kafka.bootstrap,
            redis=redis,
            topics=topics,
            pairs=pairs,
            share=pairs,
            increments=self._load.increments(pairs),
            first_us=self._load.first_us,
            directory=str(directory),
            result="",
            slices=[asdict(spec) for spec in SLICES],
            graders=[asdict(spec) for spec in GRADERS],
            options={},
        )
        return asdict(work)

    @contextmanager
    def _started(
        self, command: list[str], work: Mapping[str, Any], number: int
    ) -> Iterator[tuple[ServerProcess, Path]]:
        """One engine's process and where its result will stand; it is ended, and its files removed."""
        directory = Path(work["directory"]) / f"process-{number}"
        directory.mkdir()
        result, file = directory / "result.json", directory / "work.json"
        own = Path(work["directory"]) / f"state-{number}"
        own.mkdir()
        file.write_text(json.dumps({**work, "directory": str(own), "result": str(result)}))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = ServerProcess([*command, str(file)], log_path=directory / "log", cwd=directory, env=environment)
        try:
            yield process, result
        finally:
            process.stop(timeout_s=20.0)
            shutil.rmtree(own, ignore_errors=True)


@contextmanager
def bench(load: Load) -> Iterator[Bench]:
    """A broker for one comparison. Raises ServiceMissing where Java or Kafka's jars cannot be had."""
    with (
        tempfile.TemporaryDirectory(prefix="shadow-bench-") as directory,
        # Two comparators that start together get one partition each, and none is taken away again.
        ApacheKafka({"group.initial.rebalance.delay.ms": "3000"}, is_measured=True) as kafka,
    ):
        yield Bench(kafka, load, Path(directory))


def _result(process: ServerProcess, result: Path, timeout_s: float) -> dict[str, Any]:
    """The figures of a process, as soon as it has written them."""

    def is_there() -> bool:
        return result.exists()

    _wait(is_there, lambda: process.is_running, timeout_s, lambda: f"no figures; its log ends: {process.tail()}")
    document: dict[str, Any] = json.loads(result.read_text())
    return document


def _closed(url: str, load: Load, pairs: int, processes: Sequence[ServerProcess]) -> Mapping[int, Tally]:
    """The partitions' closed tiles added up by minute, once all that hold a request are there."""
    store, tiles = RedisStore(url), load.tiles(pairs)
    names = [tile_name(tile) for tile in tiles]
    slots = [slot_of(RUN, partition) for partition in range(PARTITIONS)]

    def missing() -> int:
        return sum(len(set(names).difference(store.tile_names(slot))) for slot in slots)

    def state() -> str:
        logs = " ".join(process.tail() for process in processes)
        return f"{missing()} of {len(slots) * len(names)} tiles are not closed in the store; the logs end: {logs}"

    try:
        _wait(lambda: missing() == 0, lambda: all(process.is_running for process in processes), CLOSE_S, state)
        tallies = {tile: Tally() for tile in tiles}
        for slot in slots:
            for tile, value in zip(tiles, store.tiles(slot, names), strict=True):
                if value is not None:
                    tallies[tile].add(ClosedTile.from_bytes(tile, value).tally)
        return tallies
    finally:
        store.close()


def _wait(is_done: Callable[[], bool], goes_on: Callable[[], bool], timeout_s: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_done():
        if not goes_on() and not is_done():
            raise RunFailed(f"it ended too early: {what()}")
        if time.monotonic() > deadline:
            raise RunFailed(f"{what()} after {timeout_s:g} s")
        time.sleep(0.2)


def _measured(
    pairs: int,
    documents: list[dict[str, Any]],
    versions: Mapping[str, str],
    *,
    counts: Counts | None,
    tallies: Mapping[int, Tally] | None,
    more: Mapping[str, Any],
) -> Measured:
    return Measured(
        pairs=pairs,
        counted=None if counts is None else documents[0]["counted"],
        wall_s=max(document["wall_s"] for document in documents),
        cpu_s=sum(document["cpu_s"] for document in documents),
        rss_bytes=max(document["rss_bytes"] for document in documents),
        versions=versions,
        counts=counts,
        tallies=tallies,
        more=more,
    )
