"""A candidate that turns bad late, through the gate as a process: tiles in a real store, the decision on real Kafka."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from shadow.adapters.redis import RedisStore
from shadow.gate.run import RunState, fold_tile, judge_tile
from shadow.ports import Change
from shadow.records.decisions import HOLD, ROLLBACK, Started
from shadow.records.policy import Policy
from shadow.records.tallies import ClosedTile, Tally
from shadow.stream.state import slot_of
from tests.calibration.simulate import Truth, tiles
from tests.flow.harness import wait_until
from tests.flow.machine import PARTITIONS, Machine
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer
from tests.settings.configurations import HERE

ONSET = 15_000
REQUESTS = 17_000
PER_TILE = 50
TRUTH = Truth(shift={"reward": -0.05}, onset=ONSET // PARTITIONS)
CULPRIT = "no_regression/all/reward"


def section14(tree: dict[str, Any]) -> None:
    """The policy of design.md, section 14, in the shadow stage alone, and with promotion out of reach."""
    full = yaml.safe_load((HERE / "section14.yaml").read_text(encoding="utf-8"))
    tree |= {name: full[name] for name in ("slices", "graders", "expires")} | {"tile": "60s"}
    tree["stages"] = {"shadow": full["stages"]["shadow"]}
    tree["stages"]["shadow"]["needs"]["pairs"] = 1_000_000
    for each in tree["slices"].values():
        each.pop("traffic", None)


@pytest.fixture
def machine(tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer) -> Iterator[Machine]:
    with Machine(tmp_path, kafka.bootstrap, redis_server.url, change=section14) as found:
        yield found


def shares() -> list[list[Tally]]:
    """The tiles of each partition."""
    half = {"pairs": REQUESTS // PARTITIONS, "per_tile": PER_TILE // PARTITIONS}
    return [list(tiles(seed, TRUTH, **half)) for seed in range(PARTITIONS)]


def expected(policy: Policy, started: Started, found: list[list[Tally]]) -> tuple[int, str]:
    """The first tile after the onset at which the pure gate does not hold, and its digest."""
    state = RunState.begin(started.run, policy, started.first_tile)
    onset = started.first_tile + ONSET // PER_TILE
    for number, parts in enumerate(zip(*found, strict=True), started.first_tile):
        merged = Tally()
        for part in parts:
            merged.add(part)
        fold_tile(state, number, merged)
        if number >= onset and judge_tile(state).decision != HOLD:
            break
    return state.folded, state.tiles_digest.hex()


def close(store: RedisStore, started: Started, found: list[list[Tally]]) -> None:
    """Close all tiles in the store, as comparators do, some at a time."""
    for partition, own in enumerate(found):
        version = None
        for first in range(0, len(own), 60):
            numbered = enumerate(own[first : first + 60], started.first_tile + first)
            closed = {str(number): ClosedTile(number, tally, number, {}).to_bytes() for number, tally in numbered}
            change = Change(str(uuid.uuid4()), {}, tiles=closed)
            store.swap(slot_of(started.run, partition), version, change)
            version = change.version


def test_a_late_onset_is_rolled_back_by_the_gate_process(machine: Machine) -> None:
    """
    Good for 15,000 requests, then worse by 5 points: the change detector rolls it back within 2,000 more, where the
    average of all evidence says nothing yet, names the rule, and the pure gate does so at the same tile.
    """
    started, found = machine.begin(), shares()
    machine.start_role("gate")
    close(machine.store, started, found)
    tile, digest = expected(machine.settings.policy(), started, found)
    wait_until(lambda: machine.decision() is not None, "a decision", 200)
    decision = machine.decision()
    assert decision is not None
    assert (ROLLBACK, tile, digest) == (decision.decision, decision.tile, decision.tiles_digest)
    assert 0 < (tile + 1 - started.first_tile) * PER_TILE - ONSET <= 2_000
    assert CULPRIT in decision.culprits
    rollback = json.loads(decision.evidence)["judgement"]["rollback"]
    assert rollback["log_e"] < rollback["need"]
    assert rollback["log_sr"] >= rollback["need_sr"]
