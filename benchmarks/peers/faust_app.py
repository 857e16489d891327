"""Faust-streaming: a windowed table with its change log, committed every second.

    python -m benchmarks.peers.faust_app WORK.json

The table's key has the record's partition in front of the slice, so that nothing needs to be repartitioned and the
change log stays beside the records that it sums up; the two partitions are added up at the end.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from typing import Any

import faust

from benchmarks.peers.job import Counts, Job, Work, add
from benchmarks.peers.meter import Meter

DAY_S = 86_400.0


def main() -> None:
    work = Work.load(sys.argv[1])
    meter = Meter(work, work.increments)
    meter.watch()
    app = faust.App(
        "faust",
        broker=f"kafka://{work.bootstrap}",
        datadir=work.directory,
        store="memory://",
        web_enabled=False,
        topic_partitions=2,
        topic_replication_factor=1,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
    )
    build(app, work, meter)
    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


def build(app: faust.App, work: Work, meter: Meter) -> None:
    """Add the table, the agent and the end of the measurement to the application."""
    job = Job(work)
    answers = app.topic(
        work.topics["answers"], value_type=bytes, value_serializer="raw", key_type=bytes, key_serializer="raw"
    )
    plain = app.Table("counts", default=job.new_vector, partitions=2)
    table = plain.tumbling(60.0, expires=DAY_S).relative_to_stream()

    @app.agent(answers)
    async def count(stream: Any) -> None:
        async for event in stream.events():
            meter.begin()
            pair = job.pair(event.value)
            if pair is None:
                continue
            for slice in pair.slices:
                key = f"{event.message.partition}/{slice}"
                table[key] = add(table[key].value(), pair.cells)
            meter.count(len(pair.slices))

    @app.task
    async def finish() -> None:
        while not meter.finished.is_set():
            await asyncio.sleep(0.2)
        meter.write(_counts(plain), {name: version(name) for name in ("faust-streaming", "aiokafka")})
        await app.stop()


def _counts(table: Any) -> Counts:
    counts: Counts = {}
    for (key, (start_s, _)), vector in table.data.items():
        place = int(start_s) // 60, key.partition("/")[2]
        known = counts.get(place)
        counts[place] = vector if known is None else [a + b for a, b in zip(known, vector, strict=True)]
    return counts


if __name__ == "__main__":
    main()
