"""P13: secrets that are planted everywhere stand nowhere in what a whole stack writes, keeps, says or sends on."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
import redis

from tests.flow.harness import records_of, wait_until
from tests.proxy.kit import Connection, Upstream, ok
from tests.proxy.leaks import leaks
from tests.proxy.planted import ALLOWED, IN_ANSWER, IN_BODY, IN_ID, IN_TENANT, REDACT, Planted, production, send
from tests.proxy.scrape import metrics_text
from tests.proxy.sinks import files_of, redis_content, topics
from tests.proxy.stack import ROLES, Stack
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

SECRET = "sk-0123456789abcdef+/fedcba9876543210"
RUN = "allowed-in-run"
ROUNDS = 3
"""Every request is sent so often, so that both partitions have something to count."""


def candidate(planted: Planted, connection: Connection) -> None:
    """Serve one connection: a model that answers with a secret at a path that is to be masked, and in its headers."""
    fields = [b"Content-Type: application/json", f"Set-Cookie: id={planted['candidate cookie']}".encode()]
    document = {"user": planted["candidate's JSON"], "choices": [{"text": IN_ANSWER}]}
    while True:
        connection.message()
        connection.send(ok(json.dumps(document).encode(), *fields))


class Played:
    """A stack that has served, paired and judged every planted secret, and all that it left behind.

    Args:
        sinks: Bytes by the name of where they were found.
    """

    def __init__(self, planted: Planted, stack: Stack, sinks: dict[str, bytes]) -> None:
        self.planted = planted
        self.stack = stack
        self.sinks = sinks

    def leaks(self, *allowed: str) -> set[str]:
        """Sinks in which one of these is found."""
        return {sink for _, sink in leaks({each: each for each in allowed}, self.sinks)}


@pytest.fixture(scope="module")
def played(kafka: ApacheKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """Play it once."""
    planted = Planted()
    folder = tmp_path_factory.mktemp("secrets")

    def change(tree: dict[str, Any]) -> None:
        tree["run"]["candidate"] = RUN
        tree["kafka"]["compression.type"] = "none"  # so that the files of the log can be searched
        tree["proxy"]["redact"] = REDACT
        tree["workers"]["candidate"]["rewrite"] = {"headers": {"authorization": "env:CANDIDATE_KEY"}}
        tree["admin"]["token"] = "env:ADMIN_TOKEN"
        tree["evidence_deadline"] = "2s"

    with (
        RedisServer(arguments=("--rdbcompression", "no")) as store,
        Upstream(partial(production, planted)) as live,
        Upstream(partial(candidate, planted)) as tried,
    ):
        url = f"redis://:{quote(planted['password of Redis'], safe='')}@127.0.0.1:{store.port}/0"
        with redis.Redis.from_url(store.url) as client:
            client.config_set("requirepass", planted["password of Redis"])
        stack = Stack(
            folder,
            kafka.bootstrap,
            url,
            production=live.port,
            candidate=tried.port,
            log_level="debug",
            environment={"CANDIDATE_KEY": planted["key"], "ADMIN_TOKEN": planted["admin token"]},
            change=change,
        )
        with stack:
            play(stack, planted)
            sinks = {
                **topics(kafka.bootstrap, stack.topics),
                **redis_content(url, store.directory),
                **{f"metrics of {role}": metrics_text(stack.tree["admin"][role]).encode() for role in ROLES},
            }
            for role in reversed(ROLES):
                assert 0 == stack.ended(role)
        sinks |= {f"log of {role}": (folder / f"{role}.log").read_bytes() for role in ROLES}
        sinks["state files"] = b"".join(path.read_bytes() for path in (folder / "state").rglob("*") if path.is_file())
        sinks["files of Kafka"] = files_of(kafka.directory, stack.topics)
        sinks["what the candidate got"] = tried.received.replace(planted["key"].encode(), b"")
        yield Played(planted, stack, sinks)


def play(stack: Stack, planted: Planted) -> None:
    """Serve all, put a record aside, and wait until everything has gone through to the gate."""
    stack.begin()
    stack.start(*ROLES)
    stack.wait_ready()
    stack.wait_for_kafka()
    served = sum(send(planted, stack.port) for _ in range(ROUNDS))
    with closing(stack.log.writer()) as writer:
        assert writer.write(stack.topics["requests"], 0, key=b"", value=b"no record")
        assert 0 == writer.flush(30.0)
    account = stack.settled(served)
    assert {"excluded", "redaction"} == set(account.dropped)
    wait_until(lambda: len(records_of(stack.log, stack.topics["pairs"])) >= account.mirrored, "all are paired")
    wait_until(lambda: records_of(stack.log, stack.topics["dead_letters"]), "the record is put aside")
    judged = "shadow_gate_evaluation_timestamp_seconds{"
    wait_until(lambda: judged in metrics_text(stack.tree["admin"]["gate"]), "the gate has judged")


def test_p13_no_secret_is_anywhere(played: Played) -> None:
    """
    None of the planted secrets is in any topic, file, value, log, metric, dead letter or request to the candidate.
    """
    assert len(played.planted) >= 20
    assert set() == leaks(played.planted, played.sinks)


def test_p13_what_may_be_recorded_is_found(played: Played) -> None:
    """
    The search finds what stands in allowed places, in every sink that has something to say.
    """
    in_log = {"topic of requests", "topic of answers", "files of Kafka"}
    assert in_log | {"what the candidate got"} <= played.leaks(IN_BODY)
    assert in_log <= played.leaks(IN_ANSWER)
    assert in_log <= played.leaks(IN_TENANT)
    assert in_log <= played.leaks(IN_ID)
    named = {"topic of decisions", "topic of pairs", "values in Redis", "dump of Redis", "file of Redis"}
    spoken = {"metrics of comparator", "metrics of gate", "log of worker", "log of comparator", "log of gate"}
    assert named | spoken <= played.leaks(RUN)


def test_p13_every_sink_has_content(played: Played) -> None:
    """
    Nothing was searched that is empty, and the allowed marks were really sent.
    """
    assert [] == [name for name, content in played.sinks.items() if not content]
    assert set(ALLOWED) == {name for name, _ in leaks({each: each for each in ALLOWED}, played.sinks)}


@pytest.mark.parametrize(
    "within",
    [
        pytest.param(lambda secret: b"a" + secret + b"b", id="plain"),
        pytest.param(lambda secret: secret.hex().encode(), id="hex"),
        pytest.param(lambda secret: quote(secret.decode(), safe="").encode(), id="url"),
        pytest.param(lambda secret: b"".join(b"%%%02X" % byte for byte in secret), id="every-byte"),
        pytest.param(lambda secret: secret.replace(b"/", b"\\/"), id="json"),
        pytest.param(lambda secret: secret.decode().encode("utf-16-le"), id="utf-16"),
        *(
            pytest.param(
                lambda secret, n=before, m=behind: base64.b64encode(b"x" * n + secret + b"y" * m),
                id=f"base64-{before}-{behind}",
            )
            for before in range(3)
            for behind in range(3)
        ),
        pytest.param(lambda secret: base64.urlsafe_b64encode(b"\xff" + secret), id="url-safe-base64"),
        pytest.param(lambda secret: b"junk" + gzip.compress(b"a" + secret) + b"junk", id="gzip"),
        pytest.param(lambda secret: b"\0z" + zlib.compress(secret * 3, 1), id="zlib"),
        pytest.param(lambda secret: gzip.compress(b"x" + zlib.compress(base64.b64encode(secret))), id="nested"),
        pytest.param(lambda secret: gzip.compress(secret + b"y" * 4000)[:-8], id="cut-off-gzip"),
    ],
)
def test_the_search_finds_it_in_every_form(within) -> None:
    """
    However a secret is encoded, and whatever stands around it, it is found; another one is not.
    """
    sinks = {"sink": within(SECRET.encode())}
    assert {("name", "sink")} == leaks({"name": SECRET}, sinks)
    assert set() == leaks({"other": SECRET[::-1]}, sinks)
