"""`shadow ingest` as a process: what it refuses, how it begins and ends."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from shadow.adapters.embedded import free_port
from shadow.cli.supervise import shadow_command
from tests.cli.conftest import CommandLine, configuration, written
from tests.ingest.kit import ACCEPTED
from tests.proxy.kit import connect, post


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "ingest is not configured; give the file the section ingest, with the address to listen on"),
        ({"ingest": {}}, "ingest: needs answers of production, and workers.production is not configured"),
    ],
)
def test_ingest_is_refused_where_no_pair_could_come(tmp_path: Path, changes, sentence):
    """
    Without its section, or without a worker that answers for production, it is a mistake in the file.
    """
    written(tmp_path, configuration("127.0.0.1:1", "redis://127.0.0.1:1/0", **changes))
    done = CommandLine(tmp_path)("ingest")
    assert (2, 1) == (done.returncode, len(done.stderr.splitlines()))
    assert done.stderr.strip().endswith(sentence)


def test_ingest_takes_copies_while_kafka_is_away(tmp_path: Path):
    """
    It serves as soon as it listens, whatever Kafka does; SIGTERM ends it with 0.
    """
    port = free_port()
    tree = configuration(f"127.0.0.1:{free_port()}", "redis://127.0.0.1:1/0", ingest={"listen": f"127.0.0.1:{port}"})
    tree["workers"]["production"] = {"url": "http://127.0.0.1:1", "deadline": "1s"}
    written(tmp_path, tree)
    command = shadow_command("ingest", "--admin-port", "0")
    environment = CommandLine(tmp_path).environment
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = next(line for line in process.stderr if "listening" in line)
            assert f"listening on port {port}, taking copies" in line
            with connect(port) as tool:
                for _ in range(100):
                    tool.send(post(b"{}"))
                    assert ACCEPTED == tool.message()[0]
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert 0 == process.wait(20)
        finally:
            process.kill()
    assert "Traceback" not in rest
