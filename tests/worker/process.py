"""A worker as a process of its own, for tests that kill it: `python -m tests.worker.process BOOTSTRAP NAME URL`."""

from __future__ import annotations

import sys

from consumers.loop import WallClock, serve
from consumers.worker import Worker
from shadow.adapters.kafka import KafkaLog
from shadow.adapters.logs import configure
from shadow.adapters.model_http import HttpModel
from shadow.metrics import Metrics


def topics_of(name: str) -> dict[str, str]:
    """Topics of one test, apart from every other's."""
    return {topic: f"{name}-{topic}" for topic in ("requests", "answers", "dead_letters")}


def main(bootstrap: str, name: str, url: str) -> int:
    configure()
    worker = Worker(
        KafkaLog({"bootstrap.servers": bootstrap}),
        HttpModel(url, deadline_us=5_000_000),
        run=name,
        role="candidate",
        version="v42",
        group=f"shadow.{name}.candidate",
        member="worker-1",
        topics=topics_of(name),
        metrics=Metrics("worker", {"role": ["candidate"]}),
        clock=WallClock(),
        concurrency=(8, 32),
    )
    return serve("worker", worker.run)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
