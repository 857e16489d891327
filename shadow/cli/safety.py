"""What of the services a run cannot begin on, and what may lose its evidence: the latter only if told to.

A fault (wrong time stamps, records that are forgotten too soon, values that do not fit) makes every count wrong, so
nothing begins on it. A risk (one replica, unclean elections, an evicting store) costs the evidence only if something
else fails too, so `--unsafe` accepts it. The embedded services are for one laptop, and nothing is asked of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from shadow.adapters.kafka_admin import SPREAD_S
from shadow.adapters.kafka_client import BATCH_BYTES_MAX, BATCH_ROOM_BYTES
from shadow.cli.wiring import record_bytes_max
from shadow.errors import Unavailable
from shadow.ports import Log, LogAdmin, Store, TopicState
from shadow.settings.kafka import EMBEDDED
from shadow.settings.settings import Settings
from shadow.settings.workers import Rewrite

EVIDENCE = ("requests", "answers", "decisions")
"""Topics on which a verdict rests."""


def faults_of(settings: Settings, log: Log, admin: LogAdmin) -> list[str]:
    """Every fault of requests and answers, one sentence each.

    Raises:
        Unavailable: If Kafka does not answer, or one of the topics does not exist.
    """
    faults = []
    counts = []
    for name in (settings.topics.requests, settings.topics.answers):
        state = _existing(admin, name)
        counts.append(state.partitions)
        # A broker that does not stamp is dealt with by the ticks' grace.
        faults += [f"{name} {fault}" for fault in topic_faults(settings, name, state) if log.is_log_append_time]
    if counts[0] != counts[1]:
        faults.append(unequal(settings, *counts))
    return faults


def _existing(admin: LogAdmin, name: str) -> TopicState:
    """A topic that was created just now if it was not there: each broker learns of it in its own time."""
    deadline_s = time.monotonic() + SPREAD_S
    while (state := admin.topic(name)) is None or not state.partitions:
        if time.monotonic() > deadline_s:
            raise Unavailable(f"the topic {name} does not exist; run `shadow doctor` to see what is wrong")
        time.sleep(0.1)
    return state


def unequal(settings: Settings, requests: int, answers: int) -> str:
    """The sentence on unequal numbers of partitions."""
    topics = settings.topics
    return (
        f"{topics.requests} has {requests} partitions and {topics.answers} {answers}; "
        "they must have equally many, since a worker answers beside the request"
    )


def topic_faults(settings: Settings, name: str, state: TopicState) -> Iterator[str]:
    """Faults of the requests or the answers topic, without its name; none where the broker does not tell."""
    config = state.config
    if not config:
        return
    stamped = config.get("message.timestamp.type", "CreateTime")
    if stamped != "LogAppendTime":
        yield (
            f"has message.timestamp.type {stamped}, and its tiles need LogAppendTime; "
            f"change it with kafka-configs --alter --entity-type topics --entity-name {name} "
            "--add-config message.timestamp.type=LogAppendTime"
        )
    policy = settings.policy()
    longest_us = max(policy.deadline_us(comparison) for comparison in policy.comparisons)
    needed_ms = (policy.longest_s * 1_000_000 + longest_us) // 1000
    kept_ms, kept_bytes = int(config.get("retention.ms", -1)), int(config.get("retention.bytes", -1))
    if 0 <= kept_ms < needed_ms:
        yield (
            f"keeps records for retention.ms {kept_ms}, and the run may need them for {needed_ms} ms "
            "(expires, watch and the longest deadline); make it longer, or the run shorter"
        )
    if kept_bytes >= 0:
        yield f"has retention.bytes {kept_bytes}, which may cut a run's evidence off; set it to -1"
    if "compact" in config.get("cleanup.policy", "delete"):
        yield f"has cleanup.policy {config['cleanup.policy']}, which deletes records of the same key; set it to delete"
    body_max = settings.proxy.mirror.body_max
    least = max(4 * body_max, BATCH_BYTES_MAX + BATCH_ROOM_BYTES)
    largest = int(config.get("max.message.bytes", least))
    if largest < least:
        yield (
            f"has max.message.bytes {largest}, must be at least {least} (4 x body_max {body_max}, and a batch); "
            f"set it to {record_bytes_max(settings) + BATCH_ROOM_BYTES}"
        )


def risks_of(settings: Settings, log: Log, store: Store) -> list[str]:
    """Every risk of Kafka and Redis, and of live traffic on the candidate, one sentence each.

    Raises:
        Unavailable: If a service does not answer.
    """
    return [*kafka_risks(settings, log), *store.problems(), *live_risks(settings)]


def live_risks(settings: Settings) -> Iterator[str]:
    """Risks of the stages in which the candidate serves live requests."""
    canary = settings.stages.canary
    if not settings.is_live or (canary is not None and canary.upstream is not None):
        return
    if settings.workers["candidate"].rewrite != Rewrite():
        yield (
            "live: workers.candidate.rewrite changes the requests of the candidate's worker, and live ones reach the "
            "candidate as they are; give stages.canary.upstream an address that takes them so"
        )


def kafka_risks(settings: Settings, log: Log) -> list[str]:
    """Every risk of the topics on which a verdict rests, one sentence each.

    Raises:
        Unavailable: If Kafka does not answer, or one of the topics does not exist.
    """
    if settings.kafka == EMBEDDED:
        return []
    admin = log.admin()
    try:
        names = [getattr(settings.topics, kind) for kind in EVIDENCE]
        states = {name: _existing(admin, name) for name in names}
    finally:
        admin.close()
    return [f"kafka: {name} {risk}" for name, state in states.items() for risk in topic_risks(state)]


def topic_risks(state: TopicState) -> Iterator[str]:
    """Risks of a topic on which a verdict rests, without its name."""
    if state.replicas == 1:
        yield "has replication factor 1, so one lost disk loses evidence; give it 3"
    elif state.replicas > 1 and state.config.get("min.insync.replicas") == "1":
        yield (
            "has min.insync.replicas=1, so what is acknowledged may stand on one disk alone; "
            f"set it to {max(2, state.replicas - 1)}"
        )
    if state.config.get("unclean.leader.election.enable") == "true":
        yield (
            "has unclean.leader.election.enable=true, so a leader that fell behind may drop "
            "records that were acknowledged; set it to false"
        )
