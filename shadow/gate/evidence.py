"""Read and write evidence.json (design.md, section 15). Pure.

Beyond section 15, each optional:

* `slices.S.latency.Q.q.production_slow`: all slow answers of production, so that its own share can be checked;
* `slices.S.cost.basis.v`: the cluster variance of the sum of c - rho p;
* `cells: {slice: {grader or rule: non-empty hash cells}}`: absent means enough;
* `comparisons.C`: `slices`, `design_effect` and `cells` of `candidate-human` or `baseline-production`;
* `slices.S.asked`: there, the requests that people or the baseline were asked about and whose deadline is over;
* `slices.S.rates["floor/<grader>"]`: the candidate's failures as a floor counts them, where a cap on the same
  grader counts otherwise;
* `slices["canary-1/all"].rates`: `balance` and `feedback` of that step (`violations`: those of the candidate's share).

`design_effect` and `cells` are named by grader, or by rule (`quality`, `cost`, `latency`, `no_reward_hacking`). More
exact names win where both stand: `rates/<grader>`, `floor/<grader>`, `numeric/<grader>`, `cost/<basis>`,
`latency/<quantity>:<quantile>:<max_ratio>`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, TypeVar

from shadow.errors import Usage
from shadow.gate.measures import (
    AgreementCounts,
    Evidence,
    HackCounts,
    LatencyCounts,
    MissingShare,
    PairCounts,
    RateCounts,
    RatioSums,
    SliceEvidence,
)
from shadow.gate.strict_json import at_most, count, named, number, record, shown, strict_object
from shadow.records.comparisons import CANDIDATE_PRODUCTION, ROLES_BY_COMPARISON
from shadow.records.slices import ALL
from shadow.records.tallies import BALANCE, FEEDBACK

SUM_MAX: Final = 10**38
APART: Final = (BALANCE, FEEDBACK)
"""Rates of a canary step that count requests and votes, whoever served, and not the step's pairs."""

_SLICE: Final = re.compile(r"((canary|watch)(-[0-9]{1,2})?/)?[a-z0-9-]{1,64}")
_GRADER: Final = re.compile(r"[a-z0-9_-]{1,64}")
_RATE: Final = re.compile(r"(floor/)?[a-z0-9_-]{1,64}")
_EFFECT: Final = re.compile(r"([a-z_]{1,64}/){0,2}[a-z0-9_:.+-]{1,96}")
_QUANTILE: Final = re.compile(r"(0\.[0-9]{1,9})(:[0-9.]{1,12})?")
_OTHERS: Final = re.compile("|".join(name for name in ROLES_BY_COMPARISON if name != CANDIDATE_PRODUCTION))
_OTHERS_NAME: Final = "a comparison other than the main one"
_SLICE_NAME: Final = (
    "a slice's name ([a-z0-9-]{1,64}, in canary and watch behind the stage or step, as in canary-1/all)"
)
_GRADER_NAME: Final = "a grader's name ([a-z0-9_-]{1,64})"

T = TypeVar("T")


def evidence_from_json(value: bytes) -> Evidence:
    """Read evidence strictly.

    Raises:
        Usage: One sentence that names the place, for anything unknown, negative, not finite or inconsistent.
    """
    tree = strict_object(value, "evidence")
    record(
        tree,
        "the document",
        (),
        ("attempt", "age_s", "freshness_s", "window", "log_sr", "slices", "design_effect", "cells", "comparisons"),
    )
    attempt = count(tree.get("attempt", 1), "attempt", 10**6)
    if attempt < 1:
        raise Usage("evidence: attempt is 0; the first attempt is 1")
    window = record(tree.get("window", {}), "window", (), ("pairs",))
    slices = _slices(tree, "")
    window_pairs = count(window.get("pairs", 0), "window.pairs")
    if ALL in slices and "pairs" in tree["slices"][ALL]:
        at_most(window_pairs, slices[ALL].pairs, "window", "pairs", "pairs of slice all in the totals")
    return Evidence(
        attempt=attempt,
        age_s=number(tree.get("age_s", 0), "age_s", 0),
        freshness_s=_optional(tree, "freshness_s", "", lambda v, w: number(v, w, 0)),
        window_pairs=window_pairs,
        log_sr=_optional(tree, "log_sr", "", lambda v, w: number(v, w, -math.inf)),
        slices=slices,
        design_effect=_by_name(tree, "design_effect", lambda v, w: number(v, w, 1)),
        cells=_by_name(tree, "cells", lambda v, w: count(v, w, 128)),
        others={
            name: _other(part, f"comparisons.{name}")
            for name, part in named(tree.get("comparisons", {}), "comparisons", _OTHERS, _OTHERS_NAME).items()
        },
    )


def _slices(tree: dict[str, Any], inside: str) -> dict[str, SliceEvidence]:
    where = f"{inside}slices"
    parts = named(tree.get("slices", {}), where, _SLICE, _SLICE_NAME)
    return {name: _slice(part, f"{where}.{name}") for name, part in parts.items()}


def _other(value: Any, where: str) -> Evidence:
    """What another comparison has of its own."""
    tree = record(value, where, (), ("slices", "design_effect", "cells"))
    return Evidence(
        slices=_slices(tree, f"{where}."),
        design_effect=_by_name(tree, "design_effect", lambda v, w: number(v, w, 1)),
        cells=_by_name(tree, "cells", lambda v, w: count(v, w, 128)),
    )


def _optional(tree: dict[str, Any], key: str, where: str, read: Callable[[Any, str], T]) -> T | None:
    value = tree.get(key)
    return None if value is None else read(value, f"{where}.{key}" if where else key)


def _by_name(tree: dict[str, Any], part: str, read: Callable[[Any, str], T]) -> dict[str, dict[str, T]]:
    return {
        slice: {
            name: read(value, f"{part}.{slice}.{name}")
            for name, value in named(names, f"{part}.{slice}", _EFFECT, "a grader's or rule's name").items()
        }
        for slice, names in named(tree.get(part, {}), part, _SLICE, _SLICE_NAME).items()
    }


_SLICE_PARTS: Final = (
    "pairs",
    "coverage",
    "missing",
    "graders",
    "rates",
    "numeric",
    "cost",
    "latency",
    "agreement",
    "reward_hacking",
    "asked",
)


def _slice(value: Any, where: str) -> SliceEvidence:
    tree = record(value, where, (), _SLICE_PARTS)
    pairs = count(tree.get("pairs", 0), f"{where}.pairs")
    part = SliceEvidence(
        pairs=pairs,
        coverage=_optional(tree, "coverage", where, lambda v, w: number(v, w, 0, 1)),
        missing=_optional(tree, "missing", where, _missing),
        graders=_each(tree, "graders", where, _GRADER, _GRADER_NAME, _pair_counts),
        rates=_each(tree, "rates", where, _RATE, _GRADER_NAME, _rate_counts),
        numeric=_each(tree, "numeric", where, _GRADER, '"quality" or a grader\'s name', _histogram),
        cost=_each(tree, "cost", where, re.compile("request|tokens"), '"request" or "tokens"', _sums),
        latency=_latencies(tree.get("latency", {}), f"{where}.latency"),
        agreement=_optional(tree, "agreement", where, _agreement),
        reward_hacking=_optional(tree, "reward_hacking", where, _hacks),
        asked=_optional(tree, "asked", where, count),
    )
    if "pairs" in tree:
        for name, n in _numbers_of_pairs(part):
            at_most(n, pairs, f"{where}.{name}", "pairs to which it applies", "pairs in the slice")
        if part.asked is not None:
            at_most(pairs, part.asked, where, "pairs", "requests asked about")
    return part


def _numbers_of_pairs(part: SliceEvidence) -> list[tuple[str, int]]:
    numbers = [(f"graders.{name}", counts.n) for name, counts in part.graders.items()]
    numbers += [(f"rates.{name}", rate.n) for name, rate in part.rates.items() if name not in APART]
    numbers += [(f"numeric.{name}", sum(bins)) for name, bins in part.numeric.items()]
    numbers += [(f"cost.{name}", sums.n) for name, sums in part.cost.items()]
    numbers += [(f"latency.{name}", slow.n) for name, slow in part.latency.items()]
    if part.reward_hacking is not None:
        numbers.append(("reward_hacking", part.reward_hacking.n))
    if part.agreement is not None:
        numbers.append(("agreement", part.agreement.n))
    return numbers


def _each(
    tree: dict[str, Any],
    part: str,
    where: str,
    pattern: re.Pattern[str],
    what: str,
    read: Callable[[Any, str], T],
) -> dict[str, T]:
    inside = f"{where}.{part}"
    return {
        name: read(value, f"{inside}.{name}")
        for name, value in named(tree.get(part, {}), inside, pattern, what).items()
    }


def _missing(value: Any, where: str) -> MissingShare:
    tree = record(value, where, ("share",), ("size_ratio", "latency_ratio"))
    return MissingShare(
        share=number(tree["share"], f"{where}.share", 0, 1),
        size_ratio=_optional(tree, "size_ratio", where, lambda v, w: number(v, w, 0)),
        latency_ratio=_optional(tree, "latency_ratio", where, lambda v, w: number(v, w, 0)),
    )


def _pair_counts(value: Any, where: str) -> PairCounts:
    names = ("both", "production_only", "candidate_only", "neither")
    tree = record(value, where, names)
    return PairCounts(*(count(tree[name], f"{where}.{name}") for name in names))


def _rate_counts(value: Any, where: str) -> RateCounts:
    tree = record(value, where, ("violations", "n"))
    rate = RateCounts(count(tree["violations"], f"{where}.violations"), count(tree["n"], f"{where}.n"))
    at_most(rate.violations, rate.n, where, "violations", "answers")
    return rate


def _histogram(value: Any, where: str) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != 41:
        found = f"a list of {len(value)}" if isinstance(value, list) else shown(value)
        raise Usage(f"evidence: {where} is {found}; a list of 41 counts of D from -1 to 1 is expected")
    return tuple(count(item, f"{where}[{index}]") for index, item in enumerate(value))


def _sums(value: Any, where: str) -> RatioSums:
    names = ("n", "sum_c", "sum_p", "sum_cc", "sum_pp", "sum_cp")
    tree = record(value, where, names, ("v",))
    n = count(tree["n"], f"{where}.n")
    c, p, cc, pp, cp = (count(tree[name], f"{where}.{name}", SUM_MAX) for name in names[1:])
    if n == 0 and any((c, p, cc, pp, cp)):
        raise Usage(f"evidence: {where}.n is 0, yet its sums are not")
    for name, square, total in (("sum_cc", cc, c), ("sum_pp", pp, p)):
        if square * n < total * total:
            least = -(-total * total // n)
            raise Usage(f"evidence: {where}.{name} is {square}; {n} values that sum to {total} need at least {least}")
    if cp * cp > cc * pp:
        raise Usage(f"evidence: {where}.sum_cp is {cp}; its square cannot exceed sum_cc x sum_pp")
    return RatioSums(n, c, p, cc, pp, cp, _optional(tree, "v", where, lambda v, w: number(v, w, 0)))


def _latencies(value: Any, where: str) -> dict[str, LatencyCounts]:
    result: dict[str, LatencyCounts] = {}
    quantities = re.compile("total|first_byte")
    for quantity, quantiles in named(value, where, quantities, '"total" or "first_byte"').items():
        inside = f"{where}.{quantity}"
        for name, part in named(quantiles, inside, _QUANTILE, 'a quantile such as "0.95"').items():
            counts = _latency(part, f"{inside}.{name}", quantity, name)
            if counts.statistic in result:
                raise Usage(f"evidence: {inside}.{name} counts {counts.statistic} a second time")
            result[counts.statistic] = counts
    return result


def _latency(value: Any, where: str, quantity: str, name: str) -> LatencyCounts:
    names = ("candidate_only_slow", "production_only_slow", "n")
    tree = record(value, where, (*names, "max_ratio"), ("tau0_us", "production_slow"))
    quantile, _, ratio = name.partition(":")
    max_ratio = number(tree["max_ratio"], f"{where}.max_ratio", 0.001, 1e6)
    if not 0 < float(quantile) < 1:
        raise Usage(f"evidence: {where}: a quantile lies between 0 and 1")
    if ratio and ratio != f"{max_ratio:g}":
        raise Usage(f"evidence: {where}.max_ratio is {max_ratio:g}; its name says {ratio}")
    candidate, production, n = (count(tree[part], f"{where}.{part}") for part in names)
    at_most(candidate + production, n, where, "slow pairs of one role alone", "pairs")
    slow = _optional(tree, "production_slow", where, count)
    if slow is not None:
        at_most(slow + candidate, n, where, "pairs with production slow or the candidate alone", "pairs")
        at_most(production, slow, where, "pairs with only production slow", "with production slow")
    tau0_us = _optional(tree, "tau0_us", where, count)
    return LatencyCounts(quantity, float(quantile), max_ratio, candidate, production, n, tau0_us, slow)


def _agreement(value: Any, where: str) -> AgreementCounts:
    names = ("candidate_only_differs", "baseline_only_differs", "n")
    tree = record(value, where, names)
    counts = AgreementCounts(*(count(tree[name], f"{where}.{name}") for name in names))
    at_most(counts.candidate_only_differs + counts.baseline_only_differs, counts.n, where, "differing", "requests")
    return counts


def _hacks(value: Any, where: str) -> HackCounts:
    names = ("candidate_only", "production_only", "n")
    tree = record(value, where, names)
    counts = HackCounts(*(count(tree[name], f"{where}.{name}") for name in names))
    at_most(counts.candidate_only + counts.production_only, counts.n, where, "pairs of one role alone", "pairs")
    return counts


def evidence_to_json(evidence: Evidence) -> bytes:
    """Write evidence as one line of canonical JSON: sorted keys, no NaN; `evidence_from_json` reads it back."""
    # The standard library, because sums of squares may pass 64 bits.
    return json.dumps(evidence_tree(evidence), sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def evidence_tree(evidence: Evidence) -> dict[str, Any]:
    """Evidence as plain dictionaries; empty parts are left out."""
    tree: dict[str, Any] = {
        "attempt": evidence.attempt,
        "age_s": evidence.age_s,
        "window": {"pairs": evidence.window_pairs},
        "slices": _slices_tree(evidence),
    }
    if evidence.freshness_s is not None:
        tree["freshness_s"] = evidence.freshness_s
    if evidence.log_sr is not None:
        tree["log_sr"] = evidence.log_sr
    tree.update(_corrections_tree(evidence))
    if evidence.others:
        tree["comparisons"] = {
            name: {"slices": _slices_tree(other), **_corrections_tree(other)} for name, other in evidence.others.items()
        }
    return tree


def _slices_tree(evidence: Evidence) -> dict[str, Any]:
    return {name: _slice_tree(part) for name, part in evidence.slices.items()}


def _corrections_tree(evidence: Evidence) -> dict[str, Any]:
    both = {"design_effect": evidence.design_effect, "cells": evidence.cells}
    return {key: {slice: dict(values) for slice, values in names.items()} for key, names in both.items() if names}


def _slice_tree(part: SliceEvidence) -> dict[str, Any]:
    tree: dict[str, Any] = {"pairs": part.pairs}
    if part.coverage is not None:
        tree["coverage"] = part.coverage
    if part.asked is not None:
        tree["asked"] = part.asked
    for key in ("graders", "rates", "cost"):
        values = getattr(part, key)
        if values:
            tree[key] = {name: _stated(value) for name, value in values.items()}
    for key in ("missing", "agreement", "reward_hacking"):
        value = getattr(part, key)
        if value is not None:
            tree[key] = _stated(value)
    if part.numeric:
        tree["numeric"] = {name: list(bins) for name, bins in part.numeric.items()}
    for slow in part.latency.values():
        quantiles = tree.setdefault("latency", {}).setdefault(slow.quantity, {})
        name = f"{slow.quantile:g}"
        fields = _stated(slow)
        del fields["quantity"], fields["quantile"]
        quantiles[name if name not in quantiles else f"{name}:{slow.max_ratio:g}"] = fields
    return tree


def _stated(value: Any) -> dict[str, Any]:
    return {key: item for key, item in asdict(value).items() if item is not None}
