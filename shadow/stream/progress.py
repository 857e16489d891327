"""Keep how far one partition is finished, where requests finish in any order. Pure.

taken       4  5  6  7  8
finished    x  x     x          -> the next owner begins at 6; finishing 6 makes that 8
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from shadow.records.log import LogRecord
from shadow.records.requests import MirroredRequest

READ_MAX: Final = 256
PAUSE_S: Final = 0.2


@dataclass(slots=True, eq=False)
class Progress:
    """One partition's requests, from being taken to being finished.

    Args:
        order: Offsets taken and not passed by the position yet, ascending.
        finished: Those of `order` that are finished.
        next: Offset behind the last one taken; -1 before the first.
        bytes: Size of the requests that are not finished.
    """

    order: deque[int] = field(default_factory=deque)
    finished: set[int] = field(default_factory=set)
    next: int = -1
    bytes: int = 0

    def take(self, offset: int, size: int) -> None:
        """A request was read."""
        self.order.append(offset)
        self.next = offset + 1
        self.bytes += size

    def finish(self, offset: int, size: int) -> None:
        """A request needs nothing more."""
        self.finished.add(offset)
        self.bytes -= size
        while self.order and self.order[0] in self.finished:
            self.finished.discard(self.order.popleft())

    def waiting(self) -> int:
        """Requests that are not finished."""
        return len(self.order) - len(self.finished)

    def position(self) -> int:
        """Where the next owner has to begin; -1 where nothing was taken."""
        return self.order[0] if self.order else self.next


@dataclass(slots=True, eq=False)
class Taken:
    """One request on its way.

    Args:
        share: The progress that it belongs to; another one means that the partition was lost since.
        size: Bytes of the request's record.
        acks: How many records must still be acknowledged before it is finished.
    """

    share: Progress
    record: LogRecord
    size: int
    request: MirroredRequest | None = None
    acks: int = 1

    def acknowledge(self) -> None:
        """One of the records written for it is acknowledged."""
        self.acks -= 1
        if self.acks == 0:
            self.share.finish(self.record.offset, self.size)

    def forget_value(self) -> None:
        """Keep the record's place and headers, and let go of its bytes."""
        self.record = replace(self.record, value=None)


class Throttle:
    """Decides whether to read more requests, so that what is waiting stays bounded.

    A resumed partition is fetched anew, which takes a moment: so a short time of fullness is a rest without
    reading, and only a longer one a pause, during which reading goes on to serve rebalances.

    Args:
        waiting_max: Most requests that wait.
        bytes_max: Their most bytes; passed by one batch at most, of requests larger than those before.
    """

    def __init__(self, waiting_max: int, bytes_max: int) -> None:
        self._waiting_max = waiting_max
        self._bytes_max = bytes_max
        self._largest = max(1, bytes_max // 16)
        self._full_since_s: float | None = None

    def next(self, waiting: int, size: int, now_s: float) -> Literal["read", "rest", "pause"]:
        """What to do now, with so many requests of this size waiting; full is full until it is half empty."""
        if waiting >= self._waiting_max or size >= self._bytes_max:
            if self._full_since_s is None:
                self._full_since_s = now_s
        elif waiting <= self._waiting_max // 2 and size <= self._bytes_max // 2:
            self._full_since_s = None
        if self._full_since_s is None:
            return "read"
        return "rest" if now_s - self._full_since_s < PAUSE_S else "pause"

    def room(self, waiting: int, size: int) -> int:
        """How many requests to read at most."""
        return max(1, min(READ_MAX, self._waiting_max - waiting, (self._bytes_max - size) // self._largest))

    def saw(self, largest: int) -> None:
        """The size of the largest request of a batch, which is what the next one is expected to hold."""
        self._largest = largest or self._largest
