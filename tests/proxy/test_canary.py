"""The proxy follows `shadow-decisions` on real Kafka: the share comes, grows, goes, and ends when Kafka is away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path

from shadow.adapters.avro import encode
from shadow.adapters.kafka import KafkaLog
from shadow.proxy.routing import CONFIRMED_S
from shadow.proxy.sampling import u_of
from shadow.records.decisions import PROMOTE, ROLLBACK, Decision, DecisionsRecord, Routing, Started
from tests.cli.conftest import CommandLine
from tests.flow.harness import wait_until
from tests.proxy.kit import Connection, Upstream, connect, ok, post
from tests.proxy.scrape import metrics_text
from tests.proxy.stack import Stack
from tests.services.kafka import ApacheKafka

NOWHERE = "redis://127.0.0.1:1/0"
SALT = "salt"


def named(name: bytes):
    def serve(connection: Connection) -> None:
        while True:
            connection.message()
            connection.send(ok(name))

    return serve


class Decisions:
    """Writes to the topic as the gate does."""

    def __init__(self, stack: Stack, candidate_port: int) -> None:
        self._writer = stack.log.decisions(stack.topics["decisions"], "test-gate")
        self._upstream = f"http://127.0.0.1:{candidate_port}"
        self._step = 0
        self._append(Started("run-1", 1, "v2", "production-1", "0" * 64, "shadow", 1, 1, (0, 0), (0, 0), 0, 1))

    def _append(self, record: DecisionsRecord) -> None:
        self._writer.append(b"run-1/%d" % self._step, lambda _: encode(record))

    def share(self, share: float) -> None:
        """Decide a share; 0 is a rollback."""
        self._step += 1
        routing = Routing(share, SALT, self._upstream) if share else None
        kind = PROMOTE if share else ROLLBACK
        self._append(
            Decision(
                f"id-{self._step}",
                "run-1",
                self._step,
                kind,
                "shadow",
                "canary",
                1,
                "",
                (0, 0),
                (),
                "",
                "{}",
                0,
                routing,
            )
        )

    def close(self) -> None:
        self._writer.close()


def served(port: int, sessions: int = 40) -> dict[int, bytes]:
    """Who serves each session."""
    with connect(port) as client:
        found = {}
        for number in range(sessions):
            client.send(post(b"{}", "/v1/chat", f"x-session-id: s{number}"))
            found[number] = client.message()[2]
    return found


def expected(share: float, sessions: int = 40) -> dict[int, bytes]:
    return {n: b"candidate" if u_of(f"{SALT}/s{n}") < share else b"production" for n in range(sessions)}


@contextmanager
def canary(tmp_path: Path, kafka: ApacheKafka) -> Iterator[tuple[Stack, Decisions]]:
    with (
        Upstream(named(b"production")) as production,
        Upstream(named(b"candidate")) as candidate,
        Stack(tmp_path, kafka.bootstrap, NOWHERE, production=production.port) as stack,
    ):
        stack.create_topics()
        stack.start_proxy()
        with closing(Decisions(stack, candidate.port)) as decisions:
            yield stack, decisions


def test_the_share_follows_the_decisions(tmp_path, kafka):
    """Each step reaches the sessions that it names, and a rollback none; how soon is printed."""
    with canary(tmp_path, kafka) as (stack, decisions):
        assert expected(0.0) == served(stack.port)
        # Each step changes who serves some of these sessions, so that none is in force before it was decided.
        shares = (0.1, 0.25, 0.5, 0.0)
        steps = [expected(share) for share in (0.0, *shares)]
        assert all(before != after for before, after in pairwise(steps))
        for share in shares:
            decisions.share(share)
            began = time.monotonic()
            wait_until(lambda share=share: expected(share) == served(stack.port), f"a share of {share}")
            print(f"share {share} in force after {time.monotonic() - began:.2f} s")
        assert {"production", "candidate"} == {copy.live.role for _, copy in stack.copies() if copy.live is not None}


def test_without_kafka_the_share_ends_and_the_switch_works(tmp_path):
    """
    Kafka is killed: within its bound every session is production's. `shadow off` works meanwhile. Kafka is back: so is
    the share, once it is switched on.
    """
    with ApacheKafka() as kafka, canary(tmp_path, kafka) as (stack, decisions):
        command = CommandLine(tmp_path)
        decisions.share(1.0)
        wait_until(lambda: expected(1.0) == served(stack.port), "the whole share")
        kafka.kill()
        began = time.monotonic()
        wait_until(lambda: expected(0.0) == served(stack.port), "production alone")
        print(f"share 0 after {time.monotonic() - began:.2f} s without Kafka; the bound is {CONFIRMED_S} s")
        assert 0 == command("off", "-c", "shadow.yaml").returncode
        kafka.restart()
        wait_until(lambda: _confirmed(stack.log, stack.topics["decisions"]), "Kafka", 60.0)
        # What is switched off stays off whatever is confirmed again: a share that came back would show in one of these.
        for _ in range(20):
            assert expected(0.0) == served(stack.port)
            time.sleep(0.05)
        assert 0 == command("on", "-c", "shadow.yaml").returncode
        wait_until(lambda: expected(1.0) == served(stack.port), "the whole share, again", 60.0)
        assert "shadow_proxy_share_ratio 1.0" in metrics_text(stack.tree["admin"]["proxy"])


def _confirmed(log: KafkaLog, topic: str) -> bool:
    with closing(log.admin()) as admin:
        try:
            return bool(admin.ends(topic))
        except Exception:  # noqa: BLE001 - whatever it says while it starts
            return False
