"""One proxy in front of an upstream that writes down every request, for all cases of a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shadow.proxy.config import Timeouts
from tests.proxy.inputs.case import FINE, Seen
from tests.proxy.kit import BOUND_S, Connection, Running, Upstream, connect, get, ok, running, wait_for

# A refused client is listened to as long as the test may take, so that no machine is too slow for it.
PATIENT = Timeouts(linger_s=BOUND_S)

_FIELD = re.compile(rb"\r\n(content-length|transfer-encoding): ([^\r]*)", re.IGNORECASE)


@dataclass
class Lane:
    """What a case is run on; `seen` grows by every whole request that reaches the upstream."""

    proxy: Running
    upstream: Upstream
    seen: list[Seen] = field(default_factory=list)
    marks: int = 0

    def mark(self) -> None:
        """Send one more request and wait until the upstream has it, so that whatever went before is there, too."""
        self.marks += 1
        with connect(self.proxy.port) as client:
            client.send(get(f"/mark-{self.marks}", "Connection: close"))
            assert client.rest().startswith(b"HTTP/1.1 200 ")

    def dropped(self, reason: str) -> int:
        """Requests that were not copied, by reason."""
        return self.proxy.totals()[2].get(reason, 0)

    def sizes(self) -> dict[Connection, int]:
        """How much came on each connection of the upstream."""
        return {connection: len(connection.received) for connection in list(self.upstream.connections)}

    def bytes_since(self, sizes: dict[Connection, int]) -> bytes:
        """What came on every connection since then."""
        return b"".join(bytes(each.received[sizes.get(each, 0) :]) for each in list(self.upstream.connections))

    def since(self, requests: int) -> tuple[Seen, ...]:
        """The requests behind so many, without marks."""
        return tuple(seen for seen in self.seen[requests:] if not seen.target.startswith(b"/mark-"))


def read_request(connection: Connection) -> Seen:
    """The next request, read by its framing alone."""
    head = connection.until(b"\r\n\r\n")
    method, target, _ = head.partition(b"\r\n")[0].split(b" ")
    framing = {name.lower(): value for name, value in _FIELD.findall(head)}
    assert len(framing) <= 1
    if b"content-length" in framing:
        return Seen(method, target, connection.exactly(int(framing[b"content-length"])))
    return Seen(method, target, connection.chunked() if framing else b"")


@contextmanager
def recording() -> Iterator[Lane]:
    """A lane whose upstream answers every request alike."""

    def serve(connection: Connection) -> None:
        while True:
            seen = read_request(connection)
            lane.seen.append(seen)
            connection.send(ok(FINE))

    with Upstream(serve) as upstream, running(upstream.port, timeouts=PATIENT) as proxy:
        lane = Lane(proxy, upstream)
        yield lane
        wait_for(lambda: proxy.snapshot().active == 0)
