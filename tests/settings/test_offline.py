"""`stages.offline`: what it may say, and that it is part of what a run is."""

from __future__ import annotations

from tests.settings.configurations import BASE, changed, problems_of, settings_of

WITH = changed("stages:\n", "stages:\n  offline:\n    rules:\n      - floor: {grader: correct, min: 0.9}\n")


def test_it_is_a_stage_before_the_run() -> None:
    """
    Its rules are not those of a run's stages, and its defaults are strict.
    """
    settings, plain = settings_of(WITH), settings_of()
    stage = settings.offline_policy()
    assert stage is not None and settings.stages.offline is not None
    assert ("offline", 0.05, "strict", 1) == (stage.name, stage.alpha, settings.stages.offline.repeat, len(stage.rules))
    assert plain.policy() == settings.policy()
    assert plain.offline_policy() is None


def test_other_rules_are_another_configuration() -> None:
    """
    Every part of the stage changes the configuration's digest, so that no promote by other rules lets a run begin.
    """
    texts = (
        BASE,
        WITH,
        WITH.replace("min: 0.9}", "min: 0.91}"),
        WITH.replace("  offline:\n", "  offline:\n    repeat: tolerate\n"),
        WITH.replace("  offline:\n", "  offline:\n    alpha: 0.01\n"),
    )
    assert len(texts) == len({settings_of(text).digest() for text in texts})


def test_nobody_asks_people_about_a_suite() -> None:
    """
    `against: human`, another `repeat` and rules without a grader of the file are refused, each in one sentence.
    """
    rule = "improve: {grader: correct, against: human}"
    human = WITH.replace("floor: {grader: correct, min: 0.9}", rule) + "human: {sample: 0.1, deadline: 1h}\n"
    assert any(
        "is human, and nobody asks people about a suite; must be production" in each for each in problems_of(human)
    )
    sloppy = WITH.replace("  offline:\n", "  offline:\n    repeat: maybe\n")
    assert any("stages.offline.repeat" in each and "maybe" in each for each in problems_of(sloppy))
    assert any("unheard" in each for each in problems_of(WITH.replace("grader: correct, min", "grader: unheard, min")))
