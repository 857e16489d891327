"""Shadow's comparator itself, beside Kafka and Redis: everything that `shadow comparator` does, and a meter.

    python -m benchmarks.peers.ours WORK.json

The meter stands between the comparator and its consumer group: the first batch begins the measurement, and the fold
of the last answer ends it. What follows (ticks, the closing of the tiles, the last checkpoint) is not timed; the
runner reads the closed tiles from the store and then ends this process.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from benchmarks.comparator import GRADERS, RULES, RUN, SLICES
from benchmarks.peers.job import MINUTE_US, Work
from benchmarks.peers.meter import Meter
from consumers.comparator import Comparator, ComparatorPlan
from consumers.loop import WallClock
from shadow.adapters.ask_http import AskPool
from shadow.adapters.kafka import KafkaLog
from shadow.adapters.redis import RedisStore
from shadow.graders.grader import build
from shadow.metrics import Metrics
from shadow.ports import Log, LogGroup
from shadow.records.comparisons import CANDIDATE_PRODUCTION
from shadow.records.decisions import Started
from shadow.records.log import LogRecord
from shadow.stream.slice import Slicer
from shadow.stream.state import Counting, FoldSpec
from shadow.stream.tally import Tallier

DEADLINE_US = 900_000_000


class MeteredGroup:
    """A consumer group's member that counts the answers it hands out.

    Args:
        group: The real one.
        took: Told how many answers a batch holds.
        answers_end: Offset behind the last answer in each partition; behind it stand the comparator's own ticks.
    """

    def __init__(self, group: LogGroup, took: Callable[[int], None], answers_end: int) -> None:
        self._group = group
        self._took = took
        self._answers_end = answers_end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def read(self, max_records: int, timeout_s: float) -> list[LogRecord]:
        records = self._group.read(max_records, timeout_s)
        if records:
            self._took(sum(record.offset < self._answers_end for record in records))
        return records


class MeteredLog:
    """A log whose groups are metered; `partitions` are those that they were ever given."""

    def __init__(self, log: Log, took: Callable[[int], None], answers_end: int) -> None:
        self._log = log
        self._took = took
        self._answers_end = answers_end
        self.partitions: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def group(self, *args: Any, on_assigned: Callable[[list[int]], Any], **named: Any) -> MeteredGroup:
        def assigned(partitions: list[int]) -> Any:
            self.partitions.update(partitions)
            return on_assigned(partitions)

        group = self._log.group(*args, on_assigned=assigned, **named)
        return MeteredGroup(group, self._took, self._answers_end)


def main() -> None:
    work = Work.load(sys.argv[1])
    meter, stop = Meter(work, work.share), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    unfolded, checkpoints = [0], [0]

    def took(answers: int) -> None:
        meter.begin()
        unfolded[0] += answers

    def reached(point: str) -> None:
        if point == "saved":
            checkpoints[0] += not meter.finished.is_set()
        elif point == "folded" and unfolded[0]:
            answers, unfolded[0] = unfolded[0], 0
            meter.count(answers)
            if meter.finished.is_set():
                versions = {"confluent-kafka": version("confluent-kafka")}
                meter.write({}, versions, checkpoints=checkpoints[0], partitions=sorted(log.partitions))

    log = MeteredLog(KafkaLog({"bootstrap.servers": work.bootstrap}), took, work.pairs // 2)
    asks = AskPool()
    try:
        comparator_of(work, log, asks, reached).run(stop)
    finally:
        asks.close()


def comparator_of(work: Work, log: Any, asks: AskPool, reached: Callable[[str], None]) -> Comparator:
    """The comparator of the benchmark's run."""
    first_tile = work.first_us // MINUTE_US
    started = Started(
        run=RUN,
        attempt=1,
        candidate="v2",
        production="v1",
        digest="0" * 64,
        stage="shadow",
        tile_us=MINUTE_US,
        first_tile=first_tile,
        answers_from=(0, 0),
        requests_from=(0, 0),
        started_us=work.first_us,
        expires_us=work.first_us + 10**12,
    )
    spec = FoldSpec(RUN, 0, 2, MINUTE_US, first_tile, {CANDIDATE_PRODUCTION: DEADLINE_US}, 0, 0)
    plan = ComparatorPlan(
        started=started,
        spec=spec,
        topics=work.topics,
        group=f"peers.{work.topics['answers']}",
        member=str(work.options["member"]),
        writes_pairs=bool(work.options["writes_pairs"]),
    )
    graders = tuple(build(grader) for grader in GRADERS)
    counting = {CANDIDATE_PRODUCTION: Counting(graders, Tallier(RULES, {spec.name: spec.slices for spec in GRADERS}))}
    store, metrics = RedisStore(work.redis), Metrics("comparator")
    return Comparator(plan, log, store, Slicer(SLICES), counting, asks, metrics, WallClock(), reached)


if __name__ == "__main__":
    main()
