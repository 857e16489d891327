"""One process per command: worker, comparator, gate.

Each imports its own links inside its function: a worker need not wait for the gate's statistics at its start.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import typer

from consumers.loop import WallClock
from shadow import heap
from shadow.adapters.logs import configure
from shadow.adapters.orphan import end_with_parent
from shadow.adapters.watched import watched_store
from shadow.cli import parts, wiring
from shadow.cli.attach import Attached, serve_attached
from shadow.cli.begin import comparator_group, transactional_id, worker_group
from shadow.cli.exits import exiting
from shadow.gate.history import Run
from shadow.metrics import Metrics
from shadow.ports import DecisionWriter
from shadow.records.answers import EVERY_RUN
from shadow.records.comparisons import PRODUCTION
from shadow.settings.settings import Settings
from shadow.stream.slice import Slicer

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")]
LogFormat = Annotated[str, typer.Option("--log-format", help="text or json")]
LogLevel = Annotated[str, typer.Option("--log-level", help="debug, info, warning or error")]
AdminPort = Annotated[int | None, typer.Option("--admin-port", help="Instead of the configured one; 0: a free one.")]

DEFAULT_CONFIG = Path("shadow.yaml")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (worker, comparator, gate):
        app.command()(exiting(command))


def worker(
    role: Annotated[str, typer.Option(help="candidate, baseline or production")] = "candidate",
    config: Config = DEFAULT_CONFIG,
    admin_port: AdminPort = None,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
) -> int:
    """Ask one role's model what it would have answered."""
    from consumers.worker import Worker

    settings = begun(config, log_format, log_level)
    # Made at once, so that a mistake is said at the start; a worker closes its model with the run.
    models = [parts.model_of(settings, role)]
    metrics = Metrics("worker", {"service": ["kafka"], "role": [role], "topic": wiring.topic_names(settings).values()})

    def body(attached: Attached, stop: threading.Event) -> None:
        run = attached.started
        model = models.pop() if models else parts.model_of(settings, role)
        worker_ = Worker(
            attached.log,
            parts.by_step(settings, model, run.run) if role == PRODUCTION else model,
            run=EVERY_RUN if role == PRODUCTION else run.run,
            role=role,
            version=run.candidate if role == "candidate" else run.production,
            group=worker_group(settings, run.run, role),
            member=wiring.member_name(role),
            topics=wiring.topic_names(settings),
            metrics=metrics,
            clock=WallClock(),
            rate=settings.worker_rate(role),
            steps=settings.policy().live_steps_of(run.run),
            concurrency=parts.concurrency_of(settings, role),
            budget=parts.budget_of(settings, role),
        )
        attached.readiness = worker_.readiness
        worker_.run(stop)

    port = settings.admin.worker if admin_port is None else admin_port
    return serve_attached("worker", settings, metrics, port, body, for_all=role == PRODUCTION)


def comparator(
    config: Config = DEFAULT_CONFIG,
    admin_port: AdminPort = None,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
) -> int:
    """Pair, grade and count the answers, and checkpoint the counts."""
    from consumers.comparator import Comparator, ComparatorPlan
    from shadow.adapters.ask_http import AskPool

    settings = begun(config, log_format, log_level)
    slices = [spec.name for spec in settings.slice_specs()]
    metrics = Metrics("comparator", {"topic": wiring.topic_names(settings).values(), "slice": ["all", *slices]})

    def body(attached: Attached, stop: threading.Event) -> None:
        asks = AskPool()
        comparator_ = Comparator(
            plan=ComparatorPlan(
                started=attached.started,
                spec=wiring.fold_spec(settings, attached.started),
                topics=wiring.topic_names(settings),
                group=comparator_group(attached.started.run),
                member=wiring.member_name("comparator"),
            ),
            log_=attached.log,
            store=watched_store(wiring.open_store(settings), metrics.service("redis")),
            slicer=Slicer(settings.slice_specs()),
            counting=wiring.counting_of(settings.policy(), wiring.graders_of(settings)),
            asks=asks,
            metrics=metrics,
            clock=WallClock(),
        )
        attached.readiness = comparator_.readiness
        try:
            comparator_.run(stop)
        finally:
            asks.close()

    port = settings.admin.comparator if admin_port is None else admin_port
    return serve_attached("comparator", settings, metrics, port, body)


def gate(
    config: Config = DEFAULT_CONFIG,
    admin_port: AdminPort = None,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
) -> int:
    """Judge closed tiles in order and decide once."""
    from consumers.gate import Gate
    from shadow.api.alerts import AlertsApi
    from shadow.api.answers import AnswersApi
    from shadow.api.feedback import FeedbackApi
    from shadow.api.guard import Guard
    from shadow.cli.answers import plan_of

    settings = begun(config, log_format, log_level)
    metrics = Metrics("gate")
    admin = settings.admin
    answers = AnswersApi(admin.host, admin.bearer())
    feedback = FeedbackApi(admin.host, admin.bearer(), metrics, WallClock())
    alerts = AlertsApi(
        Guard(admin.host, admin.bearer(), "alerts are taken"), admin.alert_label, four_eyes=admin.four_eyes
    )

    def body(attached: Attached, stop: threading.Event) -> None:
        store = watched_store(wiring.open_store(settings), metrics.service("redis"))
        run, clock = attached.started, WallClock()

        def open_writer() -> DecisionWriter:
            return attached.log.decisions(settings.topics.decisions, transactional_id(settings))

        writer = open_writer()
        gate_ = Gate(
            run,
            settings.policy(),
            store,
            writer,
            metrics,
            clock,
            upstream=settings.live_upstream(),
            four_eyes=admin.four_eyes,
        )
        attached.readiness = gate_.readiness
        heap.settle()  # a tile is tens of thousands of small lists, without a cycle
        try:
            with (
                answers.serving(attached.log, lambda: plan_of(settings, Run(run, ())), clock),
                alerts.serving(run.run, open_writer, clock),
                feedback.serving(attached.log, settings.topics.answers, len(run.answers_from)),
            ):
                gate_.run(stop)
        finally:
            writer.close()
            store.close()

    port = settings.admin.gate if admin_port is None else admin_port
    routes = [*answers.routes(), *alerts.routes(), *feedback.routes()]
    return serve_attached("gate", settings, metrics, port, body, routes)


def begun(config: Path, log_format: str, log_level: str) -> Settings:
    """What every process does first."""
    configure(log_format, log_level)
    end_with_parent()
    return wiring.settings_from(config)
