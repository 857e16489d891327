"""What stands between load and upstream: nothing, NGINX, Envoy, or Shadow's proxy with Apache Kafka behind it.

Each has one worker. NGINX and Envoy are configured as their documentation shows mirroring; NGINX also with the idle
upstream connections that its documentation of `keepalive` recommends, which the example of `mirror` leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shadow.adapters.embedded import LOOPBACK, free_port
from tests.proxy.stack import Stack
from tests.services.envoy import Envoy
from tests.services.kafka import ApacheKafka
from tests.services.nginx import Nginx

NOWHERE: Final = "redis://127.0.0.1:1/0"
NGINX_PLAIN: Final = """
upstream production {{ server {production}; keepalive 64; }}
server {{
    listen {listen};
    keepalive_requests 1000000000;
    client_max_body_size 10m;
    client_body_buffer_size 256k;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_buffering off;
    location / {{ proxy_pass http://production; }}
}}
"""
NGINX_MIRROR: Final = """
server {{
    listen {listen};
    keepalive_requests 1000000000;
    client_max_body_size 10m;
    client_body_buffer_size 256k;
    location / {{ mirror /mirror; proxy_pass http://{production}; }}
    location = /mirror {{ internal; proxy_pass http://{copies}$request_uri; }}
}}
"""
NGINX_MIRROR_KEEPALIVE: Final = """
upstream production {{ server {production}; keepalive 64; }}
upstream copies {{ server {copies}; keepalive 64; }}
server {{
    listen {listen};
    keepalive_requests 1000000000;
    client_max_body_size 10m;
    client_body_buffer_size 256k;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    location / {{ mirror /mirror; proxy_pass http://production; }}
    location = /mirror {{ internal; proxy_pass http://copies$request_uri; }}
}}
"""
ENVOY: Final = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {listen}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress_http
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: "/"}}
                route: {{cluster: production, timeout: 0s, request_mirror_policies: [{{cluster: copies}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: production
    type: STATIC
    load_assignment:
      cluster_name: production
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {production}}}}}}}
  - name: copies
    type: STATIC
    load_assignment:
      cluster_name: copies
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {copies}}}}}}}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Something that serves.

    Args:
        pid: Its process, whose children belong to it; 0 where there is none.
        check: Says in a few words what became of the copies of so many requests.
    """

    port: int
    pid: int
    check: Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Ports:
    """Of the upstream, and of the server that takes the peers' copies."""

    production: int
    copies: int


@contextmanager
def direct(ports: Ports, kafka: ApacheKafka, folder: Path) -> Iterator[Target]:
    """The upstream itself."""
    yield Target(ports.production, 0, lambda sent: "–")


def nginx(part: str, says: str) -> Callable[[Ports, ApacheKafka, Path], object]:
    """NGINX with a piece of configuration."""

    @contextmanager
    def serving(ports: Ports, kafka: ApacheKafka, folder: Path) -> Iterator[Target]:
        listen = free_port()
        places = {
            name: f"{LOOPBACK}:{port}" for name, port in (("production", ports.production), ("copies", ports.copies))
        }
        with Nginx(part.format(listen=f"{LOOPBACK}:{listen}", **places), listen) as running:
            yield Target(listen, running.pid, lambda sent: says)

    return serving


@contextmanager
def envoy(ports: Ports, kafka: ApacheKafka, folder: Path) -> Iterator[Target]:
    """Envoy with a mirror policy."""
    listen = free_port()
    with Envoy(ENVOY.format(listen=listen, production=ports.production, copies=ports.copies), listen) as running:
        yield Target(listen, running.pid, lambda sent: "requests only")


@contextmanager
def shadow(ports: Ports, kafka: ApacheKafka, folder: Path) -> Iterator[Target]:
    """`shadow proxy`, which copies every request with its answer to Kafka."""
    folder.mkdir()
    with Stack(folder, kafka.bootstrap, NOWHERE, production=ports.production) as stack:
        stack.create_topics()
        stack.start_proxy()
        stack.wait_for_kafka()

        def check(sent: int) -> str:
            account = stack.settled(sent)
            dropped = ", ".join(f"{count:,} {reason}" for reason, count in account.dropped.items())
            written = stack.copies_written()
            assert account.unaccounted == 0 and account.seen == sent, account
            return f"{written:,} of {sent:,} with answers in Kafka" + (f" ({dropped})" if dropped else "")

        yield Target(stack.port, stack.pid("proxy"), check)


TARGETS: Final = {
    "direct": ("direct", direct),
    "nginx": ("NGINX, no mirror", nginx(NGINX_PLAIN, "–")),
    "nginx-mirror": ("NGINX `mirror`, as its documentation shows it", nginx(NGINX_MIRROR, "requests only")),
    "nginx-mirror-keepalive": (
        "… and with idle upstream connections kept",
        nginx(NGINX_MIRROR_KEEPALIVE, "requests only"),
    ),
    "envoy": ("Envoy `request_mirror_policies`", envoy),
    "shadow": ("**Shadow's proxy**, to Apache Kafka", shadow),
}
