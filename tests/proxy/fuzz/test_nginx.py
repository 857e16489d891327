"""NGINX behind the proxy counts the requests that the proxy forwards, and reads the same targets and bodies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shadow.adapters.embedded import free_port
from tests.conftest import used
from tests.proxy.fuzz.accepted import accepted
from tests.proxy.fuzz.memory import MemoryLoop, memory_loop
from tests.proxy.fuzz.mutations import mutations
from tests.proxy.fuzz.seeds import REQUESTS
from tests.proxy.inputs.case import Case, Seen, each
from tests.proxy.inputs.lane import PATIENT
from tests.proxy.kit import Running, connect, get, running, wait_for
from tests.services import ServiceMissing, unavailable
from tests.services.nginx import Nginx

# The body is in the log only of what is passed on, so a second server answers.
CONFIGURATION = """
log_format seen escape=default '$status\t$request_method\t$request_uri\t$request_body';
large_client_header_buffers 8 64k;
client_body_buffer_size 1m;
server {{
    listen 127.0.0.1:{front};
    access_log {log} seen;
    location / {{ proxy_pass http://127.0.0.1:{back}; }}
}}
server {{
    listen 127.0.0.1:{back};
    location / {{ return 200 fine; }}
}}
"""


@dataclass
class Counted:
    """A proxy in front of NGINX, and NGINX's log."""

    proxy: Running
    log: Path
    lines: int = 0
    marks: int = 0

    def requests(self, count: int) -> list[tuple[int, Seen]]:
        """What NGINX logged, with its status, since the last call: at least so many, or the call fails."""
        wait_for(lambda: len(self._logged()) - self.lines >= count, f"{count} lines in the log")
        # Whatever else is on its way is logged before one more request is.
        self.marks += 1
        target = f"/mark-{self.marks}"
        with connect(self.proxy.port) as client:
            client.send(get(target, "Connection: close"))
            client.rest()
        wait_for(lambda: any(target in line for line in self._logged()), "the mark in the log")
        lines = self._logged()[self.lines :]
        self.lines += len(lines)
        return [_request(line) for line in lines if target not in line]

    def _logged(self) -> list[str]:
        return self.log.read_text().splitlines()


def _request(line: str) -> tuple[int, Seen]:
    status, *parts = line.split("\t")
    # A byte that is not printed is written as \\x and two digits; nothing stands as a dash.
    method, target, body = (part.encode().decode("unicode_escape").encode("latin-1") for part in parts)
    return int(status), Seen(method, target, b"" if body == b"-" else body)


@pytest.fixture(scope="module")
def counted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counted]:
    """One NGINX and one proxy for all requests."""
    log = tmp_path_factory.mktemp("nginx") / "seen.log"
    front, back = free_port(), free_port()
    server = Nginx(CONFIGURATION.format(front=front, back=back, log=log), front)
    try:
        server.start()
    except ServiceMissing as missing:
        unavailable("NGINX", str(missing), os.environ)
    used(request.config)["NGINX"] = server.version
    try:
        with running(front, timeouts=PATIENT) as proxy:
            yield Counted(proxy, log)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def loop() -> Iterator[MemoryLoop]:
    """One loop for all requests."""
    with memory_loop() as ready:
        yield ready


def compare(counted: Counted, loop: MemoryLoop, sent: bytes) -> None:
    """Send the bytes through the proxy; NGINX must have begun as many requests, and read the whole ones alike."""
    taken = accepted(sent, loop)
    with connect(counted.proxy.port) as client:
        client.send(sent)
        if taken.is_refused:
            client.rest()
        logged = counted.requests(len(taken.messages))
    logged += counted.requests(taken.begun - len(logged))

    assert taken.begun == len(logged), sent
    for expected, (status, seen) in zip(taken.messages, logged, strict=False):
        if status == 400:
            continue  # What it refuses it has counted, and its log does not say the target.
        # The body is in the log only where the request was passed on.
        body = expected.body if status == 200 else b""
        assert Seen(expected.method, expected.target, body) == seen, sent


@pytest.mark.parametrize("case", each(case for case in REQUESTS if len(case.sent) < 8000))
def test_nginx_counts_what_the_proxy_forwards(counted: Counted, loop: MemoryLoop, case: Case):
    """
    Of every request of the tables NGINX sees what the proxy accepted of it.
    """
    compare(counted, loop, case.sent)


def test_nginx_counts_what_the_proxy_forwards_of_mutations(counted: Counted, loop: MemoryLoop):
    """
    The same for 100 mutations of which the proxy forwards something.
    """
    corpus = [case.sent for case in REQUESTS if len(case.sent) < 1000]
    compared = 0
    for sent in mutations(corpus, 3000, seed=11):
        if accepted(sent, loop).begun:
            compare(counted, loop, sent)
            compared += 1
        if compared == 100:
            break
    assert 100 == compared
