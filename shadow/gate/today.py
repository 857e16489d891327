"""What each rule will be able to find by the deadline, at today's traffic and with what the pairs are like. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from shadow.gate.compiled import CompiledStage
from shadow.gate.explain import pace
from shadow.gate.judgement import Judgement
from shadow.gate.laws import detectable
from shadow.gate.observe import Observation
from shadow.gate.plan import rollback_alpha
from shadow.gate.stats import power

PRIOR_PAIRS: Final = 50
"""Pairs of the planned kind that are added to those seen, so that a few even ones do not promise everything."""
NOTHING: Final = 1.0
"""What is found where nothing is: less than all answers cannot be told."""


def detectable_today(
    compiled: CompiledStage, seen: Sequence[Observation], judgement: Judgement, expires_s: float
) -> Mapping[tuple[str, str], float]:
    """The smallest regression that each rule alone will roll back by the deadline in nine runs of ten.

    Latency and cost, whose regressions are ratios, and rules that roll nothing back are left out.

    Args:
        seen: What each rule sees. Length R.
        expires_s: Longest age of the stage.

    Returns:
        By (rule's name, slice): a drop of a pass rate, a rise of hacking or disagreement, or, of a cap or floor, the
        share of answers that fail; in (0, 1], 1 where nothing will be found.
    """
    found: dict[tuple[str, str], float] = {}
    for index, (rule, each, line) in enumerate(zip(compiled.stage.rules, seen, judgement.rules, strict=True)):
        alpha = rollback_alpha(compiled, index)
        pairs = pairs_at(each, judgement, expires_s) / each.effect if each.is_spread else 0.0
        psi, hacking = _psi(each, power.PSI), _psi(each, power.PSI_HACKING)
        regression = detectable(rule, pairs, alpha, psi, hacking) if alpha is not None else None
        if regression is not None and regression.unit != "ratio":
            found[line.name, line.slice] = NOTHING if regression.value is None else regression.value
    return found


def pairs_at(seen: Observation, judgement: Judgement, expires_s: float) -> float:
    """Pairs that a rule will have at the deadline, at today's rate."""
    age_s = judgement.evidence.age_s
    if age_s <= 0:
        return float(seen.n)
    return seen.n + seen.n / age_s * pace(judgement) * max(0.0, expires_s - age_s)


def _psi(seen: Observation, planned: float) -> float:
    """Share of pairs that differ: as seen, and as planned where little is seen."""
    if seen.histogram is not None:
        square = sum(count * (place / 20 - 1) ** 2 for place, count in enumerate(seen.histogram))
    else:
        square = float(seen.letters[0] + seen.letters[2])
    return (square + planned * PRIOR_PAIRS) / (seen.n + PRIOR_PAIRS)
