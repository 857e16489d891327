"""Bytewax: `fold_window` by slice over tumbling minutes of event time, with recovery every second.

    python -m benchmarks.peers.bytewax_flow WORK.json

The window waits a day for stragglers, so none of them is late: the source ends where the topic ends, and then every
window closes and comes out.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.peers.job import MINUTE_US, Counts, Job, Work, add
from benchmarks.peers.meter import Meter

BATCH = 2000
ALIGNED = datetime(2020, 1, 1, tzinfo=UTC)
ALIGNED_MINUTE = int(ALIGNED.timestamp()) // 60


class CountsSink(DynamicSink[Any]):
    """Keeps every window that closed."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition[Any]:
        return _Partition(self._counts)


class _Partition(StatelessSinkPartition[Any]):
    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def write_batch(self, items: list[Any]) -> None:
        for slice, (window, vector) in items:
            self._counts[ALIGNED_MINUTE + window, slice] = vector


def main() -> None:
    work = Work.load(sys.argv[1])
    meter, counts = Meter(work, work.increments), Counts()
    snapshots = Path(work.directory) / "snapshots"
    snapshots.mkdir()
    init_db_dir(snapshots, 1)
    cli_main(
        flow_of(work, meter, counts),
        epoch_interval=timedelta(seconds=1),
        recovery_config=RecoveryConfig(str(snapshots)),
    )
    meter.write(counts, {name: version(name) for name in ("bytewax", "confluent-kafka")})


def flow_of(work: Work, meter: Meter, counts: Counts) -> Dataflow:
    """The dataflow; `counts` is filled when it ends."""
    job = Job(work)

    def pairs(message: Any) -> list[tuple[str, tuple[int, tuple[int, ...]]]]:
        meter.begin()
        pair = job.pair(message.value)
        return [] if pair is None else [(slice, (pair.time_us, pair.cells)) for slice in pair.slices]

    def time_of(value: tuple[int, tuple[int, ...]]) -> datetime:
        return datetime.fromtimestamp(value[0] / 1e6, UTC)

    def counted(vector: list[int], value: tuple[int, tuple[int, ...]]) -> list[int]:
        meter.count()
        return add(vector, value[1])

    flow = Dataflow("peers")
    source = KafkaSource([work.bootstrap], [work.topics["answers"]], tail=False, batch_size=BATCH)
    stream = op.flat_map("pairs", op.input("answers", flow, source), pairs)
    windows = fold_window(
        "counts",
        stream,
        EventClock(time_of, wait_for_system_duration=timedelta(days=1)),
        TumblingWindower(length=timedelta(microseconds=MINUTE_US), align_to=ALIGNED),
        builder=job.new_vector,
        folder=counted,
        merger=lambda one, other: [a + b for a, b in zip(one, other, strict=True)],
        # In order, every value would wait in a queue until the watermark passes it.
        ordered=False,
    )
    op.output("out", windows.down, CountsSink(counts))
    return flow


if __name__ == "__main__":
    main()
