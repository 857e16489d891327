"""`shadow offline` with real models over HTTP: what repeats is judged, and what does not is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from consumers.loop import WallClock
from shadow.adapters.suites import seal
from shadow.cli import wiring
from shadow.cli.begin import begin
from shadow.cli.offline import offline
from shadow.cli.offline_run import SUITE_HEADER
from shadow.cli.runs import runs
from shadow.errors import BrokenEvidence, Unavailable, Usage
from tests.flow.harness import HttpService
from tests.offline.trials import configured, doubling, every_other_time, requests_of, suite_in
from tests.services.kafka import ApacheKafka

COUNT = 60


def judged(
    capsys: pytest.CaptureFixture[str], suite: Path, config: Path, *, unrecorded: bool = False
) -> tuple[int, dict[str, Any]]:
    """Run the command in this process: its exit code and its JSON."""
    capsys.readouterr()
    code = offline(suite, config, "json", unrecorded)
    return code, orjson.loads(capsys.readouterr().out)


def test_two_equal_runs_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Deterministic models give the same grades twice, an equal candidate is promoted, and without Kafka nothing is kept.
    """
    suite = suite_in(tmp_path / "suite", requests_of(COUNT))
    with HttpService(doubling()) as model:
        code, told = judged(capsys, suite, configured(tmp_path, model.url, model.url))
    assert (0, "promote", [], False) == (code, told["decision"], told["differences"], told["is_kept"])
    assert {"PASS"} == {rule["verdict"] for rule in told["judgement"]["rules"]}
    assert {"correct": 0.0, "tagged": 0.0} == told["repeat"]["noise"]
    assert COUNT == told["suite"]["requests"]
    assert "the decision cannot be kept" in told["note"]


def test_what_does_not_repeat_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A candidate that answers three requests otherwise the second time is not judged; each of them is named with both
    grades, the grader and the role, for machines and for people.
    """
    suite = suite_in(tmp_path / "suite", requests_of(COUNT))
    with HttpService(doubling()) as production, HttpService(doubling(every_other_time())) as candidate:
        config = configured(tmp_path, production.url, candidate.url)
        code, told = judged(capsys, suite, config)
        assert 5 == offline(suite, config, "table", True)
    assert (5, None, None, False) == (code, told["decision"], told["judgement"], told["is_kept"])
    expected = [("r000", "correct", "candidate"), ("r001", "correct", "candidate"), ("r002", "correct", "candidate")]
    assert expected == [(each["request"], each["grader"], each["role"]) for each in told["differences"]]
    assert {("passed", "failed")} == {(each["first"], each["second"]) for each in told["differences"]}
    said = capsys.readouterr().out
    assert "3 grades of 3 requests differ between the two runs (correct 2.50%)" in said
    assert "r001: correct of candidate: passed, then failed" in said
    assert "stages.offline.repeat: tolerate" in said


def test_tolerated_noise_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    With `repeat: tolerate` the second run is judged, and the share of grades that differ is said by grader.
    """
    suite = suite_in(tmp_path / "suite", requests_of(COUNT))
    with HttpService(doubling()) as production, HttpService(doubling(every_other_time())) as candidate:
        config = configured(tmp_path, production.url, candidate.url, repeat="tolerate")
        code, told = judged(capsys, suite, config)
    assert (0, "promote", 3) == (code, told["decision"], len(told["differences"]))
    assert {"correct": 3 / (2 * COUNT), "tagged": 0.0} == told["repeat"]["noise"]
    rule = told["judgement"]["rules"][0]
    assert (COUNT, -3 / COUNT) == (rule["pairs"], pytest.approx(rule["estimate"]))


def test_repeated_prompts_count_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A suite of 30 prompts, each written down twice, has 30 pairs, and says how many were left out.
    """
    twice = [each for n in requests_of(30) for each in (n, _again(n))]
    suite = suite_in(tmp_path / "suite", twice)
    with HttpService(doubling()) as model:
        _, told = judged(capsys, suite, configured(tmp_path, model.url, model.url), unrecorded=True)
    assert (30, 30) == (told["suite"]["requests"], told["suite"]["repeated"])
    assert {30} == {rule["pairs"] for rule in told["judgement"]["rules"]}


def _again(request: Any) -> Any:
    return type(request)(
        f"{request.request_id}-again",
        f"{request.key}-again",
        request.method,
        request.path,
        request.headers,
        request.body,
        request.expected,
    )


def test_python_models_and_the_baseline_are_asked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Models may be functions of this process; the rule `agreement` has production asked a second time, as the baseline.
    """
    suite = suite_in(tmp_path / "suite", requests_of(COUNT))
    config = configured(tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:1")
    tree = yaml.safe_load(config.read_text())
    function = {"python": "tests.offline.trials:doubled_here"}
    tree["workers"] = dict.fromkeys(("production", "candidate"), function) | {"baseline": {**function, "sample": 0.2}}
    tree["stages"]["offline"]["rules"] = [{"agreement": {"margin": 0.2, "tag": "answer"}}]
    config.write_text(yaml.safe_dump(orjson.loads(orjson.dumps(tree))))
    code, told = judged(capsys, suite, config, unrecorded=True)
    rule = told["judgement"]["rules"][0]
    assert (0, "baseline-production", COUNT) == (code, rule["comparison"], rule["pairs"])


def test_a_snapshot_is_told_to_the_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Models over HTTP get the suite's digest in a header, those of this process the snapshot's folder.
    """
    suite = suite_in(tmp_path / "suite", requests_of(5))
    (suite / "retrieval").mkdir()
    (suite / "retrieval" / "facts.txt").write_text("twice is 2 x")
    digest = seal(suite, "doubling", {}).digest
    monkeypatch.setenv("SHADOW_RETRIEVAL", "")
    seen: set[str] = set()

    class Noting(HttpService):
        async def _handle(self, request: Any) -> Any:
            seen.add(request.headers.get(SUITE_HEADER, ""))
            return await super()._handle(request)

    with Noting(doubling()) as model:
        offline(suite, configured(tmp_path, model.url, model.url), "json", True)
    assert {digest} == seen
    assert str((suite / "retrieval").resolve()) == os.environ["SHADOW_RETRIEVAL"]


def test_what_says_nothing_is_not_judged(tmp_path: Path) -> None:
    """
    A reference that fails, a candidate that never answers, a spent budget and a grader that is away are our trouble:
    each is one sentence, and nothing is judged.
    """
    suite = suite_in(tmp_path / "suite", requests_of(COUNT))
    nobody = "http://127.0.0.1:1"
    with HttpService(doubling()) as model:
        with pytest.raises(BrokenEvidence, match="production failed to answer 60 of the suite's 60 requests"):
            offline(suite, configured(tmp_path, nobody, model.url), "json", True)
        with pytest.raises(BrokenEvidence, match="candidate failed to answer 60 of the suite's 60 requests"):
            offline(suite, configured(tmp_path, model.url, nobody), "json", True)
        config = configured(tmp_path, model.url, model.url)
        text = config.read_text()
        config.write_text(text.replace("  candidate:\n", "  candidate:\n    budget: {calls: 50}\n", 1))
        with pytest.raises(BrokenEvidence, match=r"10 of the suite's 60 requests make no pair.*budget of 50 calls"):
            offline(suite, config, "json", True)
        asked = f"{{kind: reward_model, url: '{nobody}/score', budget: 1s}}"
        config.write_text(text.replace("graders:\n", f"graders:\n  reward: {asked}\n", 1))
        with pytest.raises(Unavailable, match=r"grader reward: .*\(3 tries\), so nothing is judged"):
            offline(suite, config, "json", True)


def test_without_rules_there_is_nothing_to_judge_by(tmp_path: Path) -> None:
    """
    A configuration without stages.offline is refused before anybody is asked.
    """
    path = configured(tmp_path, "http://127.0.0.1:1", "http://127.0.0.1:1")
    beginning, _, _ = path.read_text().partition("  offline:\n")
    path.write_text(beginning)
    with pytest.raises(Usage, match=r"has no stages\.offline"):
        offline(tmp_path, path, "json", True)


def test_a_run_begins_only_on_a_promote(tmp_path: Path, kafka: ApacheKafka, capsys: pytest.CaptureFixture[str]) -> None:
    """
    On Apache Kafka: no run begins before the promote; a suite that is too small holds; the promote is step 0 of the run
    that begins, once; `shadow runs` knows all of it, and a rollback uses up the next attempt.
    """
    small, large = suite_in(tmp_path / "small", requests_of(8)), suite_in(tmp_path / "large", requests_of(COUNT))
    with HttpService(doubling()) as model, HttpService(doubling(lambda _: True)) as wrong:
        config = configured(tmp_path, model.url, model.url, kafka.bootstrap)
        settings = wiring.settings_from(config)
        log, name = wiring.open_log(settings), settings.run_name(1)
        wiring.create_topics(settings, log)
        with pytest.raises(Usage, match=f"has not promoted {name}; run `shadow offline SUITE"):
            begin(settings, log, WallClock())
        code, told = judged(capsys, small, config)
        assert (3, "hold", True, 1) == (code, told["decision"], told["is_kept"], told["run"]["look"])
        with pytest.raises(Usage, match=rf"has not promoted {name} \(its newest decision is hold"):
            begin(settings, log, WallClock())
        code, told = judged(capsys, large, config)
        assert (0, "promote", True, 2) == (code, told["decision"], told["is_kept"], told["run"]["look"])
        assert [(name, "offline", "promote")] == listed(capsys, config)
        code, told = judged(capsys, large, config)
        assert (0, False) == (code, told["is_kept"]) and "stands already" in told["note"]
        assert name == begin(settings, log, WallClock()).started.run
        assert [(name, "shadow", None)] == listed(capsys, config)
        with pytest.raises(Usage, match=f"the run {name} of this configuration is going on"):
            offline(large, config, "json", False)
        other = tmp_path / "other.yaml"
        other.write_text(config.read_text().replace(f"url: {model.url}", f"url: {wrong.url}").replace("1d", "2d"))
        text = other.read_text().replace(f"production:\n    url: {wrong.url}", f"production:\n    url: {model.url}")
        other.write_text(text)
        code, told = judged(capsys, large, other)
        assert (4, "rollback", 2) == (code, told["decision"], told["run"]["attempt"])
        second = told["run"]["name"]
        assert [(name, "shadow", None), (second, "rolled_back", "rollback")] == listed(capsys, config)
        third = wiring.settings_from(other).run_name(3)
        with pytest.raises(Usage, match=rf"has not promoted {third} \(its newest decision is rollback for {second}\)"):
            begin(wiring.settings_from(other), log, WallClock())


def listed(capsys: pytest.CaptureFixture[str], config: Path) -> list[tuple[str, str, str | None]]:
    """What `shadow runs` says: run, stage and decision."""
    capsys.readouterr()
    runs(config, "json")
    return [(row["run"], row["stage"], row["decision"]) for row in orjson.loads(capsys.readouterr().out)]
