"""A past run, judged by another policy: what its log can answer, and what it cannot."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from shadow.cli.replay_shown import document_of
from shadow.errors import Usage
from tests.replay.world import REWARD, TILE_US, World, tree_of


def other_of(world: World, change: Any) -> dict[str, Any]:
    """The run's configuration, changed."""
    tree = copy.deepcopy(world.tree)
    change(tree)
    return tree


def rules_of(tree: dict[str, Any]) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = tree["stages"]["shadow"]["rules"]
    return rules


def test_a_stricter_policy_decides_otherwise(world):
    """
    With a margin that the evidence cannot prove, the run that was promoted would hold; nothing is compared.
    """
    other = other_of(world, lambda tree: rules_of(tree)[0]["quality"].update(margin=0.001))
    report = world.replayed(other=other)
    document = document_of(report)
    assert report.replayed.decision is None
    assert "hold" == report.replayed.judgement.decision
    assert ("promote", True, None) == (document["recorded"]["decision"], document["backtest"], document["identical"])
    assert {} == report.comparison.compared


def test_a_looser_policy_decides_earlier(world):
    """
    A back-test ends with the tile at which its policy would have decided, and takes no id for that decision.
    """
    other = other_of(world, lambda tree: tree["stages"]["shadow"]["needs"].update(pairs=60, slice_pairs=20))
    report = world.replayed(other=other)
    decision = document_of(report)["decision"]
    assert ("promote", True) == (decision["decision"], decision["tile"] < world.run.decisions[-1].tile)
    assert "decision_id" not in decision


def test_a_policy_that_the_candidate_fails_rolls_back(world):
    """
    A floor over what the candidate reaches is proven to fail on the same answers.
    """
    rule = {"floor": {"grader": "correct", "min": 0.99}}
    report = world.replayed(other=other_of(world, lambda tree: rules_of(tree).append(rule)))
    assert "rollback" == report.replayed.decision.decision
    assert any("floor" in culprit for culprit in report.replayed.decision.culprits)


def test_the_same_configuration_is_no_backtest(world):
    """
    --config with what counts and judges the same is the exact replay.
    """
    other = other_of(world, lambda tree: tree.update(redis={"url": "redis://elsewhere:1/0"}))
    assert world.replayed(other=other).is_identical


def test_new_slices_and_deadlines_are_folded_anew(world):
    """
    A slice that the run did not have is found in the recorded requests; a tile stays as long as the run's.
    """

    def change(tree: dict[str, Any]) -> None:
        tree["slices"]["ten"] = {"text": "question 1[0-9] "}
        tree["evidence_deadline"] = "60s"
        tree["tile"] = "20s"
        rules_of(tree).append({"no_regression": {"slice": "ten", "grader": "correct", "margin": 0.4}})

    report = world.replayed(other=other_of(world, change))
    (line,) = [line for line in report.replayed.judgement.rules if line.slice == "ten"]
    assert 10 <= line.pairs <= 20
    assert TILE_US == report.replayed.state.policy.tile_us
    assert any(note.startswith("tile: 10 s as in the run") for note in report.comparison.notes)


def test_changed_graders_need_regrade(world):
    """
    Without --regrade a grader with other settings is refused by name; with it, it grades the recorded answers.
    """
    other = other_of(world, lambda tree: tree["graders"]["correct"].update(any=["wrong"]))
    with pytest.raises(Usage, match=r"the graders correct are not configured as in the run .*--regrade"):
        world.replayed(other=other)
    then, now = world.replayed(last="4"), world.replayed(other=other, regrade=True, last="4")
    both = [
        next(line.estimate for line in report.replayed.judgement.rules if line.rule == "no_regression")
        for report in (then, now)
    ]
    assert both[0] != both[1]
    assert any(note.startswith("correct: graded anew") for note in now.comparison.notes)


def test_regrade_alone_is_the_same_run_under_todays_graders(world):
    """
    Graders whose code is what it was give the same digest, and nothing is compared.
    """
    tile = world.run.decisions[-1].tile
    then, now = world.replayed(), world.replayed(regrade=True)
    assert now.replayed.decision.tile <= tile
    assert now.is_identical is None
    to = str(now.replayed.decision.tile)
    assert world.replayed(last=to).replayed.state.tiles_digest == now.replayed.state.tiles_digest
    assert then.is_identical


def test_a_backtest_begins_at_its_first_tile(world):
    """
    --from begins the stage there: totals and tiles before it are not in the evidence.
    """
    other = other_of(world, lambda tree: tree["stages"]["shadow"]["needs"].update(pairs=10_000))
    whole = world.replayed(other=other, last="8")
    part = world.replayed(other=other, first=5, last="8")
    assert (4, 9) == tuple(document_of(report)["tiles"]["count"] for report in (part, whole))
    assert 4 * TILE_US / 1e6 == part.replayed.state.age_s
    assert (
        0 < part.replayed.judgement.evidence.slices["all"].pairs < whole.replayed.judgement.evidence.slices["all"].pairs
    )


@pytest.fixture(scope="module")
def rewarded() -> World:
    """A run with a grader that asks a service."""
    tree = tree_of()
    tree["graders"]["reward"] = REWARD
    rules_of(tree).append({"cap": {"grader": "reward", "max": 0.5}})
    return World(tree).play()


def test_recorded_grades_are_read_from_the_log(rewarded):
    """
    The service is not asked again: the grades that it gave then stand in the log, and the run is the same.
    """
    report = rewarded.replayed()
    assert report.is_identical
    (line,) = [line for line in report.replayed.judgement.rules if line.grader == "reward"]
    assert line.pairs > 100


def test_a_recorded_grader_keeps_its_grades_in_a_backtest(rewarded):
    """
    Other rules over the same service's grades are judged by what was recorded, even with other settings of it.
    """

    def change(tree: dict[str, Any]) -> None:
        tree["graders"]["reward"] = {**REWARD, "passes_at": 0.95}
        rules_of(tree)[-1]["cap"]["max"] = 0.4

    report = rewarded.replayed(other=other_of(rewarded, change))
    (line,) = [line for line in report.replayed.judgement.rules if line.grader == "reward"]
    assert line.pairs > 100
    assert any(note.startswith("reward: the grades that the run recorded") for note in report.comparison.notes)


def test_a_service_that_the_run_did_not_ask_is_no_evidence(world):
    """
    A grader that would have to ask about the past is said, its rule has no pairs, and the gate holds.
    """

    def change(tree: dict[str, Any]) -> None:
        tree["graders"]["reward"] = REWARD
        rules_of(tree).append({"cap": {"grader": "reward", "max": 0.5}})

    report = world.replayed(other=other_of(world, change))
    (line,) = [line for line in report.replayed.judgement.rules if line.grader == "reward"]
    assert (None, 0) == (report.replayed.decision, line.pairs)
    assert any(
        note.startswith("reward: no evidence, since the run had no such grader") for note in report.comparison.notes
    )


def test_a_backtest_without_a_recorded_grader_ignores_its_grades(rewarded):
    """
    Grades of a grader that the other policy does not have are passed over.
    """

    def change(tree: dict[str, Any]) -> None:
        del tree["graders"]["reward"]
        rules_of(tree).pop()

    report = rewarded.replayed(other=other_of(rewarded, change))
    assert "promote" == report.replayed.decision.decision
