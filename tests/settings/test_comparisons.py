"""Rules on the answers of baseline and people, as the gate takes them."""

from __future__ import annotations

import os
from pathlib import Path

from shadow.records.policy import Agreement, NoRegression, comparison_of
from shadow.settings.loader import load

BASE = Path(__file__).parent / "base.yaml"


def test_rules_on_other_comparisons(tmp_path):
    """
    `agreement` and `against: human` become rules of their comparison; the same rule against people is no repetition.
    """
    path = tmp_path / "shadow.yaml"
    text = BASE.read_text().replace("tile: 60s", "tile: 60s\nhuman: {sample: 0.1, deadline: 3h}")
    text = text.replace("workers:\n", "workers:\n  baseline: {url: http://production:8000, sample: 0.2}\n")
    rules = [
        "- agreement: {margin: 0.04, tag: answer}",
        "- no_regression: {grader: correct}",
        "- no_regression: {grader: correct, against: human}",
    ]
    path.write_text(text.replace("- cap: {grader", "\n      ".join([*rules, "- cap: {grader"]), 1))
    settings = load(path, os.environ)
    found = settings.policy().stages[0].rules
    assert Agreement(0.04, tag="answer") in found
    people = [rule for rule in found if isinstance(rule, NoRegression) and rule.against == "human"]
    assert ["candidate-human"] == [comparison_of(rule) for rule in people]
    assert ("candidate-production", "baseline-production", "candidate-human") == settings.policy().comparisons
    assert (0.1, 0.2) == (settings.worker_rate("human"), settings.worker_rate("baseline"))
    assert 181 == settings.policy().lag_tiles("candidate-human")
