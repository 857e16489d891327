"""Gates that fight: several runs' gates in one process, a writer that can be frozen inside its transaction, and one
without transactions.

    python -m tests.chaos.fighting PLAN.json       serves all runs of the plan's topic until it is killed

`Freezing` ends its own progress (SIGSTOP) between the record and its commit when it finds the file `freeze`, which it
renames to `frozen-PID`, so that the test knows whom to wake up.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Producer

from consumers.gate import Gate
from consumers.loop import WallClock
from shadow.adapters.decisions import decisions_in
from shadow.adapters.kafka_decisions import KafkaDecisionWriter
from shadow.adapters.logs import configure
from shadow.adapters.orphan import end_with_parent
from shadow.adapters.redis import RedisStore
from shadow.errors import Unavailable
from shadow.gate.history import runs_in
from shadow.metrics import Metrics
from shadow.records.log import LogRecord
from shadow.records.policy import Needs, NoRegression, Policy, StagePolicy

POLICY: Final = Policy(
    (StagePolicy("shadow", Needs(pairs=1000), (NoRegression("reward", margin=0.1, strict=True),)),),
)
"""Proven after ten tiles of a hundred pairs, which is when the volume is there."""
FREEZE: Final = "freeze"
FROZEN: Final = "frozen-"
ROUND_S: Final = 0.1


def frozen(folder: Path) -> None:
    """Stop here if the test wants it; whoever finds the file first is the one."""
    with suppress(FileNotFoundError):
        (folder / FREEZE).rename(folder / f"{FROZEN}{os.getpid()}")
        os.kill(os.getpid(), signal.SIGSTOP)


class _Committing:
    """A producer whose record stands in the log before it is frozen, and then commits."""

    def __init__(self, producer: Producer, folder: Path) -> None:
        self._producer = producer
        self._folder = folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)

    def commit_transaction(self, timeout_s: float) -> None:
        self._producer.flush(timeout_s)
        frozen(self._folder)
        self._producer.commit_transaction(timeout_s)


class Freezing(KafkaDecisionWriter):
    """The real writer."""

    def __init__(self, bootstrap: str, topic: str, folder: Path) -> None:
        properties = {"bootstrap.servers": bootstrap}
        super().__init__(properties, topic, f"shadow.{topic}", is_embedded=False)
        self._folder = folder

    def _commit(self, producer: Any, *rest: Any) -> LogRecord:
        return super()._commit(_Committing(producer, self._folder), *rest)  # type: ignore[arg-type]


class Plain(KafkaDecisionWriter):
    """The control: it looks, decides and writes like the real one, and fences nobody."""

    def __init__(self, bootstrap: str, topic: str, folder: Path) -> None:
        properties = {"bootstrap.servers": bootstrap}
        super().__init__(properties, topic, f"shadow.{topic}", is_embedded=False)
        self._place = (topic, folder)
        self._producer = Producer({**properties, "linger.ms": "0"})

    def append(self, key: bytes, build: Callable[[Sequence[LogRecord]], bytes | None]) -> LogRecord | None:
        topic, folder = self._place
        value = build(self.read())
        if value is None:
            return None
        frozen(folder)
        self._producer.produce(topic, value, key, 0)
        self._producer.flush(10)
        return LogRecord(topic, 0, 0, 0, key, value)


def main(plan: dict[str, Any]) -> None:
    """Take turns with all runs for ever."""
    end_with_parent()
    configure("text", "info")
    folder = Path(plan["folder"])
    kind = Plain if plan["plain"] else Freezing
    writer = kind(plan["bootstrap"], plan["topic"], folder)
    store, metrics, clock = RedisStore(plan["redis"]), Metrics("gate"), WallClock()
    gates = [
        Gate(run.started, POLICY, store, writer, metrics, clock)
        for run in runs_in(decisions_in(writer.read()))
        if run.name in plan["runs"]
    ]
    draw = random.Random(os.getpid())
    while True:
        draw.shuffle(gates)
        for gate in gates:
            if gate.decision is None:
                try:
                    gate.step()
                except Unavailable as trouble:
                    logging.getLogger("shadow.fight").info("%s", trouble)
        time.sleep(ROUND_S)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_bytes()))
