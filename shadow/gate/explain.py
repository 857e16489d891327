"""Why the gate says what it says: have, need, verdict, and when the missing part may be there. Pure.

Times are rough: they assume that today's rate goes on and that evidence grows in proportion to the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

from shadow.gate.judgement import Condition, Judgement, RuleLine, Verdict
from shadow.records.decisions import HOLD

DAY_S = 86_400
PRIOR_COST = 2.1
"""What the engine pays once for not knowing the best bet, whose weight is about 0.12; the rest grows with the pairs."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an explanation.

    Args:
        name: Rule or condition.
        slice: The slice it looks at.
        grader: What the rule looks at within the slice; empty for conditions.
        verdict: Name of a verdict; for conditions `met` or `not met`.
        have: What there is, ready to print.
        need: What is needed, ready to print.
        blocks: Whether it keeps the gate from promoting.
        eta_s: When it may be there at today's rate, seconds from now; None if it is there or cannot be told.
        reason: One sentence with the numbers.
    """

    name: str
    slice: str
    grader: str
    verdict: str
    have: str
    need: str
    blocks: bool
    eta_s: float | None
    reason: str


def explain(judgement: Judgement) -> list[Row]:
    """Rows of an explanation: what blocks comes first, conditions before rules, in the policy's order."""
    rows = [_condition_row(judgement, condition) for condition in judgement.conditions]
    rows += [_rule_row(judgement, line) for line in judgement.rules]
    return sorted(rows, key=lambda row: not row.blocks)


def explain_lines(judgement: Judgement) -> list[str]:
    """The explanation as plain text, one sentence a line."""
    rollback = judgement.rollback
    sr = "not running yet" if rollback.log_sr is None else f"{rollback.log_sr:.2f}"
    lines = [
        f"{judgement.decision}: {judgement.reason}.",
        f"rollback at log e {rollback.need:.2f} (now {rollback.log_e:.2f}) or change detector at "
        f"{rollback.need_sr:.2f} (now {sr}).",
    ]
    if judgement.culprits:
        lines.append(f"culprits: {', '.join(judgement.culprits)}.")
    rows = explain(judgement)
    blocking = list(dict.fromkeys(row.slice for row in rows if row.blocks))
    if judgement.decision == HOLD and blocking:
        lines.append(f"blocked by slices: {', '.join(blocking)}.")
    for row in rows:
        mark = "blocks" if row.blocks else "ok"
        when = "" if row.eta_s is None else f"; at today's rate in about {duration(row.eta_s)}"
        lines.append(f"[{mark}] {row.verdict}: {row.reason}{when}.")
    return lines


def duration(seconds: float) -> str:
    """A length of time in its largest sensible unit."""
    for length, unit in ((DAY_S, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"


def _condition_row(judgement: Judgement, condition: Condition) -> Row:
    eta_s = None
    if not condition.is_met and condition.have is not None:
        if condition.name == "volume":
            eta_s = _volume_eta_s(judgement, condition)
        elif condition.name == "slice_volume" and condition.have > 0:
            eta_s = judgement.evidence.age_s * (condition.need - condition.have) / condition.have
    is_share = condition.name in ("coverage", "missing_at_random")
    return Row(
        name=condition.name,
        slice=condition.slice,
        grader="",
        verdict="met" if condition.is_met else "not met",
        have="unknown" if condition.have is None else _value(condition.have, is_share=is_share),
        need=_value(condition.need, is_share=is_share),
        blocks=not condition.is_met,
        eta_s=eta_s or None,
        reason=condition.reason,
    )


def _volume_eta_s(judgement: Judgement, condition: Condition) -> float | None:
    """Time until the window holds enough pairs; None if it never will at this rate."""
    within_s, age_s = judgement.stage.needs.within_s, judgement.evidence.age_s
    have = condition.have or 0.0
    seen_s = min(age_s, within_s)
    if have <= 0 or seen_s <= 0:
        return None
    wanted_s = condition.need * seen_s / have
    return wanted_s - seen_s if wanted_s <= within_s else None


def _rule_row(judgement: Judgement, line: RuleLine) -> Row:
    is_open = line.verdict == Verdict.UNDECIDED
    return Row(
        name=line.rule,
        slice=line.slice,
        grader=line.grader,
        verdict=line.verdict.name,
        have=f"log e {line.log_e_pass:.2f}, {line.pairs:,} pairs",
        need=f"log e {line.need:.2f}",
        blocks=line.verdict != Verdict.PASS,
        eta_s=_rule_eta_s(judgement, line) if is_open else None,
        reason=line.reason,
    )


def _rule_eta_s(judgement: Judgement, line: RuleLine) -> float | None:
    """Time until the promote test may pass; None while the evidence does not grow."""
    if line.pairs == 0 or line.log_e_pass <= 0.1 or line.log_e_pass >= line.need:
        return None
    return judgement.evidence.age_s * ((line.need + PRIOR_COST) / (line.log_e_pass + PRIOR_COST) - 1) or None


def _value(value: float, *, is_share: bool) -> str:
    return f"{100 * value:.4g} %" if is_share else f"{value:,.6g}"
