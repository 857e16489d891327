"""P5: gates, people, kill -9 and SIGSTOP fight over the decisions of many runs, and each step is decided once."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from shadow.adapters.avro import decode, encode
from shadow.adapters.embedded import LOOPBACK
from shadow.adapters.kafka import KafkaLog
from shadow.adapters.redis import RedisStore
from shadow.cli.supervise import Supervisor
from shadow.desk.commands import NotAllowed, give
from shadow.gate.history import Run, runs_in
from shadow.gate.run import RunState, fold_tile, judge_tile
from shadow.ports import Change
from shadow.records.decisions import HOLD, PROMOTE, RESUME, Command, Decision, DecisionsRecord, Obeyed, Started
from shadow.records.tallies import ClosedTile, Tally
from shadow.stream.state import slot_of
from tests.calibration.simulate import Truth, tiles
from tests.chaos.fighting import FREEZE, FROZEN, POLICY
from tests.flow.harness import wait_until
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

PARTITIONS: Final = 2
PER_TILE: Final = 100
AHEAD: Final = 25
"""Tiles of the past that a run begins with: its evidence is old enough to be closed, and fresh enough to promote."""
GATES: Final = ("gate-1", "gate-2", "gate-3")
KINDS: Final = ("good", "bad", "held", "resumed", "promoted", "ended", "extended")
"""What becomes of a run: by evidence alone, with a hold that comes with the promotion, or by a person's order."""
EXPECTED: Final = {"bad": "rollback", "ended": "rollback"}
TILE_S: Final = 0.3
DELAY_S: Final = 10.0


@cache
def tallies(kind: str) -> tuple[Tally, ...]:
    """What a run's tiles hold."""
    shift = -0.10 if kind == "bad" else 0.0
    return tuple(tiles(3, Truth(shift={"reward": shift}), pairs=AHEAD * PER_TILE, per_tile=PER_TILE))


@cache
def undisturbed(kind: str) -> tuple[str, int, bytes]:
    """What one gate that nothing happens to decides: decision, tiles folded, digest without the tiles' numbers."""
    state = RunState.begin("alone", POLICY, 0)
    for number, tally in enumerate(tallies(kind)):
        judgement = judge_tile(fold_tile(state, number, tally))
        if judgement.decision != HOLD:
            return judgement.decision, number, state.tiles_digest
    raise AssertionError(f"{kind} is never decided")


def read_committed(bootstrap: str, topic: str) -> list[tuple[int, Any]]:
    """(append time, record) of everything that a reader of committed records sees, by a client of its own."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.partition.eof": "true",
            "enable.auto.commit": "false",
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = []
    try:
        while True:
            message = consumer.poll(10.0)
            assert message is not None, "the topic has no end"
            if message.error() is None:
                found.append((message.timestamp()[1], decode(message.value())))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                return found
    finally:
        consumer.close()


class Fight:
    """Runs on shared services, and processes that each judge all of them.

    Args:
        kinds: Kind of each run.
        is_plain: Whether the gates write without transactions.
    """

    def __init__(
        self, folder: Path, bootstrap: str, server: RedisServer, kinds: Sequence[str], *, is_plain: bool = False
    ) -> None:
        self.token = uuid.uuid4().hex[:8]
        self.topic = f"fight-{self.token}"
        self.folder = folder
        self.bootstrap = bootstrap
        log = KafkaLog({"bootstrap.servers": bootstrap})
        admin = log.admin()
        admin.create_topics(
            {self.topic: 1}, {self.topic: {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}}
        )
        admin.close()
        self.kind_of = {f"{kind}-{number}-{self.token}": kind for number, kind in enumerate(kinds)}
        self._server = server
        self.store = RedisStore(server.url)
        self.writer = log.decisions(self.topic, f"shadow.{self.topic}")
        self.supervisor = Supervisor(folder)
        self._lock = threading.Lock()
        self._versions: dict[str, str | None] = {}
        self._fed = dict.fromkeys(self.kind_of, 0)
        self.first = time.time_ns() // 1000 // POLICY.tile_us - AHEAD
        self._begin()
        plan = {
            "bootstrap": bootstrap,
            "redis": server.url,
            "topic": self.topic,
            "folder": str(folder),
            "runs": list(self.kind_of),
            "plain": is_plain,
        }
        (folder / "plan.json").write_text(json.dumps(plan))

    def _begin(self) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap})
        now_us = time.time_ns() // 1000
        for run in self.kind_of:
            begin = (0,) * PARTITIONS
            # Each against a production of its own: a promotion ends the other runs against the same one.
            started = Started(
                *(run, 1, run, f"before-{run}", "0" * 64, "shadow", POLICY.tile_us, self.first, begin, begin),
                *(now_us, now_us + 7 * 86_400_000_000),
            )
            producer.produce(self.topic, encode(started), run.encode(), 0)
        assert 0 == producer.flush(30)

    def __enter__(self) -> Fight:
        return self

    def __exit__(self, *_: object) -> None:
        for gate in self.supervisor.children:
            with suppress(ProcessLookupError):
                os.kill(gate.process.pid, signal.SIGKILL)
        self.supervisor.stop()
        self.writer.close()
        self.store.close()

    # Gates.

    def start(self, *names: str) -> None:
        for name in names:
            command = [sys.executable, "-m", "tests.chaos.fighting", str(self.folder / "plan.json")]
            self.supervisor.start(name, command)

    def pid(self, name: str) -> int:
        return next(child.process.pid for child in self.supervisor.children if child.name == name)

    def kill(self, name: str) -> None:
        """kill -9, and a new one in its place."""
        os.kill(self.pid(name), signal.SIGKILL)
        self.supervisor.stop([name])
        self.start(name)

    @staticmethod
    def wake(pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def freeze(self) -> None:
        """The next gate that has a record in the log which is not committed stops there."""
        (self.folder / FREEZE).touch()

    def frozen(self) -> list[int]:
        """Process ids of the gates that stopped so; each is told once."""
        found = []
        for path in self.folder.glob(f"{FROZEN}*"):
            found.append(int(path.name.removeprefix(FROZEN)))
            path.unlink()
        return found

    def wait_for_views(self, runs: Sequence[str] = ()) -> None:
        """Wait until some gate has looked at each run."""
        wait_until(
            lambda: all(self.store.field(run, "view") is not None for run in runs or self.kind_of),
            "the gates look at every run",
            120,
        )

    # Tiles.

    def feed(self, run: str, count: int = 1) -> None:
        """Partitions close the next tiles."""
        with self._lock:
            for _ in range(count):
                number = self._fed[run]
                if number < AHEAD:
                    self._fed[run] = number + 1
                    self._close(run, [number])

    def _close(self, run: str, numbers: Sequence[int]) -> None:
        content = tallies(self.kind_of[run])
        for partition in range(PARTITIONS):
            closed = {}
            for number in numbers:
                tally = content[number] if partition == 0 else Tally()
                tile = ClosedTile(self.first + number, tally, number + 1, {})
                closed[tile.name] = tile.to_bytes()
            slot = slot_of(run, partition)
            change = Change(version=str(uuid.uuid4()), state={}, tiles=closed)
            self.store.swap(slot, self._versions.get(slot), change)
            self._versions[slot] = change.version

    def flush(self) -> None:
        """Redis loses everything; the comparators count it again."""
        with self._lock:
            client = redis.Redis(LOOPBACK, self._server.port)
            client.flushall()
            client.close()
            self._versions = {}
            for run, fed in self._fed.items():
                self._close(run, range(fed))

    # People.

    def order(self, run: str, word: str) -> bool:
        """A person orders something; False where the run does not allow it any more."""
        changes = {"override": word == PROMOTE, "for_s": 3600 if word == "extend" else 0}
        command = Command(str(uuid.uuid4()), run, word, "ada", "a reason", time.time_ns() // 1000, **changes)
        try:
            return give(self.writer, command, four_eyes=False).is_new
        except NotAllowed:
            return False

    # What the topic says.

    def records(self) -> list[DecisionsRecord]:
        self.supervisor.check()
        return [record for _, record in read_committed(self.bootstrap, self.topic)]

    def runs(self) -> dict[str, Run]:
        return {run.name: run for run in runs_in(self.records())}

    def decided(self, run: str) -> bool:
        return any(isinstance(record, Decision) and record.run == run for record in self.records())


@contextmanager
def in_background(*calls: Callable[[], object]) -> Iterator[list[threading.Thread]]:
    """Calls in threads of their own; the first error of one is raised at the end."""
    errors: list[BaseException] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    yield threads
    for thread in threads:
        thread.join(600)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


def play(events: Sequence[tuple[float, Callable[[], object]]]) -> None:
    """Do what is due, in order."""
    began_s = time.monotonic()
    for at_s, call in sorted(events, key=lambda event: event[0]):
        time.sleep(max(0.0, began_s + at_s - time.monotonic()))
        call()


def scripts(fight: Fight, span_s: float, draw: random.Random) -> tuple[list[Any], list[Any]]:
    """When tiles close, and when people order what."""
    closing, ordering = [], []
    for run, kind in fight.kind_of.items():
        begin_s = draw.uniform(0, span_s)
        _, last, _ = undisturbed(kind)
        count = 6 if kind in ("promoted", "ended") else last + 2
        closing += [(begin_s + number * TILE_S, lambda run=run: fight.feed(run)) for number in range(count)]
        near_s = begin_s + last * TILE_S + draw.uniform(-0.8, 0.3)
        early_s = begin_s + draw.uniform(0.3, 6 * TILE_S)
        if kind in ("held", "resumed"):
            ordering.append((near_s, lambda run=run: fight.order(run, HOLD)))
        if kind == "resumed":
            ordering.append((near_s + 1.5, lambda run=run: fight.order(run, RESUME)))
        if kind in ("promoted", "ended", "extended"):
            word = {"promoted": "promote", "ended": "rollback", "extended": "extend"}[kind]
            ordering.append((early_s, lambda run=run, word=word: fight.order(run, word)))
    return closing, ordering


def harm(fight: Fight, threads: Sequence[threading.Thread], draw: random.Random) -> Counter[str]:
    """kill -9, SIGSTOP anywhere, SIGSTOP inside a transaction, and one flush of Redis, while the others are at work."""
    done: Counter[str] = Counter()
    asleep: list[tuple[float, int]] = []
    while any(thread.is_alive() for thread in threads):
        what = draw.choice(("kill", "stop", "freeze", "freeze"))
        if done.total() == 8:
            fight.flush()
            done["flush"] += 1
        victim = draw.choice(GATES)
        if what == "kill":
            fight.kill(victim)
        elif what == "stop":
            os.kill(fight.pid(victim), signal.SIGSTOP)
            asleep.append((time.monotonic() + draw.uniform(0.5, 4), fight.pid(victim)))
        else:
            fight.freeze()
        done[what] += 1
        time.sleep(draw.uniform(0.3, 1.2))
        for pid in fight.frozen():
            asleep.append((time.monotonic() + draw.uniform(0.5, 7), pid))
            done["frozen"] += 1
        asleep = woken(fight, asleep)
    while asleep := woken(fight, asleep):
        time.sleep(0.1)
    (fight.folder / FREEZE).unlink(missing_ok=True)
    return done


def woken(fight: Fight, asleep: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Wake those whose time has come; returns the others."""
    for until_s, pid in asleep:
        if until_s <= time.monotonic() and any(child.process.pid == pid for child in fight.supervisor.children):
            fight.wake(pid)
    return [(until_s, pid) for until_s, pid in asleep if until_s > time.monotonic()]


def settle(fight: Fight, runs: Sequence[str]) -> None:
    """Close tiles until these runs are decided."""
    deadline_s = time.monotonic() + 240
    while unfinished := [run for run, found in fight.runs().items() if run in runs and not found.is_finished]:
        assert time.monotonic() < deadline_s, f"not decided: {unfinished}"
        for pid in fight.frozen():
            fight.wake(pid)
        for run in unfinished:
            if fight.kind_of[run] not in ("promoted", "ended"):
                fight.feed(run)
        time.sleep(1.0)


def check(fight: Fight) -> None:
    """One decision per step and one effect per command, no promotion after a hold, and the undisturbed decision."""
    records = fight.records()
    steps = Counter((each.run, each.step) for each in records if isinstance(each, Decision))
    effects = Counter(each.command_id for each in records if isinstance(each, Obeyed))
    assert {1} == set(steps.values()) | set(effects.values())
    held: dict[str, bool] = {}
    for record in records:
        if isinstance(record, Command) and record.command in (HOLD, RESUME):
            held[record.run] = record.command == HOLD
        if isinstance(record, Decision) and record.decision == PROMOTE:
            assert not held.get(record.run, False), f"{record.run} was promoted after a hold"
    for run, found in fight.runs().items():
        kind = fight.kind_of[run]
        for decision in found.decisions:
            assert EXPECTED.get(kind, PROMOTE) == decision.decision, run
            by_person = kind in ("promoted", "ended")
            assert by_person == bool(decision.command_id), run
            if kind in ("good", "bad", "extended"):
                assert undisturbed(kind)[:2] == (decision.decision, decision.tile - fight.first), run


def fought(folder: Path, bootstrap: str, runs: int, span_s: float, seed: int) -> None:
    """The whole fight, and what is left of it."""
    draw = random.Random(seed)
    kinds = [KINDS[number % len(KINDS)] for number in range(runs)]
    with RedisServer() as server, Fight(folder, bootstrap, server, kinds) as fight:
        fight.start(*GATES)
        fight.wait_for_views()
        closing, ordering = scripts(fight, span_s, draw)
        with in_background(lambda: play(closing), lambda: play(ordering)) as threads:
            done = harm(fight, threads, draw)
        print(f"\nseed {seed}: {dict(done)}")
        settle(fight, [run for run, found in fight.runs().items() if not found.holds])
        for run, found in fight.runs().items():
            if not found.is_finished:
                assert found.holds, run
                assert fight.order(run, RESUME)
        settle(fight, list(fight.kind_of))
        check(fight)
        before = fight.records()
        fight.flush()
        for gate in GATES:
            fight.kill(gate)
        fight.wait_for_views()
        assert before == fight.records()


@pytest.mark.timeout(900)
def test_p5_gates_and_people_fight_over_runs_and_each_step_is_decided_once(tmp_path: Path, kafka: ApacheKafka) -> None:
    """
    Three gates and a person over 20 runs with kill -9, SIGSTOP, frozen transactions and Redis flushed twice: one
    decision per step for readers of committed records, none promoted after a hold, the undisturbed decision where
    nobody interfered, and no second one after the store was lost.
    """
    fought(tmp_path, kafka.bootstrap, 20, span_s=8.0, seed=5)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_p5_gates_and_people_fight_over_many_runs(tmp_path: Path, kafka: ApacheKafka) -> None:
    """
    The same over 200 runs.
    """
    fought(tmp_path, kafka.bootstrap, 200, span_s=300.0, seed=6)


def seconds_to_roll_back(fight: Fight, run: str) -> float:
    """From the tile that proves it to the decision that readers of committed records see."""
    fight.feed(run, undisturbed("bad")[1] + 1)
    began_s = time.monotonic()
    wait_until(lambda: fight.decided(run), f"{run} is rolled back", 120)
    return time.monotonic() - began_s


@pytest.mark.timeout(600)
def test_a_gate_frozen_inside_its_transaction_delays_another_run_little(tmp_path: Path, kafka: ApacheKafka) -> None:
    """
    While a gate sleeps between its record and the commit, another run's rollback is readable no more than 10 s later
    than without; woken up, the frozen gate adds nothing: its step is decided once.
    """
    with RedisServer() as server, Fight(tmp_path, kafka.bootstrap, server, ["bad", "good", "bad"]) as fight:
        free, promoted, delayed = fight.kind_of
        fight.start(*GATES[:2])
        fight.wait_for_views()
        usual_s = seconds_to_roll_back(fight, free)
        fight.freeze()
        fight.feed(promoted, undisturbed("good")[1] + 1)
        asleep: list[int] = []
        wait_until(lambda: asleep.extend(fight.frozen()) or asleep, "a gate is frozen in its transaction", 120)
        delayed_s = seconds_to_roll_back(fight, delayed)
        print(f"\nrolled back after {usual_s:.1f} s, with a frozen gate after {delayed_s:.1f} s")
        assert delayed_s - usual_s < DELAY_S
        fight.wake(asleep[0])
        settle(fight, list(fight.kind_of))
        check(fight)


@pytest.mark.timeout(600)
def test_a_plain_producer_decides_twice(tmp_path: Path, kafka: ApacheKafka) -> None:
    """
    The control: the same gates with a writer that looks and writes without a transaction; one sleeps between the two,
    another decides, and the step stands there twice.
    """
    with RedisServer() as server, Fight(tmp_path, kafka.bootstrap, server, ["good"], is_plain=True) as fight:
        (run,) = fight.kind_of
        fight.start(*GATES[:2])
        fight.wait_for_views()
        fight.freeze()
        fight.feed(run, undisturbed("good")[1] + 1)
        asleep: list[int] = []
        wait_until(lambda: asleep.extend(fight.frozen()) or asleep, "a gate is frozen before it writes", 120)
        wait_until(lambda: fight.decided(run), "another gate decides", 120)
        fight.wake(asleep[0])
        wait_until(lambda: sum(isinstance(each, Decision) for each in fight.records()) == 2, "a second decision", 60)
        with pytest.raises(AssertionError):
            check(fight)
