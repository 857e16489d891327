"""Read the number that a text or a JSON value is, as an exact fraction. Pure; never raises."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, Final

from shadow.patterns import compiled

CHARACTERS_MAX: Final = 400
# Three digits of exponent at most: a fraction of 10^999999999 would fill the memory.
_NUMBER: Final = compiled(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)?(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")


def number_from_text(text: str) -> Fraction | None:
    """The number that a text is: digits with optional sign, thousands commas, point and exponent.

    Returns:
        None where it is none, is not finite as a double, or has over 400 characters.
    """
    text = text.strip().replace("\N{MINUS SIGN}", "-")
    if not 0 < len(text) <= CHARACTERS_MAX or _NUMBER.fullmatch(text.encode("utf-8", "replace")) is None:
        return None
    plain = text.replace(",", "")
    try:
        return Fraction(plain) if math.isfinite(float(plain)) else None
    except ValueError:
        return None


def number_from_json(value: Any) -> Fraction | None:
    """The number that a JSON value is, or that its text is; None where it is none."""
    if isinstance(value, str):
        return number_from_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return Fraction(value)
    # The shortest decimal of a double is what was written in the JSON: 0.1 is meant, not 0.1000000000000000055.
    return Fraction(repr(value)) if math.isfinite(value) else None


def number_text(number: Fraction) -> str:
    """A number as a reason quotes it: whole numbers exactly, others as doubles."""
    is_short = number.denominator == 1 and abs(number) < 10**20
    return str(number.numerator) if is_short else f"{float(number):.15g}"
