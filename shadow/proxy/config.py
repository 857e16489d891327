"""Everything the proxy is told, as frozen values; nothing here reads a file or the environment."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

SlicesOf = Callable[[str, str, Mapping[str, str], bytes], frozenset[str]]
"""Names of the slices that a request (method, path, headers, body, all as they will be recorded) belongs to."""

APPEND: Final = "append"
REPLACE: Final = "replace"
KEEP: Final = "keep"

NEVER_RECORDED: Final = frozenset({"authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key"})
"""Header names that no setting can bring into a record."""

RECORDED: Final = frozenset(
    {
        "content-type",
        "content-encoding",
        "accept",
        "user-agent",
        "x-request-id",
        "traceparent",
        "tracestate",
    }
)
"""Header names that are recorded by default; a body cannot be read later without its content encoding."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one peer may make the proxy hold; units are bytes unless the name says otherwise."""

    head_bytes_max: int = 32 << 10
    target_bytes_max: int = 8 << 10
    fields_max: int = 100
    extension_bytes_max: int = 4 << 10
    extensions_bytes_max: int = 64 << 10
    trailer_bytes_max: int = 8 << 10
    answer_head_bytes_max: int = 64 << 10
    interim_answers_max: int = 16
    buffer_bytes_max: int = 64 << 10
    connections_max: int = 10_000
    idle_upstream_connections_max: int = 256
    refuses_underscores: bool = True


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each side may take, in seconds.

    Args:
        head_s: From a request's first byte to the end of its header section.
        body_s: Between two pieces of a request's body.
        idle_s: Between two requests of one client.
        stall_s: How long a client may refuse to read its answer.
        linger_s: How long a closed connection's input is still read and thrown away.
        connect_s: To open a connection to one address of the upstream.
        candidate_connect_s: Likewise, of the candidate in canary: production serves after that, and the user waits.
        answer_s: From the request's end to the head of the answer.
        gap_s: Between two pieces of an answer.
        total_s: From a request's head to its answer's end.
        upstream_idle_s: Age at which an idle upstream connection is not used again.
    """

    head_s: float = 10.0
    body_s: float = 10.0
    idle_s: float = 60.0
    stall_s: float = 60.0
    linger_s: float = 1.0
    connect_s: float = 5.0
    candidate_connect_s: float = 1.0
    answer_s: float = 300.0
    gap_s: float = 300.0
    total_s: float = 7200.0
    upstream_idle_s: float = 4.0


@dataclass(frozen=True, slots=True)
class Redaction:
    """What may stand in a record.

    Args:
        headers: Names recorded beside the default ones.
        json: JSON paths whose values are masked, in requests and answers.
        query: Names of query parameters whose values are masked.
    """

    headers: tuple[str, ...] = ()
    json: tuple[str, ...] = ()
    query: tuple[str, ...] = ("access_token", "api_key", "api-key", "apikey", "token")

    def __post_init__(self) -> None:
        for name in self.headers:
            if name.lower() in NEVER_RECORDED:
                raise ValueError(f"The header {name} carries credentials and is never recorded; leave it out.")


@dataclass(frozen=True, slots=True)
class MirrorSettings:
    """What is copied, and how much may wait.

    Args:
        methods: Methods that are copied; there is no default on purpose.
        paths: Globs of the paths that are copied (`*` also matches `/`), without the query.
        sample: Base sampling rate, in (0, 1].
        keys: Where the sampling key is looked for, in order, each `header:<name>`; the request id is the last resort.
        quotas: Higher rates by slice, each in (0, 1].
        slices_of: Says which slices a request belongs to; asked only where quotas exist, and off the live path.
        body_bytes_max: Larger request or answer bodies are forwarded whole and not copied.
        queue_bytes_max: Bodies held for copies, being read or waiting for the producer.
        report_interval_s: Time between two reports of the counters.
    """

    methods: tuple[str, ...]
    paths: tuple[str, ...]
    sample: float = 1.0
    keys: tuple[str, ...] = ("header:x-session-id", "header:x-user-id")
    quotas: Mapping[str, float] = field(default_factory=dict)
    slices_of: SlicesOf | None = None
    body_bytes_max: int = 1 << 20
    queue_bytes_max: int = 64 << 20
    report_interval_s: float = 5.0
    requests_topic: str = "shadow-requests"
    answers_topic: str = "shadow-answers"

    def __post_init__(self) -> None:
        for name, rate in (("sample", self.sample), *self.quotas.items()):
            if not 0 < rate <= 1:
                raise ValueError(f"The sampling rate of {name} is {rate}; it must be in (0, 1].")
        if self.quotas and self.slices_of is None:
            raise ValueError("Quotas need to know the slices of a request; give slices_of.")
        for key in self.keys:
            kind, _, name = key.partition(":")
            if kind != "header" or not name:
                raise ValueError(f"The sampling key is {key!r}; it must be header:<name>.")
            if name.lower() in NEVER_RECORDED:
                raise ValueError(f"The sampling key {key!r} would write credentials to the log; use another header.")

    @property
    def rate_max(self) -> float:
        """The highest rate in force; a key at or above it is never copied."""
        return max(self.sample, *self.quotas.values()) if self.quotas else self.sample


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an upstream is reached: a name, or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Health:
    """When an address of an upstream is passed over, judged by live requests only.

    Args:
        failures_max: Failures in a row (refused, timed out, or closed without an answer) that put it out.
        out_s: How long it is passed over then, in seconds; if all are out, all are used.
        resolve_s: How often names are looked up again, in seconds.
    """

    failures_max: int = 3
    out_s: float = 10.0
    resolve_s: float = 30.0


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """All settings of one proxy process.

    Args:
        upstreams: Equal servers of one version; the first one's name is the Host of requests that have none.
        version: Name of the version behind them.
        upstream_tls: How they are spoken to; None: in plain HTTP.
        candidate_tls: How a candidate is spoken to whose URL is https; None: by the system's authorities.
        listen_port: 0 takes a free one.
        listen_tls: How clients are spoken to; None: in plain HTTP.
        forwarded: What becomes of X-Forwarded-For, -Proto and -Host and of Forwarded: `append` adds this hop to
            what the client sent, `replace` trusts none of that, `keep` changes nothing.
        process: Name of this process, stable over restarts; empty makes it from host name and port.
        shares_port: Whether other processes listen on the same port (SO_REUSEPORT).
    """

    upstreams: tuple[Endpoint, ...]
    version: str
    mirror: MirrorSettings
    listen_host: str = "127.0.0.1"
    listen_port: int = 0
    role: str = "production"
    process: str = ""
    shares_port: bool = False
    forwarded: str = APPEND
    redaction: Redaction = field(default_factory=Redaction)
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    health: Health = field(default_factory=Health)
    upstream_tls: ssl.SSLContext | None = None
    candidate_tls: ssl.SSLContext | None = None
    listen_tls: ssl.SSLContext | None = None
