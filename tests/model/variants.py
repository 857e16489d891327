"""Owners that are built wrong, one mistake each: the search must find every one of them."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

from shadow.errors import Refused
from shadow.ports import Change
from shadow.records.answers import Answer
from shadow.stream.fold import Fold
from shadow.stream.state import FoldState
from shadow.stream.tile import Tiles
from tests.model.owner import Owner
from tests.model.world import SLOT, World


class OffsetApart(Owner):
    """Stores `next` in a second write; whoever dies in between leaves tallies that are ahead of it."""

    def save(self, fate: str = "stored") -> None:
        stored = self.world.store.load(SLOT)
        if stored is None or fate != "dies":
            super().save(fate)
            return
        self.flush()
        change = self.change()
        head = json.loads(change.state["head"]) | {"next": json.loads(stored[1]["head"])["next"]}
        with suppress(Refused):
            self.write(replace(change, state={**change.state, "head": json.dumps(head).encode()}))
        self.load()


class Unfenced(Owner):
    """Writes whatever is stored."""

    def write(self, change: Change) -> None:
        stored = self.world.store.load(SLOT)
        self.world.swap(None if stored is None else stored[0], change)


class Epochs(Owner):
    """Fences by the number of the owner, which stays the same over all of its writes."""

    def __init__(self, world: World) -> None:
        world.seen["owners"] += 1
        self.epoch = world.seen["owners"]
        super().__init__(world)

    def write(self, change: Change) -> None:
        stored = self.world.store.load(SLOT)
        if stored is not None and int(stored[1].get("epoch", b"0")) > self.epoch:
            raise Refused("a later owner wrote")
        state = {**change.state, "epoch": str(self.epoch).encode()}
        self.world.swap(None if stored is None else stored[0], replace(change, state=state))


class LowWater(Owner):
    """Goes on at the lowest offset that somebody waits for, as if what lies behind it had not been counted."""

    def state_from(self, fields: dict[str, bytes]) -> FoldState:
        state = super().state_from(fields)
        offsets = [offset for waiting in state.waiting.values() for offset in waiting.offsets]
        state.next = min([*offsets, state.next])
        return state


class MemoryJoin(Owner):
    """Keeps what waits for its other half in memory only."""

    def state_from(self, fields: dict[str, bytes]) -> FoldState:
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
    """Moves time and closes tiles once a batch instead of around each record."""

    class fold_class(Fold):
        is_within = True

        def _close(self, effects):
            if not self.is_within:
                super()._close(effects)

    def consume(self, count: int) -> None:
        left = min(count, len(self.world.log.records) - self.fold.state.next)
        self.fold.is_within = True
        super().consume(left - 1)
        self.fold.is_within = False
        super().consume(min(left, 1))


class CarriersLost(Owner):
    """Forgets, with the record that carried a request, what the request itself says."""

    class fold_class(Fold):
        def restore(self, records):
            bare = [
                (request, record, replace(content, exchange=None) if isinstance(content, Answer) else content)
                for request, record, content in records
            ]
            requests, self._requests = self._requests, lambda offsets: {}
            try:
                return super().restore(bare)
            finally:
                self._requests = requests


VARIANTS = (OffsetApart, Unfenced, Epochs, LowWater, MemoryJoin, ByTimeAlone, PerBatch, CarriersLost)
