"""Production's second answers are graded beside its first ones, by graders that ask nobody, where rules look."""

from __future__ import annotations

import pytest

from shadow.cli.wiring import counting_of
from shadow.records.comparisons import BASELINE_PRODUCTION, CANDIDATE_PRODUCTION
from shadow.records.policy import Agreement, Needs, NoRegression, Policy, StagePolicy
from shadow.records.tallies import Key
from shadow.stream.fold import Fold
from shadow.stream.slice import Slicer
from tests.stream.builders import CORRECT, REWARD, SLICES, SPEC, answer, graders_of
from tests.stream.test_comparisons import EVERY, Trial

RULES = (NoRegression("correct"), NoRegression("correct", "search"), NoRegression("reward"), Agreement())
COUNTING = counting_of(Policy((StagePolicy("shadow", Needs(), RULES),)), graders_of(CORRECT, REWARD))


class Repeating(Trial):
    """The comparisons of candidate and baseline, as the configuration would have them counted."""

    def fold_from(self, state):
        spec = EVERY
        deadlines_us = {name: spec.deadlines_us[name] for name in COUNTING}
        self.spec = type(SPEC)(
            spec.run, spec.partition, spec.partitions, spec.tile_us, spec.first_tile, deadlines_us, 0, 0, spec.rates
        )
        return Fold(self.spec, Slicer(SLICES), COUNTING, self.requests_at, self.read, state)

    def requests_at(self, offsets):
        return {offset: self.requests.get(offset) for offset in offsets}


@pytest.mark.parametrize(
    ("production", "baseline", "counted", "difference"),
    [
        (b"right", b"right", [1, 0, 0, 0], 0),
        (b"right", b"wrong", [0, 1, 0, 0], -1),
        (b"wrong", b"right", [0, 0, 1, 0], 1),
        (b"wrong", b"wrong", [0, 0, 0, 1], 0),
    ],
)
def test_the_baseline_stands_in_the_candidates_place(production, baseline, counted, difference):
    """
    Each outcome has its place in the vector, and the cells hold the baseline's grade minus production's.
    """
    trial = Repeating()
    exchange = trial.ask(1, live_body=production)
    trial.say(answer(exchange, 0, 1, body=b"neither here"), 2)
    trial.say(answer(exchange, 0, 1, body=baseline, role="baseline"), 3)
    tally = trial.tally(BASELINE_PRODUCTION)
    key = Key("all", "graders", "correct")
    assert counted == tally.vectors[key]
    assert [[1, difference]] == list(tally.cells[key].values())


def test_a_failed_second_call_is_a_failed_grade():
    """
    A baseline that times out is production failing, as it would be of a candidate.
    """
    trial = Repeating()
    exchange = trial.ask(1, live_body=b"right")
    trial.say(answer(exchange, 0, 1), 2)
    trial.say(answer(exchange, 0, 1, role="baseline", outcome="timeout"), 3)
    assert [0, 1, 0, 0] == trial.tally(BASELINE_PRODUCTION).vectors[Key("all", "graders", "correct")]


def test_nobody_is_asked_and_only_where_rules_look():
    """
    Graders that call a service are left out; the others count in the slices of the rules that name them.
    """
    baseline = COUNTING[BASELINE_PRODUCTION]
    assert ["correct"] == [grader.name for grader in baseline.repeated]
    assert {"all", "search"} == baseline.repeated_in["correct"]
    assert () == COUNTING[CANDIDATE_PRODUCTION].repeated
