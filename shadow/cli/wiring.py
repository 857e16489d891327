"""Build ports and parts from the configuration: the composition root."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from shadow.adapters import last_known
from shadow.adapters.content import request_in
from shadow.adapters.data import data_dir
from shadow.adapters.kafka import KafkaLog
from shadow.adapters.kafka_client import BATCH_ROOM_BYTES, RECORD_BYTES_MAX, RECORD_ROOM_BYTES
from shadow.adapters.redis import RedisStore
from shadow.errors import Usage
from shadow.graders.grader import Grader, build
from shadow.records.comparisons import BASELINE, BASELINE_PRODUCTION, CANDIDATE, CANDIDATE_PRODUCTION, HUMAN
from shadow.records.decisions import Started
from shadow.records.log import LogRecord
from shadow.records.policy import Agreement, NoRegression, Policy, Rule, comparison_of, graders_named
from shadow.records.requests import MirroredRequest
from shadow.settings.loader import load
from shadow.settings.settings import Settings
from shadow.stream.fold import Fold
from shadow.stream.slice import Slicer
from shadow.stream.state import AnswersAt, Counting, FoldSpec, RequestsAt
from shadow.stream.tally import Tallier
from shadow.usage import Price

BOOTSTRAP = "SHADOW_KAFKA_BOOTSTRAP"
REDIS_URL = "SHADOW_REDIS_URL"
LOCAL = "local"
"""Name of the last known document that says where `shadow up` or `shadow demo` keeps its broker and store."""


class NoneEmbedded(Usage):
    """The configuration says `embedded`, and neither `up` nor `demo` runs here."""


def settings_from(path: Path) -> Settings:
    """Load a configuration file. Raises InvalidConfiguration with every problem at once."""
    return load(path, os.environ)


def open_log(settings: Settings) -> KafkaLog:
    """The configured log; the embedded one is found where a running `up` or `demo` says.

    Raises:
        NoneEmbedded: If the configuration says `embedded` and nothing runs it.
    """
    limit = {"message.max.bytes": str(record_bytes_max(settings))}
    if settings.kafka == "embedded":
        return KafkaLog({**limit, "bootstrap.servers": _local(BOOTSTRAP, "kafka")}, is_embedded=True)
    return KafkaLog({**limit, **settings.kafka_properties()})


def record_bytes_max(settings: Settings) -> int:
    """Size up to which clients write records: four times body_max, and room for the rest."""
    return max(RECORD_BYTES_MAX, 4 * settings.proxy.mirror.body_max + RECORD_ROOM_BYTES)


def open_store(settings: Settings) -> RedisStore:
    """The configured store; the embedded one as in `open_log`."""
    return RedisStore(settings.redis_url() or _local(REDIS_URL, "redis"))


def _local(variable: str, service: str) -> str:
    address = os.environ.get(variable)
    if address is None:
        document = last_known.load(LOCAL) or {}
        address = document.get(variable)
    if not address:
        raise NoneEmbedded(
            f"{service}: embedded exists only while `shadow up` or `shadow demo` runs on this machine, and none does; "
            f"start one, or name your own service under {service}:"
        )
    return str(address)


def topic_names(settings: Settings) -> dict[str, str]:
    """Topic names as the processes take them."""
    topics = settings.topics
    return {
        "requests": topics.requests,
        "answers": topics.answers,
        "pairs": topics.pairs,
        "decisions": topics.decisions,
        "dead_letters": topics.dead_letters,
    }


def create_topics(settings: Settings, log: KafkaLog) -> None:
    """Create the topics that do not exist yet, as schemas/topics.yaml says."""
    catalogue = yaml.safe_load((data_dir("schemas") / "topics.yaml").read_text())
    partitions: dict[str, int] = {}
    config: dict[str, dict[str, str]] = {}
    for kind, name in topic_names(settings).items():
        entry = catalogue[f"shadow-{kind.replace('_', '-')}"]
        partitions[name] = 1 if entry.get("partitions") == 1 else settings.topics.partitions
        config[name] = {key: str(value) for key, value in entry.get("config", {}).items()}
        config[name] |= {"max.message.bytes": str(record_bytes_max(settings) + BATCH_ROOM_BYTES)}
    admin = log.admin()
    try:
        admin.create_topics(partitions, config)
    finally:
        admin.close()


def graders_of(settings: Settings) -> list[Grader]:
    """The graders of a configuration, ready to grade."""
    return [build(spec) for spec in settings.grader_specs()]


def counting_of(policy: Policy, graders: Sequence[Grader]) -> dict[str, Counting]:
    """How each comparison that some rule reads grades and counts."""
    rules = [rule for stage in policy.stages for rule in stage.rules]
    return {name: _counting_of(name, rules, graders) for name in policy.comparisons}


def _counting_of(comparison: str, rules: Sequence[Rule], graders: Sequence[Grader]) -> Counting:
    own = [rule for rule in rules if comparison_of(rule) == comparison]
    repeated = _repeated_in(rules) if comparison == BASELINE_PRODUCTION else {}
    # A second answer is not worth a call of a grading service.
    again = tuple(grader for grader in graders if grader.name in repeated and not grader.is_recorded)
    if comparison != CANDIDATE_PRODUCTION:
        # People and baselines are graded by what their rules name; production by everything that is configured.
        named = {name for rule in own for name in graders_named(rule)}
        graders = [grader for grader in graders if grader.name in named]
    return Counting(
        tuple(graders),
        Tallier(own, {grader.name: grader.slices for grader in graders}),
        tuple(rule for rule in own if isinstance(rule, Agreement)),
        again,
        repeated,
    )


def _repeated_in(rules: Sequence[Rule]) -> dict[str, frozenset[str]]:
    """Slices in which the baseline's grades count, by grader: where a `no_regression` holds the candidate's."""
    found: dict[str, frozenset[str]] = {}
    for rule in rules:
        if isinstance(rule, NoRegression) and comparison_of(rule) == CANDIDATE_PRODUCTION:
            found[rule.grader] = found.get(rule.grader, frozenset()) | {rule.slice}
    return found


def fold_spec(settings: Settings, started: Started, partition: int = 0) -> FoldSpec:
    """The fold's settings of one partition."""
    policy = settings.policy()
    return FoldSpec(
        run=started.run,
        partition=partition,
        partitions=len(started.answers_from),
        tile_us=started.tile_us,
        first_tile=started.first_tile,
        deadlines_us={name: policy.deadline_us(name) for name in policy.comparisons},
        requests_from=started.requests_from[partition],
        answers_from=started.answers_from[partition],
        rates={role: settings.worker_rate(role) for role in (CANDIDATE, BASELINE, HUMAN)},
        price=prices_of(settings),
        steps=policy.live_steps_of(started.run),
        stage_slices=policy.stage_slices,
    )


def prices_of(settings: Settings) -> dict[str, Price]:
    """Price of tokens by role; production is priced like the candidate where it has no price of its own."""
    return {role: settings.price(role) for role in ("production", "candidate")}


def new_fold(
    settings: Settings, started: Started, partition: int, requests: RequestsAt, answers: AnswersAt | None = None
) -> Fold:
    """A fold at the beginning of a run, for replays and tests."""
    return Fold(
        fold_spec(settings, started, partition),
        Slicer(settings.slice_specs()),
        counting_of(settings.policy(), graders_of(settings)),
        requests,
        answers,
    )


def decoded_requests(records: Mapping[int, LogRecord]) -> RequestsAt:
    """Requests by offset out of records that were read before."""

    def requests(offsets: Sequence[int]) -> dict[int, MirroredRequest | None]:
        return {offset: request_in(records[offset]) for offset in offsets}

    return requests


def member_name(role: str) -> str:
    """Stable name of this process in its consumer group: `SHADOW_MEMBER`, else host and role."""
    return os.environ.get("SHADOW_MEMBER") or f"{socket.gethostname()}-{role}"
