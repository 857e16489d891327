"""The promotion policy: what a stage needs, and its rules, as frozen nouns.

The configuration is turned into these once; the gate and the fold know nothing else of it.
Rates, margins and thresholds are probabilities or absolute points in [0, 1], never per cent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from shadow.records.comparisons import (
    BASELINE_PRODUCTION,
    CANDIDATE_HUMAN,
    CANDIDATE_PRODUCTION,
    COMPARISON_BY_REFERENCE,
    PRODUCTION,
    ROLES_BY_COMPARISON,
    lag_tiles,
)
from shadow.records.decisions import decision_id
from shadow.records.slices import ALL

CANARY: Final = "canary"
WATCH: Final = "watch"


@dataclass(frozen=True, slots=True)
class Quality:
    """The weighted mean grade is not below the reference's by more than `margin`.

    Args:
        against: The reference's role, `production` or `human`; the same in the rules below that have it.
    """

    graders: Mapping[str, float]
    margin: float = 0.03
    slice: str = ALL
    kappa0: float = 0.2
    against: str = PRODUCTION


@dataclass(frozen=True, slots=True)
class NoRegression:
    """One grader in one slice is not worse by more than `margin`; `strict` rolls back on any proven decrease."""

    grader: str
    slice: str = ALL
    margin: float = 0.05
    strict: bool = False
    kappa0: float = 0.2
    against: str = PRODUCTION


@dataclass(frozen=True, slots=True)
class Cap:
    """The candidate fails `grader` in less than `max` of its answers."""

    grader: str
    max: float = 0.005
    alpha: float = 0.01
    slice: str = ALL


@dataclass(frozen=True, slots=True)
class Floor:
    """The candidate passes `grader` in more than `min` of its answers."""

    grader: str
    min: float = 0.95
    slice: str = ALL


@dataclass(frozen=True, slots=True)
class Improve:
    """The candidate is better by at least `by`; `fails` lets the contrary roll back."""

    grader: str
    slice: str = ALL
    by: float = 0.02
    fails: bool = False
    kappa0: float = 0.2
    against: str = PRODUCTION


@dataclass(frozen=True, slots=True)
class Equivalent:
    """The difference lies inside [-margin, +margin]."""

    grader: str
    slice: str = ALL
    margin: float = 0.05
    kappa0: float = 0.2
    against: str = PRODUCTION


@dataclass(frozen=True, slots=True)
class Latency:
    """A quantile of the candidate's latency is at most `max_ratio` times production's.

    Args:
        quantile: In (0, 1), for example 0.95.
        quantity: `total` or `first_byte`.
        reference_us: Production's quantile, frozen before the run; None: taken from the first answers of the stage.
    """

    quantile: float = 0.95
    max_ratio: float = 1.25
    quantity: str = "total"
    reference_us: int | None = None
    slice: str = ALL

    @property
    def statistic(self) -> str:
        """Name under which the counts of this rule are kept, for example `total:0.95:1.25`."""
        return f"{self.quantity}:{self.quantile:g}:{self.max_ratio:g}"


@dataclass(frozen=True, slots=True)
class Cost:
    """The candidate's mean cost is at most `max_ratio` times production's.

    Args:
        basis: `request` (micro-units of money) or `tokens` (completion and prompt tokens).
        cap_micro: The most one answer may cost; enforced by the workers.
    """

    max_ratio: float = 1.10
    basis: str = "request"
    cap_micro: int | None = None
    slice: str = ALL


@dataclass(frozen=True, slots=True)
class NoRewardHacking:
    """A passed reward beside a failed verifiable grader is not more frequent than for production by over `margin`."""

    reward: str
    verifiable: tuple[str, ...]
    margin: float = 0.05
    strict: bool = False
    slice: str = ALL
    kappa0: float = 0.2


@dataclass(frozen=True, slots=True)
class Agreement:
    """The candidate differs from production at most `margin` more often than production from itself (the baseline).

    Args:
        tag: Only the text within this tag of the answers is compared.
        json: Or only what this JSON path finds in them; None for both: the whole text, white space aside.
    """

    margin: float = 0.05
    slice: str = ALL
    tag: str | None = None
    json: str | None = None
    kappa0: float = 0.2

    @property
    def statistic(self) -> str:
        """Name under which the counts of this rule are kept: what is compared, for example `tag:answer`."""
        if self.tag is not None:
            return f"tag:{self.tag}"
        return f"json:{self.json}" if self.json is not None else ""


@dataclass(frozen=True, slots=True)
class Feedback:
    """Users complain of the candidate's answers at most `max_ratio` times as often as of production's, in canary.

    It stays out of the change detector: the tests of its steps start anew with each.

    Args:
        steps: Shares of canary's steps, in their order.
    """

    max_ratio: float = 1.5
    steps: tuple[float, ...] = ()
    slice: str = ALL


Rule = (
    Quality
    | NoRegression
    | Cap
    | Floor
    | Improve
    | Equivalent
    | Latency
    | Cost
    | NoRewardHacking
    | Agreement
    | Feedback
)

KIND_BY_RULE: Mapping[type, str] = {
    Quality: "quality",
    NoRegression: "no_regression",
    Cap: "cap",
    Floor: "floor",
    Improve: "improve",
    Equivalent: "equivalent",
    Latency: "latency",
    Cost: "cost",
    NoRewardHacking: "no_reward_hacking",
    Agreement: "agreement",
    Feedback: "feedback",
}


def graders_named(rule: Rule) -> tuple[str, ...]:
    """The graders that a rule reads."""
    match rule:
        case Quality():
            return tuple(rule.graders)
        case NoRewardHacking():
            return (rule.reward, *rule.verifiable)
        case Latency() | Cost() | Agreement() | Feedback():
            return ()
        case _:
            return (rule.grader,)


def comparison_of(rule: Rule) -> str:
    """The comparison whose tallies a rule reads."""
    if isinstance(rule, Agreement):
        return BASELINE_PRODUCTION
    return COMPARISON_BY_REFERENCE[getattr(rule, "against", PRODUCTION)]


@dataclass(frozen=True, slots=True)
class Needs:
    """Conditions of evidence: they hold the gate and never fail the candidate.

    Args:
        pairs: Pairs within the last `within_s`, slice `all`.
        within_s: Length of the window, seconds.
        slice_pairs: Pairs of the stage's totals in every slice that a rule names.
        coverage: Least share of paired requests, in (0, 1].
        freshness_s: Greatest age of the newest closed tile, seconds; None: twice the tile and deadline.
    """

    pairs: int = 5000
    within_s: int = 86_400
    slice_pairs: int = 1250
    coverage: float = 0.98
    freshness_s: int | None = None


@dataclass(frozen=True, slots=True)
class StagePolicy:
    """One stage: what it needs, its rules and its error budget.

    Args:
        name: `shadow`, `canary` or `watch`.
        rules: In `canary` and `watch` they name slices of the stage's own pairs, such as `canary/all`.
        alpha: False-rollback budget of the stage, and level of each promote test.
        steps: Shares of the sessions that the candidate serves, one step after the other; none in `shadow`.
        production_rate: Share of the sampling keys for which production answers too what the candidate served.
        for_s: How long the stage lasts, whatever is proven; None: until its rules are.
    """

    name: str
    needs: Needs
    rules: tuple[Rule, ...]
    alpha: float = 0.05
    steps: tuple[float, ...] = ()
    production_rate: float = 1.0
    for_s: int | None = None


@dataclass(frozen=True, slots=True)
class LiveStep:
    """A step of a run in which the candidate serves live requests.

    Args:
        stage: `canary` or `watch`.
        name: `canary-1` and so on, or `watch`.
        share: Of the sessions, in (0, 1].
        production_rate: As in `StagePolicy`.
    """

    stage: str
    name: str
    share: float
    production_rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Policy:
    """The whole policy of a run.

    Args:
        stages: In the order in which a run goes through them.
        expires_s: Longest age of a run, seconds.
        tile_us: Length of a tile.
        evidence_deadline_us: How long after a tile's end its pairs may still complete.
        human_deadline_us: The same for answers of people.
    """

    stages: tuple[StagePolicy, ...]
    expires_s: int = 7 * 86_400
    tile_us: int = 60_000_000
    evidence_deadline_us: int = 15 * 60_000_000
    human_deadline_us: int = 6 * 3600 * 1_000_000

    @property
    def live_steps(self) -> tuple[LiveStep, ...]:
        """The steps after `shadow`, in their order: the run's n-th decision begins the n-th of them."""
        found: list[LiveStep] = []
        for stage in self.stages:
            is_one = stage.name == WATCH
            for number, share in enumerate(stage.steps, start=1):
                name = stage.name if is_one else f"{stage.name}-{number}"
                found.append(LiveStep(stage.name, name, share, stage.production_rate))
        return tuple(found)

    def live_steps_of(self, run: str) -> dict[str, LiveStep]:
        """The same by the id of the decision that begins each."""
        return {decision_id(run, number): step for number, step in enumerate(self.live_steps, start=1)}

    @property
    def longest_s(self) -> int:
        """Longest age of a run, stages of a fixed length included, seconds."""
        return self.expires_s + sum(stage.for_s for stage in self.stages if stage.for_s is not None)

    @property
    def stage_slices(self) -> frozenset[str]:
        """Slices of the stages in which the candidate serves, as far as a rule names them."""
        return frozenset(rule.slice for stage in self.stages if stage.steps for rule in stage.rules)

    def stage(self, name: str) -> StagePolicy:
        """A stage by its name.

        Raises:
            ValueError: If the policy has no such stage.
        """
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise ValueError(f"the policy has no stage {name!r}; it has {', '.join(s.name for s in self.stages)}")

    def deadline_us(self, comparison: str) -> int:
        """Evidence deadline of a comparison."""
        return self.human_deadline_us if comparison == CANDIDATE_HUMAN else self.evidence_deadline_us

    def lag_tiles(self, comparison: str) -> int:
        """How many tiles behind the main comparison's the gate folds a comparison's."""
        return lag_tiles(comparison, self.deadline_us(comparison), self.tile_us)

    @property
    def comparisons(self) -> tuple[str, ...]:
        """The comparisons that some rule of some stage reads, the main one first and always."""
        used = {comparison_of(rule) for stage in self.stages for rule in stage.rules}
        return tuple(name for name in ROLES_BY_COMPARISON if name == CANDIDATE_PRODUCTION or name in used)
