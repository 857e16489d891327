"""Say whether two answers differ, and count by how much more the candidate's does than production's own second one.

Pure. A failed call has no value, so it differs from everything; where production's call failed, both differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shadow.bodies import NOT_JSON, Unreadable, inflated, json_of
from shadow.graders.graded import Graded
from shadow.graders.tag import content_of
from shadow.jsonpath import JsonPath
from shadow.records.answers import ANSWERED
from shadow.records.policy import Agreement
from shadow.records.tallies import Key, Tally


def count_agreement(
    tally: Tally,
    rules: Sequence[Agreement],
    slices: Sequence[str],
    cell: int,
    *,
    production: Graded,
    candidate: Graded,
    baseline: Graded,
) -> None:
    """Count one request that production, candidate and baseline have answered, in every rule's slice.

    Args:
        slices: Slices in which the request counts.
        cell: Cluster cell of its sampling key.
    """
    for rule in rules:
        if rule.slice not in slices:
            continue
        reference = value_of(rule, production)
        candidate_differs, baseline_differs = (
            reference is None or value_of(rule, answer) != reference for answer in (candidate, baseline)
        )
        key = Key(rule.slice, "agreement", rule.statistic)
        vector = tally.vector(key)
        vector[0] += candidate_differs and not baseline_differs
        vector[1] += baseline_differs and not candidate_differs
        vector[2] += 1
        values = tally.cell(key, cell)
        values[0] += 1
        values[1] += candidate_differs - baseline_differs


def value_of(rule: Agreement, answer: Graded) -> Any | None:
    """What a rule compares of an answer; None where there is nothing, which agrees with nothing."""
    if answer.outcome != ANSWERED:
        return None
    try:
        if rule.json is not None:
            document = json_of(inflated(answer.body, answer.headers))
            found = [] if document is NOT_JSON else list(JsonPath(rule.json).values(document))
            return found or None
        text: str | None = answer.text()
    except Unreadable:
        return None
    if rule.tag is not None:
        text = content_of(text or "", rule.tag)
    return None if text is None else " ".join(text.split())
