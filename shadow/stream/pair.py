"""Bring the two answers of one request together, and remember which requests are decided.

Pure. A role's answer comes from a worker's record, or from the exchange that any record of the request
carries, so a pair can be complete after a single record.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shadow.graders.grader import Graded
from shadow.records.answers import ERROR, Answer, RecordedGrade
from shadow.records.grades import Grade
from shadow.records.requests import MirroredRequest


@dataclass(slots=True)
class Waiting:
    """One undecided request of which at least one record was read.

    Args:
        tile: Tile of the request's append time.
        offsets: Answers offsets from which all the rest can be read again.
        exchange: The request, from the first record that carried it.
        answers: First answer by role.
        recorded: First recorded grade by (grader, role).
        marked_us: Append time of the first mark that a grade was asked for; None before it.
        mark_offset: Answers offset of that mark.
        graded: Grades that need no recording, once the pair is complete: by grader, then role.
        slices: Slices of the request, once the pair is complete.
        sides: Both answers as graders see them, by role, once the pair is complete.
        needs: (grader, role) of the recorded grades that a complete pair waits for; None while incomplete.
    """

    tile: int
    offsets: list[int] = field(default_factory=list)
    exchange: MirroredRequest | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    recorded: dict[tuple[str, str], Grade] = field(default_factory=dict)
    marked_us: int | None = None
    mark_offset: int = -1
    graded: dict[str, dict[str, Grade]] = field(default_factory=dict)
    slices: tuple[str, ...] | None = None
    sides: dict[str, Graded] = field(default_factory=dict)
    needs: set[tuple[str, str]] | None = None

    def has_role(self, role: str) -> bool:
        """Whether a role's answer is there, from a worker or from the live exchange."""
        if role in self.answers:
            return True
        live = self.exchange.live if self.exchange is not None else None
        return live is not None and (live.role == role or (role == "candidate" and live.failed_attempt is not None))

    def outcome_of(self, role: str) -> str:
        """Outcome of a role whose answer is there; a live attempt that failed before a fall-back is an error."""
        answer = self.answers.get(role)
        if answer is not None:
            return answer.outcome
        live = self.exchange.live if self.exchange is not None else None
        assert live is not None, "the role's answer is there"
        return live.outcome if live.role == role else ERROR

    def add_answer(self, answer: Answer, offset: int) -> None:
        """Keep the first answer of a role, and the exchange from the first record that carried it."""
        self.answers[answer.role] = answer
        if self.exchange is None:
            self.exchange = answer.exchange
        self.offsets.append(offset)

    def add_grade(self, record: RecordedGrade, offset: int) -> bool:
        """Keep the first recorded grade of a grader and role; False for a repeat."""
        if (record.grader, record.role) in self.recorded:
            return False
        self.recorded[record.grader, record.role] = Grade(record.outcome, record.score, record.reason)
        self.offsets.append(offset)
        return True

    def add_mark(self, time_us: int, offset: int) -> bool:
        """Keep the first mark that a grade was asked for; False for a repeat."""
        if self.marked_us is not None:
            return False
        self.marked_us, self.mark_offset = time_us, offset
        self.offsets.append(offset)
        return True

    @property
    def is_held(self) -> bool:
        """Whether the pair is complete and only waits for recorded grades."""
        return self.needs is not None


@dataclass(slots=True)
class Decided:
    """The decided request offsets: all below `base`, and the exceptions above it."""

    base: int
    above: set[int] = field(default_factory=set)

    def __contains__(self, offset: int) -> bool:
        return offset < self.base or offset in self.above

    def add(self, offset: int) -> None:
        """Mark one offset as decided."""
        self.above.add(offset)
        while self.base in self.above:
            self.above.remove(self.base)
            self.base += 1

    def undecided_below(self, end: int) -> list[int]:
        """Offsets below `end` that are not decided yet, ascending."""
        return [offset for offset in range(self.base, end) if offset not in self.above]
