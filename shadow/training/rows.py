"""Turn graded pairs into rows of training data, as `datasets` and TRL read them. Pure.

    pairs         prompt, both answers, and which is preferred; for analysis, and for formats of one's own
    sft           prompt and completion: the loss is on the answer alone
    messages      the same as one chat
    preference    prompt, chosen and rejected

Every row of a format has the same columns of the same types, since that is what Arrow can read; each carries the grades
and where it comes from.

Source: TRL, "Dataset formats and types": conversational prompt-completion, language modeling and preference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from shadow.records.answers import ANSWERED
from shadow.records.comparisons import CANDIDATE, CANDIDATE_HUMAN, CANDIDATE_PRODUCTION
from shadow.records.pairs import GradedPair
from shadow.training.judged import Judged
from shadow.training.texts import LeftOut, Message, answer_of, any_answer_of, any_prompt_of, prompt_of, shown_text

PAIRS: Final = "pairs"
SFT: Final = "sft"
MESSAGES: Final = "messages"
PREFERENCE: Final = "preference"
FORMATS: Final = (SFT, PREFERENCE, PAIRS, MESSAGES)

FAILED: Final = "failed"
DISAGREEING: Final = "disagreeing"
CORRECTED: Final = "corrected"
ALL: Final = "all"
CHOICES: Final = (FAILED, DISAGREEING, CORRECTED, ALL)

COMPARISONS: Final = (CANDIDATE_PRODUCTION, CANDIDATE_HUMAN)
"""Comparisons whose pairs are two answers to learn from; a baseline's pair shows the main one's answers again."""

NO_PREFERENCE: Final = "no preference"
NO_RIGHT_ANSWER: Final = "no answer that is known to be right"
NO_ANSWER: Final = "no answer"
SAME_ANSWERS: Final = "twice the same answer"

_TEXTS: Final = {
    PAIRS: ("prompt", "reference_role", "reference", "candidate"),
    SFT: ("prompt", "completion"),
    MESSAGES: ("messages",),
    PREFERENCE: ("prompt", "chosen", "rejected"),
}
"""Columns by which rows are the same."""
_LINE_ENDS: Final = tuple((mark.encode(), b"\\u%04x" % ord(mark)) for mark in "\x85\u2028\u2029")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the pairs of an export come from.

    Args:
        configuration: Digest of the run's configuration.
        versions: Of each grader, `kind/version`.
    """

    run: str
    configuration: str
    production: str
    candidate: str
    versions: Mapping[str, str]


def is_chosen(judged: Judged, only: str | None) -> bool:
    """Whether a pair is of the wanted kind.

    Args:
        only: One of `CHOICES`; None for failed, disagreeing and corrected pairs together.
    """
    is_of = {
        FAILED: bool(judged.failed),
        DISAGREEING: bool(judged.worse or judged.better),
        CORRECTED: judged.is_corrected,
        ALL: True,
    }
    return is_of[only] if only is not None else is_of[FAILED] or is_of[DISAGREEING] or is_of[CORRECTED]


def row_of(pair: GradedPair, judged: Judged, source: Source, format: str) -> dict[str, Any]:
    """The row of a pair.

    Args:
        format: One of `FORMATS`.

    Raises:
        LeftOut: If the pair gives none.
    """
    if format == PAIRS:
        return _pair_row(pair, judged, source)
    if format == PREFERENCE:
        return _preference_row(pair, judged, source)
    return _learnt_row(pair, judged, source, format)


def digest_of(row: Mapping[str, Any], format: str) -> bytes:
    """Digest of a row's prompt and answers, 16 bytes: equal for rows that say the same."""
    texts = [row[column] for column in _TEXTS[format]]
    return hashlib.blake2b(orjson.dumps(texts), digest_size=16).digest()


def _pair_row(pair: GradedPair, judged: Judged, source: Source) -> dict[str, Any]:
    prompt = any_prompt_of(pair.request_body)
    return {
        "prompt": prompt.trees(),
        "request": shown_text(pair.request_body),
        "reference_role": judged.reference,
        "reference": any_answer_of(pair.production_body),
        "reference_outcome": pair.production_outcome,
        "candidate": any_answer_of(pair.candidate_body),
        "candidate_outcome": pair.candidate_outcome,
        **_origin(pair, judged, source, prompt.source, judged.right),
    }


def _preference_row(pair: GradedPair, judged: Judged, source: Source) -> dict[str, Any]:
    if not judged.preferred:
        raise LeftOut(NO_PREFERENCE)
    prompt = prompt_of(pair.request_body)
    reference, candidate = _answer(pair, judged.reference), _answer(pair, CANDIDATE)
    if reference == candidate:
        raise LeftOut(SAME_ANSWERS)
    chosen, rejected = (candidate, reference) if judged.preferred == CANDIDATE else (reference, candidate)
    return {
        "prompt": prompt.trees(),
        "chosen": [chosen.tree()],
        "rejected": [rejected.tree()],
        **_origin(pair, judged, source, prompt.source, judged.preferred),
    }


def _learnt_row(pair: GradedPair, judged: Judged, source: Source, format: str) -> dict[str, Any]:
    if not judged.right:
        raise LeftOut(NO_RIGHT_ANSWER)
    prompt, answer = prompt_of(pair.request_body), _answer(pair, judged.right)
    origin = _origin(pair, judged, source, prompt.source, judged.right)
    if format == MESSAGES:
        return {"messages": [*prompt.trees(), answer.tree()], **origin}
    return {"prompt": prompt.trees(), "completion": [answer.tree()], **origin}


def _answer(pair: GradedPair, role: str) -> Message:
    is_candidate = role == CANDIDATE
    if (pair.candidate_outcome if is_candidate else pair.production_outcome) != ANSWERED:
        raise LeftOut(NO_ANSWER)
    return answer_of(pair.candidate_body if is_candidate else pair.production_body)


def _origin(pair: GradedPair, judged: Judged, source: Source, prompt_from: str, learnt: str) -> dict[str, Any]:
    """Slices, grades, and where a row comes from. Nothing but grades may be null, or Arrow cannot tell its type."""
    return {
        "slices": list(pair.slices),
        "grades": grade_rows(pair, source.versions),
        "provenance": {
            "run": source.run,
            "configuration": source.configuration,
            "production": source.production,
            "candidate": source.candidate,
            "comparison": pair.comparison,
            "request_id": pair.request_id,
            "partition": pair.request_partition,
            "offset": pair.request_offset,
            "prompt_from": prompt_from,
            "answer_of": learnt,
            "preferred": judged.preferred,
            "preferred_by": ", ".join(judged.preferred_by),
        },
    }


def grade_rows(pair: GradedPair, versions: Mapping[str, str]) -> list[dict[str, Any]]:
    """The grades of a pair, one a grader and role, in the order of their names."""
    return [
        {
            "grader": grader,
            "version": versions.get(grader, ""),
            "role": role,
            "outcome": grade.outcome,
            "score": grade.score,
            "reason": grade.reason,
        }
        for grader, by_role in sorted(pair.grades.items())
        for role, grade in sorted(by_role.items())
    ]


def line_of(row: Mapping[str, Any]) -> bytes:
    """A row as one line, also for readers that take Unicode's line ends for such."""
    line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
    for mark, escape in _LINE_ENDS:
        line = line.replace(mark, escape)
    return line


def superseded(format: str, comparisons: Sequence[str]) -> frozenset[str]:
    """Which of one request's rows another one of them replaces: a person's answer is the one to learn.

    Args:
        comparisons: Of the request's rows.
    """
    is_learnt = format in (SFT, MESSAGES) and CANDIDATE_HUMAN in comparisons
    return frozenset(comparisons) - {CANDIDATE_HUMAN} if is_learnt else frozenset()
