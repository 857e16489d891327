"""`reward_model`: a service scores the answer. What it says is asked for once, recorded, and read back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from shadow.bodies import NOT_JSON, decoded, inflated, json_of
from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, passed, shown
from shadow.records.grades import BROKEN, Ask, Grade

REPLY_BYTES_MAX: Final = 64 * 1024
BUDGET_US: Final = 10_000_000


@dataclass(frozen=True)
class RewardModel(Plain):
    """Asks by `POST {"request": …, "answer": "…"}`, and reads `{"score": number}` with a score in [0, 1].

    Anything else in the reply is a broken grade. The answer's text goes out as data; the service must not take
    what stands in it for an instruction.

    Args:
        url: Where to POST.
        passes_at: Least score that passes, in [0, 1].
        budget_us: How long the service may take.
    """

    kind: ClassVar[str] = "reward_model"
    is_recorded: ClassVar[bool] = True

    url: str
    passes_at: float = 0.5
    budget_us: int = BUDGET_US

    def grade(self, answer: Graded, other: Graded | None) -> Ask:
        """What must be asked."""
        body = answer.request_json()
        request: Any = decoded(inflated(answer.request.body, answer.request.headers)) if body is None else body
        return Ask(self.url, {"request": request, "answer": answer.text()}, self.budget_us)

    def read(self, reply: bytes) -> Grade:
        """The grade in the service's reply; a broken one where it says anything but a score."""
        if len(reply) > REPLY_BYTES_MAX:
            return Grade(BROKEN, None, f"the reply has {len(reply):,} bytes, at most {REPLY_BYTES_MAX:,} are read")
        document = json_of(reply)
        if document is NOT_JSON:
            return Grade(BROKEN, None, f"the reply {shown(decoded(reply[:100]))} is not JSON")
        score = document.get("score") if isinstance(document, dict) else None
        if isinstance(score, bool) or not isinstance(score, int | float):
            return Grade(BROKEN, None, 'the reply has no number "score"')
        if not (math.isfinite(score) and 0 <= score <= 1):
            return Grade(BROKEN, None, f"the score is {score:g}, must be in [0, 1]")
        words = f"the score is {score:g}, passes at {self.passes_at:g}"
        return passed(words, float(score)) if score >= self.passes_at else failed(words, float(score))
