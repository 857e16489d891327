"""Commands against real services, and what they say when those are away or wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from shadow.adapters.embedded import EmbeddedBroker, EmbeddedStore, free_port
from shadow.adapters.kafka import KafkaLog
from shadow.cli.supervise import shadow_command
from tests.cli.conftest import CommandLine, configuration, written
from tests.flow.harness import HttpService, doubled, send, wait_until
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer


def test_a_run_from_its_start_to_services_away(
    shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer
) -> None:
    """
    A second start begins nothing; runs, status and explain know the run; without services and without any state
    of it explain is a usage error.
    """
    tree = configuration(kafka.bootstrap, redis_server.url)
    written(tmp_path, tree)
    first, second = shadow("start", "--unsafe", "-o", "json"), shadow("start", "--unsafe")
    begun = json.loads(first.stdout)
    assert (0, True, 1) == (first.returncode, begun["is_new"], begun["attempt"])
    assert 0 == second.returncode
    assert "going on already" in second.stdout
    listed = json.loads(shadow("runs", "-c", "shadow.yaml", "-o", "json").stdout)
    assert [(begun["run"], "shadow", None)] == [(row["run"], row["stage"], row["decision"]) for row in listed]
    for command in ("status", "explain"):
        done = shadow(command, "-c", "shadow.yaml", "-o", "json")
        assert (3, begun["run"], True) == (
            done.returncode,
            json.loads(done.stdout)["run"],
            json.loads(done.stdout)["is_live"],
        )
        assert 3 == shadow(command, "-c", "shadow.yaml").returncode
    unknown = shadow("status", "nosuch-run", "-c", "shadow.yaml")
    assert (2, True) == (unknown.returncode, begun["run"] in unknown.stderr)
    tree["kafka"] = {"bootstrap.servers": f"127.0.0.1:{free_port()}"}
    written(tmp_path, tree)
    assert 2 == shadow("explain", "-c", "shadow.yaml").returncode


def test_doctor_finds_everything_right(
    shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer
) -> None:
    """
    With topics, store and models in place every line is right but what a single broker cannot give.
    """
    tree = configuration(kafka.bootstrap, redis_server.url)
    with HttpService(doubled) as model:
        tree["proxy"]["upstream"] = tree["workers"]["candidate"]["url"] = model.url
        written(tmp_path, tree)
        assert 0 == shadow("start", "--unsafe").returncode
        done = shadow("doctor", "-o", "json")
    wrong = [row for row in json.loads(done.stdout) if not row["right"]]
    assert (5, 3) == (done.returncode, len(wrong)), done.stdout
    assert all("replication factor 1" in row["text"] for row in wrong)


def test_doctor_names_what_is_wrong(shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka) -> None:
    """
    CreateTime, unequal partitions, an evicting Redis and absent models: exit 5 with a line for each.
    """
    with RedisServer(arguments=("--maxmemory-policy", "allkeys-lru")) as evicting:
        tree = configuration(kafka.bootstrap, evicting.url)
        topics = tree["topics"]
        with closing(KafkaLog({"bootstrap.servers": kafka.bootstrap}).admin()) as admin:
            stamp = {topics["requests"]: {"message.timestamp.type": "CreateTime"}}
            admin.create_topics({topics["requests"]: 2, topics["answers"]: 3}, stamp)
        written(tmp_path, tree)
        done = shadow("doctor", "-o", "json")
        assert 5 == done.returncode
        assert 5 == shadow("doctor").returncode
    wrong = {row["subject"]: row["text"] for row in json.loads(done.stdout) if not row["right"]}
    assert "CreateTime" in wrong[topics["requests"]]
    assert "equally many" in wrong["partitions"]
    assert "noeviction" in wrong["redis"]
    assert {"proxy.upstream", "workers.candidate", topics["decisions"]} <= set(wrong)


def test_doctor_says_that_kafka_is_away(shadow: CommandLine, tmp_path: Path, redis_server: RedisServer) -> None:
    """
    One line for Kafka, exit 5, and the rest is looked at all the same.
    """
    written(tmp_path, configuration(f"127.0.0.1:{free_port()}", redis_server.url))
    done = shadow("doctor", "-o", "json")
    found = {row["subject"]: row["right"] for row in json.loads(done.stdout)}
    assert (5, False, True) == (done.returncode, found["kafka"], found["redis"])


def children_of(parent: int) -> set[int]:
    """Processes that were told this parent, wherever they hang now."""
    mark = f"SHADOW_PARENT_PID={parent}".encode()
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (path / "environ").read_bytes().split(b"\0") and b") Z " not in (path / "stat").read_bytes():
                found.add(int(path.name))
    return found


@contextmanager
def up(shadow: CommandLine, tree: dict) -> Iterator[subprocess.Popen]:
    """`shadow up` in a process group of its own, as a terminal starts it."""
    written(shadow.folder, tree)
    with (shadow.folder / "up.err").open("wb") as err:
        process = subprocess.Popen(
            shadow_command("up"), cwd=shadow.folder, env=shadow.environment, stderr=err, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def is_ready(tree: dict, role: str) -> tuple[int, str]:
    """What /readyz of a role answers; 0 where nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{tree['admin'][role]}/readyz", timeout=2) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@pytest.mark.parametrize("end", ["ctrl-c", "supervisor-killed", "child-dies"])
def test_up_ends_without_orphans(
    shadow: CommandLine, embedded_broker: EmbeddedBroker, embedded_store: EmbeddedStore, end: str
) -> None:
    """
    With embedded services of its own `up` serves; Ctrl-C ends all within ten seconds, exit 0; a killed supervisor
    leaves nobody behind; a child that dies is named, exit 5.
    """
    tree = configuration("embedded", "embedded")
    with HttpService(doubled) as model:
        tree["proxy"]["upstream"] = tree["workers"]["candidate"]["url"] = model.url
        with up(shadow, tree) as process:
            wait_until(lambda: all(is_ready(tree, role)[0] == 200 for role in tree["admin"]), "all are ready")
            assert {200: 50} == send(int(tree["proxy"]["listen"].rpartition(":")[2]), 50)
            children = children_of(process.pid)
            assert len(children) >= 4
            began_s = time.monotonic()
            if end == "ctrl-c":
                os.killpg(process.pid, signal.SIGINT)
                assert 0 == process.wait(15)
                assert time.monotonic() - began_s < 10
            elif end == "supervisor-killed":
                process.kill()
                process.wait(5)
            else:
                gate = next(p for p in children if b"gate" in Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0"))
                os.kill(gate, signal.SIGKILL)
                assert 5 == process.wait(20)
            wait_until(lambda: not children_of(process.pid), "no child is left", timeout_s=12)
    errors = (shadow.folder / "up.err").read_text()
    assert "Traceback" not in errors, errors
    assert end != "child-dies" or "gate ended with exit code -9" in errors


def test_redis_away_at_the_start(shadow: CommandLine, kafka: ApacheKafka, redis_server: RedisServer) -> None:
    """
    The comparator and gate are not ready and say why, the proxy is and serves; once Redis is there, all are ready.
    """
    with RedisServer() as store, HttpService(doubled) as model:
        tree = configuration(kafka.bootstrap, store.url)
        tree["proxy"]["upstream"] = tree["workers"]["candidate"]["url"] = model.url
        store.kill()
        with up(shadow, tree) as process:
            wait_until(lambda: is_ready(tree, "proxy")[0] == 200, "the proxy is ready")
            assert {200: 20} == send(int(tree["proxy"]["listen"].rpartition(":")[2]), 20)
            for role in ("comparator", "gate"):
                wait_until(lambda role=role: "redis" in is_ready(tree, role)[1], f"{role} names redis")
                assert 503 == is_ready(tree, role)[0]
            store.restart()
            wait_until(lambda: all(is_ready(tree, role)[0] == 200 for role in tree["admin"]), "all are ready")
            os.killpg(process.pid, signal.SIGINT)
            assert 0 == process.wait(15)
    assert "Traceback" not in (shadow.folder / "up.err").read_text()
