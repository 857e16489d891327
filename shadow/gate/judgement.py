"""What a judgement says, as frozen nouns, and its JSON (the "Out" of design.md, section 15). Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from shadow.gate import sentences
from shadow.gate.evidence import evidence_tree
from shadow.gate.measures import Evidence
from shadow.gate.observe import Observation
from shadow.records.comparisons import CANDIDATE_HUMAN, HUMAN, PRODUCTION
from shadow.records.policy import Rule, StagePolicy


class Verdict(IntEnum):
    """What is known of a rule; the larger one is worse."""

    PASS = 0
    UNDECIDED = 1
    BROKEN = 2
    FAIL = 3


def worst(verdicts: Iterable[object]) -> Verdict:
    """The worst of some verdicts.

    Raises:
        ValueError: If there is none, or one is no verdict: what is unknown is never good.
    """
    found = list(verdicts)
    for verdict in found:
        if not isinstance(verdict, Verdict):
            raise ValueError(f"{verdict!r} is no verdict; known are {', '.join(v.name for v in Verdict)}")
    if not found:
        raise ValueError("no verdict at all; a policy without rules proves nothing")
    return Verdict(max(verdict for verdict in found if isinstance(verdict, Verdict)))


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule as judged.

    Args:
        rule: Its kind, as in shadow.yaml.
        id: `kind/slice/subject`, with `@human` where the reference is not production.
        comparison: The comparison whose pairs it reads.
        grader: Its grader, or what else it looks at (basis, statistic, reward); empty for quality.
        pairs: Pairs (or answers) to which it applies.
        estimate: Difference, rate, ratio, or share of slow answers; None without evidence.
        lower, upper: Bounds at the level of the promote test, each on its own; None where there is none yet.
        log_e_pass: Smallest log e of its promote tests. need: what it must reach.
        log_e_fail: Largest log e of its rollback tests; None where it has none. need_fail: what makes it FAIL.
        effect: Design effect.
        judged, seen: The rule as configured, and its counts.
    """

    rule: str
    id: str
    comparison: str
    slice: str
    grader: str
    verdict: Verdict
    pairs: int
    estimate: float | None
    lower: float | None
    upper: float | None
    log_e_pass: float
    log_e_fail: float | None
    need: float
    need_fail: float | None
    effect: float
    judged: Rule
    seen: Observation

    @property
    def reason(self) -> str:
        """One sentence with the numbers, made when it is asked for: while a gate holds, few of its lines are read."""
        if self.verdict == Verdict.BROKEN:
            return sentences.broken(self.judged, self.seen)
        if self.verdict == Verdict.FAIL and self.log_e_fail is not None and self.need_fail is not None:
            return sentences.failed(self.judged, self.seen, self.estimate, self.log_e_fail, self.need_fail)
        say = sentences.passed if self.verdict == Verdict.PASS else sentences.undecided
        return say(self.judged, self.seen, self.estimate, self.log_e_pass, self.need)

    @property
    def name(self) -> str:
        """What tells it from the other rules of its slice, for example `no_regression:correct@human`."""
        subject = f"{self.rule}:{self.grader}" if self.grader else self.rule
        return f"{subject}@{HUMAN}" if self.comparison == CANDIDATE_HUMAN else subject


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of evidence: it may hold the gate, and never fails the candidate.

    Args:
        name: `volume`, `slice_volume`, `coverage`, `freshness` or `missing_at_random`.
        have: What was found; None: unknown, which is not met.
        need: What is needed, in the same unit.
    """

    name: str
    slice: str
    is_met: bool
    have: float | None
    need: float
    reason: str


@dataclass(frozen=True, slots=True)
class Rollback:
    """The stage's rollback process: log of the weighted average and of the change detector, with thresholds."""

    log_e: float
    need: float
    log_sr: float | None
    need_sr: float

    @property
    def by_average(self) -> bool:
        return self.log_e >= self.need

    @property
    def by_detector(self) -> bool:
        return self.log_sr is not None and self.log_sr >= self.need_sr


@dataclass(frozen=True, slots=True)
class Judgement:
    """What to do, and why.

    Args:
        decision: `promote`, `hold`, `rollback` or `expire`.
        culprits: Ids of the rules that FAIL, worst first; if none does, `joint evidence` and then the suspects.
            Empty unless the decision is `rollback`.
        reason: One sentence with the numbers.
        stage, evidence: What was judged.
    """

    decision: str
    rules: tuple[RuleLine, ...]
    conditions: tuple[Condition, ...]
    rollback: Rollback
    culprits: tuple[str, ...]
    reason: str
    stage: StagePolicy
    evidence: Evidence

    @property
    def digest(self) -> str:
        """SHA-256 of the evidence and the stage's policy, 64 hexadecimal digits."""
        tree = {"evidence": evidence_tree(self.evidence), "policy": policy_tree(self.stage)}
        canonical = json.dumps(_rounded(tree), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all rules; UNDECIDED where there is no rule."""
        return worst(line.verdict for line in self.rules) if self.rules else Verdict.UNDECIDED


def policy_tree(stage: StagePolicy) -> dict[str, Any]:
    """A stage's policy as plain dictionaries, each rule with its kind."""
    rules = [_rule_tree(rule) for rule in stage.rules]
    tree = {"name": stage.name, "alpha": stage.alpha, "needs": asdict(stage.needs), "rules": rules}
    if stage.steps:
        tree |= {"steps": stage.steps, "production_rate": stage.production_rate, "for_s": stage.for_s}
    return tree


def _rule_tree(rule: Rule) -> dict[str, Any]:
    tree = {"kind": type(rule).__name__, **asdict(rule)}
    if tree.get("against") == PRODUCTION:
        del tree["against"]  # what was the only reference once is not named, so that digests of then stay
    return tree


def _rounded(tree: Any) -> Any:
    """Floats to nine digits, so that the last bit of a processor's logarithm does not change a digest."""
    if isinstance(tree, float):
        return float(f"{tree:.9g}")
    if isinstance(tree, dict):
        return {key: _rounded(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_rounded(value) for value in tree]
    return tree


def judgement_to_json(judgement: Judgement) -> dict[str, Any]:
    """A judgement as JSON-ready dictionaries; a number that does not exist yet is null, never NaN."""
    rollback = judgement.rollback
    return {
        "decision": judgement.decision,
        "stage": judgement.stage.name,
        "reason": judgement.reason,
        "culprits": list(judgement.culprits),
        "rollback": {
            "log_e": _finite(rollback.log_e),
            "need": rollback.need,
            "log_sr": _finite(rollback.log_sr),
            "need_sr": rollback.need_sr,
        },
        "rules": [_line_tree(line) for line in judgement.rules],
        "conditions": [_condition_tree(condition) for condition in judgement.conditions],
        "digest": judgement.digest,
    }


def _line_tree(line: RuleLine) -> dict[str, Any]:
    return {
        "rule": line.rule,
        "comparison": line.comparison,
        "slice": line.slice,
        "grader": line.grader,
        "verdict": line.verdict.name,
        "pairs": line.pairs,
        "estimate": _finite(line.estimate),
        "lower": _finite(line.lower),
        "upper": _finite(line.upper),
        "log_e_pass": _finite(line.log_e_pass),
        "log_e_fail": _finite(line.log_e_fail),
        "need": line.need,
        "need_fail": _finite(line.need_fail),
        "design_effect": line.effect,
        "reason": line.reason,
    }


def _condition_tree(condition: Condition) -> dict[str, Any]:
    return {
        "condition": condition.name,
        "slice": condition.slice,
        "met": condition.is_met,
        "have": _finite(condition.have),
        "need": condition.need,
        "reason": condition.reason,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
