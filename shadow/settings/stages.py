"""`stages`: what each stage needs, its rules and its error budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from shadow.records.comparisons import PRODUCTION
from shadow.records.policy import CANARY, WATCH, Feedback, Needs, Rule, StagePolicy
from shadow.records.slices import in_stage
from shadow.settings.names import HttpUrl
from shadow.settings.rules import CapRule, FloorRule, LatencyRule, NoRegressionRule, QualityRule, RuleSection
from shadow.settings.section import Section, refused_whole
from shadow.settings.units import Alpha, Fraction, Share, count, whole_s

RulesTuple = tuple[SerializeAsAny[RuleSection], ...]

CANARY_QUALITY_MARGIN: Final = 0.05
CANARY_CAP: Final = 0.02
CANARY_FLOOR_LESS: Final = 0.05
CANARY_LATENCY_RATIO: Final = 1.5


class ShadowNeeds(Section):
    """Conditions of evidence of the shadow stage.

    Args:
        pairs: Pairs within the last `within`.
        slice_pairs: Pairs of the stage's totals in every slice that a rule names.
        coverage: Least share of paired requests.
        freshness_s: Greatest age of the newest closed tile; None: twice the tile and the evidence deadline.
    """

    pairs: Annotated[int, count(1, 10**9)] = 5000
    within_s: Annotated[int, whole_s("1s", "365d")] = Field(default=86_400, alias="within")
    slice_pairs: Annotated[int, count(1, 10**9)] = 1250
    coverage: Share = 0.98
    freshness_s: Annotated[int, whole_s("1s", "365d")] | None = Field(default=None, alias="freshness")

    def record(self) -> Needs:
        """The conditions as the gate takes them."""
        return Needs(self.pairs, self.within_s, self.slice_pairs, self.coverage, self.freshness_s)


class CanaryNeeds(ShadowNeeds):
    """The same for each step of canary."""

    pairs: Annotated[int, count(1, 10**9)] = 1000
    within_s: Annotated[int, whole_s("1s", "365d")] = Field(default=21_600, alias="within")
    slice_pairs: Annotated[int, count(0, 10**9)] = 0


class OfflineStage(Section):
    """The stage before any traffic: a frozen suite, run twice, and judged once.

    Args:
        repeat: `strict`: both runs must give every grade alike; `tolerate`: what differs is said, and judged all the
            same.
        alpha: Chance of a false rollback, and level of each promote test.
    """

    rules: RulesTuple = Field(min_length=1)
    repeat: Literal["strict", "tolerate"] = "strict"
    alpha: Alpha = 0.05


class ShadowStage(Section):
    """The stage in which no user sees the candidate.

    Args:
        alpha: False-rollback budget of the stage, and level of each promote test.
    """

    rules: RulesTuple = Field(min_length=1)
    needs: ShadowNeeds = ShadowNeeds()
    alpha: Alpha = 0.05


class CanaryStage(Section):
    """The stage that moves live traffic in steps.

    Args:
        steps: Shares of the traffic, growing.
        upstream: Where the candidate takes live requests as they are; None: where its worker asks it.
        rules: None: rules on `all`, looser than those of the shadow stage.
    """

    steps: Annotated[tuple[Fraction, ...], Field(min_length=1, max_length=20)] = (0.01, 0.05, 0.25, 0.5)
    upstream: HttpUrl | None = None
    needs: CanaryNeeds = CanaryNeeds()
    alpha: Alpha = 0.05
    rules: RulesTuple | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)):
            raise refused_whole(f"steps are {', '.join(f'{step:g}' for step in self.steps)}, must grow")
        return self


class WatchStage(Section):
    """The stage in which the candidate serves everything and the former version keeps answering a sample.

    Args:
        production_url: Where the former version answers.
        sample: Share of the sampling keys that it answers.
        for_s: How long.
        rules: None: those of the shadow stage about quality, none of them strict.
    """

    production_url: HttpUrl
    sample: Share = 0.05
    for_s: Annotated[int, whole_s("1s", "365d")] = Field(default=7 * 86_400, alias="for")
    alpha: Alpha = 0.05
    rules: RulesTuple | None = None


class Stages(Section):
    """All stages that are configured."""

    shadow: ShadowStage
    offline: OfflineStage | None = None
    canary: CanaryStage | None = None
    watch: WatchStage | None = None

    def rules_of(self, stage: str) -> tuple[RuleSection, ...]:
        """The rules of a configured stage, its defaults included."""
        own: tuple[RuleSection, ...] | None = getattr(self, stage).rules
        if own is not None:
            return own
        return canary_rules(self.shadow.rules) if stage == "canary" else watch_rules(self.shadow.rules)

    def records(self, margin_of: Any) -> tuple[StagePolicy, ...]:
        """The stages as the gate takes them, in their order.

        Args:
            margin_of: Default margin of `no_regression` by slice name.
        """
        found = [StagePolicy("shadow", self.shadow.needs.record(), self._rules("shadow", margin_of), self.shadow.alpha)]
        if self.canary is not None:
            needs, rules = self.canary.needs.record(), self._rules(CANARY, margin_of)
            found.append(StagePolicy(CANARY, needs, rules, self.canary.alpha, steps=self.canary.steps))
        if self.watch is not None:
            watch, rules = self.watch, self._rules(WATCH, margin_of)
            needs = Needs(pairs=1, within_s=watch.for_s, slice_pairs=0)
            found.append(StagePolicy(WATCH, needs, rules, watch.alpha, (1.0,), watch.sample, watch.for_s))
        return tuple(found)

    def offline_record(self, margin_of: Any) -> StagePolicy | None:
        """The stage before the run, as the judge of suites takes it; None where it is not configured."""
        if self.offline is None:
            return None
        needs = Needs(pairs=1, slice_pairs=0, coverage=1.0)
        return StagePolicy("offline", needs, self._rules("offline", margin_of), self.offline.alpha)

    def _rules(self, stage: str, margin_of: Any) -> tuple[Rule, ...]:
        rules = tuple(rule.record(margin_of(rule.slice)) for rule in self.rules_of(stage))
        if stage not in (CANARY, WATCH):
            return rules
        # Only what the candidate served is evidence of a stage in which it serves.
        rules = tuple(replace(rule, slice=in_stage(stage, rule.slice)) for rule in rules)
        steps = self.canary.steps if self.canary is not None else ()
        return tuple(replace(rule, steps=steps) if isinstance(rule, Feedback) else rule for rule in rules)


def canary_rules(shadow: tuple[RuleSection, ...]) -> tuple[RuleSection, ...]:
    """The default rules of canary, all on `all`: quality, caps, floors and latency, looser than the shadow stage's."""
    rules: list[RuleSection] = []
    for rule in _against_production(shadow):
        if isinstance(rule, QualityRule):
            rules.append(QualityRule(graders=rule.weights, margin=CANARY_QUALITY_MARGIN))
        elif isinstance(rule, CapRule):
            rules.append(CapRule(grader=rule.grader, max=max(rule.max, CANARY_CAP), alpha=rule.alpha))
        elif isinstance(rule, FloorRule):
            rules.append(FloorRule(grader=rule.grader, min=max(rule.min - CANARY_FLOOR_LESS, 0.01)))
    once = [rule for index, rule in enumerate(rules) if rule not in rules[:index]]
    return (*once, LatencyRule(max_ratio=CANARY_LATENCY_RATIO))


def watch_rules(shadow: tuple[RuleSection, ...]) -> tuple[RuleSection, ...]:
    """The default rules of watch: those of the shadow stage about quality, every null at its margin."""
    rules = _against_production(shadow)
    kept = (rule for rule in rules if isinstance(rule, QualityRule | NoRegressionRule | CapRule | FloorRule))
    return tuple(rule.model_copy(update={"strict": False}) if hasattr(rule, "strict") else rule for rule in kept)


def _against_production(rules: tuple[RuleSection, ...]) -> list[RuleSection]:
    """Rules that need no people: a stage waits for them only where its own rules say so."""
    return [rule for rule in rules if rule.reference() == PRODUCTION]
