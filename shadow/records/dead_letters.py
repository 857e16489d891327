"""What stands in `shadow-dead-letters`: anything that could not be decoded or handled."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was put aside, with its position and the error; the partition went on.

    Args:
        process: Who put it aside.
        value: The record's bytes, cut to 64 KiB.
    """

    topic: str
    partition: int
    offset: int
    error: str
    process: str
    time_us: int
    value: bytes
