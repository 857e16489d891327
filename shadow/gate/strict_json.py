"""Read JSON strictly: what the standard library lets through silently is refused with a sentence. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any, Final

from shadow.errors import Usage

BYTES_MAX: Final = 16 * 2**20
DIGITS_MAX: Final = 40
"""Digits of a whole number; sums of squares pass 64 bits, nothing sensible passes this."""
COUNT_MAX: Final = 2**53
"""Largest count: beyond it, floating-point numbers are no longer exact."""


def shown(text: object) -> str:
    """A value as an error message quotes it: short, and safe to print anywhere."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 44 else f"{quoted[:40]}…"


def strict_object(value: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        value: UTF-8 text.
        what: What is read, for the error's first words.

    Raises:
        Usage: If it is not UTF-8, too large, too deep, not JSON (NaN, Infinity and numbers beyond a double
            included), has a key twice, a lone surrogate, a number of over 40 digits, or is not an object.
    """
    if len(value) > BYTES_MAX:
        raise Usage(f"{what} has {len(value):,} bytes; at most {BYTES_MAX:,} are read")

    def refuse(name: str) -> Any:
        raise Usage(f"{what} contains {name}, which is not JSON; every number must be finite")

    def whole(digits: str) -> int:
        if len(digits) > DIGITS_MAX:
            raise Usage(f"{what} contains a number of {len(digits):,} digits; at most {DIGITS_MAX} are read")
        return int(digits)

    def real(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise Usage(f"{what} contains {shown(digits)}, which is beyond the largest finite number (1.8e308)")
        return number

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for key, item in pairs:
            if key in tree:
                raise Usage(f"{what} has the key {shown(key)} twice in one object; which one counts is unclear")
            tree[key] = item
        return tree

    try:
        text = value.decode("utf-8")
        tree = json.loads(text, parse_constant=refuse, parse_int=whole, parse_float=real, object_pairs_hook=unique)
    except UnicodeDecodeError as error:
        raise Usage(f"{what} is not UTF-8: byte {error.start} is 0x{value[error.start]:02x}") from None
    except json.JSONDecodeError as error:
        raise Usage(f"{what} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise Usage(f"{what} is nested too deeply") from None
    if not isinstance(tree, dict):
        raise Usage(f"{what} is a JSON {type(tree).__name__}; an object is expected")
    try:
        # Parsed as an escape, a lone surrogate is a string that no encoder can write.
        _refuse_surrogates(tree, what)
    except RecursionError:
        raise Usage(f"{what} is nested too deeply") from None
    return tree


def _refuse_surrogates(tree: Any, what: str) -> None:
    if isinstance(tree, str):
        if any("\ud800" <= character <= "\udfff" for character in tree):
            raise Usage(f"{what} contains the lone surrogate in {shown(tree)}; it is no character")
    elif isinstance(tree, dict):
        for key, item in tree.items():
            _refuse_surrogates(key, what)
            _refuse_surrogates(item, what)
    elif isinstance(tree, list):
        for item in tree:
            _refuse_surrogates(item, what)


def table(value: Any, where: str) -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        raise Usage(f"evidence: {where} is {shown(value)}; an object is expected")
    return value


def record(value: Any, where: str, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Any]:
    """An object with these keys and no others."""
    tree = table(value, where)
    for key in tree:
        if key not in required and key not in optional:
            known = ", ".join([*required, *optional])
            raise Usage(f"evidence: {where} has the unknown key {shown(key)}; known are {known}")
    for key in required:
        if key not in tree:
            raise Usage(f"evidence: {where} lacks {key}")
    return tree


def named(value: Any, where: str, pattern: re.Pattern[str], what: str) -> dict[str, Any]:
    """An object whose keys are names."""
    tree = table(value, where)
    for key in tree:
        if not pattern.fullmatch(key):
            raise Usage(f"evidence: {where} has the key {shown(key)}; {what} is expected")
    return tree


def count(value: Any, where: str, largest: int = COUNT_MAX) -> int:
    """A whole number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= largest:
        limit = "2^53" if largest == COUNT_MAX else f"{largest:.0e}"
        raise Usage(f"evidence: {where} is {shown(value)}; a whole number from 0 to {limit} is expected")
    return value


def number(value: Any, where: str, least: float, most: float = math.inf) -> float:
    """A finite number within bounds."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:
        if math.isinf(least):
            limits = "a finite number"
        elif math.isinf(most):
            limits = f"a number of at least {least:g}"
        else:
            limits = f"a number from {least:g} to {most:g}"
        raise Usage(f"evidence: {where} is {shown(value)}; {limits} is expected")
    return float(value)


def at_most(part: int, whole: int, where: str, part_name: str, whole_name: str) -> None:
    """Refuse a part that is larger than its whole."""
    if part > whole:
        raise Usage(f"evidence: {where} has {part:,} {part_name} but {whole:,} {whole_name}; it cannot have more")
