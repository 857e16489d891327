"""Attach a process to the unfinished run of its configuration, and serve it until a signal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from consumers.loop import Readiness, serve, wait_for
from shadow.adapters.admin import AdminServer
from shadow.adapters.kafka import KafkaLog
from shadow.cli import wiring
from shadow.cli.begin import runs_of, transactional_id
from shadow.gate.history import Run, unfinished
from shadow.metrics import Metrics
from shadow.ports import DecisionWriter
from shadow.records.decisions import Started
from shadow.settings.settings import Settings

log = logging.getLogger("shadow.attach")

LOOK_S = 1.0


@dataclass(slots=True)
class Attached:
    """What a process gets once its run is known.

    Args:
        readiness: Answers the admin port; the process puts its own in place.
    """

    settings: Settings
    log: KafkaLog
    started: Started
    metrics: Metrics
    readiness: Callable[[], tuple[bool, str]]


Body = Callable[[Attached, threading.Event], object]


def serve_attached(name: str, settings: Settings, metrics: Metrics, admin_port: int, body: Body) -> int:
    """Serve the admin port, wait for Kafka and for the run, then run the process's own loop.

    Args:
        body: Gets the run and the stop flag; returns when it has drained.
    """
    readiness = Readiness("waiting for kafka")
    attached = Attached(settings, wiring.open_log(settings), _NO_RUN, metrics, readiness)
    admin = AdminServer(settings.admin.host, admin_port, metrics, lambda: attached.readiness())
    log.info("%s: metrics and probes on %s:%d", name, settings.admin.host, admin.port)

    def run(stop: threading.Event) -> None:
        writer = attached.log.decisions(settings.topics.decisions, transactional_id(settings))
        try:
            started = _found_run(settings, writer, readiness, stop)
        finally:
            writer.close()
        if started is not None:
            log.info("%s: run %s", name, started.run)
            attached.started = started
            readiness.ready()
            body(attached, stop)

    try:
        return serve(name, run)
    finally:
        admin.stop()


def _found_run(
    settings: Settings, writer: DecisionWriter, readiness: Readiness, stop: threading.Event
) -> Started | None:
    """Look for the run until it is there; None if told to stop before."""
    is_said = False
    known: list[Run] = []

    def look() -> None:
        known[:] = runs_of(writer)

    while not stop.is_set():
        if not wait_for("kafka", look, stop, readiness):
            return None
        run = unfinished(known, settings.digest())
        if run is not None:
            return run.started
        if not is_said:
            log.info("no unfinished run has this configuration; waiting for `shadow start`")
            is_said = True
        readiness.not_ready("no unfinished run has this configuration; `shadow start` begins one")
        stop.wait(LOOK_S)
    return None


_NO_RUN = Started("", 0, "", "", "", "", 1, 0, (), (), 0, 0)
