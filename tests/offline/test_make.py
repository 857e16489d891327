"""`shadow suite` on a log, and from the command line."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from shadow.adapters.avro import encode
from shadow.adapters.memory_log import MemoryLog
from shadow.cli.suite import check, draw_from, seal_
from shadow.errors import BrokenEvidence
from shadow.gate.history import Run
from shadow.records.decisions import Started
from shadow.records.requests import MirroredRequest, Origin
from shadow.suite.draw import Draw
from shadow.suite.lines import request_from_line
from tests.cli.conftest import CommandLine, configuration, written
from tests.offline.trials import requests_of, suite_in
from tests.settings.configurations import settings_of

STARTED = Started("run-1", 1, "c", "p", "", "shadow", 1, 0, (0, 0), (1, 0), 0, 1)


def mirrored(n: int, body: object) -> MirroredRequest:
    """What the proxy wrote of one request."""
    headers = {"content-type": "application/json", "x-request-id": f"client-{n}"}
    origin = Origin("proxy", 0, n, n, {})
    content = orjson.dumps(body)
    return MirroredRequest(f"id-{n}", f"session-{n}", n, "POST", "/v1/x", headers, content, 0.5, 1.0, {}, origin)


def test_a_suite_is_drawn_from_the_runs_requests() -> None:
    """
    What was mirrored before the run and what cannot be read is left out; what graders expect is stated beside the body.
    """
    settings = settings_of()
    log, topic = MemoryLog(lambda: 1), settings.topics.requests
    log.admin().create_topics({topic: 2}, {})
    for n in range(6):
        body = {"text": f"7 divided by {n}", "metadata": {"answer": n}}
        log.append(topic, n % 2, b"", encode(mirrored(n, body)), {})
    log.append(topic, 0, b"", b"no record", {})
    drawn = draw_from(log, settings, Run(STARTED, ()), Draw(10, 2, [], "1"))
    assert ["id-1", "id-2", "id-3", "id-4", "id-5"] == [each.request_id for each in drawn.requests]
    assert {"content-type"} == set(drawn.requests[0].headers)
    assert {"$.metadata.answer": 1} == dict(drawn.requests[0].expected)


def test_a_suite_is_sealed_and_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A folder that people wrote becomes a suite by sealing it; a byte more, and the check refuses it.
    """
    folder = suite_in(tmp_path / "suite", requests_of(3))
    (folder / "manifest.json").unlink()
    assert 0 == seal_(folder, "mine", "json")
    digest = orjson.loads(capsys.readouterr().out)["digest"]
    assert 0 == check(folder, "table")
    assert digest in capsys.readouterr().out
    with (folder / "requests.jsonl").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(BrokenEvidence, match=r"requests\.jsonl has SHA-256"):
        check(folder, "table")


def test_the_command_line_says_one_sentence(tmp_path: Path) -> None:
    """
    A changed suite ends with 5, and what is no suite with 2, each with one line on stderr and nothing on stdout.
    """
    tree = configuration("embedded", "embedded")
    tree["stages"]["offline"] = {"rules": [{"floor": {"grader": "tagged"}}]}
    written(tmp_path, tree)
    folder = suite_in(tmp_path / "suite", requests_of(3))
    path = folder / "requests.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":2', 1))
    for name, code in (("suite", 5), ("nothing", 2)):
        done = CommandLine(tmp_path)("offline", name)
        assert (code, "", 1) == (done.returncode, done.stdout, len(done.stderr.strip().splitlines())), done.stderr


def test_every_line_of_a_suite_is_read(tmp_path: Path) -> None:
    """
    The file of a suite has one request a line, which comes back as it was.
    """
    folder = suite_in(tmp_path / "suite", requests_of(4))
    lines = (folder / "requests.jsonl").read_bytes().splitlines()
    assert list(requests_of(4)) == [request_from_line(line, "line") for line in lines]
