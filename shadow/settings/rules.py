"""The rules of a stage, one model each: what may be configured, and the record that it becomes."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from shadow.records import policy
from shadow.records.comparisons import HUMAN, PRODUCTION
from shadow.records.slices import ALL
from shadow.settings.names import GraderName, PlainPath, SliceName, Tag
from shadow.settings.section import Section, refused_whole
from shadow.settings.tree import Path
from shadow.settings.units import Alpha, Fraction, Margin, Ratio, duration_us, money_micro, number

MARGIN: Final = 0.05
MARGIN_BUSY: Final = 0.03
"""Default margin of `no_regression` where the slice is known to bring at least 2,500 requests a day."""
BUSY_PER_DAY: Final = 2500
RATIO_BY_QUANTILE: Final = {0.95: 1.25, 0.99: 1.5}

Weight = Annotated[float, number(0, 1e6, "a weight", takes_high=True)]
Strict = Annotated[bool, Field(strict=True)]


class RuleSection(Section):
    """What every rule has: the slice on which it is judged."""

    slice: SliceName = ALL

    def graders(self) -> list[tuple[Path, str]]:
        """The graders that the rule needs, each with the place that names it."""
        grader: str | None = getattr(self, "grader", None)
        return [(("grader",), grader)] if grader is not None else []

    def subject(self) -> tuple[object, ...]:
        """What the rule is about: two rules of a kind with the same subject say the same or contradict."""
        return (self.slice, *(name for _, name in self.graders()))

    def reference(self) -> str:
        """The role against which the candidate is held."""
        return PRODUCTION

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it.

        Args:
            default_margin: Of `no_regression`, where the rule names none.
        """
        raise TypeError(f"{type(self).__name__} is no rule of its own")


class ComparedRule(RuleSection):
    """A rule that may hold the candidate against people instead of against production.

    Args:
        against: `production` or `human`.
    """

    against: Literal["production", "human"] = PRODUCTION

    def reference(self) -> str:
        """The role against which the candidate is held."""
        return self.against

    def subject(self) -> tuple[object, ...]:
        """The same of people is another subject."""
        return (*super().subject(), *((self.against,) if self.against != PRODUCTION else ()))


class QualityRule(ComparedRule):
    """The weighted mean of several graders is not below the reference's by more than the margin."""

    weights: dict[GraderName, Weight] = Field(alias="graders", min_length=1)
    margin: Margin = 0.03

    def graders(self) -> list[tuple[Path, str]]:
        """The weighted graders."""
        return [(("graders", name), name) for name in self.weights]

    def subject(self) -> tuple[object, ...]:
        """One quality a slice and reference."""
        return (self.slice, *((self.against,) if self.against != PRODUCTION else ()))

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it."""
        return policy.Quality(dict(self.weights), self.margin, self.slice, against=self.against)


class NoRegressionRule(ComparedRule):
    """One grader in one slice is not worse by more than the margin."""

    grader: GraderName
    margin: Margin | None = None
    strict: Strict = False

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it."""
        # The narrower default is for slices that bring many pairs, and people answer only a small part of them.
        default = MARGIN if self.against == HUMAN else default_margin
        margin = default if self.margin is None else self.margin
        return policy.NoRegression(self.grader, self.slice, margin, self.strict, against=self.against)


class CapRule(RuleSection):
    """The candidate fails the grader in less than `max` of its answers."""

    grader: GraderName
    max: Fraction = 0.005
    alpha: Alpha = 0.01

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it."""
        return policy.Cap(self.grader, self.max, self.alpha, self.slice)


class FloorRule(RuleSection):
    """The candidate passes the grader in more than `min` of its answers."""

    grader: GraderName
    min: Fraction = 0.95

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it."""
        return policy.Floor(self.grader, self.min, self.slice)


class ImproveRule(ComparedRule):
    """The candidate is better by at least `by`."""

    grader: GraderName
    by: Margin = 0.02
    fails: Strict = False

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it."""
        return policy.Improve(self.grader, self.slice, self.by, self.fails, against=self.against)


class EquivalentRule(ComparedRule):
    """The difference lies inside of the margin, on both sides."""

    grader: GraderName
    margin: Margin = 0.05

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it."""
        return policy.Equivalent(self.grader, self.slice, self.margin, against=self.against)


class LatencyRule(RuleSection):
    """A quantile of the candidate's latency is at most `max_ratio` times production's."""

    quantile: Fraction = 0.95
    max_ratio: Ratio | None = None
    quantity: Literal["total", "first_byte"] = "total"
    reference_us: Annotated[int, duration_us("1us", "1d")] | None = Field(default=None, alias="reference")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_ratio is None and (self.quantity != "total" or self.quantile not in RATIO_BY_QUANTILE):
            raise refused_whole(
                f"has no max_ratio, must have one: only the quantiles 0.95 and 0.99 of the total time have a default"
                f" (this is {self.quantile:g} of {self.quantity})"
            )
        return self

    def subject(self) -> tuple[object, ...]:
        """One bound a quantile."""
        return (self.slice, self.quantity, self.quantile)

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it."""
        ratio = RATIO_BY_QUANTILE[self.quantile] if self.max_ratio is None else self.max_ratio
        return policy.Latency(self.quantile, ratio, self.quantity, self.reference_us, self.slice)


class CostRule(RuleSection):
    """The candidate's mean cost is at most `max_ratio` times production's; no answer may cost over `cap`."""

    cap_micro: Annotated[int, money_micro(0.000001, 1e9)] = Field(alias="cap")
    max_ratio: Ratio = 1.10
    basis: Literal["request", "tokens"] = "request"

    def subject(self) -> tuple[object, ...]:
        """One bound a basis."""
        return (self.slice, self.basis)

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it."""
        return policy.Cost(self.max_ratio, self.basis, self.cap_micro, self.slice)


class NoRewardHackingRule(RuleSection):
    """A passed reward beside a failed verifiable grader is not more frequent than for production."""

    reward: GraderName
    verifiable: Annotated[tuple[GraderName, ...], Field(min_length=1)]
    margin: Margin = 0.05
    strict: Strict = False

    def graders(self) -> list[tuple[Path, str]]:
        """The reward and the verifiable graders."""
        return [(("reward",), self.reward), *((("verifiable", i), name) for i, name in enumerate(self.verifiable))]

    def subject(self) -> tuple[object, ...]:
        """One a slice."""
        return (self.slice,)

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it."""
        return policy.NoRewardHacking(self.reward, self.verifiable, self.margin, self.strict, self.slice)


class AgreementRule(RuleSection):
    """The candidate differs from production not much more often than production from itself, the baseline.

    Args:
        tag: Compare only the text within this tag.
        json: Or only what this JSON path finds; without both the whole text, white space aside.
    """

    margin: Margin = 0.05
    tag: Tag | None = None
    json_path: PlainPath | None = Field(default=None, alias="json")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tag is not None and self.json_path is not None:
            raise refused_whole("has both tag and json, must have at most one of them")
        return self

    def subject(self) -> tuple[object, ...]:
        """One a slice."""
        return (self.slice,)

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it."""
        return policy.Agreement(self.margin, self.slice, self.tag, self.json_path)


class FeedbackRule(RuleSection):
    """Users complain of the candidate's answers at most `max_ratio` times as often as of production's; in canary."""

    max_ratio: Ratio = 1.5

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.slice != ALL:
            raise refused_whole(f"has the slice {self.slice}, must be on all: a vote does not say what was asked")
        return self

    def subject(self) -> tuple[object, ...]:
        """One a stage."""
        return (self.slice,)

    def record(self, default_margin: float) -> policy.Rule:
        """The rule as the gate takes it, without canary's steps."""
        return policy.Feedback(self.max_ratio, slice=self.slice)


RULES: Final[dict[str, type[RuleSection]]] = {
    "quality": QualityRule,
    "no_regression": NoRegressionRule,
    "cap": CapRule,
    "floor": FloorRule,
    "improve": ImproveRule,
    "equivalent": EquivalentRule,
    "latency": LatencyRule,
    "cost": CostRule,
    "no_reward_hacking": NoRewardHackingRule,
    "agreement": AgreementRule,
    "feedback": FeedbackRule,
}
