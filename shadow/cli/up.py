"""`shadow up`: all roles on one machine, against the configured or the embedded services."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from consumers.loop import WallClock, wait_for
from shadow.adapters import last_known
from shadow.adapters.embedded import EmbeddedBroker, EmbeddedStore
from shadow.adapters.kafka import KafkaLog
from shadow.adapters.logs import configure
from shadow.cli import wiring
from shadow.cli.begin import begin
from shadow.cli.exits import exiting
from shadow.cli.safety import kafka_risks
from shadow.cli.supervise import Supervisor, shadow_command
from shadow.records.comparisons import BASELINE, PRODUCTION
from shadow.records.decisions import Started
from shadow.settings.settings import Settings

Config = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.", metavar="FILE")]

ROLES = ("proxy", "worker", "comparator", "gate")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(exiting(up))


def up(
    config: Config = Path("shadow.yaml"),
    log_format: Annotated[str, typer.Option("--log-format", help="text or json")] = "text",
) -> int:
    """Run proxy, worker, comparator and gate on this machine until Ctrl-C; begins a run where none is going on."""
    configure(log_format)
    settings = wiring.settings_from(config)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: _stop(stop, frame))
    with ExitStack() as stack:
        environment: dict[str, str] = {}
        if settings.kafka == "embedded":
            environment[wiring.BOOTSTRAP] = stack.enter_context(EmbeddedBroker()).bootstrap
        if settings.redis == "embedded":
            environment[wiring.REDIS_URL] = stack.enter_context(EmbeddedStore()).url
        if environment:
            last_known.save(wiring.LOCAL, dict(environment))
            stack.callback(last_known.forget, wiring.LOCAL)
        log = wiring.open_log(settings)
        started = _begun(settings, log, stop)
        if started is None:
            return 0
        typer.echo(f"run {started.run}; `shadow status -c {config} --watch` shows its progress; Ctrl-C stops", err=True)
        supervisor = stack.enter_context(Supervisor())
        for name, arguments in processes_of(settings):
            command = shadow_command(*arguments, "--config", str(config), "--log-format", log_format)
            supervisor.start(name, command, {**environment, "SHADOW_MEMBER": f"up-{name}"})
        while not stop.wait(1.0):
            supervisor.check()
    return 0


def processes_of(settings: Settings) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Name and arguments of each process: one of each kind, ingest where it is configured, and more workers."""
    for name in ROLES:
        yield name, (name,)
    if settings.notify is not None:
        yield "notifier", ("notifier",)
    if settings.ingest is not None:
        yield "ingest", ("ingest", "--admin-port", "0")
    for role in (PRODUCTION, BASELINE):
        if settings.asks_production() if role == PRODUCTION else role in settings.workers:
            # The configured admin port is the candidate's worker's, as the proxy's above is not ingest's.
            yield f"worker-{role}", ("worker", "--role", role, "--admin-port", "0")


def _begun(settings: Settings, log: KafkaLog, stop: threading.Event) -> Started | None:
    """Create the topics and begin the run, once Kafka is there; None if told to stop before."""
    begun: list[Started] = []

    def try_to_begin() -> None:
        wiring.create_topics(settings, log)
        risks = kafka_risks(settings, log)
        begun.append(begin(settings, log, WallClock()).started)
        for risk in risks:
            typer.echo(f"warning: {risk}", err=True)

    return begun[0] if wait_for("kafka", try_to_begin, stop) else None


def _stop(stop: threading.Event, frame: FrameType | None) -> None:
    stop.set()
