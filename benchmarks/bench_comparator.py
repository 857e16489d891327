"""The comparator beside its peers: one job, the same functions, one Apache Kafka, one run.

    python -m benchmarks.bench_comparator [--pairs 60000] [--streams-pairs 300000] [--rounds 1] [--engines ours bare …]

Decode (Avro), slice (10), grade (6 cheap graders on both sides), count by slice and minute: benchmarks/peers/job.py
is the whole of it. The engines run one after another, each on fresh topics. Figures are from the first record to the
last count; the process's own start is not in them. What an engine counted is compared with what the comparator
counted, integer by integer, and figures for other counts are void.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.comparator import GRADERS
from benchmarks.peers.environments import EnvironmentMissing
from benchmarks.peers.load import Load, make_load
from benchmarks.peers.runs import Bench, Measured, RunFailed, bench
from benchmarks.peers.table import Row, table
from benchmarks.peers.verify import differences
from shadow.errors import ShadowError
from tests.services import ServiceMissing
from tests.services.kafka import ApacheKafka, java_program, java_version

MINUTE_PAIRS: Final = 6_000
OURS: Final = "ours"
TWO_MAX: Final = 1.10
"""Most CPU time that two comparators may take for a pair, against one."""

NAMES: Final = {
    "bare": "bare `consume(2000)`, no recovery",
    OURS: "**Shadow's comparator**, checkpoint each second",
    "ours-pairs": "… with `shadow-pairs` written",
    "two": "… with `shadow-pairs`, two processes",
    "bytewax": "Bytewax, recovery on (1 s)",
    "streams-dsl": "Kafka Streams, exactly_once_v2 (1 s), windowed aggregate by slice",
    "streams": "… counted per partition, without a repartition topic",
    "streams-re2": "… counted per partition, RE2/J in place of Java's own patterns",
    "quix": "Quix Streams, commit each second",
    "faust": "Faust-streaming, commit each second",
}
DEFAULT: Final = [name for name in NAMES if name != "streams-re2"]
"""RE2/J searches six patterns one after another, which makes Kafka Streams look slower than it is."""


def runners(pairs: int, streams_pairs: int) -> Mapping[str, Callable[[Bench], Measured]]:
    """How each engine is run."""

    def ours(name: str, processes: int, writes_pairs: bool) -> Callable[[Bench], Measured]:
        return lambda bench_: bench_.comparators(name, pairs, processes=processes, writes_pairs=writes_pairs)

    def streams(name: str, is_repartitioned: bool, is_re2: bool) -> Callable[[Bench], Measured]:
        return lambda bench_: bench_.streams(name, streams_pairs, is_repartitioned=is_repartitioned, is_re2=is_re2)

    def python(name: str, module: str, environment: str | None) -> Callable[[Bench], Measured]:
        return lambda bench_: bench_.python(name, module, pairs, environment)

    return {
        "bare": python("bare", "bare", None),
        OURS: ours(OURS, 1, False),
        "ours-pairs": ours("ours-pairs", 1, True),
        "two": ours("two", 2, True),
        "bytewax": python("bytewax", "bytewax_flow", "bytewax"),
        "streams-dsl": streams("streams-dsl", True, False),
        "streams": streams("streams", False, False),
        "streams-re2": streams("streams-re2", False, True),
        "quix": python("quix", "quix_app", "quix"),
        "faust": python("faust", "faust_app", "faust"),
    }


def main() -> int:
    options = _options()
    chosen = [name for name in NAMES if name in options.engines or name == OURS]
    largest = max([options.pairs, *(options.streams_pairs for name in chosen if name.startswith("streams"))])
    began, load_average = time.monotonic(), os.getloadavg()[0]
    print(f"encoding {largest:,} answers", flush=True)
    load = make_load(largest)
    run = runners(options.pairs, options.streams_pairs)
    measured: dict[str, list[Measured]] = {name: [] for name in chosen}
    failed: dict[str, str] = {}
    try:
        with bench(load) as bench_:
            for number in range(options.rounds):
                for name in chosen:
                    _run(partial(run[name], bench_), name, number, measured[name], failed)
    except (ServiceMissing, ShadowError) as missing:
        print(f"bench-comparator: {missing}", file=sys.stderr)
        return 2
    rows = _rows(chosen, measured, failed)
    base = next((row.measured for row in rows if row.engine == NAMES[OURS] and not row.is_void), None)
    text = "\n".join([_head(load, options.rounds, load_average), "", table(rows, base), "", *_remarks(measured)])
    print(f"\n{text}\n\nin {time.monotonic() - began:.0f} s")
    if options.output is not None:
        options.output.write_text(text + "\n")
    return 1 if any(row.is_void for row in rows) else 0


def _run(run: Callable[[], Measured], name: str, number: int, measured: list[Measured], failed: dict[str, str]) -> None:
    print(f"round {number + 1}: {name} … ", end="", flush=True)
    try:
        result = run()
    except (RunFailed, EnvironmentMissing, ShadowError, ServiceMissing) as error:
        failed[name] = str(error)
        print(f"failed: {error}", flush=True)
        return
    measured.append(result)
    print(f"{result.pairs_per_s:,.0f} pairs/s, {result.cpu_us:.0f} µs CPU a pair {dict(result.more) or ''}", flush=True)


def _rows(chosen: list[str], measured: Mapping[str, list[Measured]], failed: Mapping[str, str]) -> list[Row]:
    """The median round of each engine, beside the comparator's counts of the same run."""
    reference = measured[OURS][0] if measured[OURS] else None
    rows = []
    for name in chosen:
        if name in failed:
            rows.append(Row(NAMES[name], None, f"failed: {failed[name]}", True))
            continue
        wrong = [text for each in measured[name] for text in _wrong(each, reference)]
        median = sorted(measured[name], key=lambda each: each.wall_s)[len(measured[name]) // 2]
        remark = f"void: {wrong[0]} ({len(wrong)} differences)" if wrong else "equal"
        rows.append(Row(NAMES[name], median, remark, bool(wrong)))
    return rows


def _wrong(each: Measured, reference: Measured | None) -> list[str]:
    """What an engine counted otherwise than the comparator did."""
    if reference is None or reference.tallies is None:
        return ["there are no counts of the comparator to compare with"]
    if each.tallies is not None:
        theirs = {minute: tally.to_bytes() for minute, tally in each.tallies.items()}
        ours = {minute: tally.to_bytes() for minute, tally in reference.tallies.items()}
        return [] if ours == theirs else [f"{len(ours.keys() ^ theirs.keys())} tiles are missing, or bytes differ"]
    names = [grader.name for grader in GRADERS]
    is_whole = each.pairs == reference.pairs
    return differences(each.counts or {}, each.pairs, reference.tallies, names, is_whole=is_whole)


def _head(load: Load, rounds: int, load_average: float) -> str:
    return (
        f"{load.mean_bytes:,.0f} bytes a record, two partitions, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, Java {java_version(java_program())}, Apache Kafka {ApacheKafka.version}, "
        f"{rounds} round{'s' if rounds > 1 else ''}; load average at the start {load_average:.1f}."
    )


def _remarks(measured: Mapping[str, list[Measured]]) -> list[str]:
    """Versions, two comparators against one, and what was late."""
    versions: dict[str, str] = {}
    for results in measured.values():
        for result in results:
            for name, version in result.versions.items():
                # Quix Streams pins an older client than the others have.
                other = versions.setdefault(name, version)
                if version not in other.split(" and "):
                    versions[name] = f"{other} and {version}"
    lines = ["Versions: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + "."]
    one, two = (measured.get(name) for name in ("ours-pairs", "two"))
    if one and two:
        ratio = min(each.cpu_us for each in two) / min(each.cpu_us for each in one)
        lines.append(f"Two comparators take {ratio:.2f} times one's CPU time for a pair (budget: {TWO_MAX:.2f}).")
    late = sum(result.more.get("late", 0) for results in measured.values() for result in results)
    if late:
        lines.append(f"Quix Streams dropped {late:,} counts as late.")
    return lines


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-comparator")
    parser.add_argument("--pairs", type=int, default=60_000, help="a multiple of 6,000, a minute's requests")
    parser.add_argument("--streams-pairs", type=int, default=300_000, help="for Kafka Streams, so that the JVM is warm")
    parser.add_argument("--rounds", type=int, default=1, help="the table shows each engine's median")
    parser.add_argument("--engines", nargs="+", choices=list(NAMES), default=DEFAULT, metavar="ENGINE")
    parser.add_argument("--output", type=Path, help="write the table there, too")
    options = parser.parse_args()
    if options.pairs < MINUTE_PAIRS or options.pairs % MINUTE_PAIRS or options.streams_pairs < options.pairs:
        parser.error(
            f"read --pairs {options.pairs} and --streams-pairs {options.streams_pairs}: the first must be a multiple "
            f"of {MINUTE_PAIRS}, the second no smaller"
        )
    if options.rounds < 1:
        parser.error(f"read --rounds {options.rounds}, must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
