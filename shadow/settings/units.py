"""Quantities of the configuration: durations, sizes, rates, shares, money and counts, each with its bounds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final

from pydantic import BeforeValidator

from shadow.settings.section import refused

_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(us|ms|s|min|m|h|d)")
_MICROSECONDS: Final = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_SIZE: Final = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)")
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_RATE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)/(s|min|h|d)")
_PER_HOUR: Final = {"s": 3600.0, "min": 60.0, "h": 1.0, "d": 1 / 24}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def plain(bound: float) -> str:
    """A bound as sentences name it, without an exponent where that can be."""
    return f"{bound:,.6f}".rstrip("0").rstrip(".") if bound < 1e12 else f"{bound:g}"


def duration_us_from(value: Any) -> int | None:
    """Microseconds of a duration such as `30s`; None where it is none."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return int(Decimal(found[1]) * _MICROSECONDS[found[2]]) if found else None


def duration_text(us: int) -> str:
    """A duration as it is written in the configuration."""
    for unit in ("d", "h", "min", "s", "ms"):
        if us and us % _MICROSECONDS[unit] == 0:
            return f"{us // _MICROSECONDS[unit]}{unit}"
    return f"{us}us"


def _duration(least: str, most: str, convert: Callable[[int], Any]) -> BeforeValidator:
    low, high = duration_us_from(least), duration_us_from(most)
    assert low is not None and high is not None

    def read(value: Any) -> Any:
        us = duration_us_from(value)
        if us is None:
            raise refused("must be a duration such as 500ms, 30s, 24h or 7d")
        if not low <= us <= high:
            raise refused(f"must be a duration from {least} to {most}")
        return convert(us)

    return BeforeValidator(read)


def duration_us(least: str, most: str) -> BeforeValidator:
    """A duration, in microseconds."""
    return _duration(least, most, lambda us: us)


def duration_s(least: str, most: str) -> BeforeValidator:
    """A duration, in seconds."""
    return _duration(least, most, lambda us: us / 1_000_000)


def whole_s(least: str, most: str) -> BeforeValidator:
    """A duration of whole seconds, in seconds."""

    def convert(us: int) -> int:
        if us % 1_000_000:
            raise refused("must be a whole number of seconds")
        return us // 1_000_000

    return _duration(least, most, convert)


def size_bytes(least: str, most: str) -> BeforeValidator:
    """A size, in bytes."""

    def parsed(value: Any) -> int | None:
        found = _SIZE.fullmatch(value) if isinstance(value, str) else None
        return int(found[1]) * _BYTES[found[2]] if found else None

    low, high = parsed(least), parsed(most)
    assert low is not None and high is not None

    def read(value: Any) -> int:
        size = parsed(value)
        if size is None:
            raise refused("must be a size such as 64KiB or 1MiB")
        if not low <= size <= high:
            raise refused(f"must be a size from {least} to {most}")
        return size

    return BeforeValidator(read)


def number(low: float, high: float, what: str, *, takes_low: bool = False, takes_high: bool = False) -> BeforeValidator:
    """A finite number between two bounds.

    Args:
        what: What it must be, for example `a rate`.
    """
    bounds = f"{'[' if takes_low else '('}{plain(low)}, {plain(high)}{']' if takes_high else ')'}"

    def read(value: Any) -> float:
        found = _number(value)
        if found is None or not (low < found or (takes_low and found == low)):
            raise refused(f"must be {what} in {bounds}")
        if not (found < high or (takes_high and found == high)):
            raise refused(f"must be {what} in {bounds}")
        return found

    return BeforeValidator(read)


def count(least: int, most: int) -> BeforeValidator:
    """A whole number."""

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise refused(f"must be a whole number from {least:,} to {most:,}")
        return value

    return BeforeValidator(read)


def per_hour_from(value: Any) -> float | None:
    """Requests an hour of a rate such as `300/h`; None where it is none, or 0."""
    found = _RATE.fullmatch(value) if isinstance(value, str) else None
    return (float(found[1]) * _PER_HOUR[found[2]] or None) if found else None


def _traffic(value: Any) -> float:
    per_hour = per_hour_from(value)
    if per_hour is None:
        raise refused("must be a rate above 0 such as 300/h, 5/min or 2/s")
    return per_hour


def money_micro_from(value: Any, least: float, most: float) -> int:
    """Micro-units of an amount of money."""
    found = _number(value)
    try:
        micro = Decimal(repr(value)) * 1_000_000 if found is not None else None
    except InvalidOperation:
        micro = None
    if found is None or micro is None or not least <= found <= most or micro != micro.to_integral_value():
        raise refused(f"must be an amount of money from {plain(least)} to {plain(most)} with at most six decimals")
    return int(micro)


def money_micro(least: float, most: float) -> BeforeValidator:
    """An amount of money, in micro-units."""
    return BeforeValidator(lambda value: money_micro_from(value, least, most))


Share = Annotated[float, number(0, 1, "a rate", takes_high=True)]
"""In (0, 1]."""
Fraction = Annotated[float, number(0, 1, "a number")]
"""In (0, 1)."""
Margin = Annotated[float, number(0, 1, "a margin")]
"""In (0, 1)."""
Alpha = Annotated[float, number(0, 0.5, "a probability")]
"""In (0, 0.5)."""
Ratio = Annotated[float, number(0, 100, "a ratio", takes_high=True)]
"""In (0, 100]."""
Score = Annotated[float, number(0, 1, "a score", takes_low=True, takes_high=True)]
"""In [0, 1]."""
Traffic = Annotated[float, BeforeValidator(_traffic)]
"""Requests an hour."""
