"""The digest of a configuration: equal for files that count and judge the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from shadow.records.comparisons import PRODUCTION
from shadow.records.grades import GraderSpec
from shadow.records.policy import KIND_BY_RULE, Policy, StagePolicy
from shadow.records.slices import SliceSpec
from shadow.settings.human import Human
from shadow.settings.proxy import ProxySection
from shadow.settings.run import Run
from shadow.settings.workers import Worker

FORMAT = 1
"""Raised when the same configuration gets another digest than before."""


def digest_of(
    *,
    run: Run,
    proxy: ProxySection,
    workers: Mapping[str, Worker],
    human: Human | None,
    slices: Sequence[SliceSpec],
    graders: Sequence[GraderSpec],
    policy: Policy,
    offline: StagePolicy | None = None,
    repeat: str = "",
) -> str:
    """SHA-256 of the parts that change what is counted or judged, 64 hexadecimal digits."""
    mirror = proxy.mirror
    parts: dict[str, Any] = {
        "format": FORMAT,
        "run": run.model_dump(),
        "mirror": {
            "sample": mirror.sample,
            "keys": mirror.keys(),
            "methods": sorted(mirror.methods),
            "paths": sorted(mirror.paths),
            "body_max": mirror.body_max,
            "quotas": mirror.quotas,
            "redact": [sorted(proxy.redact.headers), sorted(proxy.redact.json_paths)],
        },
        "workers": {role: _worker(worker) for role, worker in workers.items()},
        "slices": {spec.name: asdict(spec) for spec in slices},
        "graders": {spec.name: _grader(spec) for spec in graders},
        "stages": [_stage(stage) for stage in policy.stages],
        "times": [policy.tile_us, policy.evidence_deadline_us, policy.expires_s],
    }
    if offline is not None:
        parts["offline"] = {**_stage(offline), "repeat": repeat}
    if human is not None:
        parts["human"] = human.model_dump()
    return sha256(json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def _worker(worker: Worker) -> dict[str, Any]:
    return {
        "deadline_us": worker.deadline_us,
        "sample": worker.sample,
        "json": worker.rewrite.json_values,
        # Values of headers are addresses or secrets.
        "headers": sorted(worker.rewrite.headers),
        "path_prefix": worker.rewrite.path_prefix,
        "price": worker.price.model_dump() if worker.price is not None else None,
    }


def _grader(spec: GraderSpec) -> dict[str, Any]:
    params = {name: value for name, value in spec.params.items() if name != "url"}
    return {"kind": spec.kind, "slices": sorted(spec.slices), "params": params}


def _stage(stage: Any) -> dict[str, Any]:
    rules = [{"rule": KIND_BY_RULE[type(rule)], **asdict(rule)} for rule in stage.rules]
    for rule in rules:
        if rule.get("against") == PRODUCTION:
            del rule["against"]  # what was the only reference before is not named
    tree: dict[str, Any] = {"name": stage.name, "needs": asdict(stage.needs), "alpha": stage.alpha, "rules": rules}
    if stage.steps:
        tree |= {"steps": stage.steps, "production_rate": stage.production_rate, "for_s": stage.for_s}
    return tree
