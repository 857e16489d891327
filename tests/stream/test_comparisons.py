"""Several comparisons over one log: own tiles, own deadlines, and none waits for another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.records.answers import Tick
from shadow.records.comparisons import BASELINE_PRODUCTION, CANDIDATE_HUMAN, CANDIDATE_PRODUCTION
from shadow.records.policy import Agreement, NoRegression
from shadow.records.tallies import CLASSES, Key, Tally
from shadow.stream.answer import is_asked
from shadow.stream.fold import Fold
from shadow.stream.slice import Slicer
from shadow.stream.state import Counting, fields_from_state, state_from_fields
from shadow.stream.tally import Tallier
from tests.stream.builders import CORRECT, RUN, SECOND, SLICES, SPEC, AnswersLog, answer, counting, graders_of, request

HOURS = 3600 * SECOND
EVERY = replace(
    SPEC,
    deadlines_us={CANDIDATE_PRODUCTION: 30 * SECOND, BASELINE_PRODUCTION: 30 * SECOND, CANDIDATE_HUMAN: 6 * HOURS},
    rates={"baseline": 1.0, "human": 1.0},
)


class Trial:
    """A fold of all three comparisons, on logs that the test writes."""

    def __init__(self, spec=EVERY):
        self.spec, self.requests, self.log = spec, {}, AnswersLog()
        self.closed, self.reads = [], []
        self.fold = self.fold_from(None)

    def fold_from(self, state):
        human = Tallier([NoRegression("correct", against="human")], {"correct": ()})
        everything = {
            **counting((CORRECT,), (NoRegression("correct"),)),
            BASELINE_PRODUCTION: Counting((), Tallier([], {}), (Agreement(),)),
            CANDIDATE_HUMAN: Counting(tuple(graders_of(CORRECT)), human),
        }
        return Fold(
            self.spec,
            Slicer(SLICES),
            {name: everything[name] for name in self.spec.deadlines_us},
            lambda offsets: {offset: self.requests.get(offset) for offset in offsets},
            self.read,
            state,
        )

    def read(self, offsets):
        self.reads.append(list(offsets))
        return [self.log.records[offset] for offset in sorted(offsets)]

    def say(self, content, time_us):
        record, content = self.log.append(content, time_us)
        effects = self.fold.apply(record, content)
        self.closed += effects.closed
        return effects

    def ask(self, number, time_us=1, **options):
        """A mirrored request, at the offset below its number."""
        self.requests[number - 1] = request(number, **options)
        return self.requests[number - 1]

    def tick(self, tile, end, time_us):
        return self.say(Tick(RUN, tile, end), time_us)

    def tally(self, name):
        """Counts of a comparison, closed and open tiles together."""
        tallies = [tile.tally for tile in self.closed if tile.comparison == name]
        tallies += self.fold.state.compared[name].tallies.values()
        total = tallies[0] if tallies else None
        for tally in tallies[1:]:
            total.add(tally)
        return total

    def classes(self, name):
        tally = self.tally(name)
        vector = tally.vectors.get(Key("all", "classes", ""), [0] * 6) if tally else [0] * 6
        return {each: count for each, count in zip(CLASSES, vector, strict=True) if count}


def test_the_main_tile_closes_without_people():
    """
    A tile of the main comparison closes while people have hours left, and theirs stays open.
    """
    trial = Trial(
        replace(EVERY, deadlines_us={k: v for k, v in EVERY.deadlines_us.items() if k != BASELINE_PRODUCTION})
    )
    trial.say(answer(trial.ask(1), 0, 1), 2)
    trial.tick(0, 1, 10 * SECOND)
    assert [CANDIDATE_PRODUCTION] == [tile.comparison for tile in trial.closed]
    assert {"paired": 1} == trial.classes(CANDIDATE_PRODUCTION)
    assert {} == trial.classes(CANDIDATE_HUMAN)


def test_a_human_answer_hours_later_makes_a_pair():
    """
    Three hours of log time later a person's answer is paired with the candidate's, in the request's own tile; what
    the pair needs is read again by its offsets.
    """
    trial = Trial()
    trial.say(answer(trial.ask(1, live_body=b"wrong"), 0, 1, body=b"right"), 2)
    trial.tick(0, 1, 10 * SECOND)
    trial.tick(1, 1, 3 * HOURS)
    assert trial.fold.state.waiting[0].is_parked
    assert [] == trial.reads
    effects = trial.say(answer(None, 0, 1, body=b"wrong, says the person", role="human"), 3 * HOURS)
    assert [[0]] == trial.reads
    assert {"paired": 1} == trial.classes(CANDIDATE_HUMAN)
    assert [0, 0, 1, 0] == trial.tally(CANDIDATE_HUMAN).vectors[Key("all", "graders", "correct")]
    assert [CANDIDATE_HUMAN] == [pair.comparison for pair in effects.pairs]
    # The next tick that counts closes the tile at once, since nothing is undecided in it.
    assert (0, CANDIDATE_HUMAN) in [(tile.number, tile.comparison) for tile in trial.closed]


def test_who_never_got_an_answer_of_a_person_is_missing_there():
    """
    After the deadline of people, a request without their answer is missing in their comparison only; an answer
    that comes later still is late.
    """
    trial = Trial()
    trial.say(answer(trial.ask(1), 0, 1), 2)
    trial.tick(0, 1, 10 * SECOND)
    trial.tick(1, 1, 6 * HOURS + 11 * SECOND)
    assert ({"paired": 1}, {"missing": 1}) == (trial.classes(CANDIDATE_PRODUCTION), trial.classes(CANDIDATE_HUMAN))
    trial.say(answer(None, 0, 1, role="human"), 6 * HOURS + 12 * SECOND)
    assert (1, 0) == (trial.fold.state.counters["late"], trial.fold.state.counters["duplicate"])
    assert {"missing": 1} == trial.classes(CANDIDATE_HUMAN)


def test_an_answer_too_late_for_production_is_in_time_for_people():
    """
    The candidate's answer that came after the main deadline is missing there and pairs with a person's.
    """
    trial = Trial()
    trial.ask(1)
    trial.tick(0, 1, 10 * SECOND)
    trial.tick(1, 1, 41 * SECOND)
    assert {"missing": 1} == trial.classes(CANDIDATE_PRODUCTION)
    trial.say(answer(None, 0, 1, role="human"), 42 * SECOND)
    trial.say(answer(trial.requests[0], 0, 1), 43 * SECOND)
    assert {"paired": 1} == trial.classes(CANDIDATE_HUMAN)
    assert 0 == trial.fold.state.counters["late"]


def test_only_asked_keys_wait_for_people():
    """
    A key that no person is asked about is sampled out there at once, and the others are not.
    """
    trial = Trial(replace(EVERY, rates={"human": 0.5}))
    keys = [trial.ask(number).key for number in range(1, 41)]
    for offset, exchange in trial.requests.items():
        trial.say(answer(exchange, offset, 1), 2)
    asked = sum(is_asked("human", key, 0.5) for key in keys)
    assert 0 < asked < 40
    assert {"sampled_out": 40 - asked} == trial.classes(CANDIDATE_HUMAN)
    assert asked == len(trial.fold.state.compared[CANDIDATE_HUMAN].open)


@pytest.mark.parametrize(
    ("production", "candidate", "baseline", "counted"),
    [
        (b"a", b"a", b"a", [0, 0, 1]),
        (b"a", b"b", b"a", [1, 0, 1]),
        (b"a", b"a", b"b", [0, 1, 1]),
        (b"a", b"b", b"c", [0, 0, 1]),
        (b"a  b", b" a b\n", b"a b", [0, 0, 1]),
    ],
)
def test_disagreement_is_held_against_the_baseline(production, candidate, baseline, counted):
    """
    Counted is the disagreement with production that candidate and baseline do not share, white space aside.
    """
    trial = Trial()
    exchange = trial.ask(1, live_body=production)
    trial.say(answer(exchange, 0, 1, body=candidate), 2)
    assert {} == trial.classes(BASELINE_PRODUCTION)
    trial.say(answer(exchange, 0, 1, body=baseline, role="baseline"), 3)
    assert {"paired": 1} == trial.classes(BASELINE_PRODUCTION)
    assert counted == trial.tally(BASELINE_PRODUCTION).vectors[Key("all", "agreement", "")]


def test_production_is_answered_by_a_worker_where_no_proxy_saw_it():
    """
    A copy without production's answer is paired with the answer that production's worker wrote once for all runs.
    """
    trial = Trial(SPEC)
    exchange = replace(trial.ask(1), live=None)
    trial.say(answer(exchange, 0, 1), 2)
    assert {} == trial.classes(CANDIDATE_PRODUCTION)
    trial.say(answer(exchange, 0, 1, role="production", run="*", body=b"wrong"), 3)
    assert {"paired": 1} == trial.classes(CANDIDATE_PRODUCTION)
    assert [0, 0, 1, 0] == trial.tally(CANDIDATE_PRODUCTION).vectors[Key("all", "graders", "correct")]


ROLE = st.sampled_from(["candidate", "baseline", "human", "production"])
EVENT = st.tuples(st.integers(0, 7), ROLE, st.sampled_from(["answered", "timeout", "expired"]), st.integers(0, 40))


@settings(max_examples=150, deadline=None)
@given(events=st.lists(EVENT, max_size=40), crashes=st.sets(st.integers(0, 60)), rate=st.sampled_from([0.5, 1.0]))
def test_a_crash_anywhere_changes_no_comparison(events, crashes, rate):
    """
    Whatever is loaded from a snapshot at any record counts the same in every comparison, parked requests included.
    """
    spec = replace(EVERY, rates={"human": rate, "baseline": rate})

    def run(crashes):
        trial = Trial(spec)
        exchanges = [trial.ask(number) for number in range(1, 9)]
        stored: dict[str, bytes] = {}
        time_us, tile = 1, 0

        def save():
            fields, dropped = fields_from_state(trial.fold.state, only_changed=bool(stored))
            for name in dropped:
                stored.pop(name, None)
            stored.update(fields)
            trial.fold.state.stored()

        def crash():
            state = state_from_fields(stored, spec)
            trial.fold = trial.fold_from(state)
            offsets = {o: request for request, w in state.waiting.items() if not w.is_parked for o in w.offsets}
            trial.fold.restore([(offsets[r.offset], r, c) for r, c in trial.read(sorted(offsets))])

        for index, (offset, role, outcome, step_s) in enumerate(events):
            time_us += step_s * SECOND
            while (tile + 1) * spec.tile_us <= time_us:
                trial.tick(tile, min(8, tile + 1), time_us)
                tile += 1
            reply = answer(exchanges[offset], offset, offset * SECOND, outcome=outcome, role=role)
            trial.say(reply if step_s % 3 else replace(reply, exchange=None), time_us)
            if index in crashes:
                save()
                crash()
        for extra in range(9):
            trial.tick(tile + extra, 8, time_us + 7 * HOURS + extra * spec.tile_us)
        return [(t.comparison, t.number, t.tally.to_bytes()) for t in trial.closed], trial.fold.state.counters

    undisturbed = run(set())
    assert undisturbed == run(crashes)
    decided = dict.fromkeys(spec.deadlines_us, 0)
    for name, _, value in undisturbed[0]:
        decided[name] += sum(Tally.from_bytes(value).vectors.get(Key("all", "classes", ""), ()))
    assert [8, 8, 8] == list(decided.values())


def test_a_request_that_no_record_carries_is_read_by_its_offset():
    """
    An answer without its request is paired at once with the answer that the request itself carries, whoever else asks.
    """
    trial = Trial()
    trial.ask(1)
    trial.say(answer(None, 0, 1), 2)
    assert {"paired": 1} == trial.classes(CANDIDATE_PRODUCTION)
    trial.say(answer(None, 0, 1, role="human"), 3)
    trial.say(answer(None, 0, 1, role="baseline"), 4)
    assert ({"paired": 1}, {"paired": 1}) == (trial.classes(CANDIDATE_HUMAN), trial.classes(BASELINE_PRODUCTION))


def test_a_request_in_no_class_or_in_two_is_unaccounted():
    """
    What was met is waited for or decided once, in every comparison; a decision too few or too many shows.
    """
    trial = Trial()
    for number in range(1, 4):
        trial.say(answer(trial.ask(number), number - 1, 1), 2)
    assert [0, 0, 0] == [trial.fold.state.unaccounted(name, 0) for name in EVERY.deadlines_us]
    trial.tick(0, 5, 10 * SECOND)
    trial.tick(1, 5, 8 * HOURS)
    trial.ask(4), trial.ask(5)
    assert [0, 0, 0] == [trial.fold.state.unaccounted(name, 0) for name in EVERY.deadlines_us]
    trial.fold.state.main.decided[0] += 1
    assert -1 == trial.fold.state.unaccounted(CANDIDATE_PRODUCTION, 0)
    trial.fold.state.met.add(5)
    assert 1 == trial.fold.state.unaccounted(CANDIDATE_HUMAN, 0)
