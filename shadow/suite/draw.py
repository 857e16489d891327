"""Draw a suite from recorded requests: stratified by slice, each content once, one request a session. Pure.

The order in which requests are preferred is a hash of the seed and of their content, so the same records give the
same suite, whatever their order and however often a request was sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import heappush, heappushpop
from typing import Final

from shadow.records.slices import ALL
from shadow.suite.lines import SuiteRequest

SPARE: Final = 4
"""How many times as many requests as are wanted are kept of each slice, since several may be of one session."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What was drawn.

    Args:
        requests: By their ids.
        by_slice: How many of them each slice has.
        seen: Requests that were offered.
    """

    requests: tuple[SuiteRequest, ...]
    by_slice: dict[str, int]
    seen: int


@dataclass(slots=True)
class _Kept:
    """The most preferred requests of one slice."""

    most: int
    heap: list[tuple[int, bytes]] = field(default_factory=list)
    contents: set[bytes] = field(default_factory=set)

    def offer(self, order: int, content: bytes) -> bytes | None:
        """Take a content in; returns what is not kept any more, which may be itself. One that is kept is the same."""
        if content in self.contents:
            return None
        self.contents.add(content)
        if len(self.heap) < self.most:
            heappush(self.heap, (-order, content))
            return None
        _, dropped = heappushpop(self.heap, (-order, content))
        self.contents.discard(dropped)
        return dropped


class Draw:
    """Takes recorded requests in, and gives the suite; its memory is bounded by the suite's size.

    Args:
        size: Most requests of the suite.
        per_slice: Requests wanted of each slice, as far as there are so many.
        slices: Slices beside `all`.
        seed: Any text.
    """

    def __init__(self, size: int, per_slice: int, slices: Sequence[str], seed: str) -> None:
        self._size = size
        self._per_slice = per_slice
        self._seed = seed
        self._kept = {ALL: _Kept(SPARE * size)} | {name: _Kept(SPARE * per_slice) for name in slices}
        self._requests: dict[bytes, tuple[SuiteRequest, tuple[str, ...]]] = {}
        self._holders: dict[bytes, int] = {}
        self._seen = 0

    def offer(self, request: SuiteRequest, slices: Sequence[str]) -> None:
        """Take a request in.

        Args:
            slices: Its slices, `all` included.
        """
        self._seen += 1
        content = request.content
        known = self._requests.get(content)
        if known is not None:
            if request.request_id < known[0].request_id:
                self._requests[content] = (request, known[1])
            return
        order = self._order(content)
        self._requests[content] = (request, tuple(slices))
        self._holders[content] = 1  # this call, until all slices have seen it
        for name in slices:
            if name in self._kept:
                self._holders[content] += 1
                dropped = self._kept[name].offer(order, content)
                if dropped is not None:
                    self._let_go(dropped)
        self._let_go(content)

    def _let_go(self, content: bytes) -> None:
        self._holders[content] -= 1
        if self._holders[content] == 0:
            del self._holders[content]
            del self._requests[content]

    def _order(self, content: bytes) -> int:
        return int.from_bytes(blake2b(self._seed.encode() + b"\0" + content, digest_size=8).digest(), "big")

    def drawn(self) -> Drawn:
        """The suite: of each slice what is wanted, the rarest slice first, then of all the rest."""
        chosen: dict[bytes, None] = {}
        sessions: set[str] = set()
        counts = dict.fromkeys(self._kept, 0)
        # The rarest first: what it takes counts for the slices that it lies in as well.
        for name in sorted(self._kept, key=lambda name: (name == ALL, len(self._kept[name].heap), name)):
            wanted = self._size if name == ALL else self._per_slice
            for _, content in sorted(self._kept[name].heap, reverse=True):
                if counts[name] >= wanted or len(chosen) >= self._size:
                    break
                request, slices = self._requests[content]
                if content in chosen or request.key in sessions:
                    continue
                chosen[content] = None
                sessions.add(request.key)
                for each in slices:
                    if each in counts:
                        counts[each] += 1
        requests = sorted((self._requests[content][0] for content in chosen), key=lambda each: each.request_id)
        return Drawn(tuple(requests), counts, self._seen)


def distinct(requests: Sequence[SuiteRequest]) -> tuple[list[SuiteRequest], int, int]:
    """The requests that count: the first of each content, and of these the first of each session.

    Returns:
        The requests; how many repeated a content; how many more were left out since their session is there already.
    """
    contents: set[bytes] = set()
    sessions: set[str] = set()
    kept, repeated, of_session = [], 0, 0
    for request in requests:
        content = request.content
        if content in contents:
            repeated += 1
        elif request.key in sessions:
            of_session += 1
        else:
            contents.add(content)
            sessions.add(request.key)
            kept.append(request)
    return kept, repeated, of_session
