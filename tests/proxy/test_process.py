"""The proxy as a process: signals, exit and what it leaves in the log."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

from shadow.records.answers import Report
from tests.proxy.kit import BOUND_S, Connection, RecordingWriter, Upstream, connect, get, ok, post, running, wait_for

SCRIPT = """
import json, sys
from shadow.adapters.avro import encode
from shadow.proxy.config import Endpoint, MirrorSettings, ProxySettings
from shadow.proxy.server import Proxy, run
from tests.proxy.kit import RecordingWriter

writer = RecordingWriter()
upstreams = (Endpoint("127.0.0.1", int(sys.argv[1])),)
settings = ProxySettings(upstreams, "v1", MirrorSettings(("POST",), ("/*",)), process="p")
proxy = Proxy(settings, writer=writer, encode=encode, partitions=lambda: 2)
is_clean = run(proxy, drain_s=float(sys.argv[2]), on_ready=lambda port: print(port, flush=True))
finals = [report for _, report in writer.reports() if report.is_final]
print(json.dumps([is_clean, len(writer.copies()), len(finals), sum(report.seen for report in finals)]))
"""


def started(upstream_port: int, drain_s: float) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(upstream_port), str(drain_s)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_sigterm_finishes_what_is_in_flight_and_exits():
    """The running answer ends well, its copy and the final reports are written, and the process exits with 0."""
    going = threading.Event()

    def serve(connection: Connection) -> None:
        connection.message()
        assert going.wait(BOUND_S)
        connection.send(ok(b"late"))
        connection.message()

    with Upstream(serve) as upstream:
        process, port = started(upstream.port, 10)
        with connect(port) as client:
            client.send(post(b"x"))
            wait_for(lambda: b"POST" in upstream.received)
            process.send_signal(signal.SIGTERM)
            going.set()
            assert client.message()[2] == b"late"
        out, _ = process.communicate(timeout=BOUND_S)
        assert process.returncode == 0
        assert json.loads(out) == [True, 1, 2, 1]


def test_a_second_signal_ends_the_process_at_once():
    """While a drain waits for an answer, another SIGTERM exits within a second."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.rest()

    with Upstream(serve) as upstream:
        process, port = started(upstream.port, 60)
        with connect(port) as client, connect(port) as idle:
            client.send(post(b"x"))
            wait_for(lambda: b"POST" in upstream.received)
            process.send_signal(signal.SIGTERM)
            assert idle.rest() == b""
            asked_at = time.monotonic()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=BOUND_S)
            assert process.returncode == 128 + signal.SIGTERM
            assert time.monotonic() - asked_at < 1.0


def test_a_log_that_hangs_does_not_hold_up_the_drain():
    """With a writer that never returns, the drain ends in its time and says that it was not clean."""

    def serve(connection: Connection) -> None:
        connection.message()
        connection.send(ok())
        connection.message()

    writer = RecordingWriter(fault="hang")
    with Upstream(serve) as upstream, running(upstream.port, writer=writer) as proxy:
        with connect(proxy.port) as client:
            client.send(get())
            assert client.message()[2] == b"fine"
        began_at = time.monotonic()
        assert proxy.drain(0.1) is False
        assert time.monotonic() - began_at < 6.0
        writer.go_on.set()
        finals = wait_for(lambda: [report for _, report in writer.reports() if report.is_final])
        assert isinstance(finals[0], Report)
