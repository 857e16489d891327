"""Bring the answers to one request together, and remember which requests were met.

Pure. A role's answer comes from a worker's record, or from the exchange that any record of the request
carries, so a pair can be complete after a single record.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from shadow.graders.grader import Graded
from shadow.records.answers import ASKED, ERROR, Answer, RecordedGrade
from shadow.records.comparisons import CANDIDATE
from shadow.records.grades import Grade
from shadow.records.log import LogRecord
from shadow.records.requests import MirroredRequest


@dataclass(slots=True)
class Undecided:
    """What one comparison still waits for, of one request.

    Args:
        recorded: First recorded grade by (grader, role).
        marked_us: Append time of the first mark that a grade was asked for; None before it.
        mark_offset: Answers offset of that mark.
        graded: Grades that need no recording, once the pair is complete: by grader, then role.
        slices: Slices of the request, once the pair is complete.
        sides: The answers as graders see them, by role, once the pair is complete.
        needs: (grader, role) of the recorded grades that a complete pair waits for; None while incomplete.
    """

    recorded: dict[tuple[str, str], Grade] = field(default_factory=dict)
    marked_us: int | None = None
    mark_offset: int = -1
    graded: dict[str, dict[str, Grade]] = field(default_factory=dict)
    slices: tuple[str, ...] | None = None
    sides: dict[str, Graded] = field(default_factory=dict)
    needs: set[tuple[str, str]] | None = None

    def take(self, record: LogRecord, grade: RecordedGrade) -> bool:
        """Keep the first mark, and the first grade of each grader and role; False for a repeat."""
        if grade.outcome == ASKED:
            if self.marked_us is not None:
                return False
            self.marked_us, self.mark_offset = record.time_us, record.offset
            return True
        if (grade.grader, grade.role) in self.recorded:
            return False
        self.recorded[grade.grader, grade.role] = Grade(grade.outcome, grade.score, grade.reason)
        return True

    @property
    def is_held(self) -> bool:
        """Whether the pair is complete and only waits for recorded grades."""
        return self.needs is not None


@dataclass(slots=True)
class Waiting:
    """One request that was met, and that at least one comparison has not decided.

    Args:
        tile: Tile of the request's append time.
        offsets: Answers offsets from which all the rest can be read again.
        undecided: What each comparison waits for that has not decided the request.
        exchange: The request, from the first record that carried it.
        answers: First answer by role.
        is_parked: Whether exchange and answers were let go, to be read again by their offsets.
    """

    tile: int
    offsets: list[int] = field(default_factory=list)
    undecided: dict[str, Undecided] = field(default_factory=dict)
    exchange: MirroredRequest | None = None
    answers: dict[str, Answer] = field(default_factory=dict)
    is_parked: bool = False

    def has_role(self, role: str) -> bool:
        """Whether a role's answer is there, from a worker or from the live exchange."""
        if role in self.answers:
            return True
        live = self.exchange.live if self.exchange is not None else None
        return live is not None and (live.role == role or (role == CANDIDATE and live.failed_attempt is not None))

    def has_roles(self, roles: Iterable[str]) -> bool:
        """Whether the answers of all these roles are there."""
        for role in roles:  # noqa: SIM110 -- `all` takes 0.4 µs more for every record
            if not self.has_role(role):
                return False
        return True

    def outcome_of(self, role: str) -> str:
        """Outcome of a role whose answer is there; a live attempt that failed before a fall-back is an error."""
        answer = self.answers.get(role)
        if answer is not None:
            return answer.outcome
        live = self.exchange.live if self.exchange is not None else None
        assert live is not None, "the role's answer is there"
        return live.outcome if live.role == role else ERROR

    def add_answer(self, answer: Answer) -> None:
        """Keep the first answer of a role, and the exchange from the first record that carried it."""
        self.answers.setdefault(answer.role, answer)
        if self.exchange is None:
            self.exchange = answer.exchange

    def park(self) -> None:
        """Let go of everything that can be read again by the offsets."""
        self.exchange = None
        self.answers = {}
        self.undecided = {name: Undecided() for name in self.undecided}
        self.is_parked = True


@dataclass(slots=True)
class Offsets:
    """A set of request offsets that grows from the left: all below `base`, and the exceptions above it."""

    base: int
    above: set[int] = field(default_factory=set)

    def __contains__(self, offset: int) -> bool:
        return offset < self.base or offset in self.above

    def add(self, offset: int) -> None:
        """Add one offset."""
        if offset == self.base and not self.above:
            self.base += 1
            return
        self.above.add(offset)
        while self.base in self.above:
            self.above.remove(self.base)
            self.base += 1

    def absent_below(self, end: int) -> list[int]:
        """Offsets below `end` that are not in the set, ascending."""
        return [offset for offset in range(self.base, end) if offset not in self.above]
