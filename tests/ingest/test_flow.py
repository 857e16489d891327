"""From a tool's copy to a counted pair, with every process real."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
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


def tree_of(kafka: ApacheKafka, redis_server: RedisServer, production: str, candidate: str) -> dict[str, Any]:
    """A configuration with an ingest, whose production is asked by a worker."""
    listen = f"127.0.0.1:{free_port()}"
    tree = configuration(kafka.bootstrap, redis_server.url, ingest={"listen": listen})
    tree["proxy"]["upstream"] = production
    tree["workers"] = {
        "candidate": {"url": candidate, "deadline": "5s"},
        "production": {"url": production, "deadline": "5s"},
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
    Users ask production through the tool; both workers answer each copy once, and pairs counted = requests sent =
    copies seen. What production is asked by its worker is marked, so that no copy would be made of it.
    """
    shadow = CommandLine(tmp_path)
    asked: Counter[int] = Counter()

    def production_answer(request: dict[str, Any]) -> dict[str, Any]:
        asked[request["n"]] += 1
        return doubled(request)

    with HttpService(production_answer) as production, HttpService(doubled) as candidate:
        tree = tree_of(kafka, redis_server, production.url, candidate.url)
        ingest = int(tree["ingest"]["listen"].rpartition(":")[2])
        log, topics = KafkaLog({"bootstrap.servers": kafka.bootstrap}), tree["topics"]
        with (
            up(shadow, tree) as process,
            closing(RedisStore(redis_server.url)) as store,
            mirroring(name, production.port, ingest, pytestconfig) as port,
        ):
            wait_until(lambda: all(is_ready(tree, role)[0] == 200 for role in tree["admin"]), "all are ready")
            wait_until(lambda: b"taking copies" in (tmp_path / "up.err").read_bytes(), "ingest listens")
            assert {200: REQUESTS} == send(port, REQUESTS)
            run = run_of(shadow)
            wait_until(lambda: counted(store, run)[0].total() == REQUESTS, "every request is decided")
            wait_until(lambda: counted(store, run)[1]["open"] == 0, "every copy is accounted for")
            classes, account = counted(store, run)
            os.killpg(process.pid, signal.SIGINT)
            assert 0 == process.wait(15)
    assert {"paired": REQUESTS} == classes
    assert {"seen": REQUESTS, "present": REQUESTS, "lost": 0, "open": 0, "dropped": {}} == account
    answers = [
        each for each in map(decode, (r.value for r in records_of(log, topics["answers"]))) if isinstance(each, Answer)
    ]
    assert {("candidate", run): REQUESTS, ("production", "*"): REQUESTS} == Counter((a.role, a.run) for a in answers)
    assert {None} == {answer.exchange.live for answer in answers if answer.exchange is not None}
    assert {2} == set(asked.values())
    assert "Traceback" not in (tmp_path / "up.err").read_text()
