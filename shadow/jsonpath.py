"""Compiled JSON paths that never fail on a document. Pure.

Plain paths such as `$.a['b'][0]` are walked directly; all others (RFC 9535) go through python-jsonpath, without
its two functions that run regular expressions, since those would run Python's `re` on traffic.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from jsonpath import JSONPathEnvironment, JSONPathError

_STEP: Final = re.compile(
    r"""\.([A-Za-z_][A-Za-z0-9_-]*)|\[\s*'([^'\\]*)'\s*\]|\[\s*"([^"\\]*)"\s*\]|\[\s*(-?[0-9]{1,9})\s*\]"""
)
PATH_CHARACTERS_MAX: Final = 1024
_MISSING: Final = object()

Step = str | int


class InvalidPath(ValueError):
    """A JSON path that cannot be read; the text says why."""


class JsonPath:
    """One path.

    Args:
        path: RFC 9535 syntax, at most 1,024 characters.

    Attributes:
        steps: Names and indexes of a plain path; None where the path is not plain.

    Raises:
        InvalidPath: If it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self.text = path
        if len(path) > PATH_CHARACTERS_MAX:
            raise InvalidPath(f"has {len(path):,} characters, must have at most {PATH_CHARACTERS_MAX:,}")
        self.steps = _plain_steps(path)
        self._path: Any = _general(path) if self.steps is None else None

    def values(self, document: Any) -> Sequence[Any]:
        """Every value at the path; nothing where there is none, or where the document is nested over 100 levels."""
        if self.steps is None:
            try:
                return [match.value for match in self._path.finditer(document)]
            except (JSONPathError, RecursionError):
                return ()
        for step in self.steps:
            document = _member(document, step)
            if document is _MISSING:
                return ()
        return (document,)

    def first(self, document: Any, default: Any = None) -> Any:
        """The first value at the path, or the default."""
        found = self.values(document)
        return found[0] if found else default


def _member(document: Any, step: Step) -> Any:
    if isinstance(step, str):
        return document.get(step, _MISSING) if isinstance(document, dict) else _MISSING
    is_inside = isinstance(document, list) and -len(document) <= step < len(document)
    return document[step] if is_inside else _MISSING


def _plain_steps(path: str) -> tuple[Step, ...] | None:
    if not path.startswith("$"):
        return None
    steps: list[Step] = []
    at = 1
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            return None
        name, single, double, index = step.groups()
        steps.append(int(index) if index is not None else next(k for k in (name, single, double) if k is not None))
        at = step.end()
    return tuple(steps)


def _general(path: str) -> Any:
    environment = JSONPathEnvironment(strict=True)
    for name in ("match", "search"):
        environment.function_extensions.pop(name, None)
    try:
        return environment.compile(path)
    except (JSONPathError, RecursionError) as error:
        lines = str(error).splitlines()
        words = lines[0] if lines else "nested too deeply"
        raise InvalidPath(f"must be a JSON path such as $.metadata.answer: {words}") from None


def same_value(found: Any, expected: Any) -> bool:
    """Whether two JSON values are equal; unlike in Python, true is not 1."""
    if isinstance(found, bool) or isinstance(expected, bool):
        return found is expected
    return bool(found == expected)
