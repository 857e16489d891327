"""The whole configuration, and what the processes take from it."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr, SerializeAsAny

from shadow.errors import Usage
from shadow.records.comparisons import HUMAN, PRODUCTION
from shadow.records.grades import GraderSpec
from shadow.records.policy import Cost, Policy, StagePolicy
from shadow.records.slices import ALL, SliceSpec
from shadow.settings.admin import Admin
from shadow.settings.digest import digest_of
from shadow.settings.graders import GraderSection
from shadow.settings.human import Human
from shadow.settings.ingest import Ingest
from shadow.settings.kafka import Kafka
from shadow.settings.names import ENV
from shadow.settings.notify import Notify
from shadow.settings.proxy import ProxySection
from shadow.settings.redis import Redis
from shadow.settings.rules import BUSY_PER_DAY, MARGIN, MARGIN_BUSY
from shadow.settings.run import ATTEMPTS_MAX, Run
from shadow.settings.section import Section
from shadow.settings.slices import Slice
from shadow.settings.stages import Stages
from shadow.settings.times import Times
from shadow.settings.topics import Topics
from shadow.settings.workers import Worker
from shadow.usage import Price


class Settings(Section):
    """A configuration that was read and checked as a whole (`shadow.settings.loader.load`).

    Secrets are `SecretStr`: neither the text form of this object nor a dump of it shows them. One that is given as
    `env:NAME` of a variable that is not set stays so until somebody needs it, so that each process needs its own only.
    """

    run: Run
    kafka: Literal["embedded"] | Kafka
    redis: Literal["embedded"] | Redis
    proxy: ProxySection
    workers: dict[str, Worker]
    slices: dict[str, Slice]
    graders: dict[str, SerializeAsAny[GraderSection]]
    stages: Stages
    times: Times = Times()
    human: Human | None = None
    ingest: Ingest | None = None
    topics: Topics = Topics()
    notify: Notify | None = None
    admin: Admin = Admin()

    def policy(self) -> Policy:
        """The promotion policy: every configured stage, in its order."""
        return Policy(
            stages=self.stages.records(self._default_margin),
            expires_s=self.times.expires_s,
            tile_us=self.times.tile_us,
            evidence_deadline_us=self.times.evidence_deadline_us,
            human_deadline_us=(self.human or Human()).deadline_us,
        )

    def offline_policy(self) -> StagePolicy | None:
        """The stage that a frozen suite must pass before a run begins; None where it is not configured."""
        return self.stages.offline_record(self._default_margin)

    def slice_specs(self) -> tuple[SliceSpec, ...]:
        """The slices, in the file's order."""
        return tuple(slice.spec(name) for name, slice in self.slices.items())

    def grader_specs(self) -> tuple[GraderSpec, ...]:
        """The graders, in the file's order."""
        return tuple(grader.spec(name) for name, grader in self.graders.items())

    def digest(self) -> str:
        """Digest of everything that changes what is counted or judged, 64 hexadecimal digits.

        Addresses, ports, secrets, budgets and names of topics are not part of it.
        """
        return digest_of(
            run=self.run,
            proxy=self.proxy,
            workers=self.workers,
            human=self.human,
            slices=self.slice_specs(),
            graders=self.grader_specs(),
            policy=self.policy(),
            offline=self.offline_policy(),
            repeat=self.stages.offline.repeat if self.stages.offline is not None else "",
        )

    def run_name(self, attempt: int) -> str:
        """Name of a run, at most 64 characters: candidate, digest and attempt.

        Args:
            attempt: 1 for the first run of this candidate.

        Raises:
            Usage: If the attempt is outside 1 to 9,999.
        """
        if not 1 <= attempt <= ATTEMPTS_MAX:
            raise Usage(f"the attempt is {attempt:,}, must be from 1 to {ATTEMPTS_MAX:,}")
        return f"{self.run.candidate}-{self.digest()[:8]}-{attempt}"

    def worker(self, role: str) -> Worker:
        """How a role's worker asks its model; production's asks the proxy's upstream where nothing else is configured.

        Raises:
            Usage: If the configuration has no such worker.
        """
        worker = self.workers.get(role)
        if role == PRODUCTION and self.is_live and (worker is None or not worker.has_model):
            return (worker or Worker()).model_copy(update={"url": self.proxy.upstream[0]})
        if worker is None:
            raise Usage(f"workers.{role} is not configured; workers are {', '.join(self.workers)}")
        return worker

    def worker_rate(self, role: str) -> float:
        """Share of the sampling keys for which a role is asked; 0 where it is not configured."""
        if role == HUMAN:
            return self.human.sample if self.human is not None else 0.0
        worker = self.workers.get(role)
        if worker is None:
            return 1.0 if role == PRODUCTION and self.is_live else 0.0
        return worker.sample

    def price(self, role: str) -> Price:
        """Price of a role's tokens; the candidate's where a role has none of its own."""
        worker = self.workers.get(role)
        if worker is None or worker.price is None:
            worker = self.workers["candidate"]
        return worker.token_price()

    @property
    def is_live(self) -> bool:
        """Whether a stage is configured in which the candidate serves live requests."""
        return self.stages.canary is not None or self.stages.watch is not None

    def live_upstream(self) -> str:
        """Where the candidate serves live requests, `http://host:port`; empty where it never does."""
        if not self.is_live:
            return ""
        canary = self.stages.canary
        url = canary.upstream if canary is not None and canary.upstream is not None else self.workers["candidate"].url
        parts = urlsplit(url or "")
        return f"{parts.scheme}://{parts.netloc}"

    def asks_production(self) -> bool:
        """Whether production's worker has work: copies without an answer, or what the candidate served."""
        return self.is_live or (PRODUCTION in self.workers and self.workers[PRODUCTION].has_model)

    def cost_cap_micro(self) -> int | None:
        """The most that one answer may cost: the lowest cap of all cost rules; None without such a rule."""
        offline = self.offline_policy()
        stages = (*self.policy().stages, *((offline,) if offline is not None else ()))
        rules = (rule for stage in stages for rule in stage.rules if isinstance(rule, Cost))
        return min((rule.cap_micro for rule in rules if rule.cap_micro is not None), default=None)

    def kafka_properties(self) -> dict[str, str]:
        """Properties of librdkafka, with their secrets; empty for the embedded broker.

        Raises:
            Usage: If a value is to come from a variable that is not set.
        """
        if not isinstance(self.kafka, Kafka):
            return {}
        return {name: _revealed(f"kafka.{name}", value) for name, value in self.kafka.properties().items()}

    def redis_url(self) -> str | None:
        """URL of the store, with its password; None for the embedded one.

        Raises:
            Usage: If it is to come from a variable that is not set.
        """
        return _revealed("redis.url", self.redis.url) if isinstance(self.redis, Redis) else None

    def _default_margin(self, slice: str) -> float:
        found = self.slices.get(slice)
        if slice == ALL or found is None or found.traffic_per_h is None:
            return MARGIN
        per_day = found.traffic_per_h * 24 * self.proxy.mirror.rate(slice)
        return MARGIN_BUSY if per_day >= BUSY_PER_DAY else MARGIN


def _revealed(where: str, secret: SecretStr) -> str:
    text = secret.get_secret_value()
    if text.startswith(ENV):
        raise Usage(f"{where}: the environment variable {text.removeprefix(ENV)} is not set")
    return text
