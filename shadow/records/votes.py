"""The value of `x-shadow-request`: which live request a response answers, and what a vote on it must say later.

    3-0198f2c0-….9b1deb4d3b7d5bbf9f0c2f1b7a6e4d21.c.77       partition-request . decision . c or p . cell

The part behind the first dot is there while a decision routes live traffic: the decision, whether the candidate was
to serve the request (`c`, fall-backs included) or production (`p`), and the cluster cell of its sampling key. So no
fold must remember requests for votes that may come days later. Clients take it as it is. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from uuid import UUID

from shadow.records.tallies import CELLS

NEGATIVE: Final = "negative"
POSITIVE: Final = "positive"
VERDICTS: Final = (NEGATIVE, POSITIVE)

REASON_CHARACTERS_MAX: Final = 500
REQUEST_ID_CHARACTERS_MAX: Final = 64

# No \d, which takes the digits of all scripts; no number has a second spelling.
_TOKEN: Final = re.compile(
    r"(0|[1-9][0-9]{0,8})-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"(?:\.([0-9a-f]{32})\.([cp])\.(0|[1-9][0-9]{0,2}))?"
)


@dataclass(frozen=True, slots=True)
class ServedRequest:
    """What a token says.

    Args:
        partition: Of the request, and of the answers record that a vote becomes.
        decision_id: The decision under which it was routed; None while none was in force.
        is_routed: Whether the candidate was to serve it.
        cell: Cluster cell of its sampling key, in [0, 128); 0 without a decision.
    """

    partition: int
    request_id: str
    decision_id: str | None = None
    is_routed: bool = False
    cell: int = 0


@lru_cache(maxsize=65_536)
def cell_of(key: str) -> int:
    """Cluster cell of a sampling key, in [0, 128)."""
    return blake2b(key.encode(), digest_size=8, person=b"shadow-cell").digest()[0] % CELLS


@lru_cache(maxsize=64)
def _hex_of(decision_id: str) -> str:
    """A decision's id as 32 hexadecimal digits; empty for one that no gate of ours made."""
    try:
        return UUID(decision_id).hex
    except ValueError:
        return ""


def token_of(partition: int, request_id: str, key: str, decision_id: str | None, *, is_routed: bool) -> str:
    """The token of a live request."""
    decision = _hex_of(decision_id) if decision_id is not None else ""
    if not decision:
        return f"{partition}-{request_id}"
    return f"{partition}-{request_id}.{decision}.{'c' if is_routed else 'p'}.{cell_of(key)}"


def served_from_token(text: str) -> ServedRequest | None:
    """What a token says; None where it is none.

    Example:
        >>> served_from_token("3-0198f2c0-0000-7000-8000-000000000001").partition
        3
    """
    found = _TOKEN.fullmatch(text)
    if found is None:
        return None
    partition, request_id, decision, side, cell = found.groups()
    if decision is None:
        return ServedRequest(int(partition), request_id)
    if int(cell) >= CELLS:
        return None
    return ServedRequest(int(partition), request_id, str(UUID(decision)), side == "c", int(cell))
