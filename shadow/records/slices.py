"""A slice: a named part of the traffic, judged on its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

ALL: Final = "all"
"""The slice that always exists."""
SHADOW: Final = "shadow"
"""The stage whose slices have plain names; those of a stage in which the candidate serves are named `canary/all`."""


def in_stage(place: str, slice: str) -> str:
    """Name of a slice for the pairs of one stage or step alone, for example `canary/all` or `canary-2/all`."""
    return f"{place}/{slice}"


def stage_of(slice: str) -> str:
    """The stage whose pairs a slice holds."""
    place, _, _ = slice.rpartition("/")
    return place.partition("-")[0] or SHADOW


@dataclass(frozen=True, slots=True)
class SliceSpec:
    """Conditions that must all hold for a request to be in the slice; one without conditions holds everything.

    Args:
        name: `[a-z0-9-]{1,64}`.
        text: RE2 pattern searched in the request's text (the strings of its JSON body, else the body itself).
        path: RE2 pattern searched in the request's path.
        key: RE2 pattern searched in the sampling key.
        headers: RE2 pattern by recorded header.
        json: Expected value by JSON path; a list of values means any of them.
        traffic_per_h: Requests an hour that the owner expects; None where not stated.
    """

    name: str
    text: str | None = None
    path: str | None = None
    key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] = field(default_factory=dict)
    traffic_per_h: float | None = None
