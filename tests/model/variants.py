"""Owners that are built wrong, one mistake each: the model must find every one of them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

from shadow.errors import Refused
from shadow.ports import Change
from shadow.stream.fold import Fold
from shadow.stream.tile import Tiles
from tests.model.world import SLOT, Owner, World


class OffsetApart(Owner):
    """Stores `next` in a second write; whoever dies in between leaves tallies that are ahead of it."""

    def save(self, *, is_answer_lost: bool = False, dies: bool = False) -> None:
        stored = self.world.store.load(SLOT)
        if stored is None or not dies:
            super().save(is_answer_lost=is_answer_lost, dies=dies)
            return
        change = self.change()
        head = json.loads(change.state["head"])
        head["next"] = json.loads(stored[1]["head"])["next"]
        with suppress(Refused):
            self.write(replace(change, state={**change.state, "head": json.dumps(head).encode()}))
        self.load()


class Epochs(Owner):
    """Fences by the number of the owner, which stays the same over all of its writes."""

    def __init__(self, world: World) -> None:
        world.epochs = getattr(world, "epochs", 0) + 1
        self.epoch = world.epochs
        super().__init__(world)

    def write(self, change: Change) -> None:
        stored = self.world.store.load(SLOT)
        if stored is not None and int(stored[1].get("epoch", b"0")) > self.epoch:
            raise Refused("a later owner wrote")
        state = {**change.state, "epoch": str(self.epoch).encode()}
        self.world.store.swap(SLOT, None if stored is None else stored[0], replace(change, state=state))


class LowWater(Owner):
    """Goes on at the lowest offset that somebody waits for, as if what lies behind it had not been counted."""

    def load(self) -> None:
        super().load()
        offsets = [offset for waiting in self.fold.state.waiting.values() for offset in waiting.offsets]
        self.fold.state.next = min([*offsets, self.fold.state.next])


class MemoryJoin(Owner):
    """Keeps what waits for its other half in memory only."""

    def state_from(self, fields):
        return super().state_from({name: value for name, value in fields.items() if not name.startswith("waiting:")})


class ByTimeAlone(Owner):
    """Closes a tile when its time is over, whoever still waits."""

    class _Tiles(Tiles):
        def tick(self, tile: int, requests_end: int, time_us: int) -> bool:
            return super().tick(tile, 0, time_us)

    def load(self) -> None:
        super().load()
        for compared in self.fold.state.compared.values():
            old = compared.tiles
            compared.tiles = self._Tiles(old.tile_us, old.deadline_us, old.oldest, old.ends)


class PerBatch(Owner):
    """Moves the watermark and closes tiles once a batch instead of around each record."""

    class fold_class(Fold):
        is_within = True

        def _close(self, effects):
            if not self.is_within:
                super()._close(effects)

    def consume(self, count: int) -> None:
        self.fold.is_within = True
        first = self.fold.state.next
        batch = self.world.log.records[first : first + count]
        for index, (record, content) in enumerate(batch):
            self.fold.is_within = index < len(batch) - 1
            self.closed += self.fold.apply(record, content).closed


class CarriersLost(Owner):
    """Forgets, with the record that carried a request, what the request itself says."""

    class fold_class(Fold):
        def restore(self, records):
            kept = [(request, record, content) for request, record, content in records]
            bare = [(r, record, replace(c, exchange=None) if hasattr(c, "exchange") else c) for r, record, c in kept]
            requests, self._requests = self._requests, lambda offsets: {}
            try:
                return super().restore(bare)
            finally:
                self._requests = requests


VARIANTS = (OffsetApart, Epochs, LowWater, MemoryJoin, ByTimeAlone, PerBatch, CarriersLost)
