"""An owner of the partition, as thin as the comparator's protocol: load, fold, flush, write, and what goes wrong."""

from __future__ import annotations

import uuid

from shadow.errors import InvalidRecord, Refused
from shadow.ports import Change
from shadow.records.answers import ASKED, RecordedGrade
from shadow.stream.fold import Fold
from shadow.stream.state import Effects, FoldState, fields_from_state, state_from_fields
from tests.model.world import SLOT, SPEC_OF_ALL, World, new_fold
from tests.stream.builders import RUN

FATES = ("stored", "answer lost", "request lost", "under way", "dies")
"""What becomes of a write: stored and answered; stored, its answer lost; lost; on its way while the owner goes on;
or stored, and the owner ends before it knows."""


class Owner:
    """Any number of owners may believe that they are the only one.

    `output` holds what was queued for the log and is not appended yet; `asked` the questions under way.
    """

    fold_class = Fold

    def __init__(self, world: World) -> None:
        self.world = world
        self.load()

    def load(self) -> None:
        """Take what is stored, read the waiting requests' records again, and put open questions again."""
        self.closed, self.output, self.asked = [], [], []
        self.version, state = None, None
        stored = self.world.store.load(SLOT)
        try:
            if stored is not None:
                state = self.state_from(stored[1])
                self.version = stored[0]
        except InvalidRecord:
            self.world.empty()
        self.fold = new_fold(self.world, state, self.fold_class)
        if state is not None:
            places = {o: r for r, w in state.waiting.items() if not w.is_parked for o in w.offsets}
            self.world.seen["read again"] += len(places)
            self.world.seen["parked"] += any(waiting.is_parked for waiting in state.waiting.values())
            records = [(places[offset], *self.world.log.records[offset]) for offset in sorted(places)]
            self.carry_out(self.fold.restore(records))

    def state_from(self, fields: dict[str, bytes]) -> FoldState:
        return state_from_fields(fields, SPEC_OF_ALL)

    def consume(self, count: int) -> None:
        """Fold the next records."""
        first = self.fold.state.next
        for record, content in self.world.log.records[first : first + count]:
            if content is None:
                self.fold.state.counters["dead_letters"] += 1
            self.carry_out(self.fold.apply(record, content))

    def carry_out(self, effects: Effects) -> None:
        """Keep what closed, and mark each pair before its grades are asked for."""
        self.closed += effects.closed
        marks = {(ask.request_offset, ask.comparison): ask for ask in effects.asks if not ask.is_marked}
        self.output += [grade_of(ask, ASKED) for ask in marks.values()]
        self.asked += effects.asks

    def reply(self, outcome: str) -> None:
        """A service answers the oldest question; the grade goes to the log, behind what was queued before it."""
        if self.asked:
            self.output.append(grade_of(self.asked.pop(0), outcome))

    def flush(self) -> None:
        """What was queued stands in the log."""
        while self.output:
            self.world.append(self.output.pop(0))

    def save(self, fate: str = "stored") -> None:
        """A checkpoint. Refused means that what is stored is the only state."""
        self.flush()
        change = self.change()
        try:
            if fate == "under way":
                self.world.in_flight.append((self.version, change))
                return
            if fate != "request lost":
                self.write(change)
            if fate == "dies":
                self.load()
                return
            if fate in ("answer lost", "request lost"):
                self.read_back(change)
        except Refused:
            self.load()
            return
        self.version = change.version
        self.closed.clear()
        self.fold.state.stored()

    def read_back(self, change: Change) -> None:
        """After a lost answer: mine means applied, the old one means to write again, any other one is refused."""
        stored = self.world.store.load(SLOT)
        if stored is None or stored[0] != change.version:
            self.write(change)

    def change(self) -> Change:
        fields, dropped = fields_from_state(self.fold.state, only_changed=self.version is not None)
        return Change(str(uuid.uuid4()), fields, dropped, {tile.name: tile.to_bytes() for tile in self.closed})

    def write(self, change: Change) -> None:
        self.world.swap(self.version, change)


def grade_of(ask, outcome: str) -> RecordedGrade:
    """The record of a grade, or of the mark before it."""
    return RecordedGrade(RUN, ask.request_offset, ask.comparison, ask.grader, ask.role, outcome)
