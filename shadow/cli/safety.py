"""What of the services may lose evidence or counters: a run is not begun on it unless told to."""

from __future__ import annotations

from collections.abc import Iterator

from shadow.ports import Log, Store
from shadow.settings.settings import Settings

EVIDENCE = ("requests", "answers", "decisions")
"""Topics on which a verdict rests."""


def problems_of(settings: Settings, log: Log, store: Store) -> list[str]:
    """Every such problem, one sentence each. The embedded broker is for a laptop, and nothing is asked of it.

    Raises:
        Unavailable: If a service does not answer.
    """
    problems = list(_topic_problems(settings, log)) if settings.kafka != "embedded" else []
    return problems + store.problems()


def _topic_problems(settings: Settings, log: Log) -> Iterator[str]:
    admin = log.admin()
    try:
        for kind in EVIDENCE:
            name = getattr(settings.topics, kind)
            state = admin.topic(name)
            if state is None:
                continue
            if state.replicas == 1:
                yield f"kafka: {name} has replication factor 1, so one lost disk loses evidence; give it 3"
            if state.config.get("unclean.leader.election.enable") == "true":
                yield (
                    f"kafka: {name} has unclean.leader.election.enable=true, so a leader that fell behind may drop "
                    "records that were acknowledged; set it to false"
                )
    finally:
        admin.close()
