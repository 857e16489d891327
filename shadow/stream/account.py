"""Account for every live request of a partition from the proxies' cumulative counters.

    sequence     1     2     3     4     5          copies that a proxy process handed to this partition
    present      x     x           x     x          found in the topic
    seen         1     2     4     5     7          live requests so far: two were dropped between 2 and 5
                                                 -> 7 seen = 4 present + 2 dropped + 1 lost

Any two records of one (process, epoch) bound what happened between them, so the range of a run is
`last - base`, and what is neither present nor dropped is lost. Pure; integers only.
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
    dropped: dict[str, int]


@dataclass(slots=True)
class Epoch:
    """What is known of one process from its start to its end.

    Args:
        base: Counters before the first record that belongs to the run.
        last: Newest counters.
        present: Copies found in the topic.
    """

    base: Mark
    last: Mark
    present: int = 0
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """Where the requests of a range went. `seen = present + sum(dropped) + lost` holds by construction."""

    seen: int
    present: int
    lost: int
    dropped: Mapping[str, int]


@dataclass(slots=True)
class Accounts:
    """The epochs of all proxies that wrote to one partition."""

    epochs: dict[tuple[str, int], Epoch] = field(default_factory=dict)

    def present(self, process: str, epoch_us: int, mark: Mark) -> None:
        """Count one request that stands in the topic."""
        base = Mark(mark.sequence - 1, mark.seen - 1, mark.dropped)
        epoch = self.epochs.get((process, epoch_us))
        if epoch is None:
            epoch = self.epochs[process, epoch_us] = Epoch(base, mark)
        if base.sequence < epoch.base.sequence:
            epoch.base = base
        if (mark.sequence, mark.seen) >= (epoch.last.sequence, epoch.last.seen):
            epoch.last = mark
        epoch.present += 1

    def report(self, process: str, epoch_us: int, mark: Mark, *, is_final: bool) -> None:
        """Take a proxy's report: it moves the end of the range and counts nothing.

        Before the first present request of its epoch a report bounds nothing: requests between it and
        the run's first offset would look lost.
        """
        epoch = self.epochs.get((process, epoch_us))
        if epoch is None:
            return
        if (mark.sequence, mark.seen) >= (epoch.last.sequence, epoch.last.seen):
            epoch.last = mark
        epoch.is_final |= is_final

    def account(self) -> Account:
        """Add up all epochs."""
        seen = present = lost = 0
        dropped: dict[str, int] = {}
        for epoch in self.epochs.values():
            handed = epoch.last.sequence - epoch.base.sequence
            gap = max(handed - epoch.present, 0)
            delta = {reason: count - epoch.base.dropped.get(reason, 0) for reason, count in epoch.last.dropped.items()}
            # An unacknowledged copy may still have arrived; then it is present, and not counted as dropped.
            unacknowledged = min(delta.pop(KAFKA_DOWN, 0), gap)
            if unacknowledged:
                delta[KAFKA_DOWN] = unacknowledged
            for reason, count in delta.items():
                if count:
                    dropped[reason] = dropped.get(reason, 0) + count
            lost += gap - unacknowledged
            present += epoch.present
            seen += epoch.present + gap + sum(count for reason, count in delta.items() if reason != KAFKA_DOWN)
        return Account(seen, present, lost, dropped)

    def to_json(self) -> list[Any]:
        """JSON-ready state, in a fixed order."""
        return [
            [
                process,
                epoch_us,
                [e.base.sequence, e.base.seen, dict(sorted(e.base.dropped.items()))],
                [e.last.sequence, e.last.seen, dict(sorted(e.last.dropped.items()))],
                e.present,
                e.is_final,
            ]
            for (process, epoch_us), e in sorted(self.epochs.items())
        ]

    @classmethod
    def from_json(cls, value: list[Any]) -> Accounts:
        """Read what `to_json` made."""
        return cls(
            {
                (process, epoch_us): Epoch(Mark(*base), Mark(*last), present, is_final)
                for process, epoch_us, base, last, present, is_final in value
            }
        )
