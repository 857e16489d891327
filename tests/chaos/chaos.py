"""A seeded script of faults: which process or service is killed after how many requests."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from shadow.cli.demo import wait_for_ports
from tests.flow.harness import wait_until
from tests.flow.machine import PARTITIONS, Machine
from tests.flow.traffic import Traffic

Strike = Callable[[Traffic], None]
"""Does harm, and repairs it."""


class Service(Protocol):
    """Anything that dies at once and comes back with its data."""

    def kill(self) -> None: ...

    def restart(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Chaos:
    """Strikes at random moments; the same seed gives the same script.

    Args:
        seed: Printed by `play`.
        moments: How many strikes; each kind of strike comes as often as the others, give or take one.
        requests: Requests that are sent; the strikes fall between the first and the last tenth.
    """

    seed: int
    moments: int
    requests: int
    strikes: Mapping[str, Strike] = field(repr=False)

    def script(self) -> list[tuple[int, str]]:
        """After how many requests what is struck."""
        draw = random.Random(self.seed)
        at = sorted(draw.randrange(self.requests // 10, self.requests * 9 // 10) for _ in range(self.moments))
        names = (list(self.strikes) * -(-self.moments // len(self.strikes)))[: self.moments]
        draw.shuffle(names)
        return list(zip(at, names, strict=True))

    def play(self, traffic: Traffic) -> None:
        """Strike when the moment has come; a strike that takes long delays those behind it, not the requests."""
        script = self.script()
        print(f"\nseed {self.seed}: {', '.join(f'{name} at {at}' for at, name in script)}")
        for at, name in script:
            traffic.until(at, timeout_s=600)
            self.strikes[name](traffic)
        traffic.until(self.requests, timeout_s=1800)


def killing(machine: Machine, member: str) -> Strike:
    """kill -9 of a process, and a new one in its place at once."""
    return lambda traffic: machine.kill(member)


def restarting(service: Service, *, away: int = 50) -> Strike:
    """kill -9 of a service, which comes back with its data after so many more requests."""

    def strike(traffic: Traffic) -> None:
        service.kill()
        traffic.more(away)
        service.restart()

    return strike


def under_traffic(machine: Machine, during: Callable[[Traffic], None], *, rate: int) -> int:
    """Let requests flow through the real proxy meanwhile, then let everything settle; returns how many were sent."""
    machine.start()
    wait_for_ports(machine.ports.values(), machine.supervisor)
    wait_until(lambda: all(machine.head(partition) for partition in range(PARTITIONS)), "the first checkpoint")
    with Traffic(machine.ports["proxy"], rate=rate) as traffic:
        during(traffic)
    machine.supervisor.check()
    machine.supervisor.stop(["proxy"])  # drains, and writes the last reports
    machine.settle(timeout_s=240.0 + traffic.sent / 100)  # a busy machine may have many to catch up with
    assert {200: traffic.sent} == dict(traffic.statuses)
    return traffic.sent


def members_of(machine: Machine, roles: Sequence[str] = ("worker", "gate")) -> dict[str, Strike]:
    """kill -9 of each comparator, and of these roles."""
    return {member: killing(machine, member) for member in (*machine.comparators, *roles)}
