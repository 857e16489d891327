"""Choose what is copied, and where it goes, from the sampling key alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

_KEY_BYTES_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Place:
    """Two independent hashes of a sampling key.

    Args:
        u: In [0, 1): the key is sampled at every rate above it.
        spread: 64 bits that choose the partition; independent of u, so that a sample reaches all partitions.
    """

    u: float
    spread: int


def place_of(key: str) -> Place:
    """Hash a key; equal on every machine and in every version.

    Source:
        BLAKE2b, RFC 7693: 53 bits of the first eight bytes make u, the last eight the spread.

    Example:
        >>> place_of("session-7") == place_of("session-7")
        True
    """
    digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return Place((int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53, int.from_bytes(digest[8:], "big"))


def u_of(key: str) -> float:
    """The key's hash in [0, 1)."""
    return place_of(key).u


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, in [0, partitions)."""
    return place_of(key).spread % partitions


def key_of(values: Mapping[bytes, bytes], names: Iterable[bytes], request_id: str) -> str:
    """The sampling key: the first of the named headers that is there, else the request id.

    A value longer than 256 bytes is replaced by its hash, since the key is written with every record.

    Args:
        values: Header values by lower-case name.
        names: Lower-case names, in order.
    """
    for name in names:
        value = values.get(name)
        if value:
            if len(value) > _KEY_BYTES_MAX:
                return blake2b(value, digest_size=16).hexdigest()
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                return value.decode("latin-1")
    return request_id


def rate_of(sample: float, quotas: Mapping[str, float], slices: Iterable[str]) -> float:
    """The highest rate that applies to a request of these slices.

    Example:
        >>> rate_of(0.1, {"rare": 1.0}, ["all", "rare"])
        1.0
    """
    return max(sample, *(quotas[name] for name in slices if name in quotas), 0.0)
