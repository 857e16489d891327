"""Graded pairs for tests, and strategies that draw them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from shadow.records.answers import OUTCOMES
from shadow.records.comparisons import CANDIDATE, CANDIDATE_HUMAN, CANDIDATE_PRODUCTION, HUMAN, PRODUCTION
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, PASSED, Grade
from shadow.records.pairs import GradedPair
from shadow.training.rows import Source

RUN = "candidate-00000000-1"
SOURCE = Source(RUN, "0" * 64, "v1", "v2", {"correct": "numeric/1", "tagged": "answer_tag/1"})
GRADERS = frozenset({"correct", "tagged"})


def chat(*texts: str) -> bytes:
    """An OpenAI-style request of one user."""
    messages = [{"role": "user", "content": text} for text in texts]
    return json.dumps({"model": "m", "messages": messages, "metadata": {"answer": "4"}}).encode()


def completion(text: str | None, **message: Any) -> bytes:
    """An OpenAI-style answer."""
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text, **message}}]}).encode()


def grades(reference: str = PRODUCTION, **outcomes: tuple[str, str]) -> dict[str, dict[str, Grade]]:
    """Grades by grader, each of the reference and of the candidate."""
    return {
        name: {reference: Grade(theirs), CANDIDATE: Grade(ours)} for name, (theirs, ours) in sorted(outcomes.items())
    }


PAIR = GradedPair(
    run=RUN,
    comparison=CANDIDATE_PRODUCTION,
    request_partition=0,
    request_offset=0,
    request_id="request-0",
    key="key",
    tile=0,
    slices=("all",),
    grades={},
    request_body=chat("twice 2?"),
    production_outcome="answered",
    production_body=completion("4"),
    production_duration_us=1000,
    production_cost_micro=10,
    candidate_outcome="answered",
    candidate_body=completion("5"),
    candidate_duration_us=1000,
    candidate_cost_micro=10,
)


def pair_of(offset: int = 0, *, human: bool = False, graded: dict[str, tuple[str, str]] | None = None, **changes: Any):
    """A pair whose candidate is wrong, unless said otherwise.

    Args:
        graded: Outcomes of the reference and the candidate, by grader.
    """
    made = grades(HUMAN if human else PRODUCTION, **(graded or {"correct": (PASSED, FAILED)}))
    comparison = CANDIDATE_HUMAN if human else CANDIDATE_PRODUCTION
    own = {"comparison": comparison, "request_offset": offset, "request_id": f"request-{offset}", "grades": made}
    return replace(PAIR, **(own | changes))


TEXTS = st.sampled_from(["twice 2?", "twice 3?", "", "\x1b[2J", "»π«", "\U0001f600"])
BODIES = st.one_of(
    TEXTS.map(chat),
    TEXTS.map(completion),
    TEXTS.map(str.encode),
    st.binary(max_size=40),
    st.just(completion(None, tool_calls=[{"id": "1"}])),
)
OUTCOMES_OF_GRADES = st.sampled_from([PASSED, FAILED, NOT_APPLICABLE, BROKEN])


@st.composite
def pairs(draw: st.DrawFn) -> GradedPair:
    """Any pair that a comparator may write."""
    is_human = draw(st.booleans())
    reference = HUMAN if is_human else PRODUCTION
    graded = {}
    for name in draw(st.lists(st.sampled_from(["correct", "tagged", "reward"]), unique=True)):
        scores = st.none() | st.floats(0, 1)
        graded[name] = {
            role: Grade(draw(OUTCOMES_OF_GRADES), draw(scores), draw(TEXTS)) for role in (reference, CANDIDATE)
        }
    return replace(
        PAIR,
        comparison=CANDIDATE_HUMAN if is_human else CANDIDATE_PRODUCTION,
        request_partition=draw(st.integers(0, 2)),
        request_offset=draw(st.integers(0, 9)),
        slices=draw(st.sampled_from([("all",), ("all", "even"), ("even",), ()])),
        grades=graded,
        request_body=draw(BODIES),
        production_outcome=draw(st.sampled_from(OUTCOMES)),
        production_body=draw(BODIES),
        candidate_outcome=draw(st.sampled_from(OUTCOMES)),
        candidate_body=draw(BODIES),
    )
