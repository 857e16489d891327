"""What rules are called: in shadow.yaml, in metrics, in explain, and as culprits."""

from __future__ import annotations

from shadow.records.comparisons import PRODUCTION
from shadow.records.policy import (
    KIND_BY_RULE,
    Agreement,
    Cost,
    Feedback,
    Latency,
    NoRewardHacking,
    Quality,
    Rule,
)


def kind_of(rule: Rule) -> str:
    """The rule's name in shadow.yaml."""
    return KIND_BY_RULE[type(rule)]


def subject_of(rule: Rule) -> str:
    """What the rule looks at within its slice: its grader, basis, statistic or reward; empty for quality."""
    match rule:
        case Quality() | Feedback():
            return ""
        case Latency():
            return rule.statistic
        case Cost():
            return rule.basis
        case NoRewardHacking():
            return rule.reward
        case Agreement():
            return rule.statistic
        case _:
            return rule.grader


def rule_id(rule: Rule) -> str:
    """`kind/slice/subject`, as culprits are named; with `@human` where the reference is not production."""
    name = "/".join(part for part in (kind_of(rule), rule.slice, subject_of(rule)) if part)
    against = getattr(rule, "against", PRODUCTION)
    return name if against == PRODUCTION else f"{name}@{against}"
