"""What the fold counts of live requests that a candidate served, by the decision under which they were routed."""

from __future__ import annotations

from dataclasses import replace

from shadow.records.answers import Tick
from shadow.records.decisions import decision_id
from shadow.records.policy import LiveStep, NoRegression
from shadow.records.tallies import BALANCE, Key
from shadow.stream.answer import is_asked
from shadow.stream.live import own, with_stage
from tests.stream.builders import RUN, SECOND, SPEC, AnswersLog, answer, fold_of, request

FIRST, SECOND_STEP, WATCH = (decision_id(RUN, step) for step in (1, 2, 3))
STEPS = {
    FIRST: LiveStep("canary", "canary-1", 0.1),
    SECOND_STEP: LiveStep("canary", "canary-2", 0.5),
    WATCH: LiveStep("watch", "watch", 1.0, 0.5),
}
LIVE = replace(SPEC, steps=STEPS, stage_slices=frozenset({"canary/search"}))
RULES = (NoRegression("correct"), NoRegression("correct", slice="canary/search"))


def routed(number, decision, *, role="candidate", body=b"right", failed=None, version="v2"):
    """A live request under a decision."""
    made = request(number, live_body=body)
    live = replace(made.live, role=role, version=version, decision_id=decision, failed_attempt=failed)
    return replace(made, live=live)


def folded(requests, answers, *, spec=LIVE):
    """The closed tile's tally of requests 0, 1 … with these (offset, role, body) answers."""
    log = AnswersLog()
    for offset, role, body in answers:
        run = "*" if role == "production" else RUN
        content = replace(answer(requests[offset], offset, SECOND, body=body), role=role, run=run)
        log.append(content, 2 * SECOND)
    log.append(Tick(RUN, 0, len(requests)), 10 * SECOND)
    log.append(Tick(RUN), 60 * SECOND)
    fold, closed = fold_of(requests, spec=spec, rules=RULES), []
    for record, content in log.records:
        closed += fold.apply(record, content).closed
    return closed[0].tally


def test_request_that_the_candidate_served_is_paired_by_productions_worker():
    """
    Production's worker answers it, and the pair counts in its slices, in those of the stage, and in the step's `all`.
    """
    tally = folded({0: routed(1, FIRST, body=b"wrong")}, [(0, "production", b"right")])

    paired = {key.slice for key, vector in tally.vectors.items() if key.kind == "classes" and vector[0] == 1}
    assert {"all", "search", "odd", "canary/all", "canary/search", "canary-1/all"} == paired
    assert [0, 1, 0, 0] == tally.vectors[Key("canary/search", "graders", "correct")]
    assert Key("canary/odd", "classes", "") not in tally.vectors


def test_request_that_production_served_counts_for_the_balance_alone():
    """
    Under a canary step, what production served is a pair of the shadow stage, and one of the step's requests.
    """
    requests = {0: routed(1, FIRST, role="production", version="v1"), 1: routed(2, FIRST), 2: routed(3, SECOND_STEP)}
    tally = folded(requests, [(0, "candidate", b"right"), (1, "production", b"right"), (2, "production", b"right")])

    assert [1, 2] == tally.vectors[Key("canary-1/all", "rates", BALANCE)]
    assert [1, 1] == tally.vectors[Key("canary-2/all", "rates", BALANCE)]
    assert 2 == tally.vectors[Key("canary/all", "classes", "")][0]
    assert 3 == tally.vectors[Key("all", "classes", "")][0]


def test_failed_attempt_is_the_candidates_failure():
    """
    A request that production served after the candidate had failed counts against the candidate in canary.
    """
    requests = {0: routed(1, FIRST, role="production", version="v1", failed="connection refused")}
    tally = folded(requests, [(0, "candidate", b"")])

    assert [0, 1, 0, 0] == tally.vectors[Key("all", "graders", "correct")]
    assert 1 == tally.vectors[Key("canary/all", "classes", "")][0]
    assert [1, 1] == tally.vectors[Key("canary-1/all", "rates", BALANCE)]


def test_another_runs_candidate_is_nobody():
    """
    What another run's candidate answered is no answer of this run: both roles are asked, and nothing is canary's.
    """
    other = decision_id("another-00000000-1", 1)
    requests = {0: routed(1, other, body=b"wrong", version="v3")}
    tally = folded(requests, [(0, "production", b"right"), (0, "candidate", b"right")])

    assert [1, 0, 0, 0] == tally.vectors[Key("all", "graders", "correct")]
    assert not any("canary" in key.slice for key in tally.vectors)


def test_another_runs_failed_attempt_is_not_this_candidates():
    """
    Production's live answer counts, and the failure of another run's candidate before it does not.
    """
    other = decision_id("another-00000000-1", 1)
    mine = own(routed(1, other, role="production", version="v1", failed="refused"), STEPS)
    assert (None, "production") == (mine.live.failed_attempt, mine.live.role)
    kept = routed(1, FIRST, role="production", failed="refused")
    assert own(kept, STEPS) is kept


def test_watch_asks_production_about_a_sample():
    """
    In watch, requests whose key production is not asked about are sampled out, in the watch's slices too.
    """
    requests = {offset: routed(offset + 1, WATCH) for offset in range(40)}
    asked = [offset for offset, each in requests.items() if is_asked("production", each.key, 0.5)]
    tally = folded(requests, [(offset, "production", b"right") for offset in asked])

    assert 0 < len(asked) < 40
    for slice in ("all", "watch/all"):
        vector = tally.vectors[Key(slice, "classes", "")]
        assert (len(asked), 40 - len(asked)) == (vector[0], vector[4])
    assert not any(key.slice.startswith("canary") or key.name == BALANCE for key in tally.vectors)


def test_stage_has_only_slices_that_a_rule_names():
    """
    `all` of stage and step is always there; another slice only where a rule of the stage reads it.
    """
    slices = with_stage(("all", "search", "odd"), STEPS[SECOND_STEP], {"canary/search"})
    assert ("all", "search", "odd", "canary/all", "canary/search", "canary-2/all") == slices
    assert ("odd",) == with_stage(("odd",), STEPS[SECOND_STEP], {"canary/search"})
