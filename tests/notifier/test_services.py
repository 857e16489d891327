"""`shadow notifier` as a process, on Apache Kafka: nothing is lost by a kill, and one process at a time sends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from standardwebhooks import Webhook

from shadow.adapters.embedded import free_port
from shadow.adapters.kafka import KafkaLog
from shadow.cli.doctor import endpoint_findings
from shadow.cli.notify import endpoints_of, target_of
from shadow.cli.supervise import shadow_command
from shadow.cli.up import processes_of
from shadow.errors import Usage
from tests.cli.conftest import CommandLine, configuration, shadow, written
from tests.flow import harness
from tests.notifier.receiver import Receiver, status
from tests.notifier.records import decision, started
from tests.notifier.test_addresses import SECRET
from tests.notifier.test_notifier import id_of
from tests.notifier.world import World
from tests.services.kafka import ApacheKafka
from tests.settings.configurations import BASE, settings_of

__all__ = ["shadow"]

PATIENCE_S = 150.0
"""A process that begins on a busy machine takes its time."""
AWAY_REDIS = "redis://127.0.0.1:1/0"
"""The notifier needs none."""
QUICK_SESSION = {"session.timeout.ms": "1500", "heartbeat.interval.ms": "300"}


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    """Wait for a condition of processes, bounded."""
    harness.wait_until(is_true, what, PATIENCE_S)


class Scene:
    """A configuration with one endpoint, its topics, and processes that serve it."""

    def __init__(self, shadow: CommandLine, kafka: ApacheKafka, receiver: Receiver) -> None:
        self.shadow = shadow
        token = uuid.uuid4().hex[:8]
        self.world = World(KafkaLog({"bootstrap.servers": kafka.bootstrap}), f"-{token}")
        tree = configuration(kafka.bootstrap, AWAY_REDIS)
        tree["kafka"] |= QUICK_SESSION
        tree["topics"] |= {"decisions": self.world.topic, "dead_letters": self.world.letters}
        tree["notify"] = {"endpoints": {"on-call": endpoint(receiver)}}
        shadow.environment["ON_CALL_SECRET"] = SECRET
        written(shadow.folder, tree)

    @contextlib.contextmanager
    def process(self, member: str = "notifier") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """A notifier and its admin port; it is stopped at the end, and must have ended well if nobody killed it."""
        port = free_port()
        with (self.shadow.folder / f"{member}.log").open("ab") as output:
            process = subprocess.Popen(
                shadow_command("notifier", "--admin-port", str(port)),
                cwd=self.shadow.folder,
                env={**self.shadow.environment, "SHADOW_MEMBER": member},
                stderr=output,
            )
        try:
            yield process, port
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                assert 0 == process.wait(20)
        finally:
            process.kill()
            process.wait()

    def said(self) -> str:
        """Everything that the processes logged."""
        return "".join(path.read_text() for path in sorted(self.shadow.folder.glob("*.log")))


def endpoint(receiver: Receiver, **changes: Any) -> dict[str, Any]:
    return {
        "url": receiver.url,
        "secret": "env:ON_CALL_SECRET",
        "ca": receiver.ca,
        "unsafe_loopback": True,
        **changes,
    }


def asked(port: int, path: str) -> str:
    """What an admin port answers; empty where it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def test_kill_9_between_the_delivery_and_its_commit(shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka) -> None:
    """
    P18: a notifier killed while its receiver answers, and a receiver that fails before: every event arrives, each time
    with the same id and a good signature, and what was delivered long before is not sent again.
    """
    records = [started(), *(decision(step=step) for step in range(1, 6))]
    held = threading.Event()
    with Receiver(tmp_path) as receiver:
        scene = Scene(shadow, kafka, receiver)
        scene.world.write(*records[:3])
        with scene.process() as (process, port):
            wait_until(lambda: len(receiver.got) == 3, "the first deliveries")
            wait_until(lambda: asked(port, "/readyz") == "ok\n", "readiness")
            answering, killed = status(204), status(503)

            async def answer(request, received):  # type: ignore[no-untyped-def]
                if received.event_id != id_of(records[3]) or held.is_set():
                    return await answering(request, received)
                held.set()
                os.kill(process.pid, signal.SIGKILL)  # the answer is on its way, and nobody is there to hear it
                return await killed(request, received)

            receiver.answer = answer
            scene.world.write(*records[3:])
            wait_until(lambda: process.poll() is not None, "the kill")
        with scene.process() as (_, port):
            wait_until(lambda: {id_of(record) for record in records} == set(receiver.ids()), "every event")
            wait_until(lambda: 'shadow_notify_waiting{endpoint="on-call"} 0.0' in asked(port, "/metrics"), "the end")
            page = asked(port, "/metrics")
    scene.world.close()
    assert 'shadow_service_up{service="kafka"} 1.0' in page
    counts = [receiver.ids().count(id_of(record)) for record in records]
    assert [1, 1, 1] == counts[:3]
    assert counts[3] >= 2
    for got in receiver.got:
        assert got.event_id == Webhook(SECRET).verify(got.body, got.headers)["id"]
    assert SECRET not in scene.said()
    assert "Traceback" not in scene.said()


def test_of_two_notifiers_one_sends(shadow: CommandLine, tmp_path: Path, kafka: ApacheKafka) -> None:
    """
    Two processes serve one endpoint: each event comes once; when the one that serves is killed, the other goes on.
    """
    with Receiver(tmp_path) as receiver:
        scene = Scene(shadow, kafka, receiver)
        with scene.process("a") as (first, port), scene.process("b") as (_, other_port):
            scene.world.write(*(decision(step=step) for step in range(1, 11)))
            wait_until(lambda: len(receiver.got) == 10, "the deliveries")
            wait_until(lambda: bool(asked(port, "/metrics") and asked(other_port, "/metrics")), "both")
            first.kill()
            scene.world.write(decision(step=11))
            wait_until(lambda: id_of(decision(step=11)) in receiver.ids(), "the last delivery")
        scene.world.close()
    assert 11 == len(set(receiver.ids()))
    assert len(receiver.got) <= 12


def test_without_an_endpoint_or_its_secret_it_says_so() -> None:
    """
    A section, a variable or a file that is missing is one sentence, and exit 2.
    """
    with pytest.raises(Usage, match="notify is not configured; give the file the section notify"):
        list(endpoints_of(settings_of()))
    for given, said in (
        ("secret: 'env:NO_SUCH_SECRET'", "the environment variable NO_SUCH_SECRET is not set"),
        (f"secret: {SECRET}, ca: absent.pem", "absent.pem cannot be read"),
    ):
        section = f"notify: {{endpoints: {{on-call: {{url: 'https://e.example/', {given}}}}}}}\n"
        ((name, found),) = endpoints_of(settings_of(BASE + section))
        with pytest.raises(Usage, match=rf"notify\.endpoints\.on-call.*{said}"):
            target_of(name, found)


def test_doctor_looks_where_endpoints_lead() -> None:
    """
    What may be sent to is right; a name that leads nowhere, and a missing secret, are wrong.
    """
    tree = {
        "here": {"url": "https://localhost/hook", "secret": SECRET, "unsafe_loopback": True},
        "nowhere": {"url": "https://no-such-host.invalid/", "secret": SECRET},
        "unsigned": {"url": "https://8.8.8.8/", "secret": "env:NO_SUCH_SECRET"},
        "public": {"url": "https://8.8.8.8/", "secret": SECRET},
    }
    settings = settings_of(BASE + yaml.safe_dump({"notify": {"endpoints": tree}}))
    found = {each.subject.removeprefix("notify.endpoints."): each for each in endpoint_findings(settings)}
    assert {"here": True, "nowhere": False, "unsigned": False, "public": True} == {
        name: each.is_right for name, each in found.items()
    }
    assert "no-such-host.invalid" in found["nowhere"].text
    assert [] == list(endpoint_findings(settings_of()))


def test_up_starts_it_where_it_is_configured() -> None:
    """
    `shadow up` runs the notifier beside the other processes, and only where somebody is to be told.
    """
    section = f"notify: {{endpoints: {{on-call: {{url: 'https://e.example/', secret: {SECRET}}}}}}}\n"
    assert "notifier" not in dict(processes_of(settings_of()))
    assert ("notifier",) == dict(processes_of(settings_of(BASE + section)))["notifier"]
