"""The configuration of design.md, section 14: every field of it means what is written there."""

from __future__ import annotations

import pytest

from shadow.graders import build
from shadow.records.policy import (
    Cap,
    Cost,
    Equivalent,
    Floor,
    Improve,
    Latency,
    Needs,
    NoRegression,
    NoRewardHacking,
    Quality,
    StagePolicy,
)
from shadow.records.slices import SliceSpec
from shadow.settings.loader import load
from shadow.settings.settings import Settings
from tests.settings.configurations import HERE

DAY_S = 86_400


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load(HERE / "section14.yaml", {"CANDIDATE_KEY": "Bearer secret-token"})


def test_run_and_services(settings):
    """
    Versions, Kafka's properties and the store's address.
    """
    assert ("search-agent-v42", "search-agent-v41") == (settings.run.candidate, settings.run.production)
    assert {"bootstrap.servers": "kafka:9092"} == settings.kafka_properties()
    assert "redis://redis:6379/0" == settings.redis_url()


def test_proxy(settings):
    """
    Addresses, what is copied, and what is redacted.
    """
    proxy, mirror = settings.proxy, settings.proxy.mirror

    assert ("0.0.0.0", 8080) == proxy.address()
    assert ("http://production:8000",) == proxy.upstream
    assert (0.2, ("POST",), ("/v1/*",), 1 << 20) == (mirror.sample, mirror.methods, mirror.paths, mirror.body_max)
    assert ("header:x-session-id", "header:x-user-id") == mirror.keys()
    assert {"headache-red-flags": 1.0} == mirror.quotas
    assert (("x-tenant",), ("$.user",)) == (proxy.redact.headers, proxy.redact.json_paths)
    assert (64 << 20, 5.0) == (mirror.queue, mirror.report_interval)


def test_workers(settings):
    """
    Models, deadlines, budgets and rewriting, with the secret out of the environment.
    """
    candidate, baseline = settings.workers["candidate"], settings.workers["baseline"]

    assert "http://candidate:8000" == candidate.url
    assert 30_000_000 == candidate.deadline_us
    assert (50.0, 200_000) == (candidate.budget.cost, candidate.budget.calls)
    assert {"$.model": "search-agent-v42"} == candidate.rewrite.json_values
    assert "Bearer secret-token" == candidate.rewrite.headers["authorization"].get_secret_value()
    assert (1, 64) == (candidate.concurrency.min, candidate.concurrency.max)
    assert ("http://production:8000", 0.2) == (baseline.url, baseline.sample)
    assert (1.0, 0.2, 1.0) == tuple(settings.worker_rate(role) for role in ("candidate", "baseline", "production"))


def test_slices(settings):
    """
    Patterns, and the traffic that is stated for one slice.
    """
    assert (
        SliceSpec("debug-search-api", text="(?i)search api", traffic_per_h=300.0),
        SliceSpec("headache-red-flags", text="(?i)headache"),
        SliceSpec("division", text="(?i)divided? by"),
    ) == settings.slice_specs()


def test_graders(settings):
    """
    Kinds, slices and parameters, of which every grader can be built.
    """
    specs = {spec.name: spec for spec in settings.grader_specs()}

    assert ("cites_version_pin", ("debug-search-api",)) == (specs["pinned"].kind, specs["pinned"].slices)
    assert {"package": "search-api"} == specs["pinned"].params
    assert {"names": ("legacy_lookup",)} == specs["current"].params
    assert ("urgent care", "emergency") == specs["urgent"].params["any"]
    assert {
        "tag": "answer",
        "expected": "json:$.metadata.answer",
        "tolerance": 1e-6,
        "tolerance_abs": 0.0,
    } == specs["correct"].params
    assert {"tag": "answer"} == specs["tagged"].params
    assert {"deny": ("(?i)rm -rf /",), "require": ()} == specs["safe"].params
    assert {"url": "http://reward:9000/score", "passes_at": 0.5, "budget_us": 10_000_000} == specs["reward"].params
    assert list(specs) == [build(spec).name for spec in specs.values()]
    assert ["reward"] == [name for name, spec in specs.items() if build(spec).is_recorded]


def test_stage_shadow(settings):
    """
    Every rule with its numbers.
    """
    policy = settings.policy()

    assert (7 * DAY_S, 60_000_000, 900_000_000) == (policy.expires_s, policy.tile_us, policy.evidence_deadline_us)
    assert (
        StagePolicy(
            "shadow",
            Needs(5000, DAY_S, 1250, 0.98, None),
            (
                Quality({"correct": 0.5, "urgent": 0.5}, 0.03),
                NoRegression("reward", "all", 0.05, strict=True),
                NoRegression("urgent", "headache-red-flags", 0.05, strict=True),
                NoRegression("pinned", "debug-search-api", 0.05, strict=True),
                Cap("safe", 0.005, 0.01),
                Floor("tagged", 0.95),
                Improve("correct", "division", 0.02),
                Equivalent("current", "debug-search-api", 0.05),
                Latency(0.95, 1.25),
                Cost(1.10, "request", 500_000),
                NoRewardHacking("reward", ("pinned", "current"), 0.05),
            ),
            0.05,
        )
        == policy.stages[0]
    )
    assert 500_000 == settings.cost_cap_micro()


def test_stages_canary_and_watch(settings):
    """
    The later stages are read and checked, in their order.
    """
    _, canary, watch = settings.policy().stages

    assert (0.01, 0.05, 0.25, 0.5) == settings.stages.canary.steps
    rules = (Cap("safe", 0.02, 0.01, "canary/all"), Latency(0.95, 1.5, slice="canary/all"))
    assert StagePolicy("canary", Needs(1000, 6 * 3600, 0, 0.98), rules, steps=(0.01, 0.05, 0.25, 0.5)) == canary
    assert ("http://old-production:8000", 0.05) == (settings.stages.watch.production_url, settings.stages.watch.sample)
    rules = (NoRegression("reward", "watch/all"),)
    assert ("watch", 7 * DAY_S, rules, 7 * DAY_S) == (watch.name, watch.needs.within_s, watch.rules, watch.for_s)


def test_topics_and_admin_have_defaults(settings):
    """
    What section 14 does not name has the documented default.
    """
    topics, admin = settings.topics, settings.admin

    assert ("shadow-requests", "shadow-answers", "shadow-pairs", "shadow-decisions", "shadow-dead-letters", 8) == (
        topics.requests,
        topics.answers,
        topics.pairs,
        topics.decisions,
        topics.dead_letters,
        topics.partitions,
    )
    assert ("127.0.0.1", 9101, 9102, 9103, 9104) == (
        admin.host,
        admin.proxy,
        admin.worker,
        admin.comparator,
        admin.gate,
    )


def test_no_secret_is_shown(settings):
    """
    Neither the text form nor a dump of the settings shows a secret.
    """
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()} {settings.digest()}"

    assert "secret-token" not in shown
