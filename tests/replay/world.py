"""A run on a log and a store in memory, counted by the real comparator and judged by the real gate; then replayed."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import yaml

from consumers.comparator import Comparator, ComparatorPlan
from consumers.gate import Gate
from shadow.adapters.avro import encode
from shadow.adapters.decisions import decisions_in
from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.memory_store import MemoryStore
from shadow.cli import wiring
from shadow.cli.replay import Taken, recompute
from shadow.cli.replay_shown import Report
from shadow.gate.history import Run, runs_in
from shadow.metrics import Metrics
from shadow.records.answers import Tick
from shadow.records.comparisons import tile_numbers
from shadow.records.decisions import Decision, Started
from shadow.records.log import LogRecord
from shadow.records.requests import Live, MirroredRequest, Origin
from shadow.settings.loader import settings_from_bytes
from shadow.settings.settings import Settings
from shadow.stream.slice import Slicer
from tests.comparator.world import Clock, Services
from tests.stream.builders import answer

PARTITIONS = 2
SECOND = 1_000_000
TILE_US = 10 * SECOND
TILES = 12
TOPICS = {kind: kind.replace("_", "-") for kind in ("requests", "answers", "pairs", "decisions", "dead_letters")}
REWARD = {"kind": "reward_model", "url": "http://127.0.0.1:1/score", "passes_at": 0.5}


def tree_of(**changes: Any) -> dict[str, Any]:
    """A configuration whose run is promoted after a few tiles."""
    return {
        "run": {"candidate": "candidate", "production": "production-1"},
        "kafka": {"bootstrap.servers": "127.0.0.1:1"},
        "redis": {"url": "redis://:secret-password@127.0.0.1:1/0"},
        "topics": {**TOPICS, "partitions": PARTITIONS},
        "tile": "10s",
        "evidence_deadline": "30s",
        "proxy": {
            "listen": "127.0.0.1:1",
            "upstream": "http://127.0.0.1:1",
            "mirror": {"sample": 1.0, "methods": ["POST"], "paths": ["/v1/*"]},
        },
        "workers": {
            "candidate": {
                "url": "http://127.0.0.1:1",
                "rewrite": {"headers": {"authorization": "env:CANDIDATE_KEY", "x-tenant": "secret-tenant"}},
            }
        },
        "slices": {"even": {"json": {"$.even": True}}},
        "graders": {"correct": {"kind": "contains", "any": ["right"]}, "short": {"kind": "concise", "max_chars": 200}},
        "expires": "1d",
        "stages": {
            "shadow": {
                "needs": {"pairs": 100, "within": "24h", "slice_pairs": 50, "coverage": 0.5},
                "rules": [
                    {"quality": {"graders": {"correct": 1.0}, "margin": 0.3}},
                    {"no_regression": {"slice": "even", "grader": "correct", "margin": 0.3}},
                    {"floor": {"grader": "short", "min": 0.5}},
                ],
            }
        },
        **changes,
    }


def settings_of(tree: Mapping[str, Any]) -> Settings:
    return settings_from_bytes(yaml.safe_dump(dict(tree), sort_keys=False).encode(), {})


class World:
    """One run.

    Args:
        tree: Its configuration.
        seed: Of the traffic.
        requests: By partition.
        garbage: Share of records that nobody can read.
        rewards: Reply of the grading service; None where it is away.
        settings: Instead of those of the tree.
        roles: Who answers beside the candidate.
    """

    def __init__(
        self,
        tree: Mapping[str, Any] | None = None,
        *,
        seed: int = 1,
        requests: Sequence[int] = (300, 240),
        garbage: float = 0.01,
        rewards: Callable[[Any], bytes | None] = lambda ask: b'{"score": 0.9}',
        settings: Settings | None = None,
        roles: Sequence[str] = (),
    ) -> None:
        self.tree = dict(tree or tree_of())
        self.settings = settings or settings_of(self.tree)
        self._roles = ("candidate", *roles)
        self.clock = Clock()
        self.log = MemoryLog(self.clock.now_us)
        self.store = MemoryStore()
        admin = self.log.admin()
        one = {TOPICS["decisions"]: 1, TOPICS["dead_letters"]: 1}
        admin.create_topics({**{TOPICS[kind]: PARTITIONS for kind in ("requests", "answers", "pairs")}, **one}, {})
        self.started = self._begin()
        self._play(random.Random(seed), requests, garbage)
        self._services = Services(rewards)

    def _begin(self) -> Started:
        before = b"of an earlier run"
        for partition in range(PARTITIONS):
            for _ in range(3 + partition):
                self._append("answers", partition, before, {"run": b"earlier"})
        ends = self.log.admin().ends
        started = Started(
            run=self.settings.run_name(1),
            attempt=1,
            candidate="candidate",
            production="production-1",
            digest=self.settings.digest(),
            stage="shadow",
            tile_us=TILE_US,
            first_tile=0,
            answers_from=tuple(end for _, end in ends(TOPICS["answers"])),
            requests_from=tuple(end for _, end in ends(TOPICS["requests"])),
            started_us=0,
            expires_us=86_400 * SECOND,
            is_log_append_time=True,
        )
        self.log.decisions(TOPICS["decisions"], "test").append(started.run.encode(), lambda records: encode(started))
        return started

    def _append(self, kind: str, partition: int, value: bytes, headers: Mapping[str, bytes] | None = None) -> LogRecord:
        with self.log.changed:
            return self.log.append(TOPICS[kind], partition, b"key", value, headers)

    def _play(self, draw: random.Random, requests: Sequence[int], garbage: float) -> None:
        """Seeded traffic with ticks: pairs, failures, repeats, late and missing answers, garbage in both topics."""
        events: list[tuple[int, Callable[[], object]]] = []
        run = {"run": self.started.run.encode()}
        for partition, count in enumerate(requests):
            for number in range(count):
                at_us = (number + 1) * TILES * TILE_US // (count + 1)
                exchange = exchange_of(number + 1, partition, draw)
                is_garbage = draw.random() < garbage
                value = b"garbage" if is_garbage else encode(exchange)
                events.append((at_us, lambda p=partition, v=value: self._append("requests", p, v)))
                for role in self._roles:
                    events += self._answers(role, partition, number, at_us, None if is_garbage else exchange, draw)
                if draw.random() < garbage:
                    events.append((at_us, lambda p=partition: self._append("answers", p, b"garbage", run)))
            for tile in range(TILES):
                events.append(((tile + 1) * TILE_US, lambda t=tile, p=partition: self._tick(t, p)))
        for at_us, call in sorted(events, key=lambda event: event[0]):
            self.clock.us = max(self.clock.us, at_us)
            call()
        self.clock.us = (TILES + 4) * TILE_US

    def _answers(
        self,
        role: str,
        partition: int,
        number: int,
        at_us: int,
        exchange: MirroredRequest | None,
        draw: random.Random,
    ) -> list[tuple[int, Callable[[], object]]]:
        """What a role writes about a request: nothing, an answer, or the same one twice."""
        if draw.random() < 0.05:
            return []
        outcome = draw.choices(["answered", "timeout", "expired", "too_large"], [20, 1, 1, 1])[0]
        reply = answer(
            None if outcome == "too_large" else exchange,
            number,
            at_us,
            body=draw.choices([b"right", b"wrong"], [8, 1])[0],
            outcome=outcome if exchange is not None else "unreadable",
            role=role,
            run=self.started.run,
        )
        value = encode(replace(reply, request_partition=partition))
        run = {"run": self.started.run.encode()}
        late_us = draw.randrange(60 * SECOND) if draw.random() < 0.05 else draw.randrange(2 * SECOND)
        times = 2 if draw.random() < 0.05 else 1
        return [(at_us + late_us, lambda: self._append("answers", partition, value, run))] * times

    def _tick(self, tile: int, partition: int) -> None:
        end = self.log.admin().offset_at(TOPICS["requests"], partition, (tile + 1) * TILE_US)
        tick = Tick(self.started.run, tile, end)
        self._append("answers", partition, encode(tick), {"run": self.started.run.encode()})

    def count(self) -> None:
        """Run the comparator until every tile of the traffic is closed and stored."""
        stop, steps = threading.Event(), [0]

        def reached(point: str) -> None:
            steps[0] += point == "read"
            assert steps[0] < 3000, "the comparator did not get there"
            self.clock.us += 20_000  # time goes on, so that ticks are appended and checkpoints have a tile to close
            if point == "saved" and all(self._closed(partition) >= TILES for partition in range(PARTITIONS)):
                stop.set()

        Comparator(
            ComparatorPlan(
                self.started,
                wiring.fold_spec(self.settings, self.started),
                TOPICS,
                "comparators",
                "comparator-0",
                checkpoint_s=0.0,
                read_max=37,
            ),
            self.log,
            self.store,
            Slicer(self.settings.slice_specs()),
            wiring.counting_of(self.settings.policy(), wiring.graders_of(self.settings)),
            self._services,  # type: ignore[arg-type]
            Metrics("comparator"),
            self.clock,
            reached,
        ).run(stop)

    def _closed(self, partition: int) -> int:
        names = self.store.tile_names(f"{self.started.run}/{partition}")
        return min(len(tile_numbers(names, comparison)) for comparison in self.settings.policy().comparisons)

    def judge(self) -> Decision | None:
        """Run the gate until it has decided, or folded all that there is."""
        writer = self.log.decisions(TOPICS["decisions"], "test")
        gate = Gate(self.started, self.settings.policy(), self.store, writer, Metrics("gate"), self.clock)
        while gate.step() and gate.decision is None:
            self.clock.us += SECOND
        return gate.decision

    def play(self) -> World:
        """Count and judge."""
        self.count()
        self.judge()
        return self

    @property
    def run(self) -> Run:
        records = self.log.decisions(TOPICS["decisions"], "test").read()
        return next(run for run in runs_in(decisions_in(records)) if run.name == self.started.run)

    def replayed(
        self,
        *,
        other: Mapping[str, Any] | None = None,
        source: Any = None,
        has_store: bool = True,
        regrade: bool = False,
        first: int | None = None,
        last: str | None = None,
    ) -> Report:
        """The run, recomputed."""
        taken = Taken(
            self.run,
            self.settings,
            settings_of(other) if other is not None else None,
            source or self.log,
            "kafka",
            self.store if has_store else None,
        )
        return recompute(taken, regrade=regrade, first=first, last=last)

    def corrupt(self, kind: str, partition: int, offset: int, value: bytes) -> None:
        """Change a record where it stands."""
        with self.log.changed:
            records = self.log._partition(TOPICS[kind], partition).records
            records[offset] = replace(records[offset], value=value)

    def records(self, kind: str, partition: int) -> list[LogRecord]:
        first, end = self.log.admin().ends(TOPICS[kind])[partition]
        with self.log.changed:
            return self.log.fetch(TOPICS[kind], partition, first, end - first)[0]

    def written(self, folder: Path) -> Path:
        """The configuration as a file."""
        path = folder / "shadow.yaml"
        path.write_text(json.dumps(self.tree))
        return path


def exchange_of(number: int, partition: int, draw: random.Random) -> MirroredRequest:
    """A request with production's answer, which is right in most cases."""
    body = orjson.dumps({"text": f"question {number} of {partition}", "even": number % 2 == 0})
    reply = draw.choices([b"right", b"wrong"], [8, 1])[0]
    live = Live("production-1", "production", "answered", 200, {}, reply, 500, 500 + number)
    return MirroredRequest(
        request_id=f"request-{partition}-{number}",
        key=f"key-{partition}-{number}",
        event_time_us=number,
        method="POST",
        path="/v1/chat",
        headers={},
        body=body,
        u=0.5,
        sample=1.0,
        quotas={},
        origin=Origin(f"proxy-{partition}", 1, number, number, {}),
        live=live,
    )
