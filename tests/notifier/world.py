"""A decisions topic, couriers on it, and what they need."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from consumers.loop import WallClock
from consumers.notifier import Notifier, Plan
from shadow.adapters.avro import decode, encode
from shadow.adapters.tls import client_context
from shadow.adapters.webhook import Target
from shadow.metrics import Metrics
from shadow.notify.place import Patience
from shadow.notify.signing import key_of
from shadow.ports import Log
from shadow.records.dead_letters import DeadLetter
from tests.flow.harness import Loop, records_of
from tests.notifier.receiver import Receiver
from tests.notifier.test_addresses import SECRET

QUICK = Patience(first_s=0.05, factor=2.0, longest_s=0.2)
"""Retries that a test can wait for; given up as late as always."""


class World:
    """One decisions topic on a log.

    Args:
        token: Part of every name, where tests share a log.
    """

    def __init__(self, log: Log, token: str = "") -> None:
        self.log = log
        self.topic, self.letters = f"decisions{token}", f"dead-letters{token}"
        admin = log.admin()
        admin.create_topics({self.topic: 1, self.letters: 1}, {self.topic: {"cleanup.policy": "compact"}})
        admin.close()
        self._writer = log.decisions(self.topic, f"id{token}")
        self._written = 0

    def close(self) -> None:
        self._writer.close()

    def write(self, *records: object) -> None:
        """Append records."""
        for record in records:
            self._written += 1
            self._writer.append(b"key-%d" % self._written, lambda records, record=record: encode(record))

    def letters_written(self) -> list[DeadLetter]:
        """What stands in the dead letters."""
        return [decode(record.value) for record in records_of(self.log, self.letters)]

    def plan(self, receiver: Receiver, name: str = "on-call", **changes: Any) -> Plan:
        """An endpoint that leads to a receiver."""
        tls = client_context("test", ca=receiver.ca, certificate=None, key=None) if Path(receiver.ca).exists() else None
        fields: dict[str, Any] = {
            "target": Target(name, receiver.url, (key_of(SECRET),), tls, allows_loopback=True),
            "events": None,
            "configuration": "a" * 16,
            "topic": self.topic,
            "dead_letters": self.letters,
            "group": f"shadow.{self.topic}.notify.{name}",
            "member": "notifier",
            "patience": QUICK,
            "timeout_s": 1.0,
        }
        return Plan(**{**fields, **changes})

    @contextlib.contextmanager
    def notifying(self, *plans: Plan) -> Iterator[tuple[Notifier, Metrics]]:
        """A notifier at work."""
        metrics = Metrics("notifier", {"endpoint": [plan.name for plan in plans], "topic": [self.topic]})
        notifier = Notifier(plans, self.log, metrics, WallClock())
        with Loop(notifier.run):
            yield notifier, metrics
