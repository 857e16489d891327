"""Conditions of evidence: volume, coverage, freshness, balance of live traffic, and losses at random.

They hold the gate, never more. Pure.
"""

from __future__ import annotations

import math
from typing import Final

from shadow.gate.judgement import Condition
from shadow.gate.measures import Evidence, RateCounts, SliceEvidence
from shadow.gate.stats.cluster import CELLS_MIN
from shadow.gate.stats.engine import RATE_BELOW_KAPPA0, log_e_rate
from shadow.records.policy import CANARY, LiveStep, StagePolicy
from shadow.records.slices import ALL, in_stage
from shadow.records.tallies import BALANCE, CELLS

FRESHNESS_S_MAX: Final = 1920
"""Twice a tile of 60 s and its evidence deadline of 15 min."""
MISSING_SHARE_MAX: Final = 0.005
"""Share of missing requests up to which their kind does not matter."""
BALANCE_ALPHA: Final = 0.0005
"""Of each of the two tests of the candidate's share, per step."""
RATIO_MIN: Final = 0.8
RATIO_MAX: Final = 1.25

_EMPTY: Final = SliceEvidence()


def conditions_of(
    stage: StagePolicy, evidence: Evidence, freshness_s_max: float, step: LiveStep | None = None
) -> tuple[Condition, ...]:
    """Check every condition; slices are those that a rule names, and `all`, in canary that of the step."""
    named = list(dict.fromkeys(rule.slice for rule in stage.rules))
    everything = ALL if step is None else in_stage(step.name, ALL)
    result = [_volume(stage, evidence, everything)]
    for slice in named if stage.needs.slice_pairs else ():
        have, need = evidence.slices.get(slice, _EMPTY).pairs, stage.needs.slice_pairs
        reason = f"{slice} has {have:,} pairs; at least {need:,} are needed"
        result.append(Condition("slice_volume", slice, have >= need, have, need, reason))
    for slice in dict.fromkeys([everything, *named]):
        part = evidence.slices.get(slice, _EMPTY)
        result.append(_coverage(slice, part, stage.needs.coverage))
        result.append(_missing(slice, part))
    if step is not None and step.stage == CANARY:
        result.append(_balance(step, everything, evidence))
    limit = stage.needs.freshness_s if stage.needs.freshness_s is not None else freshness_s_max
    result.append(_freshness(evidence.freshness_s, limit))
    return tuple(result)


def _volume(stage: StagePolicy, evidence: Evidence, everything: str) -> Condition:
    have, need = evidence.window_pairs, stage.needs.pairs
    reason = f"{have:,} pairs within the last {stage.needs.within_s / 3600:g} h; at least {need:,} are needed"
    return Condition("volume", everything, have >= need, have, need, reason)


def _coverage(slice: str, part: SliceEvidence, need: float) -> Condition:
    if part.coverage is None:
        return Condition("coverage", slice, False, None, need, f"coverage of {slice} is unknown; {need:.4g} is needed")
    reason = f"{part.coverage:.2%} of {slice} are paired; at least {need:.2%} are needed"
    return Condition("coverage", slice, part.coverage >= need, part.coverage, need, reason)


def _missing(slice: str, part: SliceEvidence) -> Condition:
    """Losses that are not random flatter the candidate."""
    name, missing = "missing_at_random", part.missing
    if missing is None:
        is_small = part.coverage is not None and 1 - part.coverage <= MISSING_SHARE_MAX + 1e-12
        reason = (
            f"at most {MISSING_SHARE_MAX:.1%} of {slice} is missing"
            if is_small
            else f"nothing is known of the requests of {slice} that are missing"
        )
        return Condition(
            name, slice, is_small, None if part.coverage is None else 1 - part.coverage, MISSING_SHARE_MAX, reason
        )
    if missing.share <= MISSING_SHARE_MAX:
        reason = f"{missing.share:.2%} of {slice} is missing, at most {MISSING_SHARE_MAX:.1%}"
        return Condition(name, slice, True, missing.share, MISSING_SHARE_MAX, reason)
    ratios = {"size": missing.size_ratio, "production latency": missing.latency_ratio}
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None}
    odd = {name: ratio for name, ratio in known.items() if not RATIO_MIN <= ratio <= RATIO_MAX}
    told = ", ".join(f"{what} {ratio:.3g} x" for what, ratio in (odd or known).items()) or "of unknown kind"
    reason = f"{missing.share:.2%} of {slice} is missing, compared with paired requests: {told}"
    reason += f" (accepted: {RATIO_MIN:g} to {RATIO_MAX:g} x)"
    return Condition(name, slice, bool(known) and not odd, missing.share, MISSING_SHARE_MAX, reason)


def _balance(step: LiveStep, slice: str, evidence: Evidence) -> Condition:
    """Two rate tests of the candidate's part in the sessions against the configured share (statistics.md, a.5).

    A share that is not what was configured means that sessions were not assigned at random, or not counted alike.
    """
    rate = evidence.slices.get(slice, _EMPTY).rates.get(BALANCE, RateCounts(0, 0))
    effect = evidence.design_effect.get(slice, {}).get(f"rates/{BALANCE}", 1.0)
    is_spread = evidence.cells.get(slice, {}).get(f"rates/{BALANCE}", CELLS) >= CELLS_MIN
    routed, n = (rate.violations / effect, rate.n / effect) if is_spread else (0.0, 0.0)
    share, need = step.share, math.log(1 / BALANCE_ALPHA)
    log_e = max(
        log_e_rate(routed, n, share, "le", share),
        log_e_rate(routed, n, share, "ge", RATE_BELOW_KAPPA0),
    )
    found = f"{rate.violations / rate.n:.2%} of {rate.n:,}" if rate.n else "none of 0"
    reason = f"the candidate was to serve {share:.4g} of the requests of {step.name}, and got {found}"
    return Condition("balance", slice, log_e < need, log_e, need, reason)


def _freshness(have: float | None, limit: float) -> Condition:
    if have is None:
        return Condition("freshness", ALL, False, None, limit, "the age of the newest closed tile is unknown")
    reason = f"the newest closed tile is {have:,.0f} s old; at most {limit:,.0f} s are accepted"
    return Condition("freshness", ALL, have <= limit, have, limit, reason)
