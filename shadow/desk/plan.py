"""Which requests of a run people are asked, and until when their answers count. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shadow.records.comparisons import CANDIDATE_HUMAN, ROLES_BY_COMPARISON
from shadow.records.decisions import Started
from shadow.stream.answer import is_asked


@dataclass(frozen=True, slots=True)
class DeskPlan:
    """What the desk must know of a run.

    Args:
        started: How the run began.
        requests_topic: Where the requests stand.
        answers_topic: Where their answers go.
        rates: Share of the sampling keys for which a role is asked; 1 where it is not named.
        deadline_us: How long after a tile's end people may answer its requests.
        body_bytes_max: Largest answer.
        ended: How the run ended, as a word; empty while it goes on.
    """

    started: Started
    requests_topic: str
    answers_topic: str
    rates: Mapping[str, float]
    deadline_us: int
    body_bytes_max: int
    ended: str = ""

    @property
    def run(self) -> str:
        return self.started.run

    def is_asked(self, key: str) -> bool:
        """Whether people are asked the requests of a sampling key, and the candidate too, as the fold sees it."""
        return all(is_asked(role, key, self.rates.get(role, 1.0)) for role in ROLES_BY_COMPARISON[CANDIDATE_HUMAN])

    def until_us(self, request_time_us: int) -> int:
        """Append time before which an answer to a request counts.

        Args:
            request_time_us: Append time of the request.
        """
        tile = max(request_time_us // self.started.tile_us, self.started.first_tile)
        return (tile + 1) * self.started.tile_us + self.deadline_us
