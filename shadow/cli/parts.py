"""Make the parts of single processes from the configuration."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from shadow.adapters.calls import Budget, Model
from shadow.adapters.masked import MaskedModel
from shadow.adapters.model_by_decision import ModelByDecision
from shadow.adapters.model_http import HttpModel
from shadow.adapters.model_python import PythonModel
from shadow.adapters.rewrite import rewrite_from_settings
from shadow.adapters.tls import client_context, server_context
from shadow.errors import Unavailable, Usage
from shadow.metrics import Metrics
from shadow.ports import Log
from shadow.proxy.config import Endpoint, Health, MirrorSettings, ProxySettings, Redaction, SlicesOf, Timeouts
from shadow.proxy.redact import Redactor, Unredactable
from shadow.proxy.server import Proxy
from shadow.records.comparisons import PRODUCTION
from shadow.records.policy import WATCH
from shadow.records.requests import MirroredRequest, Origin
from shadow.settings.settings import Settings
from shadow.settings.workers import Worker
from shadow.stream.slice import Slicer

PARTITIONS_S = 1.0


class Partitions:
    """Number of partitions of a topic, asked in the background until it is known, so that the proxy never waits."""

    def __init__(self, log: Log, topic: str) -> None:
        self._log = log
        self._topic = topic
        self._known: int | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="partitions", daemon=True)
        self._thread.start()

    def __call__(self) -> int | None:
        return self._known

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10.0)

    def _ask(self) -> None:
        admin = self._log.admin()
        try:
            while not self._stop.is_set():
                with suppress(Unavailable):  # the proxy counts its copies as `kafka_down` meanwhile
                    self._known = admin.partitions(self._topic)
                if self._known:
                    return
                self._stop.wait(PARTITIONS_S)
        finally:
            admin.close()


def proxy_settings(settings: Settings) -> ProxySettings:
    """The proxy's own settings."""
    proxy, mirror = settings.proxy, settings.proxy.mirror
    host, port = proxy.address()
    times = proxy.timeouts
    return ProxySettings(
        upstreams=tuple(map(_endpoint, proxy.upstream)),
        version=settings.run.production,
        mirror=MirrorSettings(
            methods=tuple(mirror.methods),
            paths=tuple(mirror.paths),
            sample=mirror.sample,
            keys=mirror.keys(),
            quotas=dict(mirror.quotas),
            slices_of=_quota_slices(settings, mirror.keys()) if mirror.quotas else None,
            body_bytes_max=mirror.body_max,
            queue_bytes_max=mirror.queue,
            report_interval_s=mirror.report_interval,
            requests_topic=settings.topics.requests,
            answers_topic=settings.topics.answers,
        ),
        listen_host=host,
        listen_port=port,
        redaction=_redaction(settings),
        timeouts=Timeouts(
            head_s=times.header,
            body_s=times.body,
            idle_s=times.idle,
            connect_s=times.upstream_connect,
            candidate_connect_s=times.candidate_connect,
            answer_s=times.upstream_header,
            total_s=times.upstream_total,
        ),
        health=Health(proxy.health.failures, proxy.health.out, proxy.health.resolve),
        forwarded=proxy.forwarded,
        listen_tls=_listen_tls(settings),
        upstream_tls=_client_tls(settings) if proxy.is_upstream_tls else None,
        candidate_tls=_client_tls(settings),
    )


def _redaction(settings: Settings) -> Redaction:
    redact = settings.proxy.redact
    return Redaction(headers=tuple(redact.headers), json=tuple(redact.json_paths))


def _listen_tls(settings: Settings) -> ssl.SSLContext | None:
    tls = settings.proxy.tls
    if tls is None:
        return None
    return server_context("proxy.tls", certificate=tls.certificate, key=tls.key, client_ca=tls.client_ca)


def _client_tls(settings: Settings) -> ssl.SSLContext:
    tls = settings.proxy.upstream_tls
    return client_context("proxy.upstream_tls", ca=tls.ca, certificate=tls.certificate, key=tls.key)


def _endpoint(url: str) -> Endpoint:
    parts = urlsplit(url)
    return Endpoint(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def _quota_slices(settings: Settings, keys: tuple[str, ...]) -> SlicesOf:
    """Says which slices a live request belongs to, as the fold will say of its copy."""
    slicer = Slicer(settings.slice_specs())
    names = [key.removeprefix("header:") for key in keys]

    def slices_of(method: str, path: str, headers: Mapping[str, str], body: bytes) -> frozenset[str]:
        key = next((headers[name] for name in names if name in headers), "")
        origin = Origin("", 0, 0, 0, {})
        shell = MirroredRequest("", key, 0, method, path, headers, body, 0.0, 1.0, {}, origin)
        return frozenset(slicer.slices_of(shell))

    return slices_of


def model_of(settings: Settings, role: str) -> Model:
    """The model that a role's worker asks; its replies are masked as the proxy masks what it copies.

    Raises:
        Usage: If the configuration has no such worker, or its model cannot be made.
    """
    return _masked(settings, _bare_model_of(settings, role))


def by_step(settings: Settings, model: Model, run: str) -> Model:
    """Production's model that asks the former version in `watch`, when another one serves at its old address."""
    watch = settings.stages.watch
    if watch is None:
        return model
    former = _masked(settings, _http_model(settings, watch.production_url, settings.worker(PRODUCTION)))
    steps = settings.policy().live_steps_of(run)
    return ModelByDecision(model, {each: former for each, step in steps.items() if step.stage == WATCH})


def _masked(settings: Settings, model: Model) -> Model:
    redactor = Redactor(_redaction(settings))

    def mask(body: bytes, headers: Mapping[str, str]) -> bytes | None:
        try:
            return redactor.body(body, headers)
        except Unredactable:
            return None

    return MaskedModel(model, mask) if settings.proxy.redact.json_paths else model


def _bare_model_of(settings: Settings, role: str) -> Model:
    worker = settings.worker(role)
    body_bytes_max, cap_micro = settings.proxy.mirror.body_max, settings.cost_cap_micro()
    if worker.python is not None:
        return PythonModel(
            worker.python,
            deadline_us=worker.deadline_us,
            threads=worker.concurrency.max,
            body_bytes_max=body_bytes_max,
            price=settings.price(role),
            cost_max_micro=cap_micro,
        )
    if worker.url is None:
        raise Usage(f"workers.{role} names no model; give it url or python")
    return _http_model(settings, worker.url, worker, role)


def _http_model(settings: Settings, url: str, worker: Worker, role: str = PRODUCTION) -> HttpModel:
    return HttpModel(
        url,
        deadline_us=worker.deadline_us,
        rewrite=rewrite_from_settings(
            json=worker.rewrite.json_values,
            headers=worker.rewrite.headers,
            path_prefix=worker.rewrite.path_prefix,
            environment=os.environ,
        ),
        body_bytes_max=settings.proxy.mirror.body_max,
        price=settings.price(role),
        cost_max_micro=settings.cost_cap_micro(),
    )


def concurrency_of(settings: Settings, role: str) -> tuple[int, int]:
    """Least and most calls that a role's worker has under way."""
    bounds = settings.worker(role).concurrency
    return bounds.min, bounds.max


def budget_of(settings: Settings, role: str) -> Budget | None:
    """A role's spending cap; None without one."""
    budget = settings.worker(role).budget
    if budget is None:
        return None
    cost_micro = round(budget.cost * 1_000_000) if budget.cost is not None else None
    return Budget(calls=budget.calls, cost_micro=cost_micro)


def export_proxy(metrics: Metrics, proxy: Proxy) -> None:
    """Bring the metrics up to what the proxy counted."""
    snapshot = proxy.snapshot()
    counters = snapshot.counters
    for status, count in _by_class(counters.requests).items():
        metrics.raise_to("shadow_proxy_requests_total", count, code_class=status)
    metrics.raise_to("shadow_proxy_requests_total", sum(counters.malformed.values()), code_class="malformed")
    dropped: dict[str, int] = {}
    seen = copied = 0
    for counts in snapshot.partitions.values():
        seen += counts.seen
        copied += counts.sequence
        for reason, count in counts.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    metrics.raise_to("shadow_mirror_seen_total", seen)
    metrics.raise_to("shadow_mirror_mirrored_total", copied)
    for reason, count in dropped.items():
        metrics.raise_to("shadow_mirror_dropped_total", count, reason=reason)
    metrics.raise_to("shadow_kafka_delivery_failures_total", counters.undelivered)
    metrics.set("shadow_mirror_queue_bytes", snapshot.held_bytes)
    for kind, count in counters.failures.items():
        metrics.raise_to("shadow_proxy_upstream_failures_total", count, kind=kind)
    metrics.raise_to("shadow_proxy_retries_total", counters.retries)
    metrics.raise_to("shadow_proxy_tunnels_total", counters.tunnels)
    metrics.raise_to("shadow_proxy_stalls_total", counters.stalls)
    metrics.raise_to("shadow_proxy_fallbacks_total", counters.fallbacks)
    metrics.set("shadow_proxy_connections", snapshot.open_clients)
    metrics.set("shadow_proxy_active", snapshot.active)
    metrics.set("shadow_proxy_on", int(snapshot.is_mirroring))
    metrics.set("shadow_proxy_share_ratio", snapshot.share)


def _by_class(requests: dict[int, int]) -> dict[str, int]:
    classes: dict[str, int] = {}
    for status, count in requests.items():
        name = "aborted" if status == 0 else f"{status // 100}xx"
        classes[name] = classes.get(name, 0) + count
    return classes
