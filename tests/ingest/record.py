"""Record the bytes that real tools send to the target of their copies.

    python -m tests.ingest.record        writes tests/ingest/recorded/ anew

One file per connection, named by tool and number; the tests feed them to ingest, so that ingest is tried with these
tools where none is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shadow.adapters.embedded import free_port
from tests.ingest.kit import EXAMPLES, RECORDED, example
from tests.proxy.kit import Connection, Upstream, connect, echo, get, post, wait_for
from tests.services.envoy import Envoy
from tests.services.nginx import Nginx

REQUESTS = (
    post(b'{"n": 1}', "/v1/double?trace=a%20b", "Content-Type: application/json", "x-session-id: session-1"),
    get("/v1/models", "x-session-id: session-2", "x-request-id: asked-by-client"),
    b"POST /v1/double HTTP/1.1\r\nHost: a:81\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n0\r\n\r\n",
    get("/v1/models", "x-shadow: 1", "x-shadow-role: candidate"),
)
PLAIN_NGINX = """\
server {
    listen 127.0.0.1:8080;
    location / { mirror /_copy; proxy_pass http://127.0.0.1:8000; }
    location = /_copy { internal; proxy_pass http://127.0.0.1:8081$request_uri; }
}
"""
"""As short as it can be written: copies come in HTTP/1.0, one a connection."""


def accept(connection: Connection) -> None:
    """Take copies and keep the connection for the next one where the other side does."""
    while True:
        line, _, _ = connection.message()
        connection.send(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
        if line.endswith("HTTP/1.0"):
            return


@contextmanager
def recording(start: Callable[[str, int], Nginx | Envoy], text: str) -> Iterator[tuple[Upstream, int]]:
    """A tool in front of production, and the target of its copies."""
    port = free_port()
    with Upstream(echo) as production, Upstream(accept) as target:
        addresses = {"8080": port, "8000": production.port, "8081": target.port}
        with start(example(text, addresses), port):
            yield target, port


def record(name: str, start: Callable[[str, int], Nginx | Envoy], text: str) -> None:
    """Write what one tool sends for all requests."""
    with recording(start, text) as (target, port):
        with connect(port) as client:
            for request in REQUESTS:
                client.send(request)
                client.message()
        wait_for(lambda: target.received.count(b" /v1/") == len(REQUESTS), "every copy")
        for number, connection in enumerate(target.connections, start=1):
            (RECORDED / f"{name}-{number}.bin").write_bytes(connection.received)


def main() -> None:
    RECORDED.mkdir(exist_ok=True)
    record("nginx", Nginx, (EXAMPLES / "nginx.conf").read_text())
    record("plain-nginx", Nginx, PLAIN_NGINX)
    record("envoy", Envoy, (EXAMPLES / "envoy.yaml").read_text())


if __name__ == "__main__":
    main()
