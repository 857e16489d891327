"""Alert rules by the real promtool: they fire when they must, and name metrics that exist."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from shadow.metrics import BY_NAME

FOLDER = Path(__file__).parent
RULES = FOLDER.parent.parent / "helm" / "shadow" / "alerts"


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        reason = "promtool is missing: apt-get install prometheus"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def test_alerts_fire_when_they_must(promtool: str, tmp_path: Path):
    """
    Each alert is silent before its cause and fires after its time, with the text that the person on call reads.
    """
    done = subprocess.run(
        [promtool, "check", "rules", *RULES.glob("*.yaml")], capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    for rules in RULES.glob("*.yaml"):
        test = tmp_path / f"{rules.stem}_test.yaml"
        test.write_text((FOLDER / test.name).read_text().replace("RULES", str(rules)))
        done = subprocess.run([promtool, "test", "rules", test], capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stdout + done.stderr


def test_alerts_name_metrics_that_exist():
    """
    Every metric in an expression is in the catalogue, and every alert says what to do.
    """
    for path in RULES.glob("*.yaml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                named = set(re.findall(r"shadow_[a-z_]+", rule["expr"]))
                assert named <= set(BY_NAME), rule["alert"]
                assert {"summary", "description"} <= set(rule["annotations"])
