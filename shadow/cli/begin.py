"""Begin a run: the one moment at which positions are read from the topics' ends.

Numbered as in the body:

 1. The writer fences everybody else and reads `shadow-decisions` to its end; an unfinished run with the same
    configuration is the run, and nothing is written.
 2. The ends of the answers topic are read, then those of the requests topic: an answer to a request of the run
    can then never stand before the run's first answers offset.
 3. The worker groups are set to the requests' ends, so that a worker that starts late misses nothing.
 4. `Started` is written.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from shadow.adapters.avro import encode
from shadow.adapters.decisions import decisions_in
from shadow.cli.safety import faults_of
from shadow.errors import Unavailable, Usage
from shadow.gate.history import Run, runs_in, unfinished
from shadow.gate.trials import attempt_next, promoted, trials_in
from shadow.ports import Clock, DecisionWriter, Log, LogAdmin
from shadow.records.comparisons import BASELINE, CANDIDATE, PRODUCTION
from shadow.records.decisions import DecisionsRecord, Started
from shadow.records.log import LogRecord
from shadow.settings.settings import Settings

log = logging.getLogger("shadow.begin")


@dataclass(frozen=True, slots=True)
class Begun:
    """A run and whether this call began it."""

    started: Started
    is_new: bool


def worker_group(settings: Settings, run: str, role: str) -> str:
    """Consumer group of a role's workers: production's answer once for all runs over a topic, the others' per run."""
    return f"shadow.{settings.topics.requests if role == PRODUCTION else run}.{role}"


def comparator_group(run: str) -> str:
    """Consumer group of a run's comparators."""
    return f"shadow.{run}.comparator"


def runs_of(writer: DecisionWriter) -> list[Run]:
    """All runs that the topic knows, oldest first."""
    return runs_in(decisions_in(writer.read()))


def found_run(known: list[Run], name: str | None, settings: Settings) -> Run:
    """A run by its name, or the newest of a configuration.

    Raises:
        Usage: If there is none.
    """
    wanted = [run for run in known if (run.name == name if name else run.started.digest == settings.digest())]
    if wanted:
        return wanted[-1]
    names = ", ".join(run.name for run in known) or "none"
    if name is None:
        raise Usage(f"no run has this configuration; known are {names}: name one, and give its configuration with -c")
    raise Usage(f"no run is named {name!r}; known are {names}")


def begin(settings: Settings, log: Log, clock: Clock) -> Begun:
    """Begin a run of this configuration, or find the one that is going on.

    Raises:
        Usage: If the topics do not fit each other or the run.
        Unavailable: If Kafka does not answer.
    """
    admin = log.admin()
    writer = log.decisions(settings.topics.decisions, transactional_id(settings))
    found: list[Begun] = []

    def build(records: Sequence[LogRecord]) -> bytes | None:
        # 1. The run that is going on, or the next attempt.
        known = decisions_in(records)
        runs = runs_in(known)
        going_on = unfinished(runs, settings.digest())
        if going_on is not None:
            found[:] = [Begun(going_on.started, is_new=False)]
            return None
        attempt = attempt_next(known, settings.run.candidate, settings.run.production)
        _refuse_untried(settings, known, attempt)
        found[:] = [Begun(_started(settings, log, admin, clock, attempt), is_new=True)]
        # 4. Written by the caller of this function, in the same transaction.
        return encode(found[0].started)

    try:
        writer.append(settings.run_name(1).encode(), build)
    finally:
        writer.close()
        admin.close()
    return found[0]


def _place_production(settings: Settings, admin: LogAdmin, requests_from: Sequence[int]) -> None:
    """Set the group of production's workers to the run's first request, unless they are at work and behind no one."""
    try:
        admin.commit_group(worker_group(settings, "", PRODUCTION), settings.topics.requests, requests_from)
    except Unavailable as trouble:
        # Kafka refuses it while the group has members; they go on where they are. If Kafka is away, `Started` fails.
        log.info("production's workers keep their place: %s", trouble)


def transactional_id(settings: Settings) -> str:
    """The id that all writers of the decisions topic share."""
    return f"shadow.{settings.topics.decisions}"


def _refuse_untried(settings: Settings, known: Sequence[DecisionsRecord], attempt: int) -> None:
    """Refuse a run whose offline stage has not promoted it."""
    run = settings.run_name(attempt)
    if settings.stages.offline is None or promoted(known, run, settings.digest()) is not None:
        return
    last = next((trial.decision for trial in reversed(trials_in(known)) if trial.digest == settings.digest()), None)
    newest = f" (its newest decision is {last.decision} for {last.run})" if last is not None else ""
    raise Usage(
        f"stages.offline is configured and has not promoted {run}{newest}; run `shadow offline SUITE -c FILE` with "
        "this configuration first"
    )


def _started(settings: Settings, log: Log, admin: LogAdmin, clock: Clock, attempt: int) -> Started:
    run, topics = settings.run_name(attempt), settings.topics
    faults = faults_of(settings, log, admin)
    if faults:
        raise Usage("\n".join(faults))
    # 2. Answers first.
    answers_from = [end for _, end in admin.ends(topics.answers)]
    requests_from = [end for _, end in admin.ends(topics.requests)]
    if not answers_from:
        raise Unavailable(f"{topics.answers} has no partitions; run `shadow doctor` to see what is wrong")
    # 3. The workers begin at the run's first request.
    for role in (CANDIDATE, BASELINE):
        if role in settings.workers:
            admin.commit_group(worker_group(settings, run, role), topics.requests, requests_from)
    if settings.asks_production():
        _place_production(settings, admin, requests_from)
    policy, now_us = settings.policy(), clock.now_us()
    return Started(
        run=run,
        attempt=attempt,
        candidate=settings.run.candidate,
        production=settings.run.production,
        digest=settings.digest(),
        stage=policy.stages[0].name,
        tile_us=policy.tile_us,
        first_tile=now_us // policy.tile_us,
        answers_from=tuple(answers_from),
        requests_from=tuple(requests_from),
        started_us=now_us,
        expires_us=now_us + policy.expires_s * 1_000_000,
        is_log_append_time=log.is_log_append_time,
    )
