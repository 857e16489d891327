"""One role's answer as graders see it and as it is counted. Pure."""

from __future__ import annotations

from shadow.graders.graded import Graded, make_graded
from shadow.records.answers import Answer
from shadow.records.requests import MirroredRequest
from shadow.usage import Price, tokens_of


def graded_of_answer(answer: Answer, exchange: MirroredRequest) -> Graded:
    """The answer that a worker or a person wrote."""
    return make_graded(
        role=answer.role,
        request=exchange,
        outcome=answer.outcome,
        status=answer.status,
        headers=answer.headers,
        body=answer.body,
        duration_us=answer.duration_us,
        first_byte_us=answer.first_byte_us,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        cost_micro=answer.cost_micro,
    )


def graded_of_live(exchange: MirroredRequest, role: str, outcome: str, price: Price) -> Graded:
    """The answer that the user got, or the failed attempt of the candidate before it.

    Args:
        outcome: Of the role, which is not that of the served answer where its own attempt failed.
        price: What the role's tokens cost, since no worker has stated a cost.
    """
    live = exchange.live
    assert live is not None, "the role's answer is there"
    is_failed_attempt = live.role != role
    prompt, completion = tokens_of(live.body, is_stream=live.is_stream)
    return make_graded(
        role=role,
        request=exchange,
        outcome=outcome,
        status=live.status,
        headers=live.headers,
        body=b"" if is_failed_attempt else live.body,
        duration_us=live.duration_us,
        first_byte_us=live.first_byte_us,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost_micro=price.cost_micro(prompt, completion),
    )
