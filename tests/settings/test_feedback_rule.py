"""The rule `feedback` in a configuration: where it may stand, and what it becomes."""

from __future__ import annotations

import pytest

from shadow.records.policy import Feedback
from tests.settings.configurations import changed, problems_of, settings_of


def with_canary(rule: str, *, stage: str = "canary", more: str = "steps: [0.1, 0.5]") -> str:
    return changed("stages:\n", f"stages:\n  {stage}: {{{more}, rules: [{rule}]}}\n")


def test_rule_gets_the_steps_of_canary():
    """
    The gate's rule has canary's shares and slice; the ratio is 1.5 where none is named.
    """
    (rule,) = settings_of(with_canary("feedback: {}")).policy().stage("canary").rules
    assert Feedback(1.5, (0.1, 0.5), "canary/all") == rule
    texts = [with_canary(f"feedback: {each}") for each in ("{}", "{max_ratio: 2}")]
    assert 2 == len({settings_of(text).digest() for text in texts})


def test_default_canary_has_no_feedback_rule():
    """
    Nobody may send votes, so nothing waits for them unless it was asked for.
    """
    stages = settings_of(changed("stages:\n", "stages:\n  canary: {}\n")).policy().stages
    assert not any(isinstance(rule, Feedback) for stage in stages for rule in stage.rules)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            with_canary("feedback: {}", stage="watch", more="production_url: 'http://old:8000'"),
            "shadow.yaml:32: stages.watch.rules[0].feedback: compares what users say of both versions, must stand in "
            "stages.canary.rules alone",
        ),
        (
            with_canary("feedback: {slice: division}"),
            "shadow.yaml:32: stages.canary.rules[0].feedback: has the slice division, must be on all: a vote does not "
            "say what was asked",
        ),
        (
            with_canary("feedback: {max_ratio: 0}"),
            "shadow.yaml:32: stages.canary.rules[0].feedback.max_ratio: read 0, must be a ratio",
        ),
        (
            with_canary("feedback: {}, feedback: {max_ratio: 2}"),
            "shadow.yaml:32: stages.canary.rules[1].feedback: contradicts ",
        ),
    ],
    ids=["watch", "slice", "ratio", "twice"],
)
def test_what_cannot_be_counted_is_refused(text, sentence):
    """
    One sentence with its line.
    """
    problems = problems_of(text)
    assert any(sentence in each for each in problems), problems
