"""Regular expressions on traffic: RE2 only, so no pattern and no text can hold the process. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import re2

PATTERN_BYTES_MAX: Final = 1024
SUBJECT_BYTES_MAX: Final = 64 * 1024
MEMORY_BYTES_MAX: Final = 8 * 2**20
OVERLAP_BYTES: Final = 4096
"""Longest match that is surely found across two windows of a long text."""


class InvalidPattern(ValueError):
    """A pattern that RE2 refuses; the text says why."""


def _options() -> Any:
    options = re2.Options()
    options.max_mem = MEMORY_BYTES_MAX
    options.log_errors = False
    return options


def compiled(pattern: str) -> Any:
    """Compile one pattern.

    Args:
        pattern: RE2 syntax, at most 1 KiB; no look-around and no back-references.

    Raises:
        InvalidPattern: If RE2 refuses it, or it is too long.
    """
    try:
        size = len(pattern.encode())
    except UnicodeEncodeError:
        raise InvalidPattern("contains a lone surrogate, which no text contains") from None
    if size > PATTERN_BYTES_MAX:
        raise InvalidPattern(f"has {size:,} bytes, must have at most {PATTERN_BYTES_MAX:,}")
    try:
        return re2.compile(pattern, _options())
    except re2.error as error:
        reason = error.args[0] if error.args else "unknown reason"
        words = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidPattern(f"must be a pattern that RE2 takes: {words}") from None


def found(pattern: Any, text: bytes) -> bool:
    """Whether a compiled pattern is found anywhere in a text of any length.

    A text over 64 KiB is searched in windows that overlap by 4 KiB, where `^` and `$` also match at a
    window's edge.
    """
    if len(text) <= SUBJECT_BYTES_MAX:
        return pattern.search(text) is not None
    starts = range(0, len(text) - OVERLAP_BYTES, SUBJECT_BYTES_MAX - OVERLAP_BYTES)
    return any(pattern.search(text[start : start + SUBJECT_BYTES_MAX]) is not None for start in starts)


class PatternSet:
    """Many patterns, searched in one pass.

    Args:
        patterns: RE2 patterns.

    Raises:
        InvalidPattern: If one is refused, or all of them together need more than 8 MiB.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._single = [compiled(pattern) for pattern in patterns]
        self._set = re2.Set.SearchSet(_options())
        try:
            for pattern in patterns:
                self._set.Add(pattern)
            # RE2 reports a search that ran out of memory like one that found nothing; the empty pattern is always
            # found, so that its absence tells the two apart.
            self._sentinel: int = self._set.Add("")
            self._set.Compile()
        except re2.error:
            raise InvalidPattern(f"the {len(patterns)} patterns together must not need more than 8 MiB") from None

    def found_in(self, subject: bytes) -> frozenset[int]:
        """Indexes of the patterns that are found in the first 64 KiB of a text."""
        if not self._single:
            return frozenset()
        subject = subject[:SUBJECT_BYTES_MAX]
        indexes = self._set.Match(subject)
        if self._sentinel in indexes:
            indexes.remove(self._sentinel)
            return frozenset(indexes)
        return frozenset(i for i, pattern in enumerate(self._single) if pattern.search(subject) is not None)
