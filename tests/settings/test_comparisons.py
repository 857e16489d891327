"""Rules on the answers of baseline and people: what the gate takes, and what is refused."""

from __future__ import annotations

import pytest

from shadow.records.policy import Agreement, NoRegression, Quality, comparison_of
from tests.settings.configurations import BASE, changed, problems_of, settings_of

RULES = "      - cap: {grader"
RULE = "shadow.yaml:40: stages.shadow.rules[2]"


def with_rules(*rules: str, top: str = "human: {sample: 0.02, deadline: 3h}", baseline: str = "0.2") -> str:
    """base.yaml with people, a baseline, and more rules before the cap in what is then line 40."""
    text = changed("workers:\n", f"workers:\n  baseline: {{url: 'http://production:8000', sample: {baseline}}}\n")
    text = text.replace("tile: 60s", f"{top}\ntile: 60s" if top else "tile: 60s")
    assert text.count(RULES) == 1
    return text.replace(RULES, "".join(f"      - {rule}\n" for rule in rules) + RULES)


def test_rules_on_other_comparisons():
    """
    `agreement` and `against: human` become rules of their comparison; the same rule against people is no repetition.
    """
    settings = settings_of(
        with_rules(
            "agreement: {margin: 0.04, tag: answer}",
            "quality: {graders: {correct: 1.0}, against: human}",
            "no_regression: {grader: correct}",
            "no_regression: {grader: correct, against: human}",
        )
    )
    found = settings.policy().stages[0].rules
    assert Agreement(0.04, tag="answer") in found
    assert Quality({"correct": 1.0}, against="human") in found
    people = [rule for rule in found if isinstance(rule, NoRegression) and rule.against == "human"]
    assert ["candidate-human"] == [comparison_of(rule) for rule in people]
    assert ("candidate-production", "baseline-production", "candidate-human") == settings.policy().comparisons
    assert (0.02, 0.2) == (settings.worker_rate("human"), settings.worker_rate("baseline"))
    assert 181 == settings.policy().lag_tiles("candidate-human")


def test_nobody_is_asked_without_the_section():
    """
    Without `human` the rate of people is 0, and no comparison with them is made.
    """
    settings = settings_of()
    assert 0.0 == settings.worker_rate("human")
    assert ("candidate-production",) == settings.policy().comparisons


def test_the_digest_covers_people():
    """
    Whom people are asked about, and how long they have, makes another run.
    """
    texts = [BASE, *(f"human: {value}\n{BASE}" for value in ("{}", "{sample: 0.1}", "{deadline: 5h}"))]
    assert len(texts) == len({settings_of(text).digest() for text in texts})


def test_stages_without_rules_wait_for_nobody():
    """
    The default rules of canary and watch leave out what is held against people.
    """
    text = with_rules("quality: {graders: {correct: 1.0}, against: human}")
    text = text.replace("stages:\n", "stages:\n  canary: {}\n  watch: {production_url: 'http://old:8000'}\n")
    _, canary, watch = settings_of(text).policy().stages
    assert {"candidate-production"} == {comparison_of(rule) for rule in (*canary.rules, *watch.rules)}


def test_people_bring_too_few_pairs_for_the_busy_margin():
    """
    The narrower default margin of a busy slice is production's alone.
    """
    rules = settings_of(with_rules("no_regression: {slice: division, grader: correct, against: human}")).policy()
    assert NoRegression("correct", "division", 0.05, against="human") in rules.stages[0].rules


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        (
            ["no_regression: {slice: division, grader: correct, against: human, margin: 0.03}"],
            ".no_regression.margin: a margin of 0.03 needs about 2,667 pairs, and slice division brings 1,008 by "
            "expires; must be at least 0.049, or people must be asked more (human.sample)",
        ),
        (
            ["agreement: {slice: division, margin: 0.01}"],
            ".agreement.margin: a margin of 0.01 needs about 24,000 pairs, and slice division brings 10,080 by "
            "expires; must be at least 0.016, or the baseline must be asked more (workers.baseline.sample)",
        ),
    ],
)
def test_margins_that_few_asked_cannot_prove(rules, says):
    """
    Only the requests that people or the baseline are asked bring pairs for their rules.
    """
    assert [RULE + says] == problems_of(with_rules(*rules))


def test_two_rules_about_the_same_answers_contradict():
    """
    Two rules against people on one grader, or two agreements in one slice, are refused like any other two.
    """
    twice = with_rules(
        "no_regression: {grader: correct, against: human}",
        "no_regression: {grader: correct, against: human, margin: 0.1}",
    )
    assert [
        "shadow.yaml:41: stages.shadow.rules[3].no_regression: contradicts stages.shadow.rules[2].no_regression in "
        "line 40, which is about the same (all, correct, human); must be one rule"
    ] == problems_of(twice)
    assert [
        "shadow.yaml:41: stages.shadow.rules[3].agreement: contradicts stages.shadow.rules[2].agreement in line 40, "
        "which is about the same (all); must be one rule"
    ] == problems_of(with_rules("agreement: {}", "agreement: {tag: answer}"))


def test_what_excludes_each_other_does_so_against_one_reference():
    """
    A gain over people and equality with production are no contradiction; against one reference they are.
    """
    gain, equal = "improve: {grader: correct, by: 0.1, against: human}", "equivalent: {grader: correct}"
    assert [] == problems_of(with_rules(gain, equal))
    (problem,) = problems_of(with_rules(gain, equal.replace("}", ", against: human}")))
    assert problem.startswith(f"{RULE}.improve.by: demands a gain of 0.1, but")
