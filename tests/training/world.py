"""Graded pairs on a log in memory, among those of other runs, and what is read of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from shadow.adapters.avro import encode
from shadow.adapters.memory_log import MemoryLog
from shadow.cli.export import Made, Target, Wanted, write_export
from shadow.cli.pairs import PastRun
from shadow.cli.read_pairs import Scanned, read_pairs
from shadow.gate.history import Run
from shadow.records.decisions import Started
from shadow.records.pairs import GradedPair
from tests.replay.world import PARTITIONS, TOPICS, settings_of, tree_of
from tests.training.builders import GRADERS, RUN

HOUR_US = 3600 * 1_000_000
TOPIC = TOPICS["pairs"]


class Written:
    """A run whose pairs are written as a comparator writes them."""

    def __init__(self, begun_us: int = 0) -> None:
        self.now_us = begun_us
        self.log = MemoryLog(lambda: self.now_us)
        self.log.admin().create_topics({TOPIC: PARTITIONS}, {})
        self.settings = settings_of(tree_of())
        self.started = Started(
            run=RUN,
            attempt=1,
            candidate="v2",
            production="v1",
            digest=self.settings.digest(),
            stage="shadow",
            tile_us=1_000_000,
            first_tile=0,
            answers_from=(0,) * PARTITIONS,
            requests_from=(0,) * PARTITIONS,
            started_us=begun_us,
            expires_us=begun_us + 24 * HOUR_US,
        )

    @property
    def past(self) -> PastRun:
        return PastRun(self.settings, self.log, Run(self.started, ()))

    def append(self, pair: GradedPair | bytes, *, run: str | None = RUN, partition: int = 0) -> None:
        """Write a pair, or what is none.

        Args:
            run: The header; None for a record of a version that wrote none.
        """
        value = pair if isinstance(pair, bytes) else encode(pair)
        at = partition if isinstance(pair, bytes) else pair.request_partition
        with self.log.changed:
            self.log.append(TOPIC, at, b"key", value, {} if run is None else {"run": run.encode()})

    def write(self, pairs: Iterable[GradedPair]) -> Written:
        for pair in pairs:
            self.append(pair)
        return self

    def read(self) -> tuple[list[GradedPair], Scanned]:
        scanned = Scanned()
        return list(read_pairs(self.log, TOPIC, self.started, scanned)), scanned

    def export(self, out: Path, format: str, only: str | None = None, slice: str | None = None) -> Made:
        """Export into a file, over an earlier one."""
        made, _ = write_export(self.past, Wanted(format, only, slice, GRADERS), Target(out, with_card=False))
        return made


def of_other_run(pair: GradedPair) -> GradedPair:
    return replace(pair, run="another-00000000-1")
