"""`graders`: the rules on single answers, by kind."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from shadow.graders.cites_version_pin import pattern_of
from shadow.graders.reward_model import BUDGET_US
from shadow.patterns import PATTERN_BYTES_MAX
from shadow.records.grades import GraderSpec
from shadow.settings.names import DottedName, Expected, HttpUrl, Package, Pattern, PythonName, SliceName, Tag, Text
from shadow.settings.section import Section, refused, refused_whole
from shadow.settings.units import Score, count, duration_us, money_micro, number

Texts = Annotated[tuple[Text, ...], Field(max_length=256)]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=256)]
Tolerance = Annotated[float, number(0, 1e300, "a number", takes_low=True, takes_high=True)]


class GraderSection(Section):
    """What every grader has.

    Args:
        kind: Which grader.
        slices: Slices to which it applies; none means everywhere.
    """

    kind: str
    slices: tuple[SliceName, ...] = ()

    def spec(self, name: str) -> GraderSpec:
        """The grader as the stream takes it."""
        fields = type(self).model_fields
        params = {field: getattr(self, field) for field in fields if field not in ("kind", "slices")}
        return GraderSpec(name, self.kind, self.slices, params)


def _code(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and 100 <= value <= 599:
        return value
    if isinstance(value, str) and re.fullmatch(r"[1-5]xx", value):
        return value
    raise refused("must be an HTTP status such as 404, or a class of them such as 2xx")


class StatusGrader(GraderSection):
    """`codes`: statuses and classes that pass."""

    codes: Annotated[tuple[Annotated[int | str, BeforeValidator(_code)], ...], Field(min_length=1)] = ("2xx",)


class ExactGrader(GraderSection):
    """The text equals the expected one, or production's; see `shadow.graders.exact`."""

    expected: Expected | None = None
    tag: Tag | None = None
    ignore_case: Annotated[bool, Field(strict=True)] = False


class NumericGrader(GraderSection):
    """The number equals the expected one within a tolerance; see `shadow.graders.numeric`."""

    tag: Tag | None = "answer"
    expected: Expected | None = None
    tolerance: Tolerance = 1e-6
    tolerance_abs: Tolerance = 0.0


class ContainsGrader(GraderSection):
    """Certain texts or patterns are in the answer."""

    any: Texts = ()
    all: Texts = ()
    regex: Annotated[Patterns, BeforeValidator(lambda value: [value] if isinstance(value, str) else value)] = ()
    ignore_case: Annotated[bool, Field(strict=True)] = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.any or self.all or self.regex):
            raise refused_whole("has no condition, must have one of any, all, regex")
        return self


class RegexGrader(GraderSection):
    """The pattern is found in the answer."""

    pattern: Pattern


class AnswerTagGrader(GraderSection):
    """The result stands in exactly one tag."""

    tag: Tag = "answer"


class ConciseGrader(GraderSection):
    """The answer is not too long."""

    max_words: Annotated[int, count(1, 10**9)] | None = None
    max_chars: Annotated[int, count(1, 10**9)] | None = None
    min_words: Annotated[int, count(0, 10**9)] = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_words is None and self.max_chars is None:
            raise refused_whole("has no bound, must have max_words or max_chars")
        if self.max_words is not None and self.min_words > self.max_words:
            raise refused_whole(f"min_words is {self.min_words} and max_words {self.max_words}, no answer can pass")
        return self


class CitesVersionPinGrader(GraderSection):
    """The answer names the exact version of a package."""

    package: Package

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(pattern_of(self.package).encode()) > PATTERN_BYTES_MAX:
            raise refused_whole(f"package has {len(self.package)} characters, must have fewer")
        return self


class NoDeprecatedApiGrader(GraderSection):
    """The code in the answer uses none of these names."""

    LENGTH_MAX: ClassVar[int] = 900

    names: Annotated[tuple[DottedName, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        length = sum(len(name) + 2 for name in self.names)
        if length > self.LENGTH_MAX:
            raise refused_whole(f"names have {length} characters together, must have at most {self.LENGTH_MAX}")
        return self


class SafetyGrader(GraderSection):
    """No denied pattern and every required one is in the answer."""

    deny: Patterns = ()
    require: Patterns = ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.deny or self.require):
            raise refused_whole("has no pattern, must have deny or require")
        return self


class RewardModelGrader(GraderSection):
    """A service scores the answer."""

    url: HttpUrl
    passes_at: Score = 0.5
    budget_us: Annotated[int, duration_us("1ms", "1h")] = Field(default=BUDGET_US, alias="budget")


class LatencyGrader(GraderSection):
    """The answer took at most `max`."""

    max_us: Annotated[int, duration_us("1us", "1d")] = Field(alias="max")
    quantity: Literal["total", "first_byte"] = "total"


class CostGrader(GraderSection):
    """The answer cost at most `max`."""

    max_micro: Annotated[int, money_micro(0, 1e9)] = Field(alias="max")


class PythonGrader(GraderSection):
    """A function of this machine grades the answer."""

    callable: PythonName
    passes_at: Score = 0.5


GRADERS: Final[dict[str, type[GraderSection]]] = {
    "answer_tag": AnswerTagGrader,
    "cites_version_pin": CitesVersionPinGrader,
    "concise": ConciseGrader,
    "contains": ContainsGrader,
    "cost": CostGrader,
    "exact": ExactGrader,
    "latency": LatencyGrader,
    "no_deprecated_api": NoDeprecatedApiGrader,
    "numeric": NumericGrader,
    "python": PythonGrader,
    "regex": RegexGrader,
    "reward_model": RewardModelGrader,
    "safety": SafetyGrader,
    "status": StatusGrader,
}
