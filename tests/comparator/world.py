"""One run on a log and a store in memory: seeded traffic, comparators that stop or die at a point, and the refold."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from consumers.comparator import Comparator, ComparatorPlan
from shadow.adapters.avro import encode
from shadow.adapters.content import request_in
from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.memory_store import MemoryStore
from shadow.cli.refold import refold
from shadow.metrics import Metrics
from shadow.ports import Store
from shadow.records.answers import AnswersRecord, Tick
from shadow.records.decisions import Started
from shadow.records.grades import Ask, GraderSpec
from shadow.records.log import LogRecord
from shadow.records.requests import MirroredRequest
from shadow.stream.fold import Fold
from shadow.stream.slice import Slicer
from shadow.stream.state import Counting, fields_from_state, slot_of
from tests.stream.builders import CORRECT, RULES, RUN, SECOND, SLICES, SPEC, answer, counting, request

PARTITIONS = 2
TOPICS = {name: name for name in ("requests", "answers", "pairs", "dead_letters")}
STEPS_MAX = 5000


class Killed(Exception):
    """The process ends here, as with kill -9."""


class Clock:
    """The time of log and processes, set by the test."""

    def __init__(self) -> None:
        self.us = 0

    def now_us(self) -> int:
        return self.us


class Services:
    """A graders' service of which the test says when and what it replies."""

    def __init__(self, reply: Callable[[Ask], bytes | None] = lambda ask: b'{"score": 0.9}') -> None:
        self.reply = reply
        self.asked: list[Ask] = []
        self._finished: list[tuple[Any, bytes | None, str | None]] = []

    def submit(self, ask: Ask, token: Any) -> None:
        self.asked.append(ask)
        reply = self.reply(ask)
        self._finished.append((token, reply, None if reply is not None else "the service is away"))

    def pending(self) -> int:
        return len(self._finished)

    def finished(self) -> list[tuple[Any, bytes | None, str | None]]:
        finished, self._finished = self._finished, []
        return finished


class World:
    """A run's log and store.

    Args:
        graders: Graders of the run.
        store: Where snapshots go; a second world on the log of a first one is another process.
    """

    def __init__(self, *, graders: Sequence[GraderSpec] = (CORRECT,), store: Store | None = None) -> None:
        self.clock = Clock()
        self.log = MemoryLog(self.clock.now_us)
        self.store: Any = store or MemoryStore()
        self.graders = tuple(graders)
        self.metrics = Metrics("comparator")
        self.log.admin().create_topics({**dict.fromkeys(TOPICS, PARTITIONS), "dead_letters": 1}, {})
        self.started = Started(
            run=RUN,
            attempt=1,
            candidate="v2",
            production="v1",
            digest="0" * 64,
            stage="shadow",
            tile_us=SPEC.tile_us,
            first_tile=0,
            answers_from=(0,) * PARTITIONS,
            requests_from=(0,) * PARTITIONS,
            started_us=0,
            expires_us=10**12,
            is_log_append_time=True,
        )

    def append(self, content: AnswersRecord | bytes, partition: int = 0, run: str = RUN) -> int:
        """Append a record to the answers."""
        value = content if isinstance(content, bytes) else encode(content)
        with self.log.changed:
            return self.log.append("answers", partition, b"", value, {"run": run.encode()}).offset

    def mirror(self, exchange: MirroredRequest, partition: int = 0) -> int:
        """Append a record to the requests."""
        with self.log.changed:
            return self.log.append("requests", partition, b"", encode(exchange), {}).offset

    def play(self, seed: int, requests: int = 60) -> None:
        """
        Seeded traffic of three tiles in each partition, ticks included: pairs, failures, repeats, garbage, another
        run's records, requests never answered and answers that come after their tile has closed.
        """
        draw = random.Random(seed)
        events: list[tuple[int, int, Callable[[], object]]] = []
        order = 0

        def at(time_us: int, call: Callable[[], object]) -> None:
            nonlocal order
            order += 1
            events.append((time_us, order, call))

        for partition in range(PARTITIONS):
            for offset in range(requests):
                time_us = (offset + 1) * 30 * SECOND // (requests + 1)
                exchange = request(offset + 1, text=draw.choice(["please search", "hello"]))
                at(time_us, lambda e=exchange, p=partition: self.mirror(e, p))
                if draw.random() < 0.1:
                    continue
                outcome = draw.choices(["answered", "timeout", "expired"], [8, 1, 1])[0]
                reply = replace(
                    answer(exchange, offset, time_us, body=draw.choice([b"right", b"wrong"]), outcome=outcome),
                    request_partition=partition,
                )
                for _ in range(draw.choices([1, 2], [9, 1])[0]):
                    delay_us = draw.randrange(60 * SECOND) if draw.random() < 0.1 else draw.randrange(3 * SECOND)
                    at(time_us + delay_us, lambda a=reply, p=partition: self.append(a, p))
                if draw.random() < 0.05:
                    at(time_us, lambda p=partition: self.append(b"garbage", p))
                if draw.random() < 0.05:
                    at(time_us, lambda p=partition: self.append(b"of another run", p, run="other"))
            for tile in range(3):
                at(
                    (tile + 1) * SPEC.tile_us,
                    lambda t=tile, p=partition: self.append(Tick(RUN, t, self.requests_end(t, p)), p),
                )
            at(95 * SECOND, lambda p=partition: self.append(Tick(RUN), p))
        for time_us, _, call in sorted(events, key=lambda event: event[:2]):
            self.clock.us = max(self.clock.us, time_us)
            call()

    def requests_end(self, tile: int, partition: int) -> int:
        return self.log.admin().offset_at("requests", partition, (tile + 1) * SPEC.tile_us)

    def comparator(
        self,
        reached: Callable[[str], None],
        *,
        member: str = "comparator-0",
        group: str = "comparators",
        services: Services | None = None,
        read_max: int = 7,
    ) -> Comparator:
        return Comparator(
            ComparatorPlan(
                self.started,
                replace(SPEC, partitions=PARTITIONS),
                TOPICS,
                group,
                member,
                checkpoint_s=0.0,
                read_max=read_max,
            ),
            self.log,
            self.store,
            Slicer(SLICES),
            self.counting(),
            services or Services(),  # type: ignore[arg-type]
            self.metrics,
            self.clock,
            reached,
        )

    def counting(self) -> dict[str, Counting]:
        return counting(self.graders, RULES)

    def run(
        self,
        on: Callable[[str], None] = lambda point: None,
        *,
        until: Callable[[], bool] | None = None,
        **options: Any,
    ) -> None:
        """Run a comparator until the store holds everything, or `until`; `on` sees each labelled point first."""
        stop, steps = threading.Event(), [0]
        done = until or self.is_settled

        def reached(point: str) -> None:
            on(point)
            steps[0] += point == "read"
            assert steps[0] < STEPS_MAX, "the comparator did not get there"
            if point in ("folded", "saved") and done():
                stop.set()

        self.current = self.comparator(reached, **options)
        self.current.run(stop)

    def is_settled(self) -> bool:
        """Whether the store holds a fold of everything in the log."""
        for partition, (_, end) in enumerate(self.log.admin().ends("answers")):
            head = self.head(partition)
            if head is None or (head["next"] < end):
                return False
        return True

    def head(self, partition: int) -> dict[str, Any] | None:
        stored = self.store.load(slot_of(RUN, partition))
        return None if stored is None or "head" not in stored[1] else json.loads(stored[1]["head"])

    def decided(self, partition: int) -> int:
        """The request offset below which everything is decided, as it is stored; -1 before."""
        head = self.head(partition)
        return -1 if head is None else int(head["comparisons"]["candidate-production"]["base"])

    def broken(self, partition: int) -> str:
        stored = self.store.load(slot_of(RUN, partition))
        return "" if stored is None else stored[1].get("broken", b"").decode()

    def records(self, topic: str, partition: int) -> list[LogRecord]:
        end = self.log.admin().ends(topic)[partition][1]
        with self.log.changed:
            return self.log.fetch(topic, partition, 0, end)[0]

    def stored(self, partition: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Everything that the store holds of a partition: every counter, and every closed tile."""
        slot = slot_of(RUN, partition)
        stored = self.store.load(slot)
        assert stored is not None
        names = self.store.tile_names(slot)
        return dict(stored[1]), dict(zip(names, self.store.tiles(slot, names), strict=True))

    def refolded(self, partition: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """The same from an undisturbed fold of the log, up to where the store stands."""
        head = self.head(partition)
        assert head is not None
        requests = {record.offset: request_in(record) for record in self.records("requests", partition)}
        fold = Fold(
            replace(SPEC, partition=partition, partitions=PARTITIONS),
            Slicer(SLICES),
            self.counting(),
            lambda offsets: {offset: requests[offset] for offset in offsets if offset in requests},
        )
        records = (record for record in self.records("answers", partition) if record.offset < head["next"])
        closed = refold(fold, records)
        fields, _ = fields_from_state(fold.state, only_changed=False)
        return fields, {tile.name: tile.to_bytes() for tile in closed}

    def check(self) -> None:
        """The stored integers are those of the undisturbed fold, in every partition."""
        for partition in range(PARTITIONS):
            assert self.refolded(partition) == self.stored(partition)

    def differs(self) -> bool:
        """Whether any stored integer is another one than the undisturbed fold's."""
        return any(self.refolded(partition) != self.stored(partition) for partition in range(PARTITIONS))
