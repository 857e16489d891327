"""`slices`: the named parts of the traffic that are judged on their own."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, model_validator

from shadow.records.slices import SliceSpec
from shadow.settings.names import HeaderName, JsonPathText, Pattern
from shadow.settings.section import Section, refused, refused_whole
from shadow.settings.units import Traffic

SLICES_MAX: Final = 64


def _json_condition(value: Any) -> Any:
    values = value if isinstance(value, list) else [value]
    is_scalar = all(item is None or isinstance(item, str | int | float) for item in values)
    is_finite = all(abs(item) <= 1e308 for item in values if isinstance(item, float))
    if not values or not is_scalar or not is_finite:
        raise refused("must be a text, a finite number, true, false, null, or a list of such values")
    return tuple(value) if isinstance(value, list) else value


class Slice(Section):
    """Conditions on a request, all of which must hold.

    Args:
        text: RE2 pattern searched in the strings of the JSON body, else in the body.
        path, key: RE2 patterns searched in the path and in the sampling key.
        headers: RE2 pattern by recorded header.
        json: Value by JSON path; of a list any.
        traffic_per_h: Requests that the slice brings before sampling, an hour. Optional; with it, margins that it
            cannot prove in time are refused.
    """

    text: Pattern | None = None
    path: Pattern | None = None
    key: Pattern | None = None
    headers: dict[HeaderName, Pattern] = Field(default={})
    json_values: dict[JsonPathText, Annotated[Any, BeforeValidator(_json_condition)]] = Field(default={}, alias="json")
    traffic_per_h: Traffic | None = Field(default=None, alias="traffic")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.text or self.path or self.key or self.headers or self.json_values):
            raise refused_whole("has no condition, must have one of text, path, key, headers, json")
        return self

    def spec(self, name: str) -> SliceSpec:
        """The slice as the stream takes it."""
        return SliceSpec(
            name, self.text, self.path, self.key, dict(self.headers), dict(self.json_values), self.traffic_per_h
        )
