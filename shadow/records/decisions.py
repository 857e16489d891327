"""What stands in `shadow-decisions`: how runs begin, what was decided, what people ordered. Kafka is the truth."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

NAMESPACE: Final = uuid.UUID("6b0f2c1e-7a43-5d2b-9c8e-5f1d0a7e4c36")
"""Namespace of decision ids."""

PROMOTE: Final = "promote"
HOLD: Final = "hold"
ROLLBACK: Final = "rollback"
EXPIRE: Final = "expire"
RESUME: Final = "resume"
EXTEND: Final = "extend"

COMMANDS: Final = (HOLD, RESUME, PROMOTE, ROLLBACK, EXTEND)
"""What a person, or an alert, may order."""

DONE: Final = "done"
ROLLED_BACK: Final = "rolled_back"
EXPIRED: Final = "expired"
FINAL_STAGES: Final = (DONE, ROLLED_BACK, EXPIRED)
"""Stages in which nothing is decided any more."""


def decision_id(run: str, step: int) -> str:
    """Id of a run's step: the same on every node, so that a repeat can be told, and known before the decision is."""
    return str(uuid.uuid5(NAMESPACE, f"{run}/{step}"))


@dataclass(frozen=True, slots=True)
class Started:
    """A run begins.

    Args:
        run: Candidate, configuration digest and attempt, `[a-z0-9-]{1,64}`.
        attempt: 1 for the first run of this candidate against this production.
        digest: Digest of the configuration, 64 hexadecimal digits.
        tile_us: Length of a tile.
        first_tile: Number of the first tile, the same for every partition.
        answers_from: First answers offset of each partition that belongs to the run; read before `requests_from`.
        requests_from: First request offset of each partition that belongs to the run.
        started_us: By the starter's clock.
        is_log_append_time: Whether the broker stamps records itself.
    """

    run: str
    attempt: int
    candidate: str
    production: str
    digest: str
    stage: str
    tile_us: int
    first_tile: int
    answers_from: tuple[int, ...]
    requests_from: tuple[int, ...]
    started_us: int
    expires_us: int
    is_log_append_time: bool = True


@dataclass(frozen=True, slots=True)
class Routing:
    """Which live requests the candidate serves after a decision.

    Args:
        share: Of the sessions, in [0, 1].
        salt: Chooses them, independently of other runs.
        upstream: Where the candidate serves, `http://host:port`.
    """

    share: float
    salt: str
    upstream: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A stage transition, once per run and step.

    Args:
        decision_id: uuid5 of run and step.
        step: Ordinal of the transition within the run, 1 for the first; 0 for the offline stage, before `Started`.
        decision: `promote`, `rollback` or `expire`; `hold` of the offline stage alone.
        tile: Newest tile on which it rests.
        tiles_digest: Digest of all tiles folded, 64 hexadecimal digits.
        positions: Answers offset up to which each partition was folded when its tile closed.
        culprits: Rules to blame, worst first.
        reason: One sentence with the numbers.
        evidence: The evidence and judgement as JSON (design.md, section 15).
        routing: None: production serves everything.
        command_id: The person's command that it obeys; empty where the evidence decided.
    """

    decision_id: str
    run: str
    step: int
    decision: str
    from_stage: str
    to_stage: str
    tile: int
    tiles_digest: str
    positions: tuple[int, ...]
    culprits: tuple[str, ...]
    reason: str
    evidence: str
    decided_us: int
    routing: Routing | None = None
    command_id: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """An order about a run, by a person or an alert; the audit of who did what, and why.

    Args:
        command_id: UUID; an alert's is made of the alert, so that a repeat is the same one.
        command: `hold`, `resume`, `promote`, `rollback` or `extend`.
        by: Name of who gave it, 1 to 64 characters.
        given_us: By the giver's clock.
        override: Of a promotion: that the gate's own proof is not waited for.
        for_s: Of an extension: by how many seconds; else 0.
        confirms: Id of the promotion that this one confirms as the second person; else empty.
    """

    command_id: str
    run: str
    command: str
    by: str
    reason: str
    given_us: int
    override: bool = False
    for_s: int = 0
    confirms: str = ""


@dataclass(frozen=True, slots=True)
class Obeyed:
    """The gate took a hold, a resume or an extension over; written once for each, by the gate.

    Args:
        tile: First tile that is judged with it, so that a replay does the same.
        obeyed_us: By the gate's clock.
    """

    command_id: str
    run: str
    tile: int
    obeyed_us: int


DecisionsRecord = Started | Decision | Command | Obeyed
