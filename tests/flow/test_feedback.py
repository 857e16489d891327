"""Users who complain, on real services, as processes: from the response's header to the gate's decision."""

from __future__ import annotations

import random

import aiohttp

from shadow.adapters.embedded import free_port
from shadow.cli.demo import wait_for_ports
from shadow.cli.supervise import shadow_command
from tests.flow.machine import Machine
from tests.flow.test_canary import DOUBLING, await_decisions, decisions_of, wide_rules
from tests.flow.traffic import Traffic


def staged(tree):
    """One canary step that only users' complaints can roll back."""
    tree["stages"]["shadow"]["rules"] = wide_rules()
    # However slow the machine is, votes decide and not the age of a tile.
    tree["stages"]["shadow"]["needs"]["freshness"] = "10m"
    rules = [*wide_rules(), {"feedback": {"max_ratio": 1.5}}]
    needs = {"pairs": 100, "within": "1h", "coverage": 0.98, "freshness": "10m"}
    tree["stages"]["canary"] = {"steps": [0.5], "needs": needs, "rules": rules}


class VotedOn(Machine):
    """A machine whose gate's admin port is known."""

    gate_port = 0

    def start_role(self, role):
        if role != "gate":
            super().start_role(role)
            return
        self.gate_port = free_port()
        command = shadow_command("gate", "-c", str(self.config), "--admin-port", str(self.gate_port))
        self.supervisor.start(role, command, {**self.environment, "SHADOW_MEMBER": role})


class Users(Traffic):
    """Clients of whom some complain: of the candidate's answers three times as often as of production's."""

    def __init__(self, port, gate_port, **more):
        super().__init__(port, **more)
        self._gate = f"http://127.0.0.1:{gate_port}/v1/feedback"
        self._random = random.Random(11)
        self.votes = {}

    async def _ask(self, session: aiohttp.ClientSession, number: int) -> None:
        body = {"n": number, "even": number % 2 == 0, "metadata": {"answer": str(number * 2)}}
        headers = {"x-session-id": f"session-{number}"}
        async with session.post(self._url, json=body, headers=headers) as answer:
            await answer.read()
            token = answer.headers["x-shadow-request"]
        self.statuses[answer.status] += 1
        self.sent += 1
        if "." in token and self._random.random() < (0.9 if ".c." in token else 0.3):
            async with session.post(self._gate, json={"request": token, "verdict": "negative"}) as vote:
                self.votes[token] = (vote.status, await vote.text())


def test_candidate_of_whom_users_complain_is_rolled_back(tmp_path, kafka, redis_server):
    """
    A candidate that every grader likes and users complain of three times as often is rolled back by `feedback`, and a
    replay of the log recomputes it.
    """
    with VotedOn(
        tmp_path,
        kafka.bootstrap,
        redis_server.url,
        pairs=100,
        evidence_deadline="5s",
        deadline="4s",
        candidate=DOUBLING,
        change=staged,
    ) as machine:
        machine.start()
        wait_for_ports([*machine.ports.values(), machine.gate_port], machine.supervisor)
        with Users(machine.ports["proxy"], machine.gate_port, rate=100) as users:
            await_decisions(machine, 2)
        decisions, replay = decisions_of(machine), machine.run("replay")

    assert [("shadow", "canary"), ("canary", "rolled_back")] == [(d.from_stage, d.to_stage) for d in decisions]
    assert ("feedback/canary/all",) == decisions[-1].culprits
    assert "negative votes" in decisions[-1].reason
    assert {200} == users.statuses.keys()
    assert {202} == {status for status, _ in users.votes.values()}, users.votes
    assert 0 == replay.returncode, replay.stdout + replay.stderr
