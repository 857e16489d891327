"""Turn records into the rows that Avro writes, and rows into records, refusing what no writer of ours makes.

A row is a dict with exactly the record's fields. The checks are those on which the fold, the gate and the
metrics rely: known outcomes, offsets and counts that are not negative, finite numbers in their ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import isfinite
from operator import attrgetter
from typing import Any, Final

from shadow.adapters.avro_parts import Unusual
from shadow.adapters.pair_writer import pair_bytes
from shadow.adapters.request_writer import request_bytes
from shadow.errors import InvalidRecord
from shadow.records.answers import ASKED, OUTCOMES, Answer, Feedback, RecordedGrade, Report, Tick
from shadow.records.dead_letters import DeadLetter
from shadow.records.decisions import (
    COMMANDS,
    EXPIRE,
    EXTEND,
    HOLD,
    PROMOTE,
    ROLLBACK,
    Command,
    Decision,
    Obeyed,
    Routing,
    Started,
)
from shadow.records.grades import BROKEN, FAILED, NOT_APPLICABLE, PASSED, Grade
from shadow.records.made import maker
from shadow.records.pairs import GradedPair
from shadow.records.requests import Live, MirroredRequest, Origin
from shadow.records.tallies import CELLS
from shadow.records.votes import REASON_CHARACTERS_MAX, REQUEST_ID_CHARACTERS_MAX, VERDICTS

Row = dict[str, Any]

_OUTCOMES: Final = frozenset(OUTCOMES)
_GRADES: Final = frozenset({PASSED, FAILED, NOT_APPLICABLE, BROKEN})
_RECORDED: Final = _GRADES | {ASKED}
_VERDICTS: Final = frozenset(VERDICTS)
_DECISIONS: Final = frozenset({PROMOTE, HOLD, ROLLBACK, EXPIRE})
_COMMANDS: Final = frozenset(COMMANDS)


def _names(record: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(record))


def _refuse(name: str, value: object, right: str) -> InvalidRecord:
    return InvalidRecord(f"{name} is {value!r}, not {right}")


def _known(name: str, value: str, allowed: frozenset[str]) -> None:
    if value not in allowed:
        raise _refuse(name, value[:80], "one of " + ", ".join(sorted(allowed)))


def _not_negative(row: Row, *names: str) -> None:
    for name in names:
        if row[name] < 0:
            raise _refuse(name, row[name], "0 or more")


def _count32(row: Row, *names: str) -> None:
    """Other readers of an Avro `int` refuse more than 32 bits; ours would not notice."""
    for name in names:
        if not 0 <= row[name] < 2**31:
            raise _refuse(name, row[name], "0 or more and below 2^31")


def _ordinal(row: Row, name: str) -> None:
    if not 1 <= row[name] < 2**31:
        raise _refuse(name, row[name], "1 or more and below 2^31")


def _finite(name: str, value: float | None) -> None:
    if value is not None and not isfinite(value):
        raise _refuse(name, value, "a finite number")


def _mapping(value: Mapping[str, Any]) -> dict[str, Any]:
    return value if type(value) is dict else dict(value)


_ORIGIN: Final = _names(Origin)
_LIVE: Final = _names(Live)
_REQUEST: Final = _names(MirroredRequest)
_ANSWER: Final = _names(Answer)
_get_origin: Final = attrgetter(*_ORIGIN)
_get_live: Final = attrgetter(*_LIVE)
_get_request: Final = attrgetter(*_REQUEST)
_get_answer: Final = attrgetter(*_ANSWER)
_make_origin: Final = maker(Origin)
_make_live: Final = maker(Live)
_make_request: Final = maker(MirroredRequest)
_make_answer: Final = maker(Answer)


def _check_request(row: Row) -> None:
    if not row["key"]:
        raise InvalidRecord("key is empty, so the request has no partition of its own")
    if not 0.0 <= row["u"] < 1.0:
        raise _refuse("u", row["u"], "in [0, 1)")
    if not 0.0 < row["sample"] <= 1.0:
        raise _refuse("sample", row["sample"], "in (0, 1]")
    for name, rate in row["quotas"].items():
        if not 0.0 < rate <= 1.0:
            raise _refuse(f"the quota of {name[:80]!r}", rate, "in (0, 1]")
    origin = row["origin"]
    if origin["sequence"] < 0 or origin["seen"] < 0:
        _not_negative(origin, "sequence", "seen")
    live = row["live"]
    if live is not None:
        if live["outcome"] not in _OUTCOMES:
            _known("live.outcome", live["outcome"], _OUTCOMES)
        if live["first_byte_us"] < 0 or live["duration_us"] < 0 or live["gap_us"] < 0:
            _not_negative(live, "first_byte_us", "duration_us", "gap_us")
        _count32(live, "status")


def _check_answer(row: Row) -> None:
    if row["outcome"] not in _OUTCOMES:
        _known("outcome", row["outcome"], _OUTCOMES)
    _count32(row, "request_partition", "status")
    _not_negative(
        row,
        "request_offset",
        "first_byte_us",
        "duration_us",
        "prompt_tokens",
        "completion_tokens",
        "cost_micro",
    )
    if row["exchange"] is not None:
        _check_request(row["exchange"])


def _is_sound_request(request: MirroredRequest) -> bool:
    """Whether `_check_request` would let it pass, in one go."""
    origin, live = request.origin, request.live
    return (
        request.key != ""
        and 0.0 <= request.u < 1.0
        and 0.0 < request.sample <= 1.0
        and origin.sequence >= 0
        and origin.seen >= 0
        and (
            live is None
            or (
                live.outcome in _OUTCOMES
                and 0 <= live.status < 2**31
                and live.first_byte_us >= 0
                and live.gap_us >= 0
                and live.duration_us >= 0
            )
        )
        and (not request.quotas or all(0.0 < rate <= 1.0 for rate in request.quotas.values()))
    )


def _sound_request_bytes(request: MirroredRequest) -> bytes:
    if not _is_sound_request(request):
        raise Unusual
    return request_bytes(request)


def _is_sound_answer(answer: Answer) -> bool:
    """Whether `_check_answer` would let it pass, in one go."""
    return (
        answer.outcome in _OUTCOMES
        and 0 <= answer.request_partition < 2**31
        and 0 <= answer.status < 2**31
        and answer.request_offset >= 0
        and answer.first_byte_us >= 0
        and answer.duration_us >= 0
        and answer.prompt_tokens >= 0
        and answer.completion_tokens >= 0
        and answer.cost_micro >= 0
        and (answer.exchange is None or _is_sound_request(answer.exchange))
    )


def _request_row(record: MirroredRequest) -> Row:
    row = dict(zip(_REQUEST, _get_request(record), strict=True))
    row["headers"] = _mapping(record.headers)
    row["quotas"] = _mapping(record.quotas)
    origin = row["origin"] = dict(zip(_ORIGIN, _get_origin(record.origin), strict=True))
    origin["dropped"] = _mapping(record.origin.dropped)
    if record.live is not None:
        live = dict(zip(_LIVE, _get_live(record.live), strict=True))
        live["headers"] = _mapping(record.live.headers)
        row["live"] = live
    return row


def _request(row: Row) -> MirroredRequest:
    row["origin"] = _make_origin(**row["origin"])
    if row["live"] is not None:
        row["live"] = _make_live(**row["live"])
    return _make_request(**row)


def _answer_row(record: Answer) -> Row:
    row = dict(zip(_ANSWER, _get_answer(record), strict=True))
    row["headers"] = _mapping(record.headers)
    if record.exchange is not None:
        row["exchange"] = _request_row(record.exchange)
    return row


def _answer(row: Row) -> Answer:
    if row["exchange"] is not None:
        row["exchange"] = _request(row["exchange"])
    return _make_answer(**row)


def _check_tick(row: Row) -> None:
    _not_negative(row, "requests_end")
    if row["tile"] is not None:
        _not_negative(row, "tile")


def _check_recorded_grade(row: Row) -> None:
    _known("outcome", row["outcome"], _RECORDED)
    _not_negative(row, "request_offset")
    _finite("score", row["score"])


def _check_report(row: Row) -> None:
    _not_negative(row, "sequence", "seen")


def _check_feedback(row: Row) -> None:
    _count32(row, "request_partition")
    _known("verdict", row["verdict"], _VERDICTS)
    if not 0 <= row["cell"] < CELLS:
        raise _refuse("cell", row["cell"], f"0 or more and below {CELLS}")
    if not 1 <= len(row["request_id"]) <= REQUEST_ID_CHARACTERS_MAX:
        raise _refuse("request_id", row["request_id"][:80], f"1 to {REQUEST_ID_CHARACTERS_MAX} characters long")
    if len(row["reason"]) > REASON_CHARACTERS_MAX:
        raise InvalidRecord(f"reason has {len(row['reason']):,} characters, not at most {REASON_CHARACTERS_MAX}")


def _pair_row(record: GradedPair) -> Row:
    row = _flat_row(record)
    row["grades"] = {
        grader: {
            role: {"outcome": grade.outcome, "score": grade.score, "reason": grade.reason}
            for role, grade in by_role.items()
        }
        for grader, by_role in record.grades.items()
    }
    return row


def _pair(row: Row) -> GradedPair:
    row["slices"] = tuple(row["slices"])
    row["grades"] = {
        grader: {role: Grade(**grade) for role, grade in by_role.items()} for grader, by_role in row["grades"].items()
    }
    return GradedPair(**row)


def _check_pair(row: Row) -> None:
    _known("production_outcome", row["production_outcome"], _OUTCOMES)
    _known("candidate_outcome", row["candidate_outcome"], _OUTCOMES)
    _count32(row, "request_partition")
    _not_negative(row, "request_offset")
    for by_role in row["grades"].values():
        for grade in by_role.values():
            _known("grade", grade["outcome"], _GRADES)
            _finite("score", grade["score"])


def _check_offsets(name: str, offsets: list[int]) -> None:
    for offset in offsets:
        if offset < 0:
            raise _refuse(f"an offset in {name}", offset, "0 or more")


def _started(row: Row) -> Started:
    row["answers_from"] = tuple(row["answers_from"])
    row["requests_from"] = tuple(row["requests_from"])
    return Started(**row)


def _check_started(row: Row) -> None:
    if row["tile_us"] <= 0:
        raise _refuse("tile_us", row["tile_us"], "more than 0")
    _ordinal(row, "attempt")
    _check_offsets("answers_from", row["answers_from"])
    _check_offsets("requests_from", row["requests_from"])
    if len(row["answers_from"]) != len(row["requests_from"]):
        raise InvalidRecord(
            f"answers_from names {len(row['answers_from'])} partitions and requests_from {len(row['requests_from'])}; "
            "requests and answers have equally many"
        )


def _decision_row(decision: Decision) -> Row:
    routing = decision.routing
    return _flat_row(decision) | {"routing": None if routing is None else _flat_row(routing)}


def _decision(row: Row) -> Decision:
    row["routing"] = None if row["routing"] is None else Routing(**row["routing"])
    row["positions"] = tuple(row["positions"])
    row["culprits"] = tuple(row["culprits"])
    return Decision(**row)


def _check_decision(row: Row) -> None:
    _known("decision", row["decision"], _DECISIONS)
    if row["from_stage"] != "offline":
        _ordinal(row, "step")
    elif row["step"] != 0:
        raise _refuse("step", row["step"], "0, since the offline stage is before the run's first step")
    _check_offsets("positions", row["positions"])
    if row["routing"] is not None and not 0.0 <= row["routing"]["share"] <= 1.0:
        raise _refuse("share", row["routing"]["share"], "from 0 to 1")


def _check_command(row: Row) -> None:
    _known("command", row["command"], _COMMANDS)
    for name in ("command_id", "run", "by", "reason"):
        if not row[name]:
            raise InvalidRecord(f"{name} is empty: a command needs a run, a name and a reason")
    if (row["command"] == EXTEND) != (row["for_s"] > 0):
        raise _refuse("for_s", row["for_s"], f"of a command {row['command']}")


def _check_obeyed(row: Row) -> None:
    if not row["command_id"]:
        raise InvalidRecord("command_id is empty, so nothing was obeyed")


def _check_dead_letter(row: Row) -> None:
    _count32(row, "partition")
    _not_negative(row, "offset")


def _flat_row(record: Any) -> Row:
    """Fields by name; mappings become dicts, since Avro's writer takes nothing else."""
    return {
        field.name: dict(value) if isinstance(value := getattr(record, field.name), Mapping) else value
        for field in fields(record)
    }


@dataclass(frozen=True, slots=True)
class Shape:
    """How one kind of record goes in and out of Avro.

    Args:
        record: The record's class; its name is the schema's.
        to_row: Record to a fresh row.
        from_row: Row to record; the row is used up.
        check: Raises InvalidRecord for a row that no writer of ours makes.
        fast_bytes: Writes the Avro binary of a usual record; raises for any other one.
        is_sound: Whether a record would pass `check`; where it is given, a compiled reader makes the record.
    """

    record: type[Any]
    to_row: Callable[[Any], Row]
    from_row: Callable[[Row], Any]
    check: Callable[[Row], None]
    fast_bytes: Callable[[Any], bytes] | None = None
    is_sound: Callable[[Any], bool] | None = None


SHAPES: Final = (
    Shape(MirroredRequest, _request_row, _request, _check_request, _sound_request_bytes, _is_sound_request),
    Shape(Answer, _answer_row, _answer, _check_answer, is_sound=_is_sound_answer),
    Shape(Tick, _flat_row, lambda row: Tick(**row), _check_tick),
    Shape(RecordedGrade, _flat_row, lambda row: RecordedGrade(**row), _check_recorded_grade),
    Shape(Report, _flat_row, lambda row: Report(**row), _check_report),
    Shape(Feedback, _flat_row, lambda row: Feedback(**row), _check_feedback),
    Shape(GradedPair, _pair_row, _pair, _check_pair, pair_bytes),
    Shape(Started, _flat_row, _started, _check_started),
    Shape(Decision, _decision_row, _decision, _check_decision),
    Shape(Command, _flat_row, lambda row: Command(**row), _check_command),
    Shape(Obeyed, _flat_row, lambda row: Obeyed(**row), _check_obeyed),
    Shape(DeadLetter, _flat_row, lambda row: DeadLetter(**row), _check_dead_letter),
)
"""Every record that stands in a topic."""

RECORDS: Final = {record.__name__: record for record in (*(shape.record for shape in SHAPES), Origin, Live, Routing)}
"""Every record that has a schema, by its name; those within others too."""
