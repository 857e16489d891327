"""The whole stream as processes, started through the command line against real services, as a user would."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from shadow.adapters.embedded import free_port
from shadow.adapters.kafka import KafkaLog
from shadow.adapters.redis import RedisStore
from shadow.cli import wiring
from shadow.cli.begin import runs_of, transactional_id
from shadow.cli.demo import wait_for_ports
from shadow.cli.refold import refold
from shadow.cli.supervise import Supervisor, shadow_command
from shadow.cli.view import running_counts
from shadow.gate.history import Run
from shadow.records.decisions import Decision, Started
from shadow.records.log import LogRecord
from shadow.records.tallies import ClosedTile
from shadow.stream.state import FoldState, slot_of, state_from_fields
from tests.flow.harness import records_of, wait_until

PARTITIONS = 2


class Machine:
    """Processes of one run on shared services; topics and run are its own.

    Args:
        folder: For configuration and logs.
        bootstrap: Kafka.
        redis_url: The store.
        pairs: Pairs at which the run is promoted; by default more than any test sends.
        deadline: Of the candidate's calls.
        evidence_deadline: How long after a tile's end its pairs may complete.
        candidate: Command of the candidate's server, to which its port is added; None: it doubles, and is wrong
            on some.
        comparators: How many share the partitions; the second one is named `comparator-2`, and so on.
        change: Changes the configuration before it is written.
        beside: Another machine, whose topics, proxy, production and worker of production this one's run shares.
    """

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        redis_url: str,
        *,
        pairs: int = 10_000_000,
        deadline: str = "10s",
        evidence_deadline: str = "30s",
        candidate: Sequence[str] | None = None,
        comparators: int = 1,
        change: Callable[[dict[str, Any]], object] = lambda tree: None,
        beside: Machine | None = None,
    ) -> None:
        self.comparators = ["comparator", *(f"comparator-{number}" for number in range(2, comparators + 1))]
        self._pairs = pairs
        self._deadline = deadline
        self._evidence_deadline = evidence_deadline
        doubling = [sys.executable, "-m", "tests.flow.doubling"]
        self._models = {"production": doubling, "candidate": candidate or [*doubling, "--wrong-every", "50"]}
        self._roles = ("proxy", "worker", *self.comparators, "gate")
        self.folder = folder
        self.ports = {name: free_port() for name in ("proxy", "production", "candidate")}
        if beside is not None:
            del self._models["production"]
            self._roles = self._roles[1:]
            self.ports |= {name: beside.ports[name] for name in ("proxy", "production")}
        self.config = folder / "shadow.yaml"
        tree = self._tree(uuid.uuid4().hex[:8], bootstrap, redis_url)
        if beside is not None:
            tree["topics"] = beside.settings.topics.model_dump()
        change(tree)
        self.config.write_text(yaml.safe_dump(tree, sort_keys=False))
        self.settings = wiring.settings_from(self.config)
        self.log = KafkaLog({"bootstrap.servers": bootstrap})
        self.store = RedisStore(redis_url)
        self.supervisor = Supervisor(folder)
        self.environment = {"XDG_STATE_HOME": str(folder / "state")}
        self.started: Started | None = None

    def _tree(self, token: str, bootstrap: str, redis_url: str) -> dict[str, Any]:
        return {
            "run": {"candidate": f"candidate-{token}", "production": "production-1"},
            "kafka": {"bootstrap.servers": bootstrap},
            "redis": {"url": redis_url},
            "topics": {
                **{name: f"{name.replace('_', '-')}-{token}" for name in ("requests", "answers", "pairs")},
                "decisions": f"decisions-{token}",
                "dead_letters": f"dead-letters-{token}",
                "partitions": PARTITIONS,
            },
            "tile": "1s",
            "evidence_deadline": self._evidence_deadline,
            "proxy": {
                "listen": f"127.0.0.1:{self.ports['proxy']}",
                "upstream": f"http://127.0.0.1:{self.ports['production']}",
                "mirror": {"sample": 1.0, "methods": ["POST"], "paths": ["/v1/*"], "report_interval": "500ms"},
            },
            "workers": {
                "candidate": {"url": f"http://127.0.0.1:{self.ports['candidate']}", "deadline": self._deadline}
            },
            "slices": {"even": {"json": {"$.even": True}}},
            "graders": {
                "correct": {"kind": "numeric", "tag": "answer", "expected": "json:$.metadata.answer"},
                "tagged": {"kind": "answer_tag", "tag": "answer"},
            },
            "expires": "1d",
            "stages": {
                "shadow": {
                    "needs": {"pairs": self._pairs, "within": "24h", "slice_pairs": 100, "coverage": 0.98},
                    # So wide that nothing is rolled back: these tests are about counting, not judging.
                    "rules": [
                        {"quality": {"graders": {"correct": 1.0}, "margin": 0.9}},
                        {"no_regression": {"slice": "even", "grader": "correct", "margin": 0.9}},
                        {"floor": {"grader": "tagged", "min": 0.05}},
                    ],
                }
            },
        }

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.supervisor.stop()
        self.store.close()

    def start(self) -> None:
        """Start the models, begin the run, and start every role."""
        for name, command in self._models.items():
            self.supervisor.start(name, [*command, "--port", str(self.ports[name])])
        self.begin()
        for role in self._roles:
            self.start_role(role)
        if self.settings.is_live and "proxy" in self._roles:
            self.start_role("worker-production")

    def await_serving(self) -> None:
        """Wait until everything listens and the candidate's worker owns every partition.

        Copies that outlive their deadline before that have no answer of the candidate: a second of them at 100 a second
        holds the coverage of 98 % up for 5,000 requests.
        """
        wait_for_ports(self.ports.values(), self.supervisor)
        log, owned = self.folder / "worker.log", f"answering partitions {list(range(PARTITIONS))}"
        wait_until(lambda: owned in log.read_text(), "the worker answers", 120)

    def begin(self) -> Started:
        """Begin the run, which nobody serves yet."""
        reply = self.run("start", "--unsafe", "-o", "json")
        assert 0 == reply.returncode, reply.stderr
        name = json.loads(reply.stdout)["run"]
        self.started = next(run.started for run in self.runs() if run.name == name)
        return self.started

    def runs(self) -> list[Run]:
        """Every run that stands in the decisions topic."""
        writer = self.log.decisions(self.settings.topics.decisions, transactional_id(self.settings))
        try:
            return runs_of(writer)
        finally:
            writer.close()

    def decision(self) -> Decision | None:
        """The decision that ended this machine's run, once there is one."""
        assert self.started is not None
        own = next(run for run in self.runs() if run.name == self.started.run)
        return own.decisions[-1] if own.decisions else None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            shadow_command(*arguments, "-c", str(self.config)),
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def start_role(self, role: str) -> None:
        """Start a process by its member name: the role, and behind it a number, or whose worker it is."""
        name, _, more = role.partition("-")
        whose = ["--role", more] if name == "worker" and more.isalpha() else []
        command = shadow_command(name, "-c", str(self.config), "--admin-port", "0", *whose)
        self.supervisor.start(role, command, {**self.environment, "SHADOW_MEMBER": role})

    def pid(self, role: str) -> int:
        return next(child.process.pid for child in self.supervisor.children if child.name == role)

    def kill(self, role: str) -> None:
        """kill -9, and a new process in its place."""
        os.kill(self.pid(role), signal.SIGKILL)
        self.supervisor.stop([role])
        self.start_role(role)

    def killing(self, role: str, times: int, over_s: float, seed: int) -> threading.Thread:
        """Kill a role at random moments, in a thread."""
        moments = sorted(random.Random(seed).uniform(0.5, over_s) for _ in range(times))

        def run() -> None:
            began_s = time.monotonic()
            for moment_s in moments:
                time.sleep(max(0.0, began_s + moment_s - time.monotonic()))
                self.kill(role)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def head(self, partition: int) -> dict[str, Any]:
        """Head of a partition's stored snapshot; empty before the first."""
        assert self.started is not None
        stored = self.store.load(slot_of(self.started.run, partition))
        return json.loads(stored[1]["head"]) if stored is not None else {}

    def settle(self, timeout_s: float = 240.0) -> None:
        """Wait until every request stands decided, its tile is closed and the last reports are accounted for."""
        ends = self.log.admin().ends(self.settings.topics.requests)

        def is_settled() -> bool:
            self.supervisor.check()
            heads = [self.head(partition) for partition in range(PARTITIONS)]
            if not all(
                head and head["comparisons"]["candidate-production"]["base"] >= end
                for head, (_, end) in zip(heads, ends, strict=True)
            ):
                return False
            assert self.started is not None
            is_open: int = running_counts(self.store, self.started.run, PARTITIONS)["account"]["open"]
            return is_open == 0

        try:
            wait_until(is_settled, "every request is decided", timeout_s)
        except AssertionError as error:
            heads = [self.head(partition) for partition in range(PARTITIONS)]
            logs = [f"{path.name}: {path.read_text()[-1500:]}" for path in sorted(self.folder.glob("*.log"))]
            raise AssertionError("\n".join([f"{error}: requests end at {ends}, snapshots {heads}", *logs])) from error

    def closed(self) -> int:
        """Closed tiles that are stored, of all partitions."""
        assert self.started is not None
        return sum(len(self.store.tile_names(slot_of(self.started.run, each))) for each in range(PARTITIONS))

    def classes(self) -> dict[str, int]:
        """Requests of slice `all` by class, closed and open tiles together."""
        assert self.started is not None
        counts: dict[str, int] = running_counts(self.store, self.started.run, PARTITIONS)["classes"]
        return counts

    def stored(self, partition: int) -> tuple[object, ...]:
        """What the comparators counted, as comparable values."""
        assert self.started is not None
        stored = self.store.load(slot_of(self.started.run, partition))
        assert stored is not None
        spec = wiring.fold_spec(self.settings, self.started, partition)
        state = state_from_fields(stored[1], spec)
        slot = slot_of(self.started.run, partition)
        names = self.store.tile_names(slot)
        return comparable(state, dict(zip(names, self.store.tiles(slot, names), strict=True)))

    def offline(self, partition: int) -> tuple[object, ...]:
        """The same from a fold of the log, up to where the stored snapshot stands."""
        state, closed = self.refolded(partition)
        return comparable(state, {tile.name: tile.to_bytes() for tile in closed})

    def refolded(self, partition: int) -> tuple[FoldState, list[ClosedTile]]:
        """State and closed tiles from a fold of the log, up to where the stored snapshot stands."""
        assert self.started is not None
        answers, requests = (
            [r for r in records_of(self.log, topic) if r.partition == partition]
            for topic in (self.settings.topics.answers, self.settings.topics.requests)
        )
        until = int(str(self.head(partition)["next"]))
        return self.folded(self.started, partition, [r for r in answers if r.offset < until], requests)

    def folded(
        self, started: Started, partition: int, answers: Iterable[LogRecord], requests: Iterable[LogRecord]
    ) -> tuple[FoldState, list[ClosedTile]]:
        """State and closed tiles from a fold of these records of one partition."""
        by_offset = {record.offset: record for record in requests}
        fold = wiring.new_fold(self.settings, started, partition, wiring.decoded_requests(by_offset))
        return fold.state, refold(fold, answers)


def comparable(state: FoldState, tiles: Mapping[str, bytes | None]) -> tuple[object, ...]:
    """State and closed tiles of a partition as values that can be compared."""
    return (
        state.next,
        state.counters,
        state.accounts.account(),
        state.met,
        sorted(state.waiting),
        {
            name: (sorted(each.open), each.closed, {tile: tally.to_bytes() for tile, tally in each.tallies.items()})
            for name, each in state.compared.items()
        },
        tiles,
    )
