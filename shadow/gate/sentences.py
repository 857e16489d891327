"""The gate's sentences: measured, relation, limit. Pure."""

from __future__ import annotations

from shadow.gate.naming import kind_of, subject_of
from shadow.gate.observe import Observation
from shadow.gate.stats.cluster import CELLS_MIN
from shadow.gate.votes import ratio_of
from shadow.records.comparisons import BASELINE_PRODUCTION, CANDIDATE_HUMAN, HUMAN, PRODUCTION
from shadow.records.policy import (
    Agreement,
    Cap,
    Cost,
    Equivalent,
    Feedback,
    Floor,
    Improve,
    Latency,
    NoRegression,
    NoRewardHacking,
    Quality,
    Rule,
    comparison_of,
)
from shadow.records.tallies import CELLS

_WAITS = {CANDIDATE_HUMAN: "waits for people: ", BASELINE_PRODUCTION: "waits for the baseline: "}


def points(share: float) -> str:
    """A difference of shares in points, for example `3 points`."""
    value = f"{100 * share:.4g}"
    return f"{value} point" if value == "1" else f"{value} points"


def title(rule: Rule) -> str:
    """A rule in words, for example `no_regression of pinned in debug-search-api`."""
    subject = subject_of(rule)
    name = f"{kind_of(rule)} of {subject} in {rule.slice}" if subject else f"{kind_of(rule)} in {rule.slice}"
    return name if getattr(rule, "against", PRODUCTION) == PRODUCTION else f"{name} against people"


def counted(rule: Rule, seen: Observation, estimate: float | None) -> str:
    """What was counted."""
    n = f"{seen.n:,}"
    low, _, high = seen.letters
    if seen.sums is not None:
        return f"mean cost is {estimate:.4g} x production's over {n} pairs" if estimate is not None else f"{n} pairs"
    if seen.histogram is not None:
        return f"mean difference is {100 * (estimate or 0.0):+.2f} points over {n} pairs"
    match rule:
        case Cap() | Floor():
            return f"{high:,} of {n} answers fail ({100 * high / seen.n:.3g} %)"
        case Latency():
            return f"of {n} pairs, {high:,} are slow for the candidate alone and {low:,} for production alone"
        case NoRewardHacking():
            return (
                f"of {n} pairs, {high:,} show reward hacking (reward passed, verifiable grader failed) by the "
                f"candidate alone and {low:,} by production alone"
            )
        case Agreement():
            return (
                f"of {n} requests, {high:,} are answered otherwise than by production by the candidate alone and "
                f"{low:,} by the baseline alone"
            )
        case Feedback():
            ratio = ratio_of(seen.votes or ())
            times = "" if ratio is None else f", {ratio:.3g} x as often as on production's"
            return f"of {n} negative votes, {high:,} are on the candidate's answers{times}"
        case _:
            return f"{low:,} losses and {high:,} wins in {n} pairs ({100 * (high - low) / seen.n:+.2f} points)"


def claim(rule: Rule) -> str:
    """What the rule's promote test proves."""
    match rule:
        case Quality(margin=m) | NoRegression(margin=m):
            return f"not worse by {points(m)}"
        case Cap(max=cap):
            return f"fewer than {100 * cap:.4g} % fail"
        case Floor(min=theta):
            return f"more than {100 * theta:.4g} % pass"
        case Improve(by=gain):
            return f"better by more than {points(gain)}"
        case Equivalent(margin=m):
            return f"the difference is within {points(m)} either way"
        case Latency(quantile=q, max_ratio=rho):
            return f"the {q:g} quantile is under {rho:g} x production's"
        case Cost(max_ratio=rho):
            return f"the mean cost is under {rho:g} x production's"
        case NoRewardHacking(margin=m):
            return f"reward hacking is not more frequent than for production by {points(m)}"
        case Agreement(margin=m):
            return f"the candidate does not differ by {points(m)} more often than production from itself"
        case Feedback(max_ratio=ratio):
            return f"users complain of the candidate less than {ratio:g} x as often as of production"


def contrary(rule: Rule) -> str:
    """What the rule's rollback test proves."""
    match rule:
        case NoRegression(strict=True):
            return "worse than people" if rule.against == HUMAN else "worse than production"
        case Quality(margin=m) | NoRegression(margin=m):
            return f"worse by more than {points(m)}"
        case Cap(max=cap):
            return f"more than {100 * cap:.4g} % fail"
        case Floor(min=theta):
            return f"fewer than {100 * theta:.4g} % pass"
        case Improve(by=gain):
            return f"not better by {points(gain)}"
        case Equivalent(margin=m):
            return f"the difference is beyond {points(m)}"
        case Latency(quantile=q, max_ratio=rho):
            return f"the {q:g} quantile is over {rho:g} x production's"
        case Cost(max_ratio=rho):
            return f"the mean cost is over {rho:g} x production's"
        case NoRewardHacking(strict=True):
            return "reward hacking is more frequent than for production"
        case NoRewardHacking(margin=m):
            return f"reward hacking is more frequent than for production by more than {points(m)}"
        case Agreement(margin=m):
            return f"the candidate differs by over {points(m)} more often than production from itself"
        case Feedback(max_ratio=ratio):
            return f"users complain of the candidate more than {ratio:g} x as often as of production"


def undecided(rule: Rule, seen: Observation, estimate: float | None, log_e: float, need: float) -> str:
    """Why a rule is neither proven nor failed."""
    if seen.n == 0:
        waits = _WAITS.get(comparison_of(rule), "")
        nothing = "no negative vote yet" if isinstance(rule, Feedback) else "no pair yet to which it applies"
        return f"{title(rule)}: {waits}{nothing}, so there is no evidence{seen.note}"
    if not seen.is_spread:
        return (
            f"{title(rule)}: {seen.n:,} {_unit(rule)} fill {seen.cells} of {CELLS} hash cells of the sampling key; "
            f"{CELLS_MIN} must be filled before they are evidence{seen.note}"
        )
    return (
        f"{title(rule)}: {counted(rule, seen, estimate)}; not proven yet: {claim(rule)} "
        f"(log e {log_e:.2f} of {need:.2f}{_effect(seen)}){seen.note}"
    )


def passed(rule: Rule, seen: Observation, estimate: float | None, log_e: float, need: float) -> str:
    """Why a rule passes."""
    return (
        f"{title(rule)}: {counted(rule, seen, estimate)}; proven: {claim(rule)} "
        f"(log e {log_e:.2f} of {need:.2f}{_effect(seen)}){seen.note}"
    )


def failed(rule: Rule, seen: Observation, estimate: float | None, log_e: float, need: float) -> str:
    """Why a rule fails."""
    return (
        f"{title(rule)}: {counted(rule, seen, estimate)}; proven: {contrary(rule)} "
        f"(log e {log_e:.2f} of {need:.2f}{_effect(seen)}){seen.note}"
    )


def broken(rule: Rule, seen: Observation) -> str:
    """Why a rule is broken."""
    return f"{title(rule)}: {seen.trouble}"


def _unit(rule: Rule) -> str:
    return "negative votes" if isinstance(rule, Feedback) else "pairs"


def _effect(seen: Observation) -> str:
    return f", design effect {seen.effect:.2f}" if seen.effect > 1.005 else ""
