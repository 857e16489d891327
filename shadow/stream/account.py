"""Account for every live request of a partition from the proxies' cumulative counters.

    sequence     1     2     3     4     5          copies that a proxy process handed to this partition
    present      x     x           x     x          found in the topic
    seen         1     2     4     5     7          live requests so far: two were dropped between 2 and 5
                                                 -> 7 seen = 4 present + 2 dropped + 1 lost

Any two records of one (process, epoch) bound what happened between them, so the range of a run is
`last - base`, and what is neither present nor dropped is lost. What is newer than `last` is open.
Pure; integers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

KAFKA_DOWN: Final = "kafka_down"
"""Drop reason of copies that got a sequence number and were never acknowledged."""


@dataclass(slots=True)
class Mark:
    """Cumulative counters of one process at one moment."""

    sequence: int
    seen: int
    dropped: Mapping[str, int]


@dataclass(slots=True)
class Epoch:
    """What is known of one process from its start to its end.

    Args:
        newest: Newest counters, which run ahead of what is decided.
        base: Counters before the first record that belongs to the run; None before such a record.
        last: End of the accountable range: every copy up to here is decided, or is not in the topic.
        next: The end to come, and the requests offset below which everything must be decided first.
        needs: Requests offset behind the newest copy of this epoch that is decided.
        present: Copies found in the topic up to `last`, then up to `next`, then behind it.
    """

    newest: Mark
    base: Mark | None = None
    last: Mark | None = None
    next: tuple[Mark, int] | None = None
    needs: int = 0
    present: list[int] = field(default_factory=lambda: [0, 0, 0])
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """Where the requests of the accountable range went. `seen = present + sum(dropped) + lost` by construction.

    `open` requests were seen by a proxy and are not accountable yet: nothing is said of them.
    """

    seen: int
    present: int
    lost: int
    dropped: Mapping[str, int]
    open: int = 0


@dataclass(slots=True)
class Accounts:
    """The epochs of all proxies that wrote to one partition.

    The counters of records and reports run ahead of decisions. So a range ends at counters that were known
    when a tick counted, and only once every request that may stand behind them is decided.
    """

    epochs: dict[tuple[str, int], Epoch] = field(default_factory=dict)

    def present(self, process: str, epoch_us: int, mark: Mark, *, offset: int) -> None:
        """Count one decided request that stands in the topic at this offset."""
        epoch = self._epoch(process, epoch_us, mark)
        if epoch.base is None or mark.sequence - 1 < epoch.base.sequence:
            epoch.base = Mark(mark.sequence - 1, mark.seen - 1, mark.dropped)
        if offset >= epoch.needs:
            epoch.needs = offset + 1
        if epoch.last is not None and mark.sequence <= epoch.last.sequence:
            epoch.present[0] += 1
        elif epoch.next is not None and mark.sequence <= epoch.next[0].sequence:
            epoch.present[1] += 1
        else:
            epoch.present[2] += 1

    def report(self, process: str, epoch_us: int, mark: Mark, *, is_final: bool) -> None:
        """Take a proxy's report: it counts nothing, and without a present request of its epoch it bounds nothing."""
        self._epoch(process, epoch_us, mark).is_final |= is_final

    def _epoch(self, process: str, epoch_us: int, mark: Mark) -> Epoch:
        epoch = self.epochs.get((process, epoch_us))
        if epoch is None:
            epoch = self.epochs[process, epoch_us] = Epoch(mark)
        newest = epoch.newest
        if mark.sequence > newest.sequence or (mark.sequence == newest.sequence and mark.seen >= newest.seen):
            epoch.newest = mark
        return epoch

    def tick(self, requests_end: int) -> None:
        """A tick has counted: what is known now will be accountable once all requests before it are decided."""
        for epoch in self.epochs.values():
            if epoch.base is not None and epoch.next is None:
                epoch.next = (epoch.newest, max(requests_end, epoch.needs))
                epoch.present = [epoch.present[0], epoch.present[2], 0]

    def advance(self, decided: int) -> None:
        """All requests below an offset are decided: move the ends that waited for it."""
        for epoch in self.epochs.values():
            if epoch.next is not None and decided >= epoch.next[1]:
                epoch.last, epoch.next = epoch.next[0], None
                epoch.present = [epoch.present[0] + epoch.present[1], 0, epoch.present[2]]

    def account(self) -> Account:
        """Add up all epochs."""
        seen = present = lost = waiting = 0
        dropped: dict[str, int] = {}
        for epoch in self.epochs.values():
            if epoch.base is None:
                continue
            waiting += epoch.newest.seen - (epoch.last or epoch.base).seen
            if epoch.last is None:
                continue
            handed = epoch.last.sequence - epoch.base.sequence
            gap = max(handed - epoch.present[0], 0)
            delta = {reason: count - epoch.base.dropped.get(reason, 0) for reason, count in epoch.last.dropped.items()}
            # An unacknowledged copy may still have arrived; then it is present, and not counted as dropped.
            unacknowledged = min(delta.pop(KAFKA_DOWN, 0), gap)
            if unacknowledged:
                delta[KAFKA_DOWN] = unacknowledged
            for reason, count in delta.items():
                if count:
                    dropped[reason] = dropped.get(reason, 0) + count
            lost += gap - unacknowledged
            present += epoch.present[0]
            seen += epoch.present[0] + gap + sum(count for reason, count in delta.items() if reason != KAFKA_DOWN)
        return Account(seen, present, lost, dropped, waiting)

    def to_json(self) -> list[Any]:
        """JSON-ready state, in a fixed order."""
        return [
            [
                process,
                epoch_us,
                _mark_json(e.newest),
                _mark_json(e.base),
                _mark_json(e.last),
                None if e.next is None else [_mark_json(e.next[0]), e.next[1]],
                e.needs,
                e.present,
                e.is_final,
            ]
            for (process, epoch_us), e in sorted(self.epochs.items())
        ]

    @classmethod
    def from_json(cls, value: list[Any]) -> Accounts:
        """Read what `to_json` made."""
        epochs = {}
        for process, epoch_us, newest, base, last, coming, needs, present, is_final in value:
            epochs[process, epoch_us] = Epoch(
                Mark(*newest),
                None if base is None else Mark(*base),
                None if last is None else Mark(*last),
                None if coming is None else (Mark(*coming[0]), coming[1]),
                needs,
                list(present),
                is_final,
            )
        return cls(epochs)


def _mark_json(mark: Mark | None) -> list[Any] | None:
    return None if mark is None else [mark.sequence, mark.seen, dict(sorted(mark.dropped.items()))]
