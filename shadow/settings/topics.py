"""`topics`: names of the five topics, and the number of partitions."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import model_validator

from shadow.settings.names import TopicName
from shadow.settings.section import Section, refused_whole
from shadow.settings.units import count


class Topics(Section):
    """The topics.

    Args:
        partitions: Of every topic but decisions, which has one. They cannot be changed while runs go on.
    """

    requests: TopicName = "shadow-requests"
    answers: TopicName = "shadow-answers"
    pairs: TopicName = "shadow-pairs"
    decisions: TopicName = "shadow-decisions"
    dead_letters: TopicName = "shadow-dead-letters"
    partitions: Annotated[int, count(1, 1024)] = 8

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [self.requests, self.answers, self.pairs, self.decisions, self.dead_letters]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise refused_whole(f"{twice} is the name of two topics, must be the name of one")
        return self
