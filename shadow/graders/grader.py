"""The graders by kind, and how one is made of what the configuration says. Pure."""

from __future__ import annotations

from typing import Final, cast

from shadow.errors import InvalidConfiguration
from shadow.graders.answer_tag import AnswerTag
from shadow.graders.cites_version_pin import CitesVersionPin
from shadow.graders.concise import Concise
from shadow.graders.contains import Contains, Regex
from shadow.graders.cost import CostBound
from shadow.graders.exact import Exact
from shadow.graders.graded import Graded, Grader
from shadow.graders.latency import LatencyBound
from shadow.graders.no_deprecated_api import NoDeprecatedApi
from shadow.graders.numeric import Numeric
from shadow.graders.python import PythonFunction
from shadow.graders.reward_model import RewardModel
from shadow.graders.rule import Plain
from shadow.graders.safety import Safety
from shadow.graders.status import Status
from shadow.records.grades import GraderSpec

__all__ = ["GRADERS", "Graded", "Grader", "build"]

_KINDS: Final[tuple[type[Plain], ...]] = (
    AnswerTag,
    CitesVersionPin,
    Concise,
    Contains,
    CostBound,
    Exact,
    LatencyBound,
    NoDeprecatedApi,
    Numeric,
    PythonFunction,
    Regex,
    RewardModel,
    Safety,
    Status,
)
GRADERS: Final[dict[str, type[Plain]]] = {kind.kind: kind for kind in _KINDS}


def build(spec: GraderSpec) -> Grader:
    """Make a grader.

    Raises:
        InvalidConfiguration: If the kind is unknown or a parameter cannot be used.
    """
    kind = GRADERS.get(spec.kind)
    if kind is None:
        raise InvalidConfiguration(
            [f"graders.{spec.name}.kind: read {spec.kind!r}, must be one of {', '.join(GRADERS)}"]
        )
    try:
        return cast(Grader, kind.from_spec(spec))
    except (TypeError, ValueError) as error:
        raise InvalidConfiguration([f"graders.{spec.name}: {error}"]) from error
