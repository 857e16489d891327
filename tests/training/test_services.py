"""Pairs, examples and exports of a run on Apache Kafka and redis-server, through the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from shadow.cli.demo import wait_for_ports
from shadow.cli.read_pairs import Scanned, read_pairs
from shadow.records.comparisons import CANDIDATE_HUMAN, CANDIDATE_PRODUCTION
from shadow.records.pairs import GradedPair
from tests.answers.test_services import sent, with_people
from tests.flow.harness import wait_until
from tests.flow.machine import Machine
from tests.services.kafka import ApacheKafka
from tests.services.redis import RedisServer

WRONG_EVERY = 2
"""Of the even numbers: the candidate is wrong on every fourth number."""


def number_of(pair: GradedPair) -> int:
    return int(json.loads(pair.request_body)["n"])


def pairs_in(machine: Machine) -> list[GradedPair]:
    assert machine.started is not None
    return list(read_pairs(machine.log, machine.settings.topics.pairs, machine.started, Scanned()))


def reply(machine: Machine, *arguments: str, code: int = 0) -> str:
    done = machine.run(*arguments)
    assert code == done.returncode, done.stderr
    return done.stdout if code == 0 else done.stderr


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answered_by_people(machine: Machine, folder: Path) -> set[int]:
    """People answer every request that they are asked; returns its numbers."""
    questions, answers = folder / "questions.jsonl", folder / "answers.jsonl"
    reply(machine, "answers", "export", "--out", str(questions))
    asked = lines(questions)
    written = [{**each, "answer": f"<answer>{each['request']['n'] * 2}</answer>, by hand"} for each in asked]
    answers.write_text("".join(json.dumps(line) + "\n" for line in written))
    reply(machine, "answers", "import", str(answers))
    return {each["request"]["n"] for each in asked}


def test_a_run_becomes_training_data(tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer) -> None:
    """
    What the candidate got wrong is shown, is the example of its rule, and is what the exports hold: production's answer
    over the candidate's, and the person's where one answered. Mistakes in the call are one sentence.
    """
    candidate = [sys.executable, "-m", "tests.flow.doubling", "--wrong-every", str(WRONG_EVERY)]
    with Machine(
        tmp_path, kafka.bootstrap, redis_server.url, candidate=candidate, pairs=10, change=with_people
    ) as machine:
        machine.start()
        wait_for_ports(machine.ports.values(), machine.supervisor)
        total = sent(machine)
        by_people = answered_by_people(machine, tmp_path)
        wait_until(lambda: len(pairs_in(machine)) == total + len(by_people), "every pair", timeout_s=120)
        pairs = pairs_in(machine)
        numbers = {number_of(pair) for pair in pairs if pair.comparison == CANDIDATE_PRODUCTION}
        wrong = {number for number in numbers if number % (2 * WRONG_EVERY) == 0}
        assert by_people == {number_of(pair) for pair in pairs if pair.comparison == CANDIDATE_HUMAN}
        assert by_people & wrong and wrong - by_people, "the traffic has wrong answers of both kinds"

        shown(machine, wrong, by_people)
        exported(machine, tmp_path, wrong, by_people)
        refused(machine, tmp_path)


def shown(machine: Machine, wrong: set[int], by_people: set[int]) -> None:
    """`pairs` and `explain --examples`, as JSON and on a terminal."""
    found = json.loads(reply(machine, "pairs", "--failed", "--slice", "even", "-o", "json"))
    assert (10, len(wrong) + len(wrong & by_people)) == (len(found["pairs"]), found["found"])
    for pair in found["pairs"]:
        asked = json.loads(pair["prompt"][0]["content"])
        assert asked["n"] in wrong
        assert f"<answer>{asked['n'] * 2 + 1}</answer>" in pair["answers"][1]["text"]
    text = reply(machine, "pairs", "--failed", "--limit", "1")
    assert "production (answered)" in text and "candidate (answered)" in text and "failed" in text

    rule = "quality/all"

    def examples() -> list[dict[str, Any]]:
        done = machine.run("explain", "--examples", "-o", "json")
        return list(json.loads(done.stdout)["examples"].get(rule, ()))

    wait_until(lambda: len(examples()) == 5, f"five examples of {rule}", timeout_s=120)
    assert all(json.loads(pair["prompt"][0]["content"])["n"] in wrong for pair in examples())
    assert f"{rule}: examples" in machine.run("explain", "--examples").stdout


def exported(machine: Machine, folder: Path, wrong: set[int], by_people: set[int]) -> None:
    """What is preferred and what is learned."""
    reply(machine, "export", "--out", str(folder / "preference"), "--format", "preference")
    rows = lines(folder / "preference" / "train.jsonl")
    chosen = {
        (
            json.loads(row["prompt"][0]["content"])["n"],
            row["provenance"]["answer_of"],
            row["provenance"]["preferred_by"],
        )
        for row in rows
    }
    assert {(number, "production", "correct") for number in wrong} | {
        (number, "human", "people, correct") for number in wrong & by_people
    } == chosen
    places = [(row["provenance"]["partition"], row["provenance"]["offset"]) for row in rows]
    assert sorted(places) == places

    reply(machine, "export", "--out", str(folder / "sft.jsonl"), "--format", "sft", "--only", "failed")
    learned = {
        json.loads(row["prompt"][0]["content"])["n"]: row["completion"][0]["content"]
        for row in lines(folder / "sft.jsonl")
    }
    by_hand = {number for number, text in learned.items() if text.endswith("by hand")}
    assert (wrong, wrong & by_people) == (set(learned), by_hand)
    assert all(f"<answer>{number * 2}</answer>" in text for number, text in learned.items())
    before = (folder / "sft.jsonl").read_bytes()
    again = ("export", "--out", str(folder / "sft.jsonl"), "--format", "sft", "--only", "failed", "--force")
    reply(machine, *again)
    assert before == (folder / "sft.jsonl").read_bytes()


def refused(machine: Machine, folder: Path) -> None:
    """One sentence, exit code 2, and nothing is written."""
    out = str(folder / "never.jsonl")
    for arguments, sentence in (
        (("pairs", "--slice", "odd"), "--slice: read 'odd', must be one of all, even"),
        (("pairs", "--limit", "0"), "--limit: read 0, must be from 1 to 1000"),
        (("pairs", "--grader", "taste"), "--grader: read 'taste', must be one of correct, tagged"),
        (("export", "nosuch-run", "--out", out), "no run is named 'nosuch-run'"),
        (("export", "--out", out, "--format", "csv"), "--format: read 'csv', must be one of"),
        (("export", "--out", out, "--only", "good"), "--only: read 'good', must be one of"),
        (("export", "--out", str(folder / "sft.jsonl")), "exists; --force writes over it"),
    ):
        said = reply(machine, *arguments, code=2)
        assert sentence in said and "Traceback" not in said
    assert not Path(out).exists()
