"""A review by people on Apache Kafka and redis-server, through the command line and the gate's port; then a purge."""

from __future__ import annotations

import itertools
import json
import logging
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from shadow.adapters.embedded import free_port
from shadow.cli.answers import export, import_
from shadow.cli.purge import purge
from shadow.cli.supervise import shadow_command
from shadow.errors import Unavailable, Usage
from shadow.records.comparisons import CANDIDATE_HUMAN
from shadow.records.tallies import CLASSES, ClosedTile, Key, Tally
from shadow.stream.state import slot_of
from tests.flow.harness import send, wait_until
from tests.flow.machine import PARTITIONS, Machine
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

REQUESTS = 80
OPEN = f"tally:{CANDIDATE_HUMAN}/"
"""How the fields of a snapshot begin that count people's open tiles."""


def with_people(tree: dict[str, Any]) -> None:
    """People are asked about half of the requests, and have an hour."""
    tree["human"] = {"sample": 0.5, "deadline": "1h"}
    rule = {"no_regression": {"slice": "all", "grader": "correct", "margin": 0.9, "against": "human"}}
    tree["stages"]["shadow"]["rules"].append(rule)


def people(machine: Machine) -> dict[str, int]:
    """Requests by class as the comparators count them against people so far: in stored tiles, open and closed."""
    counts = dict.fromkeys(CLASSES, 0)
    assert machine.started is not None
    for partition in range(PARTITIONS):
        slot = slot_of(machine.started.run, partition)
        stored = machine.store.load(slot)
        fields = stored[1] if stored is not None else {}
        tallies = [Tally.from_bytes(value) for name, value in fields.items() if name.startswith(OPEN)]
        names = [name for name in machine.store.tile_names(slot) if name.startswith(CANDIDATE_HUMAN)]
        closed = [value for value in machine.store.tiles(slot, names) if value is not None]
        for tally in [*tallies, *(ClosedTile.from_bytes(0, value).tally for value in closed)]:
            for each, count in zip(CLASSES, tally.vectors.get(Key("all", "classes", ""), []), strict=False):
                counts[each] += count
    return {each: count for each, count in counts.items() if count}


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Commands that run in this process set the logging up for themselves."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def run(machine: Machine, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with something to read."""
    return subprocess.run(
        shadow_command(*arguments, "-c", str(machine.config)),
        env={**os.environ, **machine.environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def sent(machine: Machine) -> int:
    """Send requests; returns how many are in the log."""
    port = machine.ports["proxy"]
    numbers = itertools.count(REQUESTS)
    with closing(machine.log.admin()) as admin:

        def copies() -> int:
            return sum(end for _, end in admin.ends(machine.settings.topics.requests))

        def is_first_copied() -> bool:
            # Before the proxy knows the partitions, it copies nothing.
            send(port, 1, first=next(numbers))
            return copies() > 0

        wait_until(is_first_copied, "the first copy")
        before = copies()
        send(port, REQUESTS)
        wait_until(lambda: copies() >= before + REQUESTS, "all copies")
        return copies()


def gate_port(machine: Machine) -> int:
    """The free port that the gate took, as it says itself."""
    found: list[str] = []

    def is_said() -> bool:
        found[:] = re.findall(
            r"gate: metrics and probes on 127\.0\.0\.1:(\d+)", (machine.folder / "gate.log").read_text()
        )
        return bool(found)

    wait_until(is_said, "the gate's port")
    return int(found[-1])


def test_each_answer_of_a_person_is_one_pair(tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer) -> None:
    """
    Exported, imported twice and posted: each answer is one pair, and a replay of the log says the same. Then
    everything derived is purged, and the log still gives it all.
    """
    with Machine(tmp_path, kafka.bootstrap, redis_server.url, change=with_people) as machine:
        machine.start()
        machine.await_serving()
        total = sent(machine)
        assert machine.started is not None
        name = machine.started.run
        out = tmp_path / "questions.jsonl"
        exported = run(machine, "answers", "export", "--out", str(out))
        assert (0, True) == (exported.returncode, "requests to answer" in exported.stderr), exported.stderr
        asked = [json.loads(line) for line in out.read_text().splitlines()]
        assert 15 < len(asked) < total - 15
        lines = [{**each, "answer": f"<answer>{each['request']['n'] * 2}</answer>", "by": "ada"} for each in asked]
        answers = tmp_path / "answers.jsonl"
        answers.write_text("".join(json.dumps(line) + "\n" for line in lines[:10]))
        for written, skipped in ((10, 0), (0, 10)):
            imported = run(machine, "answers", "import", str(answers), "-o", "json")
            assert 0 == imported.returncode, imported.stderr
            assert {"run": name, "written": written, "skipped": skipped, "late": 0} == json.loads(imported.stdout)
        call = json.dumps({"run": name, "answers": lines[9:11]}).encode()
        url = f"http://127.0.0.1:{gate_port(machine)}/v1/answers"
        posted = urllib.request.Request(url, call, {"content-type": "application/json"})
        with urllib.request.urlopen(posted, timeout=30) as reply:
            assert (202, 1) == (reply.status, json.load(reply)["written"])
        left = run(machine, "answers", "export", name)
        assert len(asked) - 11 == len(left.stdout.splitlines())

        refused_while_it_goes_on(machine, name, out, lines)

        expected = {"paired": 11, "sampled_out": total - len(asked)}
        wait_until(lambda: people(machine) == expected, f"{expected}", timeout_s=120)

        machine.supervisor.stop(["proxy", "worker", "comparator", "gate"])
        replayed = run(machine, "replay", "-o", "json")
        assert (0, True) == (replayed.returncode, json.loads(replayed.stdout)["identical"]), replayed.stderr
        purged_twice(machine, name)


def refused_while_it_goes_on(machine: Machine, name: str, out: Path, lines: list[dict[str, Any]]) -> None:
    """What is wrong is one sentence or one a line, and changes nothing."""
    wrong = out.with_name("wrong.jsonl")
    parts = [*map(json.dumps, lines[11:13]), "no JSON", json.dumps({**lines[13], "request_id": "another"})]
    wrong.write_text("\n".join(parts))
    config = machine.config
    with pytest.raises(Usage, match="nothing was written") as refused:
        import_(wrong, config=config)
    assert "line 3: is no JSON object" in str(refused.value)
    assert "line 4: request_id: read 'another'" in str(refused.value)
    for call, sentence in (
        (lambda: export(config=config, out=out), "exists, and people may have answered in it"),
        (lambda: export(config=config, since="soon"), "--since: read 'soon', must be a time such as"),
        (lambda: export("nosuch-run", config), name),
        (lambda: import_(out.with_name("none"), config=config), "cannot be read: No such file"),
        (lambda: import_(out, "nosuch-run", config), name),
        (lambda: purge("nosuch-run", config), name),
        (lambda: purge(name, config), "is going on, in the stage shadow"),
    ):
        with pytest.raises(Usage, match=re.escape(sentence)):
            call()


def purged_twice(machine: Machine, name: str) -> None:
    """Slots, groups and the known state are deleted, once; with Kafka away it is exit code 5."""
    documents: list[dict[str, Any]] = []

    def is_purged() -> bool:
        done = run(machine, "purge", name, "--force", "-o", "json")
        documents.append(json.loads(done.stdout))
        return done.returncode == 0  # 5 until the sessions of the ended processes are over

    wait_until(is_purged, "the purge")
    assert {name, f"{name}/0", f"{name}/1"} == set(documents[0]["slots"])
    assert documents[0]["tiles"] > 0 < len(documents[0]["files"])
    assert {f"shadow.{name}.candidate", f"shadow.{name}.comparator"} <= {
        g for each in documents for g in each["groups"]
    }
    assert machine.store.load(name) is None
    again = run(machine, "purge", name, "--force")
    assert (0, True) == (again.returncode, "nothing of it was left" in again.stdout), again.stdout
    replayed = run(machine, "replay", "-o", "json")
    assert 3 == replayed.returncode, replayed.stderr
    tree = yaml.safe_load(machine.config.read_text())
    tree["kafka"] = {"bootstrap.servers": f"127.0.0.1:{free_port()}"}
    machine.config.write_text(yaml.safe_dump(tree))
    for call in (lambda: import_(machine.config, config=machine.config), lambda: purge(name, machine.config)):
        with pytest.raises(Unavailable):
            call()
