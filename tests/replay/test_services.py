"""Replay and archive of a run on Apache Kafka and redis-server, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from shadow.ports import Change
from shadow.stream.state import slot_of
from tests.cli.conftest import CommandLine
from tests.flow.harness import send, wait_until
from tests.flow.machine import Machine
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer


def decided(machine: Machine) -> bool:
    assert machine.started is not None
    stored = machine.store.load(machine.started.run)
    return stored is not None and bool(json.loads(stored[1].get("view", b"{}")).get("decision"))


def test_p4_a_live_run_is_recomputed_archived_and_recomputed(
    tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer
) -> None:
    """
    P4: what real processes decided is recomputed byte for byte from Kafka, and from the archive with all services
    away; a tile changed in Redis is named; other configurations and runs are refused.
    """
    with Machine(tmp_path, kafka.bootstrap, redis_server.url, pairs=300) as machine:
        machine.start()
        machine.await_serving()
        send(machine.ports["proxy"], 600)
        wait_until(lambda: decided(machine), "the promotion")
        machine.supervisor.stop(["proxy", "worker", "comparator", "gate"])
        started = machine.started

        replayed = machine.run("replay", "-o", "json")
        document = json.loads(replayed.stdout)
        assert (0, True, "promote") == (replayed.returncode, document["identical"], document["decision"]["decision"])
        assert document["recorded"] == document["decision"]
        assert document["compared"]["redis_tiles"] >= 2 * document["tiles"]["count"]
        assert 600 >= document["classes"]["paired"] >= 300
        assert document["speed"]["pairs_per_s"] > 0

        folder = tmp_path / "archive"
        archived = machine.run("archive", started.run, "--out", str(folder))
        assert 0 == archived.returncode, archived.stderr

        unknown = machine.run("replay", "nosuch-run")
        assert (2, True) == (unknown.returncode, started.run in unknown.stderr)
        refused = machine.run("archive", "nosuch-run", "--out", str(tmp_path / "none"))
        assert (2, False) == (refused.returncode, (tmp_path / "none").exists())

        tree = yaml.safe_load(machine.config.read_text())
        tree["stages"]["shadow"]["rules"].append({"floor": {"grader": "correct", "min": 0.9999}})
        stricter = tmp_path / "stricter.yaml"
        stricter.write_text(yaml.safe_dump(tree))
        backtest = machine.run("replay", "--config", str(stricter), "-o", "json")
        assert backtest.returncode in (3, 4), backtest.stderr
        assert "promote" == json.loads(backtest.stdout)["recorded"]["decision"]

        slot = slot_of(started.run, 0)
        version, _ = machine.store.load(slot)
        numbers = range(document["tiles"]["first"], document["tiles"]["last"] + 1)
        stored = zip(map(str, numbers), machine.store.tiles(slot, list(map(str, numbers))), strict=True)
        begin = b'"all\\tclasses\\t":{"v":['
        tile, value = next((tile, value) for tile, value in stored if value is not None and begin in value)
        changed = value.replace(begin, begin + b"1")
        machine.store.swap(slot, version, Change("changed by a test", {}, tiles={tile: changed}))
        different = machine.run("replay")
        assert 5 == different.returncode
        assert f"redis, partition 0, tile {tile}, slice all, classes" in different.stdout

    from_files = CommandLine(tmp_path)("replay", "--archive", str(folder), "-o", "json")
    assert 0 == from_files.returncode, from_files.stderr
    again = json.loads(from_files.stdout)
    for part in ("tiles_digest", "decision", "judgement", "classes"):
        assert document[part] == again[part]
