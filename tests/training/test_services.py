"""Pairs, examples and exports of a run on Apache Kafka and redis-server, through the command line."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shadow.cli.answers import export as ask
from shadow.cli.answers import import_
from shadow.cli.examples import examples_of
from shadow.cli.export import export
from shadow.cli.pairs import pairs
from shadow.cli.read_pairs import Scanned, read_pairs
from shadow.cli.runs import explain
from shadow.cli.suite import check
from shadow.errors import Usage
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


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """Commands that run in this process set the logging up for themselves."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def with_wrong_answers(tree: dict[str, Any]) -> None:
    """People are asked, and the candidate is as much worse as the rule just allows, so that nothing is decided."""
    with_people(tree)
    tree["stages"]["shadow"]["rules"][0] = {"quality": {"graders": {"correct": 1.0}, "margin": 0.25}}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def asked_in(row: dict[str, Any]) -> int:
    """The number in a prompt, which is the whole body here."""
    return int(json.loads(row["prompt"][0]["content"])["n"])


def answered_by_people(machine: Machine, folder: Path) -> set[int]:
    """People answer every request that they are asked; returns its numbers."""
    questions, answers = folder / "questions.jsonl", folder / "answers.jsonl"
    assert 0 == ask(config=machine.config, out=questions)
    asked = lines(questions)
    written = [{**each, "answer": f"<answer>{each['request']['n'] * 2}</answer>, by hand"} for each in asked]
    answers.write_text("".join(json.dumps(line) + "\n" for line in written))
    assert 0 == import_(answers, config=machine.config)
    return {each["request"]["n"] for each in asked}


def test_a_run_becomes_training_data(
    tmp_path: Path, kafka: ApacheKafka, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    What the candidate got wrong is shown, is the example of its rule, and is what the exports hold: production's answer
    over the candidate's, and the person's where one answered. Mistakes in the call are one sentence.
    """
    candidate = [sys.executable, "-m", "tests.flow.doubling", "--wrong-every", str(WRONG_EVERY)]
    with Machine(
        tmp_path, kafka.bootstrap, redis_server.url, candidate=candidate, change=with_wrong_answers
    ) as machine:
        machine.start()
        machine.await_serving()
        total = sent(machine)
        by_people = answered_by_people(machine, tmp_path)
        wait_until(lambda: len(pairs_in(machine)) == total + len(by_people), "every pair", timeout_s=120)
        found = pairs_in(machine)
        numbers = {number_of(pair) for pair in found if pair.comparison == CANDIDATE_PRODUCTION}
        wrong = {number for number in numbers if number % (2 * WRONG_EVERY) == 0}
        assert by_people == {number_of(pair) for pair in found if pair.comparison == CANDIDATE_HUMAN}
        assert by_people & wrong and wrong - by_people, "the traffic has wrong answers of both kinds"

        shown(machine, wrong, by_people, capsys)
        examples(machine, wrong, capsys)
        exported(machine, tmp_path, wrong, by_people)
        drawn(machine, tmp_path)
        refused(machine, tmp_path)


def shown(machine: Machine, wrong: set[int], by_people: set[int], capsys: pytest.CaptureFixture[str]) -> None:
    """`pairs` as JSON and on a terminal."""
    capsys.readouterr()
    assert 0 == pairs(config=machine.config, slice="even", failed=True, output="json")
    found = json.loads(capsys.readouterr().out)
    assert (10, len(wrong) + len(wrong & by_people)) == (len(found["pairs"]), found["found"])
    for pair in found["pairs"]:
        assert asked_in(pair) in wrong
        assert f"<answer>{asked_in(pair) * 2 + 1}</answer>" in pair["answers"][1]["text"]
    assert 0 == pairs(config=machine.config, failed=True, limit=1)
    said = capsys.readouterr()
    assert "candidate (answered)" in said.out
    assert "1 of " in said.err


def examples(machine: Machine, wrong: set[int], capsys: pytest.CaptureFixture[str]) -> None:
    """`explain --examples` of the rule that the wrong answers keep open."""
    rule = "quality/all"

    def of_the_rule() -> list[dict[str, Any]]:
        capsys.readouterr()
        assert 3 == explain(config=machine.config, examples=True, output="json")
        return list(json.loads(capsys.readouterr().out)["examples"].get(rule, ()))

    found: list[dict[str, Any]] = []

    def are_found() -> bool:
        found[:] = of_the_rule()
        return len(found) == 5

    wait_until(are_found, f"five examples of {rule}", timeout_s=120)
    assert all(asked_in(pair) in wrong for pair in found)
    assert 3 == explain(config=machine.config, examples=True)
    assert f"{rule}: examples" in capsys.readouterr().out
    with pytest.raises(Usage, match="--examples reads the graded pairs from Kafka; say where it is with -c"):
        examples_of(None, {})


def drawn(machine: Machine, folder: Path) -> None:
    """A suite of the run's requests, by slice and each once, which `suite check` finds unchanged."""
    made = machine.run("suite", "make", "--out", str(folder / "suite"), "--size", "20")
    assert 0 == made.returncode, made.stderr
    taken = lines(folder / "suite" / "requests.jsonl")
    bodies = [line["body"] for line in taken]
    assert 20 == len(bodies) == len(set(bodies))
    assert 10 <= sum(json.loads(body)["even"] for body in bodies)
    assert 0 == check(folder / "suite")


def exported(machine: Machine, folder: Path, wrong: set[int], by_people: set[int]) -> None:
    """What is preferred and what is learned."""
    assert 0 == export(folder / "preference", config=machine.config, format="preference")
    rows = lines(folder / "preference" / "train.jsonl")
    chosen = {(asked_in(row), row["provenance"]["answer_of"], row["provenance"]["preferred_by"]) for row in rows}
    by_production = {(number, "production", "correct") for number in wrong}
    assert by_production | {(number, "human", "people, correct") for number in wrong & by_people} == chosen
    places = [(row["provenance"]["partition"], row["provenance"]["offset"]) for row in rows]
    assert sorted(places) == places

    out = folder / "sft.jsonl"
    assert 0 == export(out, config=machine.config, format="sft", only="failed")
    learned = {asked_in(row): row["completion"][0]["content"] for row in lines(out)}
    by_hand = {number for number, text in learned.items() if text.endswith("by hand")}
    assert (wrong, wrong & by_people) == (set(learned), by_hand)
    assert all(f"<answer>{number * 2}</answer>" in text for number, text in learned.items())
    before = out.read_bytes()
    assert 0 == export(out, config=machine.config, format="sft", only="failed", force=True)
    assert before == out.read_bytes()


def refused(machine: Machine, folder: Path) -> None:
    """One sentence, which the command line ends with exit code 2, and nothing is written."""
    config, out = machine.config, folder / "never.jsonl"
    for call, sentence in (
        (lambda: pairs(config=config, slice="odd"), "--slice: read 'odd', must be one of all, even"),
        (lambda: pairs(config=config, limit=0), "--limit: read 0, must be from 1 to 1000"),
        (lambda: pairs(config=config, grader=["taste"]), "--grader: read 'taste', must be one of correct, tagged"),
        (lambda: export(out, "nosuch-run", config), "no run is named 'nosuch-run'"),
        (lambda: export(out, config=config, format="csv"), "--format: read 'csv', must be one of"),
        (lambda: export(out, config=config, only="good"), "--only: read 'good', must be one of"),
        (lambda: export(folder / "sft.jsonl", config=config), "exists; --force writes over it"),
    ):
        with pytest.raises(Usage, match=re.escape(sentence)):
            call()
    assert not out.exists()
