"""Quix Streams: repartition by slice, tumbling minutes of event time, committed every second.

    python -m benchmarks.peers.quix_app WORK.json

Its windows have one clock a partition of the repartition topic, where the two partitions of the answers meet; with the
usual grace, what comes from the slower one is late and dropped. A day of grace keeps it.
"""

from __future__ import annotations

import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

from quixstreams import Application

from benchmarks.peers.job import Counts, Job, Work, add
from benchmarks.peers.meter import Meter

MINUTE_MS = 60_000
GRACE_MS = 86_400_000


def main() -> None:
    work = Work.load(sys.argv[1])
    meter, counts, late = Meter(work, work.increments), Counts(), [0]
    meter.watch()
    app = Application(
        work.bootstrap,
        consumer_group="quix",
        auto_offset_reset="earliest",
        commit_interval=1.0,
        state_dir=Path(work.directory) / "state",
        loglevel="WARNING",
    )
    build(app, work, meter, counts, late)

    def stop_when_finished() -> None:
        meter.finished.wait()
        app.stop()

    threading.Thread(target=stop_when_finished, daemon=True).start()
    app.run()
    meter.write(counts, {name: version(name) for name in ("quixstreams", "confluent-kafka")}, late=late[0])


def build(app: Application, work: Work, meter: Meter, counts: Counts, late: list[int]) -> None:
    """Add the pipeline to the application."""
    job = Job(work)

    def pairs(value: bytes) -> list[dict[str, Any]]:
        meter.begin()
        pair = job.pair(value)
        return [] if pair is None else [{"slice": slice, "cells": pair.cells} for slice in pair.slices]

    def first(value: dict[str, Any]) -> list[int]:
        return add(job.new_vector(), value["cells"])

    def next_(vector: list[int], value: dict[str, Any]) -> list[int]:
        return add(vector, value["cells"])

    def keep(window: dict[str, Any], key: Any, timestamp: int, headers: Any) -> None:
        counts[window["start"] // MINUTE_MS, key if isinstance(key, str) else key.decode()] = window["value"]
        meter.count()

    def is_logged(*_: Any) -> bool:
        late[0] += 1
        return False

    answers = app.topic(work.topics["answers"], value_deserializer="bytes")
    stream = app.dataframe(answers).apply(pairs, expand=True).group_by("slice")
    windows = stream.tumbling_window(MINUTE_MS, grace_ms=GRACE_MS, on_late=is_logged).reduce(next_, first)
    windows.current().update(keep, metadata=True)


if __name__ == "__main__":
    main()
