"""Speed of the comparator's fold: pre-encoded answers of 2.3 KB, 10 slices, 6 cheap graders, checkpoints on.

    python -m benchmarks.comparator [--pairs 20000] [--profile]

Log and store are in memory, so the figure is the comparator's own work: decoding, slices, graders, tallies,
graded pairs and snapshots.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import threading
import time

import orjson

from consumers.comparator import Comparator, ComparatorPlan
from shadow.adapters.ask_http import AskPool
from shadow.adapters.avro import encode
from shadow.adapters.memory_log import MemoryLog
from shadow.adapters.memory_store import MemoryStore
from shadow.graders.grader import build
from shadow.metrics import Metrics
from shadow.records.answers import Answer
from shadow.records.comparisons import CANDIDATE_PRODUCTION
from shadow.records.decisions import Started
from shadow.records.grades import GraderSpec
from shadow.records.policy import Cap, Cost, Floor, Latency, NoRegression, Quality, Rule
from shadow.records.requests import Live, MirroredRequest, Origin
from shadow.records.slices import SliceSpec
from shadow.stream.slice import Slicer
from shadow.stream.state import Counting, FoldSpec
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    clock = Clock()
    log, store = MemoryLog(clock.now_us), MemoryStore()
    log.admin().create_topics({**dict.fromkeys(TOPICS, 1)}, {})
    size = 0
    for offset in range(options.pairs):
        value = encode(answer_of(offset))
        size += len(value)
        log.append("answers", 0, b"", value, {"run": RUN.encode()})
    started = Started(RUN, 1, "v2", "v1", "0" * 64, "shadow", TILE_US, 0, (0,), (0,), 0, 10**12, True)
    spec = FoldSpec(RUN, 0, 1, TILE_US, 0, {CANDIDATE_PRODUCTION: 900_000_000}, 0, 0)
    stop, asks, seconds = threading.Event(), AskPool(), [0.0]
    plan = ComparatorPlan(started, spec, TOPICS, "benchmark", "benchmark")
    tallier = Tallier(RULES, {grader.name: grader.slices for grader in GRADERS})
    counting = {CANDIDATE_PRODUCTION: Counting(tuple(build(grader) for grader in GRADERS), tallier)}
    metrics = Metrics("comparator")

    def reached(point: str) -> None:
        if point == "folded" and log.admin().ends("pairs")[0][1] >= options.pairs:
            seconds[0] = time.perf_counter() - began
            stop.set()

    comparator = Comparator(plan, log, store, Slicer(SLICES), counting, asks, metrics, clock, reached)
    profile = cProfile.Profile()
    began = time.perf_counter()
    if options.profile:
        profile.runcall(comparator.run, stop)
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
    else:
        comparator.run(stop)
    asks.close()
    print(
        f"{options.pairs:,} pairs of {size / options.pairs:,.0f} bytes: {options.pairs / seconds[0]:,.0f} pairs/s, "
        f"{seconds[0] / options.pairs * 1e6:.0f} µs a pair"
    )


if __name__ == "__main__":
    main()
