"""Attach a process to the unfinished run of its configuration, and serve it until a signal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from aiohttp import web

from consumers.loop import Readiness, serve, wait_for
from shadow.adapters.admin import AdminServer
from shadow.adapters.watched import watched_log
from shadow.cli import wiring
from shadow.cli.begin import runs_of, transactional_id
from shadow.errors import Unavailable
from shadow.gate.history import Run, unfinished
from shadow.metrics import Metrics
from shadow.ports import Log
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
    log: Log
    started: Started
    metrics: Metrics
    readiness: Callable[[], tuple[bool, str]]


Body = Callable[[Attached, threading.Event], object]


def serve_attached(
    name: str,
    settings: Settings,
    metrics: Metrics,
    admin_port: int,
    body: Body,
    routes: Iterable[web.RouteDef] = (),
    *,
    for_all: bool = False,
) -> int:
    """Serve the admin port, wait for Kafka and for a run, then run the process's own loop until the run ends.

    When the run has been decided, the process waits for the next one of its configuration.

    Args:
        body: Gets the run and a flag that is set when the run or the process shall end; returns when it has drained.
        routes: More routes of the admin port.
        for_all: Whether what it does is done once for all runs of its production, as production's answers are: it
            begins with whichever run it finds, and goes on until none of them is left.
    """
    readiness = Readiness("waiting for kafka")
    log_ = watched_log(wiring.open_log(settings), metrics.service("kafka"))
    attached = Attached(settings, log_, _NO_RUN, metrics, readiness)
    admin = AdminServer(settings.admin.host, admin_port, metrics, lambda: attached.readiness(), routes)
    log.info("%s: metrics and probes on %s:%d", name, settings.admin.host, admin.port)

    def run(stop: threading.Event) -> None:
        while not stop.is_set():
            started = _found_run(settings, attached.log, readiness, stop, for_all)
            if started is None:
                return
            log.info("%s: run %s", name, started.run)
            attached.started = started
            readiness.ready()
            with _until_decided(settings, attached.log, started, stop, for_all) as is_over:
                body(attached, is_over)
            attached.readiness = readiness
            if not stop.is_set():
                log.info("%s: run %s has ended", name, started.run)

    try:
        return serve(name, run)
    finally:
        admin.stop()


def served_run(runs: Sequence[Run], digest: str, production: str | None) -> Run | None:
    """The unfinished run that a process serves.

    Args:
        digest: Of its configuration, whose own run comes first.
        production: Its production, where it serves every run against that one; None: its own run alone.
    """
    own = unfinished(runs, digest)
    if own is not None or production is None:
        return own
    return next((run for run in reversed(runs) if run.started.production == production and not run.is_finished), None)


@contextmanager
def _until_decided(
    settings: Settings, log_: Log, started: Started, stop: threading.Event, for_all: bool
) -> Iterator[threading.Event]:
    """A flag that is set once the run, or all that the process serves, has ended, or the process shall end."""
    is_over = threading.Event()

    def pass_on() -> None:
        while not is_over.is_set():
            if stop.wait(0.1):
                is_over.set()

    def watch() -> None:
        writer = log_.decisions(settings.topics.decisions, transactional_id(settings))
        try:
            while not is_over.wait(LOOK_S):
                try:
                    runs = runs_of(writer)
                except Unavailable:
                    continue  # the process's own loop says that Kafka is away
                run = next((run for run in runs if run.name == started.run), None)
                is_needed = for_all and served_run(runs, settings.digest(), settings.run.production) is not None
                if run is not None and run.is_finished and not is_needed:
                    is_over.set()
        finally:
            writer.close()

    threads = [threading.Thread(target=target, name=target.__name__, daemon=True) for target in (pass_on, watch)]
    for thread in threads:
        thread.start()
    try:
        yield is_over
    finally:
        is_over.set()
        for thread in threads:
            thread.join(1.0)


def _found_run(
    settings: Settings, log_: Log, readiness: Readiness, stop: threading.Event, for_all: bool
) -> Started | None:
    """Look for an unfinished run until there is one; None if told to stop before."""
    is_said = False
    known: list[Run] = []
    writer = log_.decisions(settings.topics.decisions, transactional_id(settings))

    def look() -> None:
        try:
            known[:] = runs_of(writer)
        except Unavailable as trouble:
            raise _without_topic(settings, log_) or trouble from trouble

    try:
        while not stop.is_set():
            if not wait_for("kafka", look, stop, readiness):
                return None
            run = served_run(known, settings.digest(), settings.run.production if for_all else None)
            if run is not None:
                return run.started
            if not is_said:
                log.info("no unfinished run has this configuration; waiting for `shadow start`")
                is_said = True
            readiness.not_ready("no unfinished run has this configuration; `shadow start` begins one")
            stop.wait(LOOK_S)
        return None
    finally:
        writer.close()


def _without_topic(settings: Settings, log_: Log) -> Unavailable | None:
    """The trouble of a log that answers and has no decisions topic yet; None where it is another one."""
    admin = log_.admin()
    try:
        if admin.partitions(settings.topics.decisions) is not None:
            return None
    except Unavailable:
        return None
    finally:
        admin.close()
    return Unavailable(f"kafka has no topic {settings.topics.decisions} yet; `shadow start` creates it")


_NO_RUN = Started("", 0, "", "", "", "", 1, 0, (), (), 0, 0)
