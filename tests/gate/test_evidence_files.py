"""Given totals, expected decisions: every file of tests/evidence, as `shadow evaluate` reads them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shadow.gate.evidence import evidence_from_json, evidence_to_json
from shadow.gate.rules import Verdict, judge, judgement_to_json
from shadow.settings.loader import load
from tests.gate.policies import EXPIRES_S, SHADOW, TILES

FOLDER = Path(__file__).parent.parent / "evidence"
OTHERS = FOLDER / "comparisons"
FILES = sorted(
    path for folder in (FOLDER, OTHERS) for path in folder.glob("*.json") if not path.name.endswith(".expect.json")
)
STAGES = {FOLDER: SHADOW, OTHERS: load(OTHERS / "shadow.yaml", {}).policy().stages[0]}


def test_there_are_enough_files() -> None:
    """At least fourteen files, each with its expectation."""
    assert len(FILES) >= 14
    assert all(path.with_suffix(".expect.json").exists() for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_decision_is_the_expected_one(path: Path) -> None:
    """Decision, culprits in order, and what blocks are those of the expectation."""
    expected = json.loads(path.with_suffix(".expect.json").read_text())
    stage = STAGES[path.parent]
    judgement = judge(stage, evidence_from_json(path.read_bytes()), expires_s=EXPIRES_S, tiles_longest_age=TILES)
    blocking = [f"{c.name}/{c.slice}" for c in judgement.conditions if not c.is_met]
    blocking += [line.id for line in judgement.rules if line.verdict != Verdict.PASS]

    assert expected["decision"] == judgement.decision, judgement.reason
    assert expected["culprits"] == list(judgement.culprits), judgement.reason
    assert set(expected["holds_because"]) <= set(blocking)
    if path.stem not in ("hold-empty",) and expected["decision"] in ("hold", "expire"):
        assert expected["holds_because"] == blocking


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_evidence_survives_writing(path: Path) -> None:
    """Evidence that is written and read again is the same, and so is the digest of its judgement."""
    evidence = evidence_from_json(path.read_bytes())
    again = evidence_from_json(evidence_to_json(evidence))
    assert evidence == again
    first, second = (
        judgement_to_json(judge(STAGES[path.parent], each, expires_s=EXPIRES_S, tiles_longest_age=TILES))
        for each in (evidence, again)
    )
    assert first == second
    json.dumps(first, allow_nan=False)


def test_reward_hacking_is_named() -> None:
    """The reason of a rollback says `reward hacking` in words."""
    evidence = evidence_from_json((FOLDER / "rollback-reward-hacking.json").read_bytes())
    judgement = judge(SHADOW, evidence, expires_s=EXPIRES_S, tiles_longest_age=TILES)
    assert "reward hacking" in judgement.reason


def test_ready_candidate_passes_at_its_first_attempt_only() -> None:
    """What the twentieth attempt may not promote, the first one may: the budget shrinks, the evidence does not."""
    document = json.loads((FOLDER / "hold-twentieth-attempt.json").read_text())
    document["attempt"] = 1
    evidence = evidence_from_json(json.dumps(document).encode())
    assert judge(SHADOW, evidence, expires_s=EXPIRES_S, tiles_longest_age=TILES).decision == "promote"
