"""Processes that start before Kafka does, and what is told of a run while the services are away."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from shadow.adapters.embedded import free_port
from shadow.cli.supervise import shadow_command
from tests.cli.conftest import CommandLine, configuration, written
from tests.cli.test_services import is_ready
from tests.flow.harness import HttpService, doubled, send, wait_until
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

DECISIONS = {None: 3, "promote": 0, "expire": 3, "rollback": 4}


@contextmanager
def roles(shadow: CommandLine, names: tuple[str, ...]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes of these roles; stderr of each is in `<role>.err`. They drain at the end, each with exit 0."""
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in names:
            with (shadow.folder / f"{name}.err").open("wb") as err:
                environment = {**shadow.environment, "SHADOW_PARENT_PID": str(os.getpid())}
                started[name] = subprocess.Popen(
                    shadow_command(name), cwd=shadow.folder, env=environment, stdout=subprocess.DEVNULL, stderr=err
                )
        yield started
        for process in started.values():
            process.terminate()
        assert dict.fromkeys(names, 0) == {name: process.wait(15) for name, process in started.items()}
    finally:
        for process in started.values():
            process.kill()
            process.wait(10)


def services_of(tree: dict[str, Any], role: str) -> dict[str, float]:
    """What a process' metrics say of the services."""
    with urllib.request.urlopen(f"http://127.0.0.1:{tree['admin'][role]}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {name: float(value) for name, value in re.findall(r'shadow_service_up\{service="(\w+)"\} (\S+)', text)}


def test_kafka_away_at_the_start(
    shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer
) -> None:
    """
    Worker, comparator and gate say on stderr and in /readyz that they wait for Kafka, and do not end; the proxy
    serves at once; once Kafka is there and the run has begun, all are ready.
    """
    waiting = ("worker", "comparator", "gate")
    with ApacheKafka() as broker, HttpService(doubled) as model:
        broker.kill()
        tree = configuration(broker.bootstrap, redis_server.url)
        tree["proxy"]["upstream"] = tree["workers"]["candidate"]["url"] = model.url
        written(tmp_path, tree)
        with roles(shadow, ("proxy", *waiting)) as processes:
            wait_until(lambda: is_ready(tree, "proxy")[0] == 200, "the proxy is ready")
            assert {200: 20} == send(int(tree["proxy"]["listen"].rpartition(":")[2]), 20)
            for role in waiting:
                wait_until(lambda r=role: "waiting for kafka: " in is_ready(tree, r)[1], f"{role} names kafka")
                assert 503 == is_ready(tree, role)[0]
                assert 0.0 == services_of(tree, role)["kafka"]
                told = tmp_path / f"{role}.err"
                wait_until(lambda t=told: "waiting for kafka: " in t.read_text(), f"{role} says it on stderr")
            refused = shadow("start")
            assert (5, 1) == (refused.returncode, len(refused.stderr.strip().splitlines())), refused.stderr
            assert {None} == {process.poll() for process in processes.values()}
            broker.restart()
            for role in waiting:
                wait_until(lambda r=role: "`shadow start`" in is_ready(tree, r)[1], f"{role} names what is to be done")
            assert 0 == shadow("start", "--unsafe").returncode
            wait_until(lambda: all(is_ready(tree, role)[0] == 200 for role in tree["admin"]), "all are ready")
            assert {200: 20} == send(int(tree["proxy"]["listen"].rpartition(":")[2]), 20, first=20)
            needed = {
                "proxy": {"kafka"},
                "worker": {"kafka"},
                "comparator": {"kafka", "redis"},
                "gate": {"kafka", "redis"},
            }
            for role, names in needed.items():
                wait_until(lambda r=role, n=names: dict.fromkeys(n, 1.0) == services_of(tree, r), f"{role} has them")
            assert {None} == {process.poll() for process in processes.values()}
    for role in ("proxy", *waiting):
        assert "Traceback" not in (tmp_path / f"{role}.err").read_text()


def states(folder: Path) -> Path:
    """Where the gate leaves the last known states."""
    return folder / "state" / "shadow"


def decided(document: dict[str, Any], decision: str | None) -> dict[str, Any]:
    """The state as the gate saves it after this decision."""
    if decision is None:
        return {**document, "decision": None}
    made = {
        "decision": decision,
        "decision_id": "5b0f6b9e-0000-5000-8000-000000000000",
        "step": 1,
        "tile": document["tile"],
        "culprits": ["floor:tagged"] if decision == "rollback" else [],
        "reason": f"the reason of the {decision}",
        "tiles_digest": document["tiles_digest"],
        "decided_us": time.time_ns() // 1000,
    }
    return {**document, "decision": made}


@pytest.fixture
def known(
    shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer
) -> tuple[dict[str, Any], Path]:
    """A configuration, and the state that a real gate saved of its run."""
    tree = configuration(kafka.bootstrap, redis_server.url)
    written(tmp_path, tree)
    run = json.loads(shadow("start", "--unsafe", "-o", "json").stdout)["run"]
    path = states(tmp_path) / f"run-{run}.json"
    with roles(shadow, ("gate",)):
        wait_until(path.exists, "the gate saves what it knows")
    return tree, path


def test_the_last_known_state_answers_without_services(
    shadow: CommandLine, tmp_path: Path, known: tuple[dict[str, Any], Path]
) -> None:
    """
    With Kafka or Redis away, the embedded ones stopped, or without a configuration, status and explain show what the
    gate saved: the exit code is the decision's, the output says that it is the last known state, and JSON that it is
    not live.
    """
    tree, path = known
    document = json.loads(path.read_text())
    away = {
        "kafka": {**tree, "kafka": {"bootstrap.servers": f"127.0.0.1:{free_port()}"}},
        "redis": {**tree, "redis": {"url": f"redis://127.0.0.1:{free_port()}/0"}},
        "embedded": {**tree, "kafka": "embedded", "redis": "embedded"},
    }
    asked: dict[str, list[str]] = {}
    for service, changed in away.items():
        (tmp_path / service).mkdir()
        asked[service] = ["-c", str(written(tmp_path / service, changed))]
    # Every decision without a configuration, and every service that is away with one decision: each call is a process.
    looks = [("explain", decision, "") for decision in DECISIONS]
    looks += [("explain", "rollback", "kafka"), ("status", None, "redis"), ("status", "promote", "embedded")]
    for command, decision, service in looks:
        path.write_text(json.dumps(decided(document, decision)))
        done = shadow(command, *asked.get(service, []))
        assert (DECISIONS[decision], True) == (done.returncode, "last known state" in done.stdout), (service, done)
        assert decision is None or f"the reason of the {decision}" in done.stdout
        assert service in done.stdout
    path.write_text(json.dumps(decided(document, "rollback")))
    told = shadow("explain", *asked["redis"], "-o", "json")
    shown = json.loads(told.stdout)
    assert (4, False, document["run"]) == (told.returncode, shown["is_live"], shown["run"])


def test_the_last_known_state_is_of_the_configuration(
    shadow: CommandLine, tmp_path: Path, known: tuple[dict[str, Any], Path]
) -> None:
    """
    With Kafka away, a newer state of another configuration's run is not taken for this one's; without a state of
    its own, a configuration's run is unknown.
    """
    tree, path = known
    mine = json.loads(path.read_text())
    other = {**decided(mine, "promote"), "run": "other-00000000-1", "candidate": "other"}
    path.write_text(json.dumps(decided(mine, "rollback")))
    newer = states(tmp_path) / "run-other-00000000-1.json"
    newer.write_text(json.dumps(other))
    os.utime(path, (1, 1))
    written(tmp_path, {**tree, "kafka": {"bootstrap.servers": f"127.0.0.1:{free_port()}"}})
    done = shadow("explain", "-c", "shadow.yaml", "-o", "json")
    assert (4, mine["run"]) == (done.returncode, json.loads(done.stdout)["run"])
    path.unlink()
    unknown = shadow("explain", "-c", "shadow.yaml")
    assert (2, "") == (unknown.returncode, unknown.stdout)
    assert "no run of this configuration" in unknown.stderr
