"""From a tool's copy to a counted pair, with every process real."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from shadow.adapters.avro import decode
from shadow.adapters.embedded import free_port
from shadow.adapters.kafka import KafkaLog
from shadow.adapters.redis import RedisStore
from shadow.cli.view import running_counts
from shadow.records.answers import Answer
from tests.cli.conftest import CommandLine, configuration
from tests.cli.test_services import is_ready, up
from tests.flow.harness import HttpService, doubled, records_of, send, wait_until
from tests.ingest.test_tools import mirroring
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

REQUESTS = 300


def tree_of(
    kafka: ApacheKafka, redis_server: RedisServer, ingest: int, production: str, candidate: str
) -> dict[str, Any]:
    """A configuration with an ingest, whose production is asked by a worker."""
    tree = configuration(kafka.bootstrap, redis_server.url, ingest={"listen": f"127.0.0.1:{ingest}"})
    tree["workers"] = {
        "candidate": {"url": candidate, "deadline": "20s"},
        "production": {"url": production, "deadline": "20s"},
    }
    return tree


def run_of(shadow: CommandLine) -> str:
    """Name of the run that was begun."""
    (row,) = json.loads(shadow("runs", "-c", "shadow.yaml", "-o", "json").stdout)
    name: str = row["run"]
    return name


def counted(store: RedisStore, run: str) -> tuple[Counter[str], Mapping[str, Any]]:
    """What became of the requests of slice `all`, and where every copy went."""
    counts = running_counts(store, run, 2)
    return +Counter(counts["classes"]), counts["account"]


@pytest.mark.parametrize("name", ["nginx", "envoy"])
def test_every_request_that_a_tool_copies_becomes_a_pair(
    tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer, name: str, pytestconfig: pytest.Config
) -> None:
    """
    Users ask production through the tool, and so does its worker: the calls of the latter are copied too and excluded,
    so that nothing goes in a circle. Pairs counted = requests sent, and every copy is accounted for.
    """
    shadow = CommandLine(tmp_path)
    asked: Counter[int] = Counter()

    def production_answer(request: dict[str, Any]) -> dict[str, Any]:
        asked[request["n"]] += 1
        return doubled(request)

    def everywhere() -> dict[str, Any]:
        # A worker that has to join its group again asks again: at least one call for each request.
        seen = asked.total()
        dropped = {"excluded": seen - REQUESTS}
        return {"seen": seen, "present": REQUESTS, "lost": 0, "open": 0, "dropped": dropped}

    ingest = free_port()
    with (
        HttpService(production_answer) as production,
        HttpService(doubled) as candidate,
        mirroring(name, production.port, ingest, pytestconfig) as port,
    ):
        tree = tree_of(kafka, redis_server, ingest, f"http://127.0.0.1:{port}", candidate.url)
        log, topics = KafkaLog({"bootstrap.servers": kafka.bootstrap}), tree["topics"]
        with up(shadow, tree) as process, closing(RedisStore(redis_server.url)) as store:
            wait_until(lambda: all(is_ready(tree, role)[0] == 200 for role in tree["admin"]), "all are ready")
            wait_until(lambda: b"taking copies" in (tmp_path / "up.err").read_bytes(), "ingest listens")
            assert {200: REQUESTS} == send(port, REQUESTS)
            run = run_of(shadow)
            wait_until(lambda: counted(store, run)[0].total() == REQUESTS, "every request is decided")
            with suppress(AssertionError):  # what is wrong then is said below
                wait_until(lambda: counted(store, run)[1] == everywhere(), "every copy is accounted for")
            classes, account = counted(store, run)
            expected = everywhere()
            os.killpg(process.pid, signal.SIGINT)
            assert 0 == process.wait(15)
    assert ({"paired": REQUESTS}, expected) == (classes, account)
    answers = [
        each for each in map(decode, (r.value for r in records_of(log, topics["answers"]))) if isinstance(each, Answer)
    ]
    places = {(each.role, each.run, each.request_partition, each.request_offset) for each in answers}
    assert {("candidate", run): REQUESTS, ("production", "*"): REQUESTS} == Counter(place[:2] for place in places)
    assert {None} == {answer.exchange.live for answer in answers if answer.exchange is not None}
    assert (REQUESTS, True) == (len(asked), min(asked.values()) >= 2)
    assert "Traceback" not in (tmp_path / "up.err").read_text()
