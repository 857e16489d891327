"""The process that tells others of beginnings and decisions."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import typer

from consumers.loop import Readiness, WallClock, serve, wait_for
from shadow.adapters.admin import AdminServer
from shadow.adapters.tls import client_context
from shadow.adapters.watched import watched_log
from shadow.adapters.webhook import Target
from shadow.cli import wiring
from shadow.cli.exits import exiting
from shadow.cli.roles import DEFAULT_CONFIG, AdminPort, Config, LogFormat, LogLevel, begun
from shadow.errors import Unavailable, Usage
from shadow.metrics import Metrics
from shadow.ports import Log
from shadow.settings.notify import Endpoint
from shadow.settings.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(exiting(notifier))


def notifier(
    config: Config = DEFAULT_CONFIG,
    admin_port: AdminPort = None,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
) -> int:
    """Tell the configured endpoints of beginnings and decisions, as signed webhooks."""
    from consumers.notifier import Notifier, Plan

    settings = begun(config, log_format, log_level)
    member = wiring.member_name("notifier")
    plans = [
        Plan(
            target=target_of(name, endpoint),
            events=frozenset(endpoint.events) or None,
            configuration=endpoint.digest(name),
            topic=settings.topics.decisions,
            dead_letters=settings.topics.dead_letters,
            group=endpoint_group(settings, name),
            member=member,
        )
        for name, endpoint in endpoints_of(settings)
    ]
    names = [plan.name for plan in plans]
    metrics = Metrics("notifier", {"service": ["kafka"], "endpoint": names, "topic": [settings.topics.decisions]})
    log_ = watched_log(wiring.open_log(settings), metrics.service("kafka"))
    notifier_ = Notifier(plans, log_, metrics, WallClock())
    waiting = Readiness("waiting for kafka")
    ready = [waiting.__call__]
    port = settings.admin.notifier if admin_port is None else admin_port
    admin = AdminServer(settings.admin.host, port, metrics, lambda: ready[0]())

    def body(stop: threading.Event) -> None:
        if wait_for("kafka", lambda: _need_topic(log_, settings.topics.decisions), stop, waiting):
            ready[0] = notifier_.readiness
            notifier_.run(stop)

    try:
        return serve("notifier", body)
    finally:
        admin.stop()


def endpoints_of(settings: Settings) -> Iterator[tuple[str, Endpoint]]:
    """Name and settings of each endpoint.

    Raises:
        Usage: If none is configured.
    """
    if settings.notify is None:
        raise Usage("notify is not configured; give the file the section notify, with the endpoints to tell")
    yield from settings.notify.endpoints.items()


def target_of(name: str, endpoint: Endpoint) -> Target:
    """Where an endpoint's events go.

    Raises:
        Usage: If its secret is not there, or its file of authorities cannot be used.
    """
    where = f"notify.endpoints.{name}"
    tls = client_context(where, ca=endpoint.ca, certificate=None, key=None)
    return Target(name, endpoint.url, endpoint.keys(name), tls, endpoint.unsafe_loopback)


def endpoint_group(settings: Settings, name: str) -> str:
    """Consumer group that keeps an endpoint's place."""
    return f"shadow.{settings.topics.decisions}.notify.{name}"


def _need_topic(log: Log, topic: str) -> None:
    admin = log.admin()
    try:
        if admin.partitions(topic) is None:
            raise Unavailable(f"kafka has no topic {topic} yet; `shadow start` creates it")
    finally:
        admin.close()
