"""One partition's log and store, what must be in them, and the one place that knows how a fold is built."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from shadow.adapters.memory_store import MemoryStore
from shadow.errors import Refused
from shadow.ports import Change
from shadow.records.comparisons import BASELINE_PRODUCTION, CANDIDATE_HUMAN, CANDIDATE_PRODUCTION, tile_of_name
from shadow.records.policy import Agreement, Latency, NoRegression
from shadow.records.requests import MirroredRequest
from shadow.records.tallies import CLASSES, ClosedTile, Tally
from shadow.stream.answer import is_asked
from shadow.stream.fold import MARK_GRACE_US, Fold
from shadow.stream.slice import Slicer
from shadow.stream.state import Counting, FoldState, fields_from_state, state_from_fields
from shadow.stream.tally import Tallier
from tests.model.reference import ROLES, Counts, reference
from tests.stream.builders import (
    CORRECT,
    HACK_RULES,
    REWARD,
    SECOND,
    SLICES,
    SPEC,
    AnswersLog,
    counting,
    graders_of,
    request,
)

SLOT: Final = "run/0"
REQUESTS: Final = 10
EVERY_S: Final = 4
"""A request comes every so many seconds."""
SPEC_OF_ALL: Final = replace(
    SPEC,
    partitions=400,
    first_tile=1,
    requests_from=1,
    deadlines_us={CANDIDATE_PRODUCTION: 20 * SECOND, BASELINE_PRODUCTION: 20 * SECOND, CANDIDATE_HUMAN: 90 * SECOND},
    rates={"human": 0.8},
)
GRADE_US: Final = 10 * SECOND + MARK_GRACE_US
WORDS_BY_KIND: Final = {
    "classes": CLASSES,
    "missing": ("", "pairs' bytes", "pairs' µs", "no pair", "others' bytes", "others' µs"),
    "graders": ("both", "production_only", "candidate_only", "neither"),
    "agreement": ("candidate only", "baseline only", ""),
    "broken": ("broken",),
}


class Miscounted(Exception):
    """The store holds other integers than it must."""


def counting_of_all() -> dict[str, Counting]:
    """How the three comparisons count; the latency rule freezes its reference from the first answers."""
    graders = (CORRECT, REWARD)
    people = Tallier([NoRegression("correct", against="human")], {"correct": (), "reward": ()})
    return {
        **counting(graders, (*HACK_RULES, Latency(quantile=0.5))),
        BASELINE_PRODUCTION: Counting((), Tallier([], {}), (Agreement(),)),
        CANDIDATE_HUMAN: Counting(tuple(graders_of(*graders)), people),
    }


def requests_of_all() -> dict[int, MirroredRequest | None]:
    """The requests topic: ordinary ones, and one of each kind that is not."""
    requests = {}
    for offset in range(REQUESTS):
        text = "please search" if offset % 4 else "hello"
        body = b"wrong" if offset % 3 == 2 else b"right"
        requests[offset] = request(offset + 1, text=text, live_body=body, duration_us=400 + 10 * offset)
    copied, fallen_back, failed = requests[3], requests[6], requests[8]
    return {
        **requests,
        3: replace(copied, live=None),
        5: None,
        6: replace(fallen_back, live=replace(fallen_back.live, failed_attempt="the candidate refused the connection")),
        8: replace(failed, live=replace(failed.live, outcome="error", body=b"")),
    }


def new_fold(world: World, state: FoldState | None = None, fold_class: type[Fold] = Fold) -> Fold:
    """A fold of the world's partition."""
    requests, records = world.requests, world.log.records
    return fold_class(
        SPEC_OF_ALL,
        Slicer(SLICES),
        counting_of_all(),
        lambda offsets: {offset: requests.get(offset) for offset in offsets},
        lambda offsets: [records[offset] for offset in sorted(offsets)],
        state,
    )


class World:
    """The log, the store and the undisturbed fold beside them.

    Args:
        is_strict: Compare the store with the undisturbed fold after each write, and not with the reference alone at
            the end.
    """

    def __init__(self, *, is_strict: bool = True) -> None:
        self.is_strict = is_strict
        self.log, self.store, self.time_us = AnswersLog(), MemoryStore(), 0
        self.requests = requests_of_all()
        self.seen: Counter[str] = Counter()
        self.in_flight: list[tuple[str | None, Change]] = []
        self._snapshots: list[Change] = []
        self._undisturbed = new_fold(self)
        self._tiles: dict[str, bytes] = {}
        self._by_next: list[tuple[dict[str, bytes], dict[str, bytes]]] = []
        self._remember()

    def append(self, content) -> None:
        """Append a record, at the broker's time of now."""
        record, content = self.log.append(content, self.time_us)
        if content is None:
            self._undisturbed.state.counters["dead_letters"] += 1
        effects = self._undisturbed.apply(record, content)
        self._tiles = self._tiles | {tile.name: tile.to_bytes() for tile in effects.closed}
        self._remember()

    def _remember(self) -> None:
        fields, _ = fields_from_state(self._undisturbed.state, only_changed=False)
        self._by_next.append((fields, self._tiles))

    def swap(self, expected: str | None, change: Change) -> None:
        """The store's compare-and-set; what it stored is checked and remembered.

        Raises:
            Refused: If another version is stored.
        """
        try:
            self.store.swap(SLOT, expected, change)
        except Refused:
            self.seen["refused"] += 1
            raise
        if self.is_strict:
            self._check_snapshot()
        version, fields = self.store.load(SLOT)
        self._snapshots.append(Change(version, fields, tiles=self._stored_tiles()))

    def deliver(self, index: int) -> None:
        """A write that was under way reaches the store now, perhaps for the second time."""
        if self.in_flight:
            expected, change = self.in_flight[index % len(self.in_flight)]
            with suppress(Refused):
                self.swap(expected, change)
                self.seen["late write applied"] += 1

    def show(self, index: int) -> None:
        """The store shows any of its former states, as after fail-overs there and back."""
        if self._snapshots:
            self.seen["fallen back"] += 1
            self.store.purge(SLOT)
            self.store.swap(SLOT, None, self._snapshots[index % len(self._snapshots)])

    def empty(self) -> None:
        """The store loses everything."""
        self.seen["emptied"] += 1
        self.store.purge(SLOT)

    def write_another_format(self) -> None:
        """Another release has the partition for a moment."""
        stored = self.store.load(SLOT)
        if stored is not None:
            self.seen["another format"] += 1
            head = json.dumps(json.loads(stored[1]["head"]) | {"format": 0}).encode()
            self.store.swap(SLOT, stored[0], Change(str(uuid.uuid4()), {"head": head}))

    def _stored_tiles(self) -> dict[str, bytes]:
        names = self.store.tile_names(SLOT)
        return dict(zip(names, self.store.tiles(SLOT, names), strict=True))

    def _check_snapshot(self) -> None:
        """What is stored is the undisturbed fold's state at the `next` beside it, to the byte."""
        _, fields = self.store.load(SLOT)
        position = state_from_fields(fields, SPEC_OF_ALL).next
        own = {name: value for name, value in fields.items() if name in ("head", "votes") or ":" in name}
        fold_fields, fold_tiles = self._by_next[position]
        for what, expected, found in (("field", fold_fields, own), ("tile", fold_tiles, self._stored_tiles())):
            if expected != found:
                raise Miscounted(f"at offset {position}: {differences(what, expected, found)}")

    def check(self) -> None:
        """The whole log is folded, to the integers of the reference."""
        _, fields = self.store.load(SLOT)
        state = state_from_fields(fields, SPEC_OF_ALL)
        if state.next != len(self.log.records):
            raise Miscounted(f"the store stands at {state.next}, the log ends at {len(self.log.records)}")
        closed = {}
        for name, value in self._stored_tiles().items():
            number, comparison = tile_of_name(name)
            closed[comparison, number] = words_of(ClosedTile.from_bytes(number, value, comparison).tally)
        still_open = {
            (name, number): words
            for name, compared in state.compared.items()
            for number, tally in compared.tallies.items()
            if (words := words_of(tally))
        }
        expected, found = self.expected(), Counts(closed, still_open, state.counters)
        for what in ("closed", "still_open", "counters"):
            if getattr(expected, what) != getattr(found, what):
                raise Miscounted(differences(what, getattr(expected, what), getattr(found, what)))
        self.seen.update(state.counters)
        for counts in (*closed.values(), *still_open.values()):
            self.seen.update({word: count for (slice, word), count in counts.items() if slice == "all"})
        self.seen["tiles"] += len(closed)
        self.seen["frozen latency reference"] += bool(state.main.references.frozen_us.keys() - {"total/0.95"})
        if self.is_strict:
            self._check_snapshot()

    def expected(self) -> Counts:
        """What the reference counts."""
        records = [(record.time_us, content) for record, content in self.log.records]
        asked = {
            (name, offset)
            for name, roles in ROLES.items()
            for offset, each in self.requests.items()
            if each is not None and all(is_asked(role, each.key, SPEC_OF_ALL.rates.get(role, 1.0)) for role in roles)
        }
        return reference(records, self.requests, asked, SPEC_OF_ALL, GRADE_US)


def differences(what: str, expected: Mapping[Any, Any], found: Mapping[Any, Any]) -> str:
    """One sentence for each entry that is another one."""
    keys = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    return "; ".join(f"{what} {key} must be {expected.get(key)}, is {found.get(key)}" for key in keys)


def words_of(tally: Tally) -> Counter[tuple[str, str]]:
    """The counts of a tally by slice, in the reference's words; of the grades those of slice `all`."""
    counts: Counter[tuple[str, str]] = Counter()
    for (slice, kind, name), vector in tally.vectors.items():
        if kind == "graders" and slice != "all":
            continue
        prefix = f"{name} " if kind == "graders" else ""
        for word, count in zip(WORDS_BY_KIND.get(kind, ()), vector, strict=False):
            counts[slice, f"{prefix}{word}"] += count if word else 0
    for key in [key for key in tally.vectors if key.kind == "agreement"]:
        only_candidate, only_baseline, pairs = tally.vectors[key]
        counts[key.slice, "tie"] += pairs - only_candidate - only_baseline
    return Counter({word: count for word, count in counts.items() if count})
