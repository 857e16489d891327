"""The processes that take live requests, or copies of them: proxy and ingest."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import typer

from consumers.loop import Readiness
from shadow.adapters.admin import AdminServer
from shadow.adapters.avro import encode
from shadow.adapters.decisions import DecisionsTail
from shadow.adapters.embedded import LOOPBACK
from shadow.adapters.watched import Deliveries, watched_log
from shadow.api.guard import Guard
from shadow.api.switch import SwitchApi
from shadow.cli import parts, wiring
from shadow.cli.begin import transactional_id
from shadow.cli.exits import exiting
from shadow.cli.proxy_group import Member, ProxyGroup, member_from, serve_group
from shadow.cli.roles import DEFAULT_CONFIG, AdminPort, Config, LogFormat, LogLevel, begun
from shadow.errors import Usage
from shadow.metrics import Metrics
from shadow.ports import Log
from shadow.proxy.config import Limits, ProxySettings
from shadow.proxy.counters import ProxyCounters
from shadow.proxy.routing import Routing, RoutingFollower
from shadow.proxy.server import Proxy, run
from shadow.settings.settings import Settings

log = logging.getLogger("shadow.proxy")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (proxy, ingest):
        app.command()(exiting(command))


def proxy(
    config: Config = DEFAULT_CONFIG,
    admin_port: AdminPort = None,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
) -> int:
    """Forward live requests to production, and copy them to the log; in canary, to the candidate too."""
    settings = begun(config, log_format, log_level)
    own = parts.proxy_settings(settings)
    arguments = _arguments(config, log_format, log_level)
    what = f"in front of {', '.join(settings.proxy.upstream)}"
    return _serve(settings, "proxy", Proxy, own, admin_port, arguments, what)


def ingest(
    config: Config = DEFAULT_CONFIG,
    admin_port: AdminPort = None,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
) -> int:
    """Take copies of live requests that another tool makes, and write them to the log."""
    from shadow.proxy.ingest import Ingest

    settings = begun(config, log_format, log_level)
    arguments = _arguments(config, log_format, log_level)
    return _serve(settings, "ingest", Ingest, ingest_settings(settings), admin_port, arguments, "taking copies")


def ingest_settings(settings: Settings) -> ProxySettings:
    """The ingest's own settings: the proxy's but for the address, which takes plain HTTP.

    Raises:
        Usage: If it is not configured.
    """
    if settings.ingest is None:
        raise Usage("ingest is not configured; give the file the section ingest, with the address to listen on")
    host, port = settings.ingest.address()
    # Nothing goes on to an upstream, which might read the name of a header in another way than we do.
    limits = Limits(refuses_underscores=False)
    own = parts.proxy_settings(settings)
    return replace(own, listen_host=host, listen_port=port, listen_tls=None, limits=limits)


def _arguments(config: Path, log_format: str, log_level: str) -> list[str]:
    return ["--config", str(config), "--log-format", log_format, "--log-level", log_level]


def _serve(
    settings: Settings,
    command: str,
    kind: type[Proxy],
    own: ProxySettings,
    admin_port: int | None,
    arguments: list[str],
    what: str,
) -> int:
    """Serve as one kind of proxy, in one process or in several, until told to stop."""
    port = settings.admin.proxy if admin_port is None else admin_port
    member = member_from(dict(os.environ))
    if member is None and settings.proxy.processes > 1:
        group = ProxyGroup(settings, command, (own.listen_host, own.listen_port), arguments)
        return serve_group(settings, group, port)
    if member is not None:
        process = f"{own.process or os.uname().nodename}:{member.port}/{member.number}"
        own = replace(own, listen_port=member.port, shares_port=True, process=process)
    return _serve_one(settings, kind, own, port, member, what)


def _serve_one(
    settings: Settings, kind: type[Proxy], own: ProxySettings, admin_port: int, member: Member | None, what: str
) -> int:
    metrics = Metrics("proxy", {"service": ["kafka"]})
    told = metrics.service("kafka")
    log_ = watched_log(wiring.open_log(settings), told)
    # Fails open: ready as soon as it listens, whatever Kafka does.
    readiness = Readiness("not listening yet")
    with ExitStack() as stack:
        writer = Deliveries(log_.writer(queue_bytes_max=settings.proxy.mirror.queue, tells_success=False), told)
        stack.callback(writer.close)
        partitions = parts.Partitions(log_, settings.topics.requests)
        stack.callback(partitions.stop)
        routing = Routing()
        if kind is Proxy:
            stack.callback(_following(settings, log_, routing).stop)
        counters = ProxyCounters(observe=partial(metrics.observe, "shadow_proxy_overhead_seconds"))
        proxy_ = kind(own, writer=writer, encode=encode, partitions=partitions, counters=counters, routing=routing)
        admin = _admin_server(settings, metrics, readiness, proxy_, admin_port, member)
        stack.callback(admin.stop)

        def on_ready(listening: int) -> None:
            metrics.on_scrape(writer.look)
            metrics.on_scrape(lambda: parts.export_proxy(metrics, proxy_))
            readiness.ready()
            log.info("listening on port %d, %s; metrics on port %d", listening, what, admin.port)

        times = settings.proxy.timeouts
        is_drained = run(
            proxy_,
            drain_s=times.drain,
            delay_s=times.drain_delay,
            on_ready=on_ready,
            on_drain=lambda: readiness.not_ready("draining"),
        )
    if not is_drained:
        log.warning("some live requests or copies were cut off by the drain's end")
    return 0


def _admin_server(
    settings: Settings, metrics: Metrics, readiness: Readiness, proxy_: Proxy, port: int, member: Member | None
) -> AdminServer:
    # The processes of a group are asked by their parent only.
    host, token = (settings.admin.host, settings.admin.bearer()) if member is None else (LOOPBACK, None)
    switch = SwitchApi(Guard(host, token, "proxies are switched"), proxy_.switch)
    admin = AdminServer(host, port, metrics, readiness, switch.routes())
    if member is not None:
        proxy_.switch(member.is_on)
        member.tell(admin.port)
    return admin


def _following(settings: Settings, log_: Log, routing: Routing) -> RoutingFollower:
    decisions = DecisionsTail(log_.decisions(settings.topics.decisions, transactional_id(settings)))
    follower = RoutingFollower(routing, decisions.read, settings.run.production)
    follower.start()
    return follower
