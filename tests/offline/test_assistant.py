"""The offline stage on the scripted assistant's own suite, with its real services."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from shadow.adapters.suites import read_suite
from shadow.cli.offline import offline
from tests.example_services import ASSISTANT, Service, module_at, service
from tests.flow.harness import HttpService

SUITE = ASSISTANT / "suite"
MOODY_EVERY = 40

answers = module_at(ASSISTANT / "answers.py")


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, Service]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(service(ASSISTANT / f"{name}.py"))
            for name in ("production", "candidate_a", "candidate_b", "reward")
        }


def configured(folder: Path, services: dict[str, Service], candidate: str) -> Path:
    """The example's configuration with the addresses of these services."""
    tree = yaml.safe_load((ASSISTANT / "offline.yaml").read_text())
    tree["workers"]["production"]["url"] = services["production"].url
    tree["workers"]["candidate"]["url"] = candidate
    tree["graders"]["reward"]["url"] = f"{services['reward'].url}/score"
    path = folder / "shadow.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def judged(capsys: pytest.CaptureFixture[str], config: Path) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = offline(SUITE, config, "json", True)
    return code, orjson.loads(capsys.readouterr().out)


def test_the_shipped_suite_is_whole() -> None:
    """
    The suite that ships was drawn by the tool from a run: 400 requests, no content and no session twice.
    """
    suite = read_suite(SUITE)
    assert "assistant" == suite.manifest.name
    assert suite.manifest.origin["run"].startswith("assistant-b-")
    assert 400 == len({each.content for each in suite.requests}) == len({each.key for each in suite.requests})
    assert 100 < sum(bool(each.expected) for each in suite.requests)


def test_two_runs_are_identical_and_the_better_one_is_promoted(
    tmp_path: Path, services: dict[str, Service], capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Candidate B gives every grade of every request alike in both runs, the reward model's included, and is promoted.
    """
    code, told = judged(capsys, configured(tmp_path, services, services["candidate_b"].url))
    assert [] == told["differences"]
    assert {"correct", "urgent", "pinned", "current", "tagged", "safe", "reward", "cost request"} == set(
        told["repeat"]["noise"]
    )
    assert {"PASS"} == {rule["verdict"] for rule in told["judgement"]["rules"]}, told["judgement"]["reason"]
    assert (0, "promote") == (code, told["decision"])


def test_the_cheating_candidate_is_rolled_back_by_slice(
    tmp_path: Path, services: dict[str, Service], capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Candidate A pleases the reward model, and is rolled back for what it does in the search slices and for the hacking.
    """
    code, told = judged(capsys, configured(tmp_path, services, services["candidate_a"].url))
    failed = {f"{rule['rule']}/{rule['slice']}" for rule in told["judgement"]["rules"] if rule["verdict"] == "FAIL"}
    expected = {"no_regression/debug-search-api", "no_regression/version-pinning", "no_reward_hacking/all"}
    assert (4, "rollback", expected) == (code, told["decision"], failed)


def test_a_moody_candidate_is_refused_with_its_requests(
    tmp_path: Path, services: dict[str, Service], capsys: pytest.CaptureFixture[str]
) -> None:
    """
    A candidate that answers one request in forty as B first and as A the second time is not judged, and the requests
    whose grades differ are named; all of them are among those that it answered otherwise.
    """
    texts = [_text(orjson.loads(each.body)) for each in read_suite(SUITE).requests]
    times = {text: itertools.count() for text in texts[::MOODY_EVERY]}
    moody = {each.request_id for each in read_suite(SUITE).requests[::MOODY_EVERY]}

    def reply(body: dict[str, Any]) -> Any:
        text = _text(body)
        version = answers.CANDIDATE_A if text in times and next(times[text]) % 2 else answers.CANDIDATE_B
        said = answers.reply(version, text, body.get("metadata", {}).get("answer"))
        usage = {"prompt_tokens": said.prompt_tokens, "completion_tokens": said.completion_tokens}
        return {"choices": [{"index": 0, "message": {"role": "assistant", "content": said.text}}], "usage": usage}

    with HttpService(reply) as candidate:
        code, told = judged(capsys, configured(tmp_path, services, candidate.url))
    assert (5, None, None) == (code, told["judgement"], told["decision"])
    differing = {each["request"] for each in told["differences"]}
    assert differing and differing <= moody
    assert {"candidate"} == {each["role"] for each in told["differences"]}
    assert "reward" in {each["grader"] for each in told["differences"]}


def _text(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])
