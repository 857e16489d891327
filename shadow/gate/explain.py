"""Why the gate says what it says: have, need, verdict, what is missing, when it may be there, what would flip it. Pure.

Times are rough: they assume that today's rate (of the policy's window) goes on, and pairs like those so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from shadow.gate.compiled import compile_tests
from shadow.gate.flip import LIKE_THESE, VOTES_LIKE_THESE, Way, amount, flips_of, told
from shadow.gate.judgement import Condition, Judgement, RuleLine, Verdict
from shadow.gate.measures import SliceEvidence
from shadow.gate.observe import observe
from shadow.gate.stats.average import e_bh
from shadow.records.decisions import HOLD
from shadow.records.policy import Equivalent
from shadow.records.slices import ALL
from shadow.records.tallies import FEEDBACK

DAY_S = 86_400


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
        missing: What is missing; empty where nothing is.
        when: When it may be there, or why not; empty where nothing is missing.
        flip: The smallest change that would flip a rule, as a sentence. ways: the same, one by one.
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
    missing: str = ""
    when: str = ""
    flip: str = ""
    ways: tuple[Way, ...] = ()


def explain(
    judgement: Judgement, ways: Sequence[tuple[Way, ...]] | None = None, expires_s: float | None = None
) -> list[Row]:
    """Rows of an explanation: what blocks comes first, conditions before rules, in the policy's order.

    Args:
        ways: What would flip each rule, where the caller has looked for it already.
        expires_s: Longest age of the stage; what comes later than that is said to come too late.
    """
    found = flips(judgement) if ways is None else ways
    rows = [_condition_row(judgement, condition) for condition in judgement.conditions]
    rows += [_rule_row(judgement, line, flip) for line, flip in zip(judgement.rules, found, strict=True)]
    if expires_s is not None:
        left_s = expires_s - judgement.evidence.age_s
        late = ", after the run has expired"
        rows = [replace(row, when=row.when + late) if (row.eta_s or 0.0) > left_s else row for row in rows]
    return sorted(rows, key=lambda row: not row.blocks)


def flips(judgement: Judgement) -> list[tuple[Way, ...]]:
    """What would flip each rule of a judgement."""
    compiled = compile_tests(judgement.stage)
    seen = [observe(rule, judgement.evidence) for rule in judgement.stage.rules]
    return flips_of(compiled, seen, judgement.rules)


def explain_lines(judgement: Judgement, rows: Sequence[Row] | None = None) -> list[str]:
    """The explanation as plain text, one sentence a line.

    Args:
        rows: Of the same judgement, where the caller has them already.
    """
    rollback = judgement.rollback
    sr = "not running yet" if rollback.log_sr is None else f"{rollback.log_sr:.2f}"
    lines = [
        f"{judgement.decision}: {judgement.reason}.",
        f"rollback at log e {rollback.need:.2f} (now {rollback.log_e:.2f}) or change detector at "
        f"{rollback.need_sr:.2f} (now {sr}).",
    ]
    if judgement.culprits:
        lines.append(f"culprits: {', '.join(judgement.culprits)}.")
    rows = explain(judgement) if rows is None else rows
    blocking = list(dict.fromkeys(row.slice for row in rows if row.blocks))
    if judgement.decision == HOLD and blocking:
        lines.append(f"blocked by slices: {', '.join(blocking)}.")
    for row in rows:
        mark = "blocks" if row.blocks else "ok"
        missing = f"; missing: {row.missing}" if row.missing else ""
        when = f"; {row.when}" if row.when else ""
        flip = f"; flips to {row.flip}" if row.flip else ""
        lines.append(f"[{mark}] {row.verdict}: {row.reason}{missing}{when}{flip}.")
    return lines


@dataclass(frozen=True, slots=True)
class Suspect:
    """A rule by the evidence against it.

    Args:
        log_e: Of its rollback test.
        is_named: Whether e-BH names it at the stage's alpha: at most that share of the named is blamed wrongly.
    """

    id: str
    log_e: float
    is_named: bool


def suspects(judgement: Judgement) -> list[Suspect]:
    """Rules in e-BH order, the strongest evidence against the candidate first; those without any are left out."""
    against = [
        # The larger of two tests is no e-value, half of it is.
        (line, line.log_e_fail - (math.log(2) if isinstance(rule, Equivalent) else 0.0))
        for rule, line in zip(judgement.stage.rules, judgement.rules, strict=True)
        if line.log_e_fail is not None
    ]
    order, named = e_bh([log_e for _, log_e in against], judgement.stage.alpha)
    ranked = [(against[index], rank < named) for rank, index in enumerate(order)]
    return [Suspect(line.id, log_e, is_named) for (line, log_e), is_named in ranked if log_e > 0]


def duration(seconds: float) -> str:
    """A length of time in its largest sensible unit."""
    for length, unit in ((DAY_S, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{max(seconds, 1):.0f} s"


def _condition_row(judgement: Judgement, condition: Condition) -> Row:
    missing, eta_s, never = "", None, ""
    if not condition.is_met:
        missing, eta_s, never = _condition_gap(judgement, condition)
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
        missing=missing,
        when=_when(eta_s, never) if missing else "",
    )


_Gap = tuple[str, float | None, str]
"""What is missing, when it may be there (seconds from now), and why not, where it will not."""


def _condition_gap(judgement: Judgement, condition: Condition) -> _Gap:
    evidence, have = judgement.evidence, condition.have
    part = evidence.slices.get(condition.slice, SliceEvidence())
    match condition.name:
        case "volume":
            missing = f"{condition.need - (have or 0):,.0f} pairs within the window"
            return missing, *_volume_eta_s(judgement, condition)
        case "slice_volume":
            wanted = condition.need - (have or 0)
            return f"{wanted:,.0f} pairs of {condition.slice}", _pairs_eta_s(judgement, have or 0, wanted), ""
        case "coverage" if have is not None:
            present = part.pairs / have if have > 0 else 0.0
            if condition.need >= 1 or present <= 0:
                return "pairs for every request", None, "a request that is missing stays missing"
            wanted = math.ceil(present * (condition.need - have) / (1 - condition.need))
            return _in_a_row(wanted), _pairs_eta_s(judgement, present, wanted), ""
        case "missing_at_random" if have is not None and have > condition.need and part.pairs:
            present = part.pairs / (1 - have) if have < 1 else 0.0
            wanted = math.ceil(present * (have / condition.need - 1))
            return _in_a_row(wanted), _pairs_eta_s(judgement, present, wanted), ""
        case "freshness" if have is not None:
            return f"a closed tile that is at least {have - condition.need:,.0f} s newer", None, ""
    return "to be known at all", None, ""


def _in_a_row(wanted: int) -> str:
    return f"about {wanted:,} more requests of which none is missing"


def _when(eta_s: float | None, never: str) -> str:
    if eta_s:
        return f"at today's rate in about {duration(eta_s)}"
    return f"never at today's rate: {never}" if never else "when cannot be told from the rate"


def pace(judgement: Judgement) -> float:
    """Today's rate of pairs over the stage's mean rate; 1 where there is nothing to compare."""
    evidence, within_s = judgement.evidence, judgement.stage.needs.within_s
    everything = evidence.slices.get(ALL)
    if everything is None or not everything.pairs or evidence.age_s <= within_s:
        return 1.0
    return evidence.window_pairs * evidence.age_s / (within_s * everything.pairs)


def _pairs_eta_s(judgement: Judgement, have: float, wanted: float) -> float | None:
    """Time until `wanted` more of what came `have` times since the stage began; None where nothing comes."""
    rate = have * pace(judgement) / judgement.evidence.age_s if judgement.evidence.age_s > 0 else 0.0
    return wanted / rate if rate > 0 else None


def _volume_eta_s(judgement: Judgement, condition: Condition) -> tuple[float | None, str]:
    """Time until the window holds enough pairs, or why it never will at this rate."""
    within_s, age_s = judgement.stage.needs.within_s, judgement.evidence.age_s
    have = condition.have or 0.0
    seen_s = min(age_s, within_s)
    if have <= 0 or seen_s <= 0:
        return None, ""
    wanted_s = condition.need * seen_s / have
    if wanted_s <= within_s:
        return wanted_s - seen_s, ""
    return None, f"{within_s / 3600:g} h bring {have * within_s / seen_s:,.0f} pairs"


def _rule_row(judgement: Judgement, line: RuleLine, ways: tuple[Way, ...]) -> Row:
    missing, eta_s, never = _rule_gap(judgement, line, ways)
    return Row(
        name=line.rule,
        slice=line.slice,
        grader=line.grader,
        verdict=line.verdict.name,
        have=_rule_have(line),
        need=_rule_need(line),
        blocks=line.verdict != Verdict.PASS,
        eta_s=eta_s or None,
        reason=line.reason,
        missing=missing,
        when=_when(eta_s, never) if missing else "",
        flip=told(ways),
        ways=ways,
    )


def _rule_have(line: RuleLine) -> str:
    """E-values on both sides, the estimate with its bounds, and the pairs."""
    parts = [f"log e {line.log_e_pass:.2f} for"]
    if line.log_e_fail is not None:
        parts.append(f"{line.log_e_fail:.2f} against")
    if line.estimate is not None:
        sign = "" if line.rule in ("cap", "floor", "cost") else "+"
        known = line.lower is not None and line.upper is not None
        bounds = f" [{line.lower:{sign}.4f}, {line.upper:{sign}.4f}]" if known else ""
        parts.append(f"estimate {line.estimate:{sign}.4f}{bounds}")
    return ", ".join((*parts, f"{line.pairs:,} pairs"))


def _rule_need(line: RuleLine) -> str:
    fails = f", {line.need_fail:.2f} to FAIL" if line.need_fail is not None else ""
    return f"log e {line.need:.2f} to PASS{fails}"


def _rule_gap(judgement: Judgement, line: RuleLine, ways: tuple[Way, ...]) -> _Gap:
    """What a rule still needs to PASS."""
    if line.verdict == Verdict.PASS:
        return "", None, ""
    if line.verdict == Verdict.FAIL:
        return "nothing that more pairs bring", None, "it is proven to fail"
    if line.verdict == Verdict.BROKEN:
        return "evidence that can be used", None, ""
    to_pass = [way for way in ways if way.to == Verdict.PASS.name]
    for way in to_pass:
        if way.what in (LIKE_THESE, VOTES_LIKE_THESE):
            return f"about {amount(way)}", _pairs_eta_s(judgement, line.pairs, way.count), ""
    if line.rule == FEEDBACK:
        return "votes of other users", None, "votes like these prove nothing, however many" if line.pairs else ""
    if line.pairs and not to_pass:
        return "pairs of more sampling keys", None, ""
    missing = amount(min(to_pass, key=lambda way: way.count)) if to_pass else "pairs"
    never = "pairs like these prove nothing, however many" if line.pairs else ""
    return missing, None, never


def _value(value: float, *, is_share: bool) -> str:
    return f"{100 * value:.4g} %" if is_share else f"{value:,.6g}"
