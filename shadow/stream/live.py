"""What a live request says of a run: under which of its steps it was routed, and whether the candidate served it.

Ids of decisions follow from run and step, so whoever knows the policy reads the step off the request; nobody is
asked. Worker and fold share these functions. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from shadow.records.answers import Feedback
from shadow.records.comparisons import CANDIDATE
from shadow.records.policy import CANARY, LiveStep
from shadow.records.requests import MirroredRequest
from shadow.records.slices import ALL, in_stage
from shadow.records.votes import NEGATIVE

Steps = Mapping[str, LiveStep]
"""Steps of a run by the id of the decision that began each."""


def is_routed(request: MirroredRequest) -> bool:
    """Whether the candidate was to serve a live request, also where production did in the end."""
    live = request.live
    return live is not None and (live.role == CANDIDATE or live.failed_attempt is not None)


def own(request: MirroredRequest, steps: Steps) -> MirroredRequest:
    """The request as one run sees it, without what another run's candidate answered or failed to answer."""
    live = request.live
    if live is None or live.decision_id is None or live.decision_id in steps or not is_routed(request):
        return request
    if live.role == CANDIDATE:
        return replace(request, live=None)
    return replace(request, live=replace(live, failed_attempt=None))


def step_of(request: MirroredRequest, steps: Steps) -> LiveStep | None:
    """The step under which a request was routed, to whichever version; None outside of `canary` and `watch`."""
    live = request.live
    return steps.get(live.decision_id) if live is not None and live.decision_id is not None else None


def vote_of(vote: Feedback, steps: Steps) -> LiveStep | None:
    """The canary step in which a vote counts; None where it is none of this run's, positive, or of another stage."""
    step = steps.get(vote.decision_id) if vote.decision_id is not None and vote.verdict == NEGATIVE else None
    return step if step is not None and step.stage == CANARY else None


def production_rate(request: MirroredRequest, steps: Steps) -> float:
    """Share of the sampling keys for which production's worker is asked about such a request, in [0, 1]."""
    step = step_of(request, steps)
    return step.production_rate if step is not None and is_routed(request) else 1.0


def with_stage(slices: tuple[str, ...], step: LiveStep, named: Collection[str]) -> tuple[str, ...]:
    """The slices of a request that the candidate served, and those of its stage and step.

    Args:
        slices: In which it counts whoever served it.
        named: Slices of stages that some rule names; `all` of the stage and of the step is always counted.
    """
    found = [name for slice in slices if (name := in_stage(step.stage, slice)) in named or slice == ALL]
    if ALL in slices and step.name != step.stage:
        found.append(in_stage(step.name, ALL))
    return (*slices, *found)
