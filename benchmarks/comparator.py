"""Speed of the comparator's fold: pre-encoded answers of 2.3 KB, 10 slices, 6 cheap graders, checkpoints on.

    python -m benchmarks.comparator [--pairs 20000] [--rounds 3] [--no-pairs] [--profile]

Log and store are in memory, so the figure is the comparator's own work: decoding, slices, graders, tallies,
graded pairs and snapshots. The best round is shown, by CPU time, which others on the machine disturb less than
the clock; the digest is that of the last snapshot, so that two versions of the code can be compared by it.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import threading
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from consumers.comparator import Comparator, ComparatorPlan
from shadow.adapters.ask_http import AskPool
from shadow.adapters.avro import encode
from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.memory_store import MemoryStore
from shadow.graders.grader import build
from shadow.metrics import Metrics
from shadow.ports import LogGroup
from shadow.records.answers import Answer
from shadow.records.comparisons import CANDIDATE_PRODUCTION
from shadow.records.decisions import Started
from shadow.records.grades import GraderSpec
from shadow.records.log import LogRecord
from shadow.records.policy import Cap, Cost, Floor, Latency, NoRegression, Quality, Rule
from shadow.records.requests import Live, MirroredRequest, Origin
from shadow.records.slices import SliceSpec
from shadow.stream.slice import Slicer
from shadow.stream.state import Counting, FoldSpec, slot_of
from shadow.stream.tally import Tallier

RUN = "candidate-00000000-1"
TOPICS = {name: name for name in ("requests", "answers", "pairs", "dead_letters")}
TILE_US = 60_000_000
SLICES = (
    *(SliceSpec(f"text-{number}", text=f"(?i)word{number}") for number in range(6)),
    *(SliceSpec(f"json-{number}", json={"$.kind": number}) for number in range(4)),
)
WORDS = [GraderSpec(f"contains-{number}", "contains", (), {"any": (f"part {number}",)}) for number in range(5)]
GRADERS = (*WORDS, GraderSpec("tagged", "answer_tag", (), {"tag": "answer"}))
RULES: tuple[Rule, ...] = (
    Quality({grader.name: 1.0 for grader in GRADERS}),
    *(NoRegression("tagged", slice=spec.name) for spec in SLICES),
    Cap("contains-0", max=0.01),
    Floor("tagged", min=0.95),
    Latency(reference_us=500_000),
    Cost(),
)


class Clock:
    """The log's time: a moment a record."""

    us = 0

    def now_us(self) -> int:
        return self.us


def answer_of(offset: int) -> Answer:
    """A pair in one record, about 2.3 KB encoded."""
    text = f"please do word{offset % 6} " + "with some more words " * 42
    body = orjson.dumps({"text": text, "kind": offset % 4})
    reply = orjson.dumps({"answer": f"part {offset % 5} " + "so it is said " * 38 + "<answer>7</answer>"})
    live = Live("v1", "production", "answered", 200, {"content-type": "application/json"}, reply, 500_000, 90_000)
    request = MirroredRequest(
        request_id=f"0190-{offset:012d}",
        key=f"session-{offset // 3}",
        event_time_us=offset,
        method="POST",
        path="/v1/chat",
        headers={"content-type": "application/json"},
        body=body,
        u=0.5,
        sample=1.0,
        quotas={},
        origin=Origin("proxy", 1, offset + 1, offset + 1, {}),
        live=live,
    )
    return Answer(
        RUN, 0, offset, offset, "candidate", "v2", "answered", 200, {}, reply, offset, 80_000, 450_000, exchange=request
    )


class CountingLog(MemoryLog):
    """A log in memory whose group counts the records that it handed out."""

    handed_out = 0

    def group(self, *args: Any, **named: Any) -> Any:
        return CountingGroup(super().group(*args, **named), self)


class CountingGroup:
    """A group's member that counts."""

    def __init__(self, group: LogGroup, log: CountingLog) -> None:
        self._group = group
        self._log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._group, name)

    def read(self, max_records: int, timeout_s: float) -> list[LogRecord]:
        records = self._group.read(max_records, timeout_s)
        self._log.handed_out += len(records)
        return records


@dataclass(frozen=True, slots=True)
class Round:
    """One run over all pairs.

    Args:
        wall_s: From the first record to the last one's fold.
        cpu_s: CPU time of the process in between.
        digest: Of the last snapshot.
        profile: None where it was not asked for.
    """

    wall_s: float
    cpu_s: float
    digest: str
    profile: cProfile.Profile | None


def fold_all(values: list[bytes], *, writes_pairs: bool, is_profiled: bool) -> Round:
    """Have a comparator fold encoded answers."""
    clock = Clock()
    log, store = CountingLog(clock.now_us), MemoryStore()
    log.admin().create_topics({**dict.fromkeys(TOPICS, 1)}, {})
    for value in values:
        log.append("answers", 0, b"", value, {"run": RUN.encode()})
    started = Started(RUN, 1, "v2", "v1", "0" * 64, "shadow", TILE_US, 0, (0,), (0,), 0, 10**12, True)
    spec = FoldSpec(RUN, 0, 1, TILE_US, 0, {CANDIDATE_PRODUCTION: 900_000_000}, 0, 0)
    stop, asks, took_s = threading.Event(), AskPool(), [0.0, 0.0]
    plan = ComparatorPlan(started, spec, TOPICS, "benchmark", "benchmark", writes_pairs=writes_pairs)
    tallier = Tallier(RULES, {grader.name: grader.slices for grader in GRADERS})
    counting = {CANDIDATE_PRODUCTION: Counting(tuple(build(grader) for grader in GRADERS), tallier)}
    profile = cProfile.Profile() if is_profiled else None

    def reached(point: str) -> None:
        if point == "folded" and log.handed_out >= len(values):
            took_s[:] = [time.perf_counter() - began_s, time.process_time() - cpu_began_s]
            stop.set()

    comparator = Comparator(plan, log, store, Slicer(SLICES), counting, asks, Metrics("comparator"), clock, reached)
    began_s, cpu_began_s = time.perf_counter(), time.process_time()
    if profile is None:
        comparator.run(stop)
    else:
        profile.runcall(comparator.run, stop)
    asks.close()
    stored = store.load(slot_of(RUN, 0))
    assert stored is not None, "the comparator ends with a checkpoint"
    digest = sha256(b"\n".join(name.encode() + b" " + stored[1][name] for name in sorted(stored[1]))).hexdigest()
    return Round(took_s[0], took_s[1], digest, profile)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-pairs", action="store_true", help="do not write graded pairs to the log")
    parser.add_argument("--profile", action="store_true", help="one round under the profiler")
    options = parser.parse_args()
    values = [encode(answer_of(offset)) for offset in range(options.pairs)]
    rounds = [
        fold_all(values, writes_pairs=not options.no_pairs, is_profiled=options.profile)
        for _ in range(1 if options.profile else options.rounds)
    ]
    best = min(rounds, key=lambda each: each.cpu_s)
    if best.profile is not None:
        pstats.Stats(best.profile).sort_stats("tottime").print_stats(40)
    print(
        f"{options.pairs:,} pairs of {sum(map(len, values)) / options.pairs:,.0f} bytes"
        f"{', graded pairs not written' if options.no_pairs else ''}: "
        f"{options.pairs / best.cpu_s:,.0f} pairs a second of CPU, {best.cpu_s / options.pairs * 1e6:.1f} µs a pair "
        f"({best.wall_s / options.pairs * 1e6:.1f} µs by the clock); digest {best.digest[:16]}"
    )


if __name__ == "__main__":
    main()
