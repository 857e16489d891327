"""The evidence of a stage as frozen nouns: what the tallies say, integers wherever something is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from shadow.records.comparisons import CANDIDATE_PRODUCTION

NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Which roles passed one grader, over the pairs to which it applies."""

    both: int
    production_only: int
    candidate_only: int
    neither: int

    @property
    def n(self) -> int:
        return self.both + self.production_only + self.candidate_only + self.neither


@dataclass(frozen=True, slots=True)
class RateCounts:
    """The candidate's failures of one grader among n answers."""

    violations: int
    n: int


@dataclass(frozen=True, slots=True)
class RatioSums:
    """Sums over pairs of a candidate's value c and production's value p.

    Args:
        v: Cluster variance of the sum of c - rho p, at the rule's rho; None: observations are independent.
    """

    n: int
    sum_c: int
    sum_p: int
    sum_cc: int
    sum_pp: int
    sum_cp: int
    v: float | None = None

    def moments(self, rho: float) -> tuple[float, float]:
        """(mean, plain variance) of c - rho p."""
        s1 = self.sum_c - rho * self.sum_p
        s2 = self.sum_cc - 2 * rho * self.sum_cp + rho * rho * self.sum_pp
        mean = s1 / self.n
        return mean, (s2 - self.n * mean * mean) / (self.n - 1) if self.n > 1 else 0.0


@dataclass(frozen=True, slots=True)
class LatencyCounts:
    """Who was slow: the candidate beyond max_ratio x tau0, production beyond tau0.

    Args:
        quantity: `total` or `first_byte`.
        quantile: The quantile that tau0 is of.
        tau0_us: Production's frozen quantile; None where not stated.
        production_slow: All slow answers of production; None where not stated, then its share is not checked.
    """

    quantity: str
    quantile: float
    max_ratio: float
    candidate_only_slow: int
    production_only_slow: int
    n: int
    tau0_us: int | None = None
    production_slow: int | None = None

    @property
    def statistic(self) -> str:
        """As `shadow.records.policy.Latency.statistic`."""
        return f"{self.quantity}:{self.quantile:g}:{self.max_ratio:g}"


@dataclass(frozen=True, slots=True)
class HackCounts:
    """Pairs whose reward passed beside a failed verifiable grader, for one role alone."""

    candidate_only: int
    production_only: int
    n: int


@dataclass(frozen=True, slots=True)
class AgreementCounts:
    """Requests on which only the candidate, or only the baseline, differs from production."""

    candidate_only_differs: int
    baseline_only_differs: int
    n: int


@dataclass(frozen=True, slots=True)
class MissingShare:
    """How the missing requests compare with the paired ones.

    Args:
        share: Share of missing requests, in [0, 1].
        size_ratio: Mean body size of missing over paired requests; None where it cannot be formed.
        latency_ratio: The same of production's latency.
    """

    share: float
    size_ratio: float | None = None
    latency_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class SliceEvidence:
    """Evidence of one slice. An absent part is no evidence.

    Args:
        pairs: Pairs of the stage's totals.
        coverage: Share of paired requests, in [0, 1]; None: unknown, which holds the gate.
        missing: None: nothing known of what is missing.
        graders, rates: By grader. `floor/<grader>` in `rates` serves the floor alone, where a cap on the same
            grader counts otherwise.
        numeric: 41 counts of D from -1 to 1, by `quality` or numeric grader.
        cost: By basis. latency: by statistic.
        asked: Requests of which every role of the comparison was asked; None where that is not stated.
    """

    pairs: int = 0
    coverage: float | None = None
    missing: MissingShare | None = None
    graders: Mapping[str, PairCounts] = field(default_factory=dict)
    rates: Mapping[str, RateCounts] = field(default_factory=dict)
    numeric: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    cost: Mapping[str, RatioSums] = field(default_factory=dict)
    latency: Mapping[str, LatencyCounts] = field(default_factory=dict)
    agreement: AgreementCounts | None = None
    reward_hacking: HackCounts | None = None
    asked: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything a judgement rests on: the "In" of design.md, section 15.

    Args:
        attempt: 1 for the first run of this candidate against this production.
        age_s: Age of the stage.
        freshness_s: Age of the newest closed tile; None: unknown, which holds the gate.
        window_pairs: Pairs of slice `all` within the policy's window.
        log_sr: Log of the change detector's weighted sum; None while it does not run.
        design_effect: By slice, then grader or rule; absent means 1.
        cells: Non-empty hash cells, by slice, then grader or rule; absent means enough.
        others: Slices, design effects and cells of the other comparisons, by name; the rest is in this one.
    """

    attempt: int = 1
    age_s: float = 0.0
    freshness_s: float | None = None
    window_pairs: int = 0
    log_sr: float | None = None
    slices: Mapping[str, SliceEvidence] = field(default_factory=dict)
    design_effect: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cells: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    others: Mapping[str, Evidence] = field(default_factory=dict)

    def of(self, comparison: str) -> Evidence:
        """The evidence of one comparison; empty where there is none."""
        return self if comparison == CANDIDATE_PRODUCTION else self.others.get(comparison, _NO_EVIDENCE)


_NO_EVIDENCE = Evidence()
