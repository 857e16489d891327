"""`proxy`: the data plane, what it copies, and what never gets into a copy."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from shadow.settings.names import (
    Address,
    JsonPathText,
    Method,
    PathGlob,
    PemFile,
    RecordedHeader,
    SliceName,
    UpstreamUrls,
    address_of,
    recorded_header,
)
from shadow.settings.section import Section, refused, refused_whole
from shadow.settings.units import Share, count, duration_s, size_bytes

FALLBACK_KEYS = ("header:x-session-id", "header:x-user-id")


def _key(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("header:"):
        raise refused("must be header: and the name of a header, such as header:x-session-id")
    return f"header:{recorded_header(value.removeprefix('header:'))}"


SamplingKey = Annotated[str, BeforeValidator(_key)]


class Mirror(Section):
    """What is copied.

    Args:
        sample: Share of the sampling keys that are copied, in (0, 1].
        key: Where the sampling key stands; where a request has none, `x-session-id`, `x-user-id` and at last the
            request's own id are taken.
        methods: Methods that are copied; no default on purpose.
        paths: Globs of the paths that are copied; no default on purpose.
        body_max: Larger bodies are forwarded and not copied, bytes.
        quotas: Higher rates for rare slices.
        queue: Bodies that may wait for Kafka, bytes; beyond it copies are dropped and counted.
        report_interval: Time between two reports of the counters, seconds.
    """

    methods: Annotated[tuple[Method, ...], Field(min_length=1)]
    paths: Annotated[tuple[PathGlob, ...], Field(min_length=1)]
    sample: Share = 1.0
    key: SamplingKey = FALLBACK_KEYS[0]
    body_max: Annotated[int, size_bytes("1KiB", "16MiB")] = 1 << 20
    quotas: dict[SliceName, Share] = Field(default={})
    queue: Annotated[int, size_bytes("1MiB", "16GiB")] = 64 << 20
    report_interval: Annotated[float, duration_s("100ms", "5min")] = 5.0

    def keys(self) -> tuple[str, ...]:
        """Where the sampling key is looked for, in order."""
        return tuple(dict.fromkeys((self.key, *FALLBACK_KEYS)))

    def rate(self, slice: str) -> float:
        """Share of a slice's keys that are copied."""
        return max(self.sample, self.quotas.get(slice, 0.0))


class Redact(Section):
    """What may stand in a copy.

    Args:
        headers: Recorded beside the default ones.
        json: JSON paths that are masked in requests and answers.
    """

    headers: tuple[RecordedHeader, ...] = ()
    json_paths: tuple[JsonPathText, ...] = Field(default=(), alias="json")


class ProxyTimeouts(Section):
    """How long each side may take, seconds.

    Args:
        header: A client, to send a request's header section.
        body: A client, between two pieces of a body.
        idle: A client, between two requests.
        upstream_connect: To open a connection to production.
        candidate_connect: Likewise to the candidate in canary; then production serves.
        upstream_header: Production, from the request's end to the head of its answer.
        upstream_total: From a request's head to its answer's end.
        drain_delay: From SIGTERM, when `/readyz` says no, to the end of accepting; for load balancers to notice.
        drain: From then on, to finish what is being answered and to write what waits.
    """

    header: Annotated[float, duration_s("10ms", "10min")] = 10.0
    body: Annotated[float, duration_s("10ms", "10min")] = 10.0
    idle: Annotated[float, duration_s("10ms", "1h")] = 60.0
    upstream_connect: Annotated[float, duration_s("10ms", "5min")] = 5.0
    candidate_connect: Annotated[float, duration_s("10ms", "5min")] = 1.0
    upstream_header: Annotated[float, duration_s("10ms", "1d")] = 300.0
    upstream_total: Annotated[float, duration_s("10ms", "7d")] = 7200.0
    drain_delay: Annotated[float, duration_s("0s", "5min")] = 0.0
    drain: Annotated[float, duration_s("100ms", "1h")] = 8.0


class ListenTls(Section):
    """TLS from clients.

    Args:
        certificate: The server's, with the chain.
        key: Its private key.
        client_ca: Clients must show a certificate of one of these; None: they need none.
    """

    certificate: PemFile
    key: PemFile
    client_ca: PemFile | None = None


class UpstreamTls(Section):
    """TLS to the upstreams whose URLs are https; their certificates are always verified.

    Args:
        ca: Authorities that are trusted; None: those of the system.
        certificate: The proxy's own, with the chain, where the upstream asks for one.
        key: Its private key.
    """

    ca: PemFile | None = None
    certificate: PemFile | None = None
    key: PemFile | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise refused_whole("certificate and key go together; give both or neither")
        return self


class HealthSection(Section):
    """When an address of an upstream is passed over, judged by live requests only.

    Args:
        failures: Failures in a row (refused, timed out, or closed without an answer) that put it out.
        out: For how long, seconds; if all are out, all are used.
        resolve: How often names are looked up again, seconds.
    """

    failures: Annotated[int, count(1, 1000)] = 3
    out: Annotated[float, duration_s("100ms", "1h")] = 10.0
    resolve: Annotated[float, duration_s("100ms", "1d")] = 30.0


class ProxySection(Section):
    """The proxy.

    Args:
        listen: `host:port`; port 0 takes a free one.
        upstream: Production, `http://host:port` or `https://host:port`, or a list of equal servers.
        processes: How many share the port, each on one core.
        forwarded: What becomes of X-Forwarded-For, -Proto, -Host and Forwarded: `append` adds this hop, `replace`
            trusts nothing of what came, `keep` changes nothing.
        tls: How clients are spoken to; None: plain HTTP.
        health: When an address of an upstream is passed over.
    """

    upstream: UpstreamUrls
    mirror: Mirror
    listen: Address = "127.0.0.1:8080"
    redact: Redact = Redact()
    timeouts: ProxyTimeouts = ProxyTimeouts()
    processes: Annotated[int, count(1, 256)] = 1
    forwarded: Literal["append", "replace", "keep"] = "append"
    health: HealthSection = HealthSection()
    tls: ListenTls | None = None
    upstream_tls: UpstreamTls = UpstreamTls()

    def address(self) -> tuple[str, int]:
        """Host and port to listen on."""
        found = address_of(self.listen)
        assert found is not None, "checked when it was read"
        return found

    @property
    def is_upstream_tls(self) -> bool:
        """Whether the upstreams are spoken to in TLS."""
        return self.upstream[0].startswith("https:")
