"""A review by people on Apache Kafka and redis-server, through the command line and the gate's port; then a purge."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from shadow.adapters.embedded import free_port
from shadow.cli.demo import wait_for_ports
from shadow.cli.supervise import shadow_command
from shadow.records.comparisons import CANDIDATE_HUMAN, tile_numbers
from shadow.records.tallies import CLASSES, ClosedTile, Key
from shadow.stream.state import slot_of
from tests.flow.harness import send, wait_until
from tests.flow.machine import PARTITIONS, Machine
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

REQUESTS = 80


def with_people(tree: dict[str, Any]) -> None:
    """People are asked about half of the requests, and have 60 seconds."""
    tree["human"] = {"sample": 0.5, "deadline": "60s"}
    rule = {"no_regression": {"slice": "all", "grader": "correct", "margin": 0.9, "against": "human"}}
    tree["stages"]["shadow"]["rules"].append(rule)


def people(machine: Machine) -> dict[str, int]:
    """Requests of the people's closed tiles by class."""
    counts = dict.fromkeys(CLASSES, 0)
    assert machine.started is not None
    for partition in range(PARTITIONS):
        slot = slot_of(machine.started.run, partition)
        numbers = tile_numbers(machine.store.tile_names(slot), CANDIDATE_HUMAN)
        for value in machine.store.tiles(slot, [f"{CANDIDATE_HUMAN}/{number}" for number in numbers]):
            assert value is not None
            vector = ClosedTile.from_bytes(0, value).tally.vectors.get(Key("all", "classes", ""), [])
            for name, count in zip(CLASSES, vector, strict=False):
                counts[name] += count
    return counts


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


@pytest.mark.timeout(600)  # a minute of it is the deadline of the people
def test_people_answer_and_are_paired_and_the_rest_is_missing(
    tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer
) -> None:
    """
    Exported, imported twice and posted: each answer is one pair; who got none is missing there when the deadline is
    over, and a replay of the log says the same. Then everything derived is purged, and the log still gives it all.
    """
    with Machine(
        tmp_path, kafka.bootstrap, redis_server.url, deadline="5s", evidence_deadline="10s", change=with_people
    ) as machine:
        machine.start()
        wait_for_ports(machine.ports.values(), machine.supervisor)
        send(machine.ports["proxy"], REQUESTS)
        assert machine.started is not None
        name = machine.started.run

        def is_mirrored() -> bool:
            return sum(end for _, end in machine.log.admin().ends(machine.settings.topics.requests)) == REQUESTS

        wait_until(is_mirrored, "all copies")
        out = tmp_path / "questions.jsonl"
        exported = run(machine, "answers", "export", "--out", str(out))
        assert (0, True) == (exported.returncode, "requests to answer" in exported.stderr), exported.stderr
        asked = [json.loads(line) for line in out.read_text().splitlines()]
        assert 15 < len(asked) < REQUESTS - 15
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

        expected = {"paired": 11, "missing": len(asked) - 11, "sampled_out": REQUESTS - len(asked)}
        wait_until(lambda: sum(people(machine).values()) >= REQUESTS, "the people's deadline", timeout_s=180)
        assert expected == {each: count for each, count in people(machine).items() if count}
        late = run(machine, "answers", "import", "-", stdin=json.dumps(lines[12]))
        assert (2, True) == (late.returncode, "after the deadline of 60 s" in late.stderr), late.stderr

        machine.supervisor.stop(["proxy", "worker", "comparator", "gate"])
        replayed = run(machine, "replay", "-o", "json")
        assert (0, True) == (replayed.returncode, json.loads(replayed.stdout)["identical"]), replayed.stderr
        purged_twice(machine, name)


def refused_while_it_goes_on(machine: Machine, name: str, out: Path, lines: list[dict[str, Any]]) -> None:
    """What is wrong is one sentence or one a line, with exit code 2, and changes nothing."""
    wrong = [*map(json.dumps, lines[11:13]), "no JSON", json.dumps({**lines[13], "request_id": "another"})]
    refused = run(machine, "answers", "import", "-", stdin="\n".join(wrong))
    assert 2 == refused.returncode
    assert "nothing was written" in refused.stderr
    assert "line 3: is no JSON object" in refused.stderr
    assert "line 4: request_id: read 'another'" in refused.stderr
    for arguments, sentence in (
        (("answers", "export", "--out", str(out)), "exists, and people may have answered in it"),
        (("answers", "export", "--since", "soon"), "--since: read 'soon', must be a time such as"),
        (("answers", "export", "nosuch-run"), name),
        (("answers", "import", str(out.with_name("none"))), "cannot be read: No such file"),
        (("answers", "import", str(out), "nosuch-run"), name),
        (("purge", "nosuch-run"), name),
        (("purge", name), "is going on, in the stage shadow"),
    ):
        done = run(machine, *arguments)
        assert (2, True, False) == (done.returncode, sentence in done.stderr, "Traceback" in done.stderr), done.stderr


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
    for arguments in (("answers", "import", "-"), ("purge", name)):
        done = run(machine, *arguments, stdin="")
        assert (5, False) == (done.returncode, "Traceback" in done.stderr), done.stderr
