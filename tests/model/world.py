"""The real fold, snapshot and compare-and-set, owned as thinly as a comparator does it, on a log that a test writes."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import replace

from shadow.adapters.memory_store import MemoryStore
from shadow.errors import Refused
from shadow.ports import Change
from shadow.records.comparisons import BASELINE_PRODUCTION, CANDIDATE_HUMAN, CANDIDATE_PRODUCTION, tile_of_name
from shadow.records.policy import Agreement, NoRegression
from shadow.records.tallies import CLASSES, ClosedTile, Key
from shadow.stream.fold import Fold
from shadow.stream.slice import Slicer
from shadow.stream.state import Counting, fields_from_state, state_from_fields
from shadow.stream.tally import Tallier
from tests.model.reference import reference
from tests.stream.builders import CORRECT, SECOND, SLICES, SPEC, AnswersLog, counting, graders_of, request

REQUESTS = 8
SLOT = "run/0"
SPEC_OF_ALL = replace(
    SPEC,
    deadlines_us={CANDIDATE_PRODUCTION: 20 * SECOND, BASELINE_PRODUCTION: 20 * SECOND, CANDIDATE_HUMAN: 90 * SECOND},
)
CELLS = {
    "graders": ("both", "reference only", "candidate alone", "neither"),
    "agreement": ("candidate only", "baseline only"),
}


def counting_of_all() -> dict[str, Counting]:
    """How the three comparisons count."""
    people = Tallier([NoRegression("correct", against="human")], {"correct": ()})
    return {
        **counting((CORRECT,), (NoRegression("correct"),)),
        BASELINE_PRODUCTION: Counting((), Tallier([], {}), (Agreement(),)),
        CANDIDATE_HUMAN: Counting(tuple(graders_of(CORRECT)), people),
    }


class World:
    """One partition's log and the store. Requests are constants of the log; every third one went wrong live."""

    def __init__(self) -> None:
        self.log, self.store, self.time_us = AnswersLog(), MemoryStore(), 0
        bodies = [b"wrong" if offset % 3 == 2 else b"right" for offset in range(REQUESTS)]
        self.requests = {offset: request(offset + 1, live_body=body) for offset, body in enumerate(bodies)}

    def append(self, content) -> None:
        self.log.append(content, self.time_us)

    def expected(self):
        """Closed tiles, open tiles and counters as the reference has them."""
        records = [(record.time_us, content) for record, content in self.log.records]
        lives = {offset: each.live.body for offset, each in self.requests.items()}
        return reference(records, lives, SPEC_OF_ALL.tile_us, SPEC_OF_ALL.deadlines_us)

    def stored(self):
        """The same out of the store."""
        _, fields = self.store.load(SLOT)
        state = state_from_fields(fields, SPEC_OF_ALL)
        names = self.store.tile_names(SLOT)
        closed = {}
        for name, value in zip(names, self.store.tiles(SLOT, names), strict=True):
            number, comparison = tile_of_name(name)
            closed[comparison, number] = counts_in(ClosedTile.from_bytes(number, value, comparison).tally)
        still_open = {
            (name, number): counts
            for name, compared in state.compared.items()
            for number, tally in compared.tallies.items()
            if (counts := counts_in(tally))
        }
        return closed, still_open, {name: state.counters[name] for name in ("records", "duplicate", "late")}


def counts_in(tally) -> Counter:
    """The counts of slice `all` of a tally, in the reference's words."""
    counts = Counter(dict(zip(CLASSES, tally.vectors.get(Key("all", "classes", ""), ()), strict=False)))
    for kind, words in CELLS.items():
        for key, vector in tally.vectors.items():
            if key.slice == "all" and key.kind == kind:
                counts.update(dict(zip(words, vector, strict=False)))
                if kind == "agreement":
                    counts["tie"] += vector[2] - vector[0] - vector[1]
    return Counter({word: count for word, count in counts.items() if count})


class Owner:
    """An owner of the partition; any number of them may believe that they are the only one."""

    fold_class = Fold

    def __init__(self, world: World) -> None:
        self.world = world
        self.load()

    def load(self) -> None:
        """Take what is stored, and read the waiting requests' records again."""
        self.closed = []
        stored = self.world.store.load(SLOT)
        self.version = None if stored is None else stored[0]
        state = None if stored is None else self.state_from(stored[1])
        self.fold = self.new_fold(state)
        if state is not None:
            places = {o: r for r, w in state.waiting.items() if not w.is_parked for o in w.offsets}
            self.fold.restore([(places[offset], *self.world.log.records[offset]) for offset in sorted(places)])

    def new_fold(self, state) -> Fold:
        requests, records = self.world.requests, self.world.log.records
        return self.fold_class(
            SPEC_OF_ALL,
            Slicer(SLICES),
            counting_of_all(),
            lambda offsets: {offset: requests.get(offset) for offset in offsets},
            lambda offsets: [records[offset] for offset in sorted(offsets)],
            state,
        )

    def state_from(self, fields):
        return state_from_fields(fields, SPEC_OF_ALL)

    def consume(self, count: int) -> None:
        first = self.fold.state.next
        for record, content in self.world.log.records[first : first + count]:
            self.closed += self.fold.apply(record, content).closed

    def change(self) -> Change:
        fields, dropped = fields_from_state(self.fold.state, only_changed=self.version is not None)
        tiles = {tile.name: tile.to_bytes() for tile in self.closed}
        return Change(self.new_version(), fields, dropped, tiles)

    def new_version(self) -> str:
        return str(uuid.uuid4())

    def save(self, *, is_answer_lost: bool = False, dies: bool = False) -> None:
        """Write a checkpoint; refused means that the stored state is the only one.

        Args:
            is_answer_lost: Nothing comes back, so the version is read: the new one means that it was applied.
            dies: The owner ends right after the write, and the next one loads.
        """
        change = self.change()
        try:
            self.write(change)
        except Refused:
            self.load()
            return
        if is_answer_lost and self.world.store.load(SLOT)[0] != change.version:
            self.load()
            return
        self.saved(change)
        if dies:
            self.load()

    def write(self, change: Change) -> None:
        self.world.store.swap(SLOT, self.version, change)

    def saved(self, change: Change) -> None:
        self.version = change.version
        self.closed.clear()
        self.fold.state.stored()
