"""A run on a log in memory whose people are asked, and what they write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from shadow.adapters.avro import decode, encode
from shadow.adapters.memory_log import MemoryLog
from shadow.cli.answers import plan_of
from shadow.desk.intake import Desk
from shadow.desk.lines import line_from_bytes
from shadow.desk.plan import DeskPlan
from shadow.desk.questions import Told, questions
from shadow.gate.history import Run
from shadow.records.answers import Answer
from shadow.records.decisions import Started
from shadow.records.log import LogRecord
from shadow.records.requests import MirroredRequest
from tests.comparator.world import Clock
from tests.replay.world import TILE_US, TOPICS, settings_of, tree_of
from tests.stream.builders import request

HOUR_US = 3600 * 1_000_000
PARTITIONS = 2


def human_tree(**changes: Any) -> dict[str, Any]:
    """A configuration whose people are asked about half of the keys."""
    tree = tree_of(human={"sample": 0.5, "deadline": "6h"}, **changes)
    rule = {"no_regression": {"slice": "all", "grader": "correct", "margin": 0.3, "against": "human"}}
    tree["stages"]["shadow"]["rules"].append(rule)
    return tree


class Review:
    """Requests of a run, and the desk.

    Args:
        requests: By partition; one unreadable record comes behind them.
        sample: Share of the keys that people are asked.
    """

    def __init__(self, requests: Sequence[int] = (20, 20), sample: float = 0.5) -> None:
        self.settings = settings_of({**human_tree(), "human": {"sample": sample, "deadline": "6h"}})
        self.clock = Clock()
        self.log = MemoryLog(self.clock.now_us)
        one = {TOPICS["decisions"]: 1, TOPICS["dead_letters"]: 1}
        kinds = ("requests", "answers", "pairs")
        self.log.admin().create_topics({**{TOPICS[kind]: PARTITIONS for kind in kinds}, **one}, {})
        self._append("requests", 0, b"of an earlier run")
        self.started = self._begin()
        number = 0
        for partition, count in enumerate(requests):
            for _ in range(count):
                number += 1
                self.clock.us += 1_000_000
                self.mirror(partition, request(number))
            self._append("requests", partition, b"garbage")
        self.plan: DeskPlan = plan_of(self.settings, Run(self.started, ()))

    def _begin(self) -> Started:
        ends = [end for _, end in self.log.admin().ends(TOPICS["requests"])]
        started = Started(
            run=self.settings.run_name(1),
            attempt=1,
            candidate="candidate",
            production="production-1",
            digest=self.settings.digest(),
            stage="shadow",
            tile_us=TILE_US,
            first_tile=0,
            answers_from=(0,) * PARTITIONS,
            requests_from=tuple(ends),
            started_us=0,
            expires_us=24 * HOUR_US,
        )
        self.log.decisions(TOPICS["decisions"], "test").append(started.run.encode(), lambda records: encode(started))
        return started

    def mirror(self, partition: int, exchange: MirroredRequest) -> None:
        """Append a request."""
        self._append("requests", partition, encode(exchange))

    def _append(self, kind: str, partition: int, value: bytes) -> LogRecord:
        with self.log.changed:
            return self.log.append(TOPICS[kind], partition, b"key", value, {"traceparent": b"00-1"})

    @property
    def run(self) -> str:
        return self.started.run

    def desk(self) -> Desk:
        return Desk(self.log, self.plan, self.clock)

    def questions(self, since_us: int | None = None) -> tuple[list[dict[str, Any]], Told]:
        """What people are asked, and what became of the other requests."""
        told = Told()
        lines = questions(self.log, self.plan, told, since_us=since_us, now_us=self.clock.us)
        return [json.loads(line) for line in lines], told

    def answers(self) -> list[Answer]:
        """Answers of people in the log."""
        found = []
        for partition, (first, end) in enumerate(self.log.admin().ends(TOPICS["answers"])):
            with self.log.changed:
                records = self.log.fetch(TOPICS["answers"], partition, first, end - first)[0]
            found += [decode(record.value) for record in records]
        return found

    def take(self, lines: Sequence[Any], desk: Desk | None = None, **options: Any) -> Any:
        """Take lines in, dictionaries or raw bytes."""
        raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        most = self.plan.body_bytes_max

        def parsed() -> list[Any]:
            return [
                line_from_bytes(value, f"line {number}", run=self.run, body_bytes_max=most)
                for number, value in enumerate(raw, start=1)
            ]

        return (desk or self.desk()).take(parsed, **options)


def answered(question: dict[str, Any], answer: Any = "right, says the person", **changes: Any) -> dict[str, Any]:
    """An exported question with an answer in it."""
    return {**question, "answer": answer, **changes}
