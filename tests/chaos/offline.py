"""The offline comparison: partitions, gate, pairs topic and dead letters of a run that has settled.

Everything that the processes stored is compared with what the log alone gives, folded in one go by the pure fold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shadow.adapters.avro import decode
from shadow.gate.run import RunState, fold_tile, judge_tile, lagging_tiles, state_from_bytes, state_to_bytes
from shadow.records.comparisons import CANDIDATE_PRODUCTION, tile_name
from shadow.records.dead_letters import DeadLetter
from shadow.records.pairs import GradedPair
from shadow.records.slices import ALL
from shadow.records.tallies import ClosedTile, Key, Tally
from tests.flow.harness import records_of, wait_until
from tests.flow.machine import PARTITIONS, Machine, comparable

Shares = Sequence[Mapping[str, ClosedTile]]
"""Closed tiles of each partition, by name."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Where all requests of a settled run went.

    Args:
        seen: Live requests that the proxies counted.
        present: Of these, the ones whose copies stand in the log.
        dropped: The others, by reason.
        classes: Present ones by class.
        repeats: Graded pairs that stand more than once in the pairs topic, since a comparator died in between.
        letters: Positions among the dead letters.
    """

    seen: int
    present: int
    dropped: Mapping[str, int]
    classes: Mapping[str, int]
    repeats: int
    letters: frozenset[tuple[str, int, int]]

    def __str__(self) -> str:
        dropped = sum(self.dropped.values())
        found = ", ".join(f"{count} {name}" for name, count in self.classes.items() if count)
        return f"{self.seen} seen, {dropped} dropped, {found}; {self.repeats} pairs written again"


def stored_gate(machine: Machine) -> RunState:
    """The gate's state as it stands in the store; the one before the first tile where there is none."""
    assert machine.started is not None
    policy, started = machine.settings.policy(), machine.started
    stored = machine.store.load(started.run)
    if stored is None or "gate" not in stored[1]:
        return RunState.begin(started.run, policy, started.first_tile, started.stage)
    return state_from_bytes(stored[1]["gate"], policy)


def folded_pairs(state: RunState) -> int:
    """Pairs of slice `all` in the tiles that a gate has folded."""
    return state.totals.vectors.get(Key(ALL, "classes", ""), [0])[0]


def wait_for_gate(machine: Machine) -> None:
    """Wait until the gate has folded every pair that was counted."""
    wait_until(
        lambda: folded_pairs(stored_gate(machine)) == machine.classes()["paired"], "the gate folds every pair", 120
    )


def offline_gate(machine: Machine, shares: Shares, until: int) -> RunState:
    """The gate's state after tile `until`, from tiles that were folded offline."""
    assert machine.started is not None
    policy, started = machine.settings.policy(), machine.started
    state = RunState.begin(started.run, policy, started.first_tile, started.stage)
    for number in range(started.first_tile, until + 1):
        wanted = {CANDIDATE_PRODUCTION: number, **lagging_tiles(policy, started.first_tile, number)}
        merged = {comparison: _merged(shares, tile_name(each, comparison)) for comparison, each in wanted.items()}
        main = merged.pop(CANDIDATE_PRODUCTION)
        fold_tile(state, number, main, None, merged)
    return state


def _merged(shares: Shares, name: str) -> Tally:
    merged = Tally()
    for of_partition in shares:
        merged.add(of_partition[name].tally)
    return merged


def check_offline(machine: Machine) -> Sums:
    """
    Compare everything stored with an offline fold of the log, and add up where each request went: every counter, open
    and closed tile of each partition; the gate's digest, totals, detector and window; pairs and dead letters by
    position.
    """
    shares = []
    seen = present = 0
    dropped: Counter[str] = Counter()
    dead = 0
    for partition in range(PARTITIONS):
        stored = machine.stored(partition)
        state, closed = machine.refolded(partition)
        assert comparable(state, {tile.name: tile.to_bytes() for tile in closed}) == stored
        shares.append({tile.name: tile for tile in closed})
        account = state.accounts.account()
        assert account.lost == 0
        seen, present = seen + account.seen, present + account.present
        dropped.update(account.dropped)
        dead += state.counters["dead_letters"]
    gate = stored_gate(machine)
    assert state_to_bytes(offline_gate(machine, shares, gate.folded)) == state_to_bytes(gate)
    classes = machine.classes()
    assert seen == present + sum(dropped.values())
    # A record that nobody can read names no proxy, so it is in a class and in no account.
    assert present == sum(classes.values()) - classes["unreadable"]
    repeats = check_pairs(machine, classes["paired"])
    letters = letters_of(machine)
    assert dead == sum(topic == machine.settings.topics.answers for topic, _, _ in letters)
    return Sums(seen, present, dropped, classes, repeats, letters)


def check_pairs(machine: Machine, paired: int) -> int:
    """Pairs by position are as many as were counted, and repeats say the same; returns how many repeats there are."""
    found: dict[tuple[str, int, int], GradedPair] = {}
    repeats = 0
    for record in records_of(machine.log, machine.settings.topics.pairs):
        pair = decode(record.value)
        assert isinstance(pair, GradedPair)
        position = (pair.comparison, pair.request_partition, pair.request_offset)
        repeats += position in found
        assert found.setdefault(position, pair) == pair
    assert paired == len(found)
    return repeats


def letters_of(machine: Machine) -> frozenset[tuple[str, int, int]]:
    """Positions of the records that were put aside, each of which has a reason."""
    letters = [decode(record.value) for record in records_of(machine.log, machine.settings.topics.dead_letters)]
    assert all(isinstance(each, DeadLetter) and each.error for each in letters)
    return frozenset((each.topic, each.partition, each.offset) for each in letters)


def judged_offline(machine: Machine, until: int) -> tuple[str, str]:
    """What the log alone says after tile `until`: the decision, and the digest that it rests on."""
    assert machine.started is not None
    shares = [{tile.name: tile for tile in machine.refolded(each)[1]} for each in range(PARTITIONS)]
    state = offline_gate(machine, shares, until)
    return judge_tile(state, attempt=machine.started.attempt).decision, state.tiles_digest.hex()
