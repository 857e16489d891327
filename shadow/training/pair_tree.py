"""A graded pair as JSON for people and programs: what was asked, both answers, and every grade. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shadow.records.comparisons import CANDIDATE, ROLES_BY_COMPARISON
from shadow.records.pairs import GradedPair
from shadow.training.rows import grade_rows
from shadow.training.texts import any_answer_of, any_prompt_of


def pair_tree(pair: GradedPair, versions: Mapping[str, str]) -> dict[str, Any]:
    """A pair, whole.

    Args:
        versions: Of each grader, `kind/version`.
    """
    return {
        "position": f"{pair.request_partition}/{pair.request_offset}",
        "request_id": pair.request_id,
        "comparison": pair.comparison,
        "slices": list(pair.slices),
        "prompt": any_prompt_of(pair.request_body).trees(),
        "answers": [
            {
                "role": ROLES_BY_COMPARISON[pair.comparison][0],
                "outcome": pair.production_outcome,
                "text": any_answer_of(pair.production_body),
                "duration_us": pair.production_duration_us,
                "cost_micro": pair.production_cost_micro,
            },
            {
                "role": CANDIDATE,
                "outcome": pair.candidate_outcome,
                "text": any_answer_of(pair.candidate_body),
                "duration_us": pair.candidate_duration_us,
                "cost_micro": pair.candidate_cost_micro,
            },
        ],
        "grades": grade_rows(pair, versions),
    }
