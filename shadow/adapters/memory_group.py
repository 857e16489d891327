"""Consumer groups of the log in memory: sticky, cooperative, static members, fencing of the absent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shadow.errors import Unavailable
from shadow.records.log import LogRecord

if TYPE_CHECKING:
    from shadow.adapters.memory_log import MemoryLog


@dataclass(slots=True)
class Group:
    """What a coordinator knows. Callers hold the log's lock.

    Args:
        members: Instance number by member; a second instance of a member takes the first one's place.
        owners: Member that holds a partition; it stays held until that member has given it up.
        committed: Next offset to read by partition.
        notes: What was committed beside it.
    """

    name: str
    members: dict[str, int] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    committed: dict[int, int] = field(default_factory=dict)
    notes: dict[int, str] = field(default_factory=dict)
    instances: int = 0

    def join(self, member: str) -> int:
        """Join, or take the place of an earlier instance of the same member."""
        self.instances += 1
        self.members[member] = self.instances
        return self.instances

    def leave(self, member: str) -> None:
        """Forget a member; its partitions are free."""
        self.members.pop(member, None)
        self.owners = {partition: owner for partition, owner in self.owners.items() if owner != member}

    def preset(self, offsets: Mapping[int, int]) -> None:
        """Set offsets from outside, which only an empty group allows."""
        if self.members:
            raise Unavailable(f"the group {self.name} has members; its offsets cannot be set from outside")
        self.committed.update(offsets)

    def target(self, partitions: int) -> dict[int, str]:
        """Who shall hold what: as many each as possible, moving as few as possible."""
        names = sorted(self.members)
        if not names:
            return {}
        share, more = divmod(partitions, len(names))
        held = {name: [p for p in range(partitions) if self.owners.get(p) == name] for name in names}
        by_size = sorted(names, key=lambda name: (-len(held[name]), name))
        room = {name: share + (1 if i < more else 0) for i, name in enumerate(by_size)}
        target = {p: name for name in names for p in held[name][: room[name]]}
        open_places = [name for name in by_size for _ in range(room[name] - min(len(held[name]), room[name]))]
        free = [p for p in range(partitions) if p not in target]
        return target | dict(zip(free, open_places, strict=True))


class MemoryGroup:
    """Implements `shadow.ports.LogGroup`."""

    def __init__(
        self,
        log: MemoryLog,
        topic: str,
        group: Group,
        member: str,
        on_assigned: Callable[[list[int]], Mapping[int, int] | None],
        on_revoked: Callable[[list[int]], None],
    ) -> None:
        self._log = log
        self._topic = topic
        self._group = group
        self._member = member
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._positions: dict[int, int] = {}
        self._paused: set[int] = set()
        self._instance = group.join(member)
        self._is_closed = False

    def read(self, max_records: int, timeout_s: float) -> list[LogRecord]:
        """The next records; rebalance callbacks run inside this call."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._rebalance()
            with self._log.changed:
                self._log.check_up()
                records = self._fetch(max_records)
                rest_s = deadline_s - time.monotonic()
                if records or rest_s <= 0:
                    return records
                self._log.changed.wait(min(rest_s, 0.02))

    def _rebalance(self) -> None:
        """Give up what another member shall have, then take what is free for us. Callbacks run without the lock."""
        with self._log.changed:
            self._log.check_up()
            state = self._log.state(self._topic)
            if state is None:
                raise Unavailable(f"the log has no topic {self._topic}")
            instance = self._group.members.get(self._member)
            if instance is None:
                # Evicted: everything was lost, and this read joins again.
                lost = sorted(self._positions)
                self._instance = self._group.join(self._member)
            elif instance != self._instance:
                raise Unavailable(f"another process joined the group {self._group.name} as member {self._member}")
            else:
                target = self._group.target(state.partitions)
                lost = sorted(p for p in self._positions if target.get(p) != self._member)
        if lost:
            self._drop(lost)
            self._on_revoked(lost)
        with self._log.changed:
            for partition in lost:
                if self._group.owners.get(partition) == self._member:
                    del self._group.owners[partition]
            target = self._group.target(state.partitions)
            gained = sorted(
                p
                for p, name in target.items()
                if name == self._member and p not in self._positions and self._group.owners.get(p) in (None, name)
            )
            for partition in gained:
                self._group.owners[partition] = self._member
        if gained:
            self._start(gained, self._on_assigned(gained))

    def _drop(self, partitions: list[int]) -> None:
        for partition in partitions:
            self._positions.pop(partition, None)
            self._paused.discard(partition)

    def _start(self, partitions: list[int], positions: Mapping[int, int] | None) -> None:
        with self._log.changed:
            for partition in partitions:
                if positions is not None:
                    self._positions[partition] = positions[partition]
                else:
                    end = self._log.bounds(self._topic, partition)[1]
                    self._positions[partition] = self._group.committed.get(partition, end)

    def _fetch(self, max_records: int) -> list[LogRecord]:
        records: list[LogRecord] = []
        behind = {}
        for partition, position in self._positions.items():
            if partition in self._paused:
                behind[partition] = position
                continue
            more, behind[partition] = self._log.fetch(self._topic, partition, position, max_records - len(records))
            records += more
        # Another partition comes first next time, so that a busy one does not starve the others.
        if behind:
            first = next(iter(behind))
            behind[first] = behind.pop(first)
        self._positions = behind
        return records

    def pause(self, partitions: Iterable[int]) -> None:
        """Read nothing of these until resumed."""
        self._paused |= set(partitions) & set(self._positions)

    def resume(self, partitions: Iterable[int]) -> None:
        """Go on reading these."""
        self._paused -= set(partitions)

    def seek(self, partition: int, offset: int) -> None:
        """Go on reading an owned partition from this offset."""
        if partition in self._positions:
            self._positions[partition] = offset

    def commit(self, offsets: Mapping[int, int], notes: Mapping[int, str] | None = None) -> None:
        """Commit next-to-read offsets by partition, of owned partitions only."""
        with self._log.changed:
            self._log.check_up()
            if self._group.members.get(self._member) != self._instance:
                raise Unavailable(f"{self._member} is no member of the group {self._group.name} any more")
            foreign = sorted(p for p in offsets if self._group.owners.get(p) != self._member)
            if foreign:
                raise Unavailable(f"the partitions {foreign} belong to another member of the group {self._group.name}")
            self._group.committed.update(offsets)
            self._group.notes.update({partition: (notes or {}).get(partition, "") for partition in offsets})

    def committed(self, partition: int) -> tuple[int, str] | None:
        """What the group committed last, offset and note; None where nothing was."""
        with self._log.changed:
            self._log.check_up()
            offset = self._group.committed.get(partition)
            return None if offset is None else (offset, self._group.notes.get(partition, ""))

    def close(self) -> None:
        """Give everything up and leave the group."""
        if self._is_closed:
            return
        self._is_closed = True
        owned = sorted(self._positions)
        self._drop(owned)
        if owned:
            self._on_revoked(owned)
        with self._log.changed:
            if self._group.members.get(self._member) == self._instance:
                self._group.leave(self._member)
            self._log.changed.notify_all()
