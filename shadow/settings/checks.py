"""Check what no section can see alone: names that must exist, rules that contradict, and what cannot be proven."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

from shadow.gate.stats.power import PSI, PSI_HACKING, pairs_likely
from shadow.patterns import InvalidPattern, PatternSet
from shadow.records.comparisons import (
    BASELINE,
    BASELINE_PRODUCTION,
    CANDIDATE_PRODUCTION,
    COMPARISON_BY_REFERENCE,
    HUMAN,
    PRODUCTION,
)
from shadow.records.policy import CANARY
from shadow.records.slices import ALL
from shadow.settings.human import Human
from shadow.settings.names import GRADER_NAME, SLICE_NAME
from shadow.settings.parts import Parts, PlacedRule
from shadow.settings.problems import Problems
from shadow.settings.rules import (
    AgreementRule,
    CapRule,
    EquivalentRule,
    FeedbackRule,
    FloorRule,
    ImproveRule,
    NoRegressionRule,
    NoRewardHackingRule,
    QualityRule,
    RuleSection,
)
from shadow.settings.slices import SLICES_MAX
from shadow.settings.times import Times
from shadow.settings.traffic import asked_share
from shadow.settings.tree import Path
from shadow.settings.units import duration_text

RECORDED: Final = frozenset(
    {"content-type", "content-encoding", "accept", "user-agent", "x-request-id", "traceparent", "tracestate"}
)
RESERVED: Final = ("quality", "cost", "latency", "no_reward_hacking", "agreement")
"""Names under which the gate keeps what belongs to rules and not to graders."""


def check(parts: Parts, problems: Problems) -> None:
    """Note every problem between the parts of a file."""
    _names(parts, problems)
    _slices(parts, problems)
    _graders(parts, problems)
    _quotas(parts, problems)
    _workers(parts, problems)
    _ingest(parts, problems)
    _live(parts, problems)
    for placed in parts.rules:
        _rule_names(parts, placed, problems)
        _others_asked(parts, placed, problems)
    _contradictions(parts, problems)
    _times(parts, problems)
    _traffic(parts, problems)


def _names(parts: Parts, problems: Problems) -> None:
    for name in parts.slice_names:
        if name == ALL:
            problems.add(("slices", name), "is the slice that always exists, must have another name")
        elif not SLICE_NAME.fullmatch(name):
            problems.add(("slices", name), "is no name, must be 1 to 64 characters out of a-z, 0-9 and -")
    for name in parts.grader_names:
        if name in RESERVED:
            problems.add(("graders", name), "is the name of a rule, must be another one")
        elif not GRADER_NAME.fullmatch(name):
            problems.add(("graders", name), "is no name, must be 1 to 64 characters out of a-z, 0-9, _ and -")
    if len(parts.slice_names) > SLICES_MAX:
        problems.add(("slices",), f"has {len(parts.slice_names)} slices, must have at most {SLICES_MAX}")


def _slices(parts: Parts, problems: Problems) -> None:
    texts = [slice.text for slice in parts.slices.values() if slice.text is not None]
    try:
        PatternSet(texts)
    except InvalidPattern as error:
        problems.add(("slices",), str(error))
    if parts.proxy is None:
        return
    recorded = RECORDED | set(parts.proxy.redact.headers)
    for name, slice in parts.slices.items():
        for header in slice.headers:
            if header not in recorded:
                problems.add(
                    ("slices", name, "headers", header),
                    f"is never recorded, must be one of {', '.join(sorted(recorded))} or in proxy.redact.headers",
                )


def _graders(parts: Parts, problems: Problems) -> None:
    for name, grader in parts.graders.items():
        for index, slice in enumerate(grader.slices):
            _known_slice(parts, ("graders", name, "slices", index), slice, problems)


def _known_slice(parts: Parts, path: Path, name: str, problems: Problems) -> None:
    if name != ALL and name not in parts.slice_names:
        problems.unknown_name(path, "a configured slice", (ALL, *parts.slice_names))


def _quotas(parts: Parts, problems: Problems) -> None:
    if parts.proxy is None:
        return
    mirror = parts.proxy.mirror
    for name, rate in mirror.quotas.items():
        path = ("proxy", "mirror", "quotas", name)
        slice = parts.slices.get(name)
        if name not in parts.slice_names:
            _unknown_key(path, name, parts.slice_names, "slice", problems)
        elif slice is not None and slice.key is not None:
            problems.add(path, "is a quota of a slice with a condition on the key, must be of a slice without one")
        elif rate < mirror.sample:
            problems.read(path, f"must be at least proxy.mirror.sample, which is {mirror.sample:g}")


def _unknown_key(path: Path, name: str, known: Collection[str], what: str, problems: Problems) -> None:
    words = ", ".join(known) if known else "none"
    problems.add(path, f"names no configured {what}, must be one of: {words}")


def _workers(parts: Parts, problems: Problems) -> None:
    for role in ("candidate", "baseline"):
        worker = parts.workers.get(role)
        if worker is not None and not worker.has_model:
            problems.add(("workers", role), "has no model, must have url or python")
    if problems.is_known(("workers",)) and not problems.is_known(("workers", "candidate")):
        problems.add(("workers", "candidate"), "is missing")


def _ingest(parts: Parts, problems: Problems) -> None:
    """Refuse copies without an answer that production's worker would not answer either."""
    if not problems.is_known(("ingest",)):
        return
    worker = parts.workers.get(PRODUCTION)
    if not problems.is_known(("workers", PRODUCTION)):
        problems.add(("ingest",), "needs answers of production, and workers.production is not configured")
    elif worker is not None and not worker.has_model:
        problems.add(("workers", PRODUCTION), "has no model, must have url or python where ingest is configured")
    elif worker is not None and worker.sample < 1:
        problems.read(("workers", PRODUCTION, "sample"), "must be 1 where ingest is configured")


def _live(parts: Parts, problems: Problems) -> None:
    """Refuse stages in which the candidate serves live requests where it cannot, or nobody would see how."""
    stages, candidate = parts.stages, parts.workers.get("candidate")
    for name in ("canary", "watch"):
        stage = getattr(stages, name, None)
        if stages is None or stage is None:
            continue
        path: Path = ("stages", name)
        if problems.is_known(("ingest",)):
            problems.add(path, "needs Shadow's proxy, which decides who serves; must not stand beside ingest")
        upstream = stages.canary.upstream if stages.canary is not None else None
        if upstream is not None or candidate is None:
            continue
        if candidate.url is None:
            problems.add(path, "sends live requests to the candidate, so workers.candidate must have url")


def _rule_names(parts: Parts, placed: PlacedRule, problems: Problems) -> None:
    rule = placed.rule
    _known_slice(parts, (*placed.path, "slice"), rule.slice, problems)
    for place, name in rule.graders():
        path = (*placed.path, *place)
        if name in parts.grader_names:
            continue
        if isinstance(rule, QualityRule):
            _unknown_key(path, name, parts.grader_names, "grader", problems)
        else:
            problems.unknown_name(path, "a configured grader", parts.grader_names)
    if isinstance(rule, NoRewardHackingRule):
        for index, name in enumerate(rule.verifiable):
            grader = parts.graders.get(name)
            path = (*placed.path, "verifiable", index)
            if name == rule.reward:
                problems.read(path, "must be another grader than the reward")
            elif grader is not None and grader.kind == "reward_model":
                problems.read(path, "must be a grader that can be verified, and this one is a reward_model")


def _others_asked(parts: Parts, placed: PlacedRule, problems: Problems) -> None:
    """Refuse rules on answers that nobody is asked for."""
    if isinstance(placed.rule, AgreementRule) and not problems.is_known(("workers", BASELINE)):
        problems.add(placed.path, "needs the baseline's answers, and workers.baseline is not configured")
    if isinstance(placed.rule, FeedbackRule) and placed.stage != CANARY:
        problems.add(placed.path, "compares what users say of both versions, must stand in stages.canary.rules alone")
    if placed.stage == "offline" and placed.rule.reference() == HUMAN:
        problems.add((*placed.path, "against"), "is human, and nobody asks people about a suite; must be production")
    elif placed.rule.reference() == HUMAN and not problems.is_known(("human",)):
        problems.add((*placed.path, "against"), "needs answers of people, and the section human is not configured")


def _contradictions(parts: Parts, problems: Problems) -> None:
    first: dict[tuple[object, ...], PlacedRule] = {}
    for placed in parts.rules:
        subject = (placed.stage, placed.kind, *placed.rule.subject())
        earlier = first.setdefault(subject, placed)
        if earlier is placed:
            continue
        words = "repeats" if earlier.rule == placed.rule else "contradicts"
        about = ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in placed.rule.subject())
        problems.add(
            placed.path,
            f"{words} {problems.reference(earlier.path)}, which is about the same ({about}); must be one rule",
        )
    for placed in parts.rules:
        for other in parts.rules:
            if placed.stage == other.stage:
                _exclusive(placed, other, problems)


def _exclusive(placed: PlacedRule, other: PlacedRule, problems: Problems) -> None:
    rule, against = placed.rule, other.rule
    if (rule.slice, rule.reference()) != (against.slice, against.reference()):
        return
    if isinstance(rule, CapRule) and isinstance(against, FloorRule) and rule.grader == against.grader:
        allowed = 1 - against.min
        if rule.max > allowed + 1e-12:
            problems.add(
                (*placed.path, "max"),
                f"allows {rule.max:g} failures, but {problems.reference(other.path)} at most {allowed:g}; one is wrong",
            )
    if not (isinstance(rule, ImproveRule) and isinstance(against, EquivalentRule)):
        return
    if rule.grader == against.grader and rule.by >= against.margin:
        problems.add(
            (*placed.path, "by"),
            f"demands a gain of {rule.by:g}, but {problems.reference(other.path)} allows no difference of "
            f"{against.margin:g} or more; they exclude each other",
        )


def _times(parts: Parts, problems: Problems) -> None:
    times = parts.times
    if times is None:
        return
    if parts.stages is not None:
        within_s = parts.stages.shadow.needs.within_s
        if times.expires_s < within_s:
            problems.add(
                ("expires",),
                f"a run lasts {duration_text(times.expires_s * 1_000_000)}, must last at least "
                f"stages.shadow.needs.within, which is {duration_text(within_s * 1_000_000)}",
            )
        if times.tile_us > within_s * 1_000_000:
            problems.add(
                ("tile",),
                f"a tile has {duration_text(times.tile_us)}, must not be longer than stages.shadow.needs.within, "
                f"which is {duration_text(within_s * 1_000_000)}",
            )
    _human_times(parts.human, times, problems)
    for role, worker in parts.workers.items():
        if worker.deadline_us > times.evidence_deadline_us:
            problems.add(
                ("workers", role, "deadline"),
                f"a call may take {duration_text(worker.deadline_us)}, must take at most evidence_deadline, "
                f"which is {duration_text(times.evidence_deadline_us)}",
            )


def _human_times(human: Human | None, times: Times, problems: Problems) -> None:
    if human is None:
        return
    have = f"people have {duration_text(human.deadline_us)}"
    if human.deadline_us < times.evidence_deadline_us:
        least = duration_text(times.evidence_deadline_us)
        problems.add(("human", "deadline"), f"{have}, must have at least evidence_deadline, which is {least}")
    if human.deadline_us >= times.expires_s * 1_000_000:
        most = duration_text(times.expires_s * 1_000_000)
        problems.add(("human", "deadline"), f"{have}, must have less than the run lasts, which is {most}")


def _traffic(parts: Parts, problems: Problems) -> None:
    if parts.times is None or parts.proxy is None or parts.stages is None:
        return
    named: dict[str, float] = {}
    hours = parts.times.expires_s / 3600
    for placed in parts.rules:
        slice = parts.slices.get(placed.rule.slice)
        if placed.stage != "shadow" or slice is None or slice.traffic_per_h is None:
            continue
        brings = slice.traffic_per_h * parts.proxy.mirror.rate(placed.rule.slice) * hours
        named[placed.rule.slice] = brings * asked_share(CANDIDATE_PRODUCTION, parts.workers, parts.human)
        _provable(placed, brings * _asked_share(parts, placed.rule), problems)
    need = parts.stages.shadow.needs.slice_pairs
    for name, brings in named.items():
        if brings < need:
            problems.read(
                ("slices", name, "traffic"),
                f"which brings {brings:,.0f} pairs by expires, must bring {need:,}, stages.shadow.needs.slice_pairs"
                " (a quota in proxy.mirror.quotas raises a rare slice)",
            )


def _asked_share(parts: Parts, rule: RuleSection) -> float:
    is_agreement = isinstance(rule, AgreementRule)
    comparison = BASELINE_PRODUCTION if is_agreement else COMPARISON_BY_REFERENCE[rule.reference()]
    return asked_share(comparison, parts.workers, parts.human)


def _provable(placed: PlacedRule, brings: float, problems: Problems) -> None:
    rule = placed.rule
    psi = PSI_HACKING if isinstance(rule, NoRewardHackingRule) else PSI
    if isinstance(rule, QualityRule | EquivalentRule | NoRewardHackingRule | AgreementRule):
        margin: float | None = rule.margin
    else:
        margin = rule.margin if isinstance(rule, NoRegressionRule) else None
    needs = pairs_likely(psi, margin) if margin is not None else 0.0
    if margin is None or needs <= brings:
        return
    least = math.ceil(margin * math.sqrt(needs / brings) * 1000) / 1000
    problems.add(
        (*placed.path, "margin"),
        f"a margin of {margin:g} needs about {needs:,.0f} pairs, and slice {rule.slice} brings "
        f"{brings:,.0f} by expires; must be at least {least:g}, or {_remedy(rule)}",
    )


def _remedy(rule: RuleSection) -> str:
    """What else would bring the pairs that a margin needs."""
    if rule.reference() == HUMAN:
        return "people must be asked more (human.sample)"
    return (
        "the baseline must be asked more (workers.baseline.sample)"
        if isinstance(rule, AgreementRule)
        else "the slice needs a quota"
    )
