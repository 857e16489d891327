"""What the proxy forwards of the bytes of one client, when its upstream answers every request well."""

from __future__ import annotations

from dataclasses import dataclass

from shadow.proxy.config import Limits
from tests.proxy.fuzz.memory import MemoryLoop
from tests.proxy.fuzz.promises import check
from tests.proxy.fuzz.readers import by_h11
from tests.proxy.fuzz.scene import TURN, Scene, play
from tests.proxy.inputs.case import Seen


@dataclass(frozen=True, slots=True)
class Accepted:
    """What went upstream.

    Args:
        messages: Whole requests, in order.
        begun: Requests whose head went upstream.
        is_refused: Whether the proxy refused what stood behind the whole ones.
    """

    messages: list[Seen]
    begun: int
    is_refused: bool


def accepted(sent: bytes, loop: MemoryLoop) -> Accepted:
    """Give the bytes to a proxy with its usual limits, which must keep every promise."""
    scene = Scene(((sent, TURN),))
    outcome = play(scene, loop, Limits())
    check(scene, outcome)
    assert outcome.snapshot is not None
    # The last request is the mark.
    readings = [by_h11(bytes(data)) for data in outcome.forwarded]
    *messages, _ = [seen for reading in readings for seen in reading.messages]
    return Accepted(
        messages,
        sum(reading.begun for reading in readings) - 1,
        bool(outcome.snapshot.counters.malformed),
    )
