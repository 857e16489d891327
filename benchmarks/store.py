"""The store's memory over a day, and its load from many partitions, on a real redis-server.

    python -m benchmarks.store memory [--hours 24] [--rate 1000] [--partitions 16]
    python -m benchmarks.store load [--partitions 1024] [--seconds 20] [--clients 4]
    python -m benchmarks.store gate [--partitions 64]

Memory: 64 slices, 20 rules; tiles are counted by the real tallier from random grades, and written, dropped and
folded as comparator and gate do. Load: every partition makes a checkpoint a second, as a comparator does.
Gate: how long it takes to read, add up and fold one tile of so many partitions.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import redis

from consumers.comparator.dropping import tiles_to_drop
from shadow.adapters.redis import RedisStore
from shadow.gate.run import RunState, fold_tile, judge_tile, state_to_bytes
from shadow.ports import Change
from shadow.records.comparisons import CANDIDATE_PRODUCTION, tile_name
from shadow.records.grades import FAILED, PASSED, Grade
from shadow.records.policy import (
    Cap,
    Cost,
    Equivalent,
    Floor,
    Improve,
    Latency,
    Needs,
    NoRegression,
    Policy,
    Quality,
    Rule,
    StagePolicy,
)
from shadow.records.tallies import ClosedTile, Tally
from shadow.records.votes import cell_of
from shadow.stream.state import FOLDED, FoldSpec, slot_of
from shadow.stream.tally import Counted, Side, Tallier
from tests.services.redis import RedisServer

RUN = "candidate-00000000-1"
TILE_US = 60_000_000
SLICES = tuple(f"slice-{number:02d}" for number in range(63))
GRADERS = tuple(f"grader-{number}" for number in range(6))
RULES: tuple[Rule, ...] = (
    Quality(dict.fromkeys(GRADERS, 1.0)),
    *(NoRegression(GRADERS[number % 6], slice=SLICES[number]) for number in range(12)),
    Cap(GRADERS[0], max=0.01),
    Floor(GRADERS[1], min=0.9),
    Improve(GRADERS[2], slice=SLICES[20]),
    Equivalent(GRADERS[3], slice=SLICES[21]),
    Latency(reference_us=500_000),
    Latency(0.99, 1.5, reference_us=900_000),
    Cost(),
)
POLICY = Policy((StagePolicy("shadow", Needs(), RULES),), tile_us=TILE_US)


def tallies(count: int, pairs: int, seed: int) -> list[Tally]:
    """So many partitions' shares of a tile, of so many pairs each, three to a session, each in three slices."""
    draw = random.Random(seed)
    tallier = Tallier(RULES, dict.fromkeys(GRADERS, ()))
    made = []
    for _ in range(count):
        tally, references = Tally(), tallier.references(1)
        for number in range(pairs):
            grades = {
                name: {role: Grade(PASSED if draw.random() < 0.9 else FAILED) for role in ("production", "candidate")}
                for name in GRADERS
            }
            slices = ("all", *draw.sample(SLICES, 2))
            counted = Counted(slices, cell_of(f"{draw.random()}/{number // 3}"), str(number), 900, 450_000)
            sides = [Side("answered", draw.randrange(10**6), 90_000, draw.randrange(10**4), 700) for _ in range(2)]
            tallier.count_pair(tally, counted, sides[0], sides[1], grades, references)
        made.append(tally)
    return made


def memory(server: RedisServer, hours: float, rate: int, partitions: int) -> None:
    """Write a day of tiles, and say how much memory it took at most."""
    pairs = rate * 60 // partitions
    shares = tallies(24, pairs, seed=1)
    store, admin = RedisStore(server.url), redis.Redis.from_url(server.url)
    spec = FoldSpec(RUN, 0, partitions, TILE_US, 0, {CANDIDATE_PRODUCTION: POLICY.evidence_deadline_us}, 0, 0)
    gate = RunState.begin(RUN, POLICY, 0)
    versions: dict[str, str | None] = {}
    dropped, peak, sizes = 0, 0, []

    def swap(slot: str, change: Change) -> None:
        store.swap(slot, versions.get(slot), change)
        versions[slot] = change.version

    for tile in range(round(hours * 60)):
        merged = Tally()
        dropping = tiles_to_drop(spec, dropped, tile - 1)
        for partition in range(partitions):
            tally = shares[(tile + partition * 5) % len(shares)]
            merged.add(tally)
            value = ClosedTile(tile, tally, tile).to_bytes()
            sizes.append(len(value))
            # The open tile and the one before it stand in the state as they do between two checkpoints.
            state = {"head": bytes(2000), f"tally:{tile + 1}": tally.to_bytes()}
            old = [f"tally:{tile}"]
            tiles = {tile_name(tile): value}
            swap(slot_of(RUN, partition), Change(str(uuid.uuid4()), state, old, tiles, dropping.names))
        dropped = dropping.below
        fold_tile(gate, tile, merged)
        fields = {"gate": state_to_bytes(gate), FOLDED: str(tile).encode()}
        gone = [tile_name(tile - 1440)] if tile >= 1440 else []
        swap(RUN, Change(str(uuid.uuid4()), fields, tiles={tile_name(tile): merged.to_bytes()}, dropped_tiles=gone))
        peak = max(peak, int(admin.info("memory")["used_memory"]))
    print(
        f"{hours:g} h at {rate:,} requests/s, 64 slices, {len(RULES)} rules, {partitions} partitions: "
        f"at most {peak / 2**20:.1f} MiB in Redis; a partition's tile has {sum(sizes) / len(sizes):,.0f} bytes, "
        f"a merged one {len(merged.to_bytes()):,}, the gate's state {len(state_to_bytes(gate)):,}"
    )


def load(server: RedisServer, partitions: int, seconds: float, clients: int, rate: int) -> None:
    """Have every partition make a checkpoint a second, and say how long they take."""
    (tally,) = tallies(1, 60 * rate // partitions, seed=2)
    value, head = tally.to_bytes(), bytes(1500)
    admin = redis.Redis.from_url(server.url)
    cpu_before = _cpu_s(admin)
    took: list[float] = []
    lock = threading.Lock()

    def work(mine: range) -> None:
        store = RedisStore(server.url)
        versions: dict[int, str | None] = dict.fromkeys(mine)
        for _ in range(round(seconds)):
            round_s = time.perf_counter()
            own = []
            for partition in mine:
                change = Change(str(uuid.uuid4()), {"head": head, "tally:1": value})
                began_s = time.perf_counter()
                store.swap(slot_of(RUN, partition), versions[partition], change)
                own.append(time.perf_counter() - began_s)
                versions[partition] = change.version
            with lock:
                took.extend(own)
            time.sleep(max(0.0, 1.0 - (time.perf_counter() - round_s)))
        store.close()

    began_s = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, _parts(partitions, clients)))
    wall_s = time.perf_counter() - began_s
    took.sort()
    cpu_s = _cpu_s(admin) - cpu_before
    print(
        f"{partitions:,} partitions, {rate:,} requests/s in all, {clients} clients: {len(took) / wall_s:,.0f} "
        f"checkpoints/s of {len(value) + len(head):,} bytes, p50 {took[len(took) // 2] * 1e3:.2f} ms, "
        f"p99 {took[len(took) * 99 // 100] * 1e3:.2f} ms; redis-server used {cpu_s / wall_s:.0%} of a core, "
        f"{cpu_s / len(took) * 1e6:.0f} µs a checkpoint"
    )


def gate(server: RedisServer, partitions: int, rate: int) -> None:
    """Fold a tile of so many partitions, and say what its parts took."""
    shares = tallies(min(partitions, 24), 60 * rate // partitions, seed=3)
    store, state, steps = RedisStore(server.url), RunState.begin(RUN, POLICY, 0), []
    for partition in range(partitions):
        tiles = {tile_name(tile): ClosedTile(tile, shares[partition % len(shares)], 1).to_bytes() for tile in range(3)}
        store.swap(slot_of(RUN, partition), None, Change(str(uuid.uuid4()), {}, tiles=tiles))
    for tile in range(3):
        began_s, merged = time.perf_counter(), Tally()
        for partition in range(partitions):
            (value,) = store.tiles(slot_of(RUN, partition), [tile_name(tile)])
            assert value is not None
            merged.add(ClosedTile.from_bytes(tile, value).tally)
        read_s = time.perf_counter()
        fold_tile(state, tile, merged)
        state_to_bytes(state)
        folded_s = time.perf_counter()
        judge_tile(state)
        steps.append((read_s - began_s, folded_s - read_s, time.perf_counter() - folded_s))
    read, fold, judge = (1e3 * value for value in steps[-1])
    print(
        f"{partitions:,} partitions, 64 slices, {len(RULES)} rules: a tile is read and added up in {read:,.0f} ms "
        f"({read / partitions:.2f} ms a partition), folded and written in {fold:,.0f} ms, judged in {judge:,.0f} ms"
    )


def _parts(partitions: int, clients: int) -> Iterator[range]:
    return (range(first, partitions, clients) for first in range(clients))


def _cpu_s(admin: redis.Redis) -> float:
    info = admin.info("cpu")
    return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["memory", "load", "gate"])
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--partitions", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args()
    with RedisServer() as server:
        if options.what == "memory":
            memory(server, options.hours, options.rate, options.partitions or 16)
        elif options.what == "gate":
            gate(server, options.partitions or 64, options.rate)
        else:
            load(server, options.partitions or 1024, options.seconds, options.clients, options.rate)


if __name__ == "__main__":
    main()
