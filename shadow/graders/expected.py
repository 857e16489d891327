"""Where the expected value of an answer comes from: the request, or production's answer. Pure."""

from __future__ import annotations

from typing import Any, Final

from shadow.graders.graded import Graded
from shadow.jsonpath import JsonPath

PREFIX: Final = "json:"

MISSING: Final = object()


def path_from_text(expected: str) -> JsonPath:
    """The path in `json:$.metadata.answer`.

    Raises:
        ValueError: If it is not of this form.
    """
    if not expected.startswith(PREFIX):
        raise ValueError(f"expected: read {expected!r}, must be like json:$.metadata.answer")
    return JsonPath(expected.removeprefix(PREFIX))


def expected_in_request(answer: Graded, path: JsonPath) -> Any:
    """The expected value that the request carries; `MISSING` where it carries none, or null."""
    value = path.first(answer.request_json(), MISSING)
    return MISSING if value is None else value
