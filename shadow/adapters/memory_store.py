"""A store in memory with the promises of the real one, and ways to break it in tests."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from shadow.errors import Refused, Unavailable
from shadow.ports import Change

SNAPSHOTS_KEPT: Final = 1000


@dataclass(frozen=True, slots=True)
class _Slot:
    """Content of a slot. Never changed in place, so that older snapshots may share it."""

    version: str
    state: dict[str, bytes] = field(default_factory=dict)
    tiles: dict[str, bytes] = field(default_factory=dict)


class MemoryStore:
    """Implements `shadow.ports.Store`; many threads may share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[str, _Slot] = {}
        self._snapshots: deque[dict[str, _Slot]] = deque(maxlen=SNAPSHOTS_KEPT)
        self._is_up = True

    def load(self, slot: str) -> tuple[str, dict[str, bytes]] | None:
        """Version and state of a slot; None where there is none."""
        with self._lock:
            self._check_up()
            found = self._slots.get(slot)
            return None if found is None else (found.version, dict(found.state))

    def swap(self, slot: str, expected: str | None, change: Change) -> None:
        """Apply a change if the slot still has the expected version."""
        with self._lock:
            self._check_up()
            found = self._slots.get(slot)
            version = None if found is None else found.version
            if version == change.version:
                return  # our own write of before, as after a lost answer
            if version != expected:
                raise Refused(f"the slot {slot} has version {version or 'none'}, not {expected or 'none'}")
            state = {} if found is None else dict(found.state)
            tiles = {} if found is None else dict(found.tiles)
            state.update(change.state)
            for name in change.dropped:
                state.pop(name, None)
            tiles.update(change.tiles or {})
            for name in change.dropped_tiles:
                tiles.pop(name, None)
            self._change({**self._slots, slot: _Slot(change.version, state, tiles)})

    def field(self, slot: str, name: str) -> bytes | None:
        """One field of a slot's state; None where it is absent."""
        with self._lock:
            self._check_up()
            found = self._slots.get(slot)
            return None if found is None else found.state.get(name)

    def tiles(self, slot: str, names: Sequence[str]) -> list[bytes | None]:
        """Closed tiles by name, None where absent."""
        with self._lock:
            self._check_up()
            found = self._slots.get(slot)
            return [None if found is None else found.tiles.get(name) for name in names]

    def tile_names(self, slot: str) -> list[str]:
        """Names of the closed tiles in the slot, in no order."""
        with self._lock:
            self._check_up()
            found = self._slots.get(slot)
            return [] if found is None else list(found.tiles)

    def purge(self, slot: str) -> bool:
        """Delete everything of a slot, readable or not; False where there was nothing."""
        with self._lock:
            self._check_up()
            is_there = slot in self._slots
            self._change({name: kept for name, kept in self._slots.items() if name != slot})
            return is_there

    def problems(self) -> list[str]:
        """Nothing is ever wrong with memory's settings."""
        with self._lock:
            self._check_up()
            return []

    def close(self) -> None:
        """Nothing to close; the content stays for the next process that shares it."""

    def roll_back(self, writes: int = 1) -> None:
        """Forget the newest writes of all slots, as a failover to a lagging replica does."""
        with self._lock:
            if not 0 < writes <= len(self._snapshots):
                raise ValueError(f"{writes} writes cannot be forgotten; {len(self._snapshots)} are remembered")
            for _ in range(writes):
                self._slots = self._snapshots.pop()

    def wipe(self) -> None:
        """Lose everything, as a store without a disk does when it restarts."""
        with self._lock:
            self._change({})

    def stop(self) -> None:
        """Be unreachable until `start`."""
        with self._lock:
            self._is_up = False

    def start(self) -> None:
        """Be reachable again, with the content of before."""
        with self._lock:
            self._is_up = True

    def _change(self, slots: dict[str, _Slot]) -> None:
        self._snapshots.append(self._slots)
        self._slots = slots

    def _check_up(self) -> None:
        if not self._is_up:
            raise Unavailable("the store in memory is stopped")
