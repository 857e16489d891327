"""`shadow plan`: from a rate and a configuration to a table, a document, and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from shadow.cli.plan import plan
from shadow.errors import Usage
from tests.cli.conftest import CommandLine

SECTION14 = Path(__file__).parents[1] / "settings" / "section14.yaml"
RATES = ("--rate", "1600/min", "--slice-rate", "headache-red-flags=60/h", "--slice-rate", "division=300/h")


@pytest.fixture
def planned(shadow: CommandLine) -> CommandLine:
    """The command line beside the configuration of design.md, section 14."""
    shutil.copy(SECTION14, shadow.folder / "shadow.yaml")
    return shadow


def test_a_policy_that_can_be_proven(planned: CommandLine) -> None:
    """
    Quotas, samples and the graders' slices say how many pairs each rule gets; all of it is proven in time.
    """
    done = planned("plan", *RATES, "--gain", "0.10", "-o", "json")
    assert (0, "") == (done.returncode, done.stderr)
    found = json.loads(done.stdout)
    by_rule = {(rule["rule"], rule["slice"]): rule["pairs_expires"] for rule in found["rules"]}
    hours = 7 * 24 - 1 / 60
    expected = {
        ("no_regression", "all"): 96_000 * 0.2,
        ("no_regression", "headache-red-flags"): 60 * 1.0,
        ("equivalent", "debug-search-api"): 300 * 0.2,
        # On `all`, graders that are bound to slices grade only the pairs of these, at the common sample.
        ("quality", "all"): (60 + 300) * 0.2,
        ("no_reward_hacking", "all"): 300 * 0.2,
    }
    assert {key: pytest.approx(per_h * hours) for key, per_h in expected.items()} == {
        key: by_rule[key] for key in expected
    }
    assert [] == found["refused"]
    assert ["canary-1", "canary-2", "canary-3", "canary-4"] == [step["step"] for step in found["steps"]]
    assert 60 + 3600 * 1000 / (96_000 * 0.2 * 0.01) == pytest.approx(found["steps"][0]["takes_s"], rel=0.01)
    assert 0.14 < found["alpha"]["sum"] < 0.16
    assert found["promote"]["earliest_s"] <= found["promote"]["likely_s"] <= found["expires_s"]


def test_what_cannot_be_proven_is_refused_and_still_shown(planned: CommandLine) -> None:
    """
    At sixty requests an hour the table stands on stdout, one sentence for each refusal on stderr, and 2 is the end.
    """
    slices = ("headache-red-flags=6/h", "division=3/h", "debug-search-api=3/h")
    done = planned("plan", "--rate", "60/h", *(word for each in slices for word in ("--slice-rate", each)))
    assert 2 == done.returncode
    lines = done.stderr.splitlines()
    assert lines[0].startswith("volume: the stage needs 5,000 pairs within 24 h, and the traffic brings 288")
    assert 1 == sum(line.startswith("no_regression of pinned in debug-search-api: about 960 pairs") for line in lines)
    assert "chance of PROMOTE with all 11 rules" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": "60"}, "--rate: read '60', must be a rate above 0"),
        ({"rate": "60/min"}, "nothing says how much traffic slice division has"),
        ({"rate": "60/h"}, "slice debug-search-api has 300 requests/h, which is more than --rate, 60/h in all"),
        ({"slice_rate": ["moon=1/h"]}, "--slice-rate: read 'moon=1/h', must be NAME=RATE"),
        ({"by": "soon"}, "--by: read 'soon', must be a duration"),
        ({"psi": 2.0}, r"--psi: read 2, must be a share in \(0, 1\]"),
        ({"attempt": 0}, "--attempt: read 0, must be at least 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mistake_is_one_sentence(options: dict[str, Any], said: str) -> None:
    """
    What was read and what would be right.
    """
    with pytest.raises(Usage, match=said):
        plan(**{"rate": "60/min", "config": SECTION14, **options})
