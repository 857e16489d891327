"""A model that asks one of several, by the decision under which the user's answer was given."""

from __future__ import annotations

from collections.abc import Mapping

from shadow.adapters.calls import Model
from shadow.records.replies import Reply
from shadow.records.requests import MirroredRequest


class ModelByDecision:
    """Asks the model of a request's decision.

    Args:
        default: Asked where a request's decision has no model of its own.
        by_decision: Model by the id of the decision.
    """

    def __init__(self, default: Model, by_decision: Mapping[str, Model]) -> None:
        self._default = default
        self._by_decision = by_decision

    async def call(self, request: MirroredRequest, role: str, version: str) -> Reply:
        """Ask."""
        live = request.live
        model = self._by_decision.get(live.decision_id or "", self._default) if live is not None else self._default
        return await model.call(request, role, version)

    async def close(self) -> None:
        """Close all of them."""
        for model in {id(each): each for each in (self._default, *self._by_decision.values())}.values():
            await model.close()
