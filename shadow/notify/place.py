"""Where one endpoint stands in the topic: what was delivered, what waits, and when it is tried again.

    offset     10    11    12    13    14
               done  wait  done  wait  unread
                     ^ position()      ^ next

A new event is tried at once and a failed one again and again, so one that fails holds up no other. All of it fits into
the note that Kafka keeps beside a group's committed offset: `position()` is what is committed, and `note()` says which
of the records from there to `next` wait. What was delivered after it is not sent again.

Pure: times and chance come in as arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

FORMAT: Final = 1
WAITING_MAX: Final = 64
"""Events that wait at once; beyond it nothing is read. Their note has to fit into Kafka's 4,096 bytes."""

DELIVERED: Final = "delivered"
FAILED: Final = "failed"
REFUSED: Final = "refused"
GONE: Final = "gone"

TOO_LARGE: Final = 413
STATUS_GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one sending ended.

    Args:
        kind: `delivered`; `failed`: it is tried again; `refused`: no repetition will be taken; `gone`: the endpoint
            wants nothing any more.
        error: One sentence; empty for `delivered`.
        wait_s: How long the receiver asks to be left alone.
    """

    kind: str
    error: str = ""
    wait_s: float = 0.0


def outcome_of(status: int, retry_after: str | None = None) -> Outcome:
    """What a receiver's status means. Redirects are failures: nothing is sent where the configuration does not say."""
    if 200 <= status < 300:
        return Outcome(DELIVERED)
    error = f"the receiver answered with status {status}"
    if status == STATUS_GONE:
        return Outcome(GONE, error)
    if status == TOO_LARGE:
        return Outcome(REFUSED, error)
    if 300 <= status < 400:
        error += ", and redirects are not followed"
    asked = retry_after.strip() if retry_after is not None else ""
    return Outcome(FAILED, error, float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else 0.0)


@dataclass(frozen=True, slots=True)
class Patience:
    """When a failed sending is tried again.

    Args:
        first_s: Longest wait after the first one.
        factor: By how much each next wait is longer.
        longest_s: Longest wait of all.
        give_up_s: How long after its first sending an event is tried.
    """

    first_s: float = 5.0
    factor: float = 3.0
    longest_s: float = 6 * 3600.0
    give_up_s: float = 3 * 24 * 3600.0

    def wait_us(self, tries: int, chance: float, asked_s: float = 0.0) -> int:
        """How long to wait after so many sendings.

        Args:
            tries: At least 1.
            chance: In [0, 1), random: half of the wait is jitter, so that endpoints that failed together come apart.
            asked_s: What the receiver asked for; taken up to `longest_s`.
        """
        exponent = min(tries - 1, 64)
        wait_s = min(self.longest_s, self.first_s * self.factor**exponent) * (1 + chance) / 2
        return round(max(wait_s, min(asked_s, self.longest_s)) * 1e6)

    def is_over(self, waiting: Waiting, now_us: int) -> bool:
        """Whether an event that was just tried is given up."""
        return now_us - waiting.first_us >= self.give_up_s * 1e6


@dataclass(slots=True)
class Waiting:
    """An event that is not delivered.

    Args:
        tries: Sendings so far.
        first_us: When the first one began; 0 before it.
        due_us: When the next one may begin.
    """

    tries: int = 0
    first_us: int = 0
    due_us: int = 0


@dataclass(slots=True)
class Place:
    """One endpoint's place.

    Args:
        next: First offset that was not read.
        waiting: What waits, by offset.
        gone: Digest of the endpoint's configuration whose receiver answered with 410; empty: none.
    """

    next: int
    waiting: dict[int, Waiting] = field(default_factory=dict)
    gone: str = ""

    @classmethod
    def from_note(cls, position: int, note: str) -> Place:
        """The place that was committed; one without a note that can be read begins at the position, with everything."""
        try:
            tree = orjson.loads(note)
            if tree["format"] != FORMAT:
                raise ValueError("another version's note")
            return _place(position, tree)
        except (ValueError, KeyError, TypeError, IndexError):
            return cls(position)

    def note(self) -> str:
        """What `from_note` reads; at most 4,096 bytes."""
        base = self.position()
        rows = [
            [offset - base, one.tries, one.first_us // 1_000_000, (one.due_us - one.first_us) // 1_000_000]
            for offset, one in sorted(self.waiting.items())
            if one.tries
        ]
        untried = [offset - base for offset, one in sorted(self.waiting.items()) if not one.tries]
        tree = {"format": FORMAT, "next": self.next - base, "waiting": rows, "new": untried, "gone": self.gone}
        return orjson.dumps(tree).decode()

    def position(self) -> int:
        """The offset to commit: the first that waits, or the next to read."""
        return min(self.waiting, default=self.next)

    def takes(self, offset: int) -> bool:
        """Whether a record that was read is to be sent, at once or later."""
        return offset >= self.next or offset in self.waiting

    def read(self, offset: int, *, is_wanted: bool) -> None:
        """A record was read, the first time or again; one that is not wanted waits no longer."""
        if not is_wanted:
            self.waiting.pop(offset, None)
        elif offset >= self.next:
            self.waiting[offset] = Waiting()
        self.next = max(self.next, offset + 1)

    def due(self, now_us: int, loaded: Mapping[int, Any]) -> int | None:
        """Which event to send now: new ones in their order, then the one that is longest overdue; None where none is.

        Args:
            loaded: What can be sent, by offset.
        """
        ready = [(one.due_us, at) for at, one in self.waiting.items() if at in loaded and one.due_us <= now_us]
        return min(ready)[1] if ready else None

    def began(self, offset: int, now_us: int) -> Waiting:
        """A sending begins."""
        one = self.waiting[offset]
        one.first_us = one.first_us or now_us
        one.tries += 1
        return one

    def done(self, offset: int) -> None:
        """An event was delivered, or put aside."""
        self.waiting.pop(offset, None)

    @property
    def room(self) -> int:
        """How many more events may wait."""
        return max(0, WAITING_MAX - len(self.waiting))


def _place(position: int, tree: Mapping[str, Any]) -> Place:
    waiting = {position + int(offset): Waiting() for offset in tree["new"]}
    for offset, tries, first_s, due_s in tree["waiting"]:
        first_us = int(first_s) * 1_000_000
        waiting[position + int(offset)] = Waiting(int(tries), first_us, first_us + int(due_s) * 1_000_000)
    return Place(position + int(tree["next"]), waiting, str(tree["gone"]))
