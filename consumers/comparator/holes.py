"""Partitions whose evidence cannot be completed any more, and how the gate learns of it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from typing import Final

from shadow.adapters.logs import Repeated
from shadow.errors import Refused, Unavailable
from shadow.ports import Change, Store
from shadow.stream.state import slot_of

log = logging.getLogger("shadow.comparator")

BROKEN: Final = "broken"
"""Field of a partition's state: why its evidence cannot be completed."""


class Holes:
    """The broken partitions of one owner. A hole in the log does not heal, so the store keeps it for everybody.

    Args:
        trouble: Told while a hole cannot be stored.
    """

    def __init__(self, store: Store, run: str, trouble: Repeated) -> None:
        self._store = store
        self._run = run
        self._trouble = trouble
        self._reasons: dict[int, str] = {}
        self._unstored: dict[int, str | None] = {}

    def __contains__(self, partition: int) -> bool:
        return partition in self._reasons

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._reasons))

    def reasons(self) -> str:
        """Why evidence cannot be completed, of all partitions; empty where none is broken."""
        return "; ".join(self._reasons.values())

    def known(self, partition: int, reason: str) -> None:
        """A hole that another owner stored."""
        self._reasons[partition] = reason

    def add(self, partition: int, version: str | None, hole: str) -> None:
        """A partition is broken; `version` is what this owner wrote or loaded last.

        Args:
            hole: What is missing, as the beginning of a sentence.
        """
        reason = f"{hole}; the run cannot be completed"
        log.error("%s", reason)
        self._reasons[partition] = reason
        self._unstored[partition] = version
        self.store()

    def forget(self, partition: int) -> None:
        """The partition belongs to another owner now."""
        self._reasons.pop(partition, None)
        self._unstored.pop(partition, None)

    def store(self) -> None:
        """Store the holes that the store does not know, or does not know any more; looked at with each checkpoint."""
        for partition in self._reasons.keys() - self._unstored.keys():
            try:
                if self._store.field(slot_of(self._run, partition), BROKEN) is None:
                    self._unstored[partition] = None
            except Unavailable as trouble:
                self._trouble.warning("redis: partition %d: its hole cannot be looked up: %s", partition, trouble)
        for partition, version in list(self._unstored.items()):
            change = Change(version=str(uuid.uuid4()), state={BROKEN: self._reasons[partition].encode()})
            slot = slot_of(self._run, partition)
            try:
                try:
                    self._store.swap(slot, version, change)
                except Refused:
                    stored = self._store.load(slot)
                    self._store.swap(slot, None if stored is None else stored[0], change)
            except (Refused, Unavailable) as trouble:
                self._trouble.warning("redis: partition %d: its hole is not stored yet: %s", partition, trouble)
                continue
            del self._unstored[partition]
