"""P7 and P10: Kafka, Redis, gate or worker is away in every way, and no live request notices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.proxy.failopen.timeline import AWAY, PHASES, Component, Pace, Role, Timeline, models, play
from tests.proxy.stack import ROLES, Stack
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

COMPONENTS = ("kafka", "redis", "gate", "worker")
REASONS = {"excluded", "kafka_down"}
LONG = Pace(answers=1500, stopped_s=30.0)
NOISE_MS = 5.0
"""Two cores carry the stack, its models and its clients: one that is away for a moment is no fault of the proxy."""
QUIET_MS = 10.0
"""Up to this p99 of requests that do not pass the proxy the machine counts as quiet; there it is 3 to 5 ms. On a busy
one every process on a request's way waits for a core, and the proxy is one more of them."""


@contextmanager
def stack_with(request: pytest.FixtureRequest, name: str, folder: Path) -> Iterator[tuple[Stack, Component]]:
    """A stack whose run has begun; the service that goes away is its own, the other one may be shared."""
    with ExitStack() as own:
        production, candidate = own.enter_context(models(folder))
        kafka = own.enter_context(ApacheKafka()) if name == "kafka" else request.getfixturevalue("kafka")
        redis = own.enter_context(RedisServer(is_durable=True))
        stack = Stack(folder, kafka.bootstrap, redis.url, production=production, candidate=candidate)
        own.enter_context(stack)
        stack.begin()
        services = {"kafka": kafka, "redis": redis}
        yield stack, services[name] if name in services else Role(stack, name)


@pytest.fixture(scope="module", params=COMPONENTS)
def timeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Timeline:
    """One component's timeline, played once for all that is asked about it."""
    with stack_with(request, request.param, tmp_path_factory.mktemp(request.param)) as (stack, component):
        return play(request.param, stack, component, Pace())


@pytest.mark.parametrize("phase", PHASES)
def test_p7_every_live_request_is_answered(timeline: Timeline, phase: str) -> None:
    """
    Every answer is production's, to the byte, while a component is away, comes back, or is there.
    """
    played = timeline.phases[phase]
    assert [] == played.failures
    assert len(played.latencies_s) >= Pace().answers // 2


def test_p10_every_request_is_accounted_for_at_every_scrape(timeline: Timeline) -> None:
    """
    Seen is mirrored plus dropped by reason whenever it is looked at, never sinks, and at the end is what was sent.
    """
    accounts = [*timeline.accounts, timeline.final]
    assert len(accounts) >= 20
    assert {0} == {account.unaccounted for account in accounts}
    assert sorted(account.seen for account in accounts) == [account.seen for account in accounts]
    assert ([], timeline.sent) == (timeline.failures, timeline.final.seen)
    assert set(timeline.final.dropped) <= REASONS
    assert (timeline.sent + 9) // 10 == timeline.final.dropped["excluded"]


def test_p10_the_topic_holds_what_was_mirrored(timeline: Timeline) -> None:
    """
    Sequence numbers without a record are as many as the copies that Kafka did not take, and no number comes twice.
    """
    numbers = Counter((partition, copy.origin.sequence) for partition, copy in timeline.copies)
    assert {1} == set(numbers.values())
    assert timeline.final.delivered == len(numbers)
    for _, copy in timeline.copies:
        lost = sum(count for reason, count in copy.origin.dropped.items() if reason != "kafka_down")
        assert copy.origin.seen == copy.origin.sequence + lost


def test_p10_the_last_reports_say_the_same(timeline: Timeline) -> None:
    """
    A proxy that drains ends well, and its last words, one report a partition, are what its metrics showed.
    """
    reports = [report for _, report in timeline.reports]
    assert (0, 2) == (timeline.exit_code, len(reports))
    dropped: Counter[str] = Counter()
    for report in reports:
        dropped.update(report.dropped)
    assert (timeline.final.seen, timeline.final.mirrored, timeline.final.dropped) == (
        sum(report.seen for report in reports),
        sum(report.sequence for report in reports),
        dict(dropped),
    )


def test_only_an_absent_kafka_costs_copies(timeline: Timeline) -> None:
    """
    Nothing is lost for want of Redis, gate or worker; without Kafka, only what came before it was ever seen.
    """
    lost = timeline.final.dropped.get("kafka_down", 0)
    unseen = len(timeline.phases["down at start"].latencies_s) + len(timeline.phases["started"].latencies_s)
    assert (timeline.component == "kafka") == (lost > 0)
    assert lost <= unseen


def test_no_process_ends_by_itself(timeline: Timeline) -> None:
    """
    What is away ends none of the others. Without Kafka only the proxy is held to it here, and all in the soak: when
    Kafka came back, librdkafka was seen to abort a comparator with `Assertion eonce->refcnt > 0 failed`.
    """
    held = ("proxy",) if timeline.component == "kafka" else ROLES
    assert [] == [fall for fall in timeline.fallen if fall.startswith(held)]


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", COMPONENTS)
def test_p7_half_a_minute_without_it(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    """
    The same over minutes, and the p99 while a component is away is at most twice what it is undisturbed, or twice
    what requests have that do not pass the proxy at that moment, and 5 ms. What a component that comes back, or its
    backlog, does to the machine is shown and not judged.
    """
    with stack_with(request, name, tmp_path) as (stack, component):
        timeline = play(name, stack, component, LONG)
    for phase in PHASES:
        test_p7_every_live_request_is_answered(timeline, phase)
    test_p10_every_request_is_accounted_for_at_every_scrape(timeline)
    test_p10_the_topic_holds_what_was_mirrored(timeline)
    test_p10_the_last_reports_say_the_same(timeline)
    test_only_an_absent_kafka_costs_copies(timeline)
    assert [] == timeline.fallen
    slowest_ms = max(timeline.direct[phase].p99_ms for phase in (*AWAY, "undisturbed"))
    if slowest_ms > QUIET_MS:
        pytest.skip(f"0 failures; p99 not judged: directly it was {slowest_ms:.0f} ms, the machine was not quiet")
    calm_ms = timeline.phases["undisturbed"].p99_ms
    limits_ms = {phase: 2 * max(calm_ms, timeline.direct[phase].p99_ms) + NOISE_MS for phase in AWAY}
    assert [] == [phase for phase, limit_ms in limits_ms.items() if timeline.phases[phase].p99_ms > limit_ms]
