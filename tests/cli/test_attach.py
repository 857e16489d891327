"""Which run a process serves: its configuration's own, or, for production's answers, any that waits for them."""

from __future__ import annotations

import pytest

from shadow.cli.attach import served_run
from shadow.gate.history import Run
from shadow.records.decisions import Decision, Started


def run_of(name: str, digest: str, *, production: str = "v1", ended: bool = False) -> Run:
    """A run, decided or not."""
    started = Started(name, 1, name, production, digest, "shadow", 1, 0, (0,), (0,), 0, 1, True)
    end = Decision("id", name, 1, "rollback", "shadow", "rolled_back", 0, "", (0,), (), "", "{}", 0)
    return Run(started, (end,) if ended else ())


@pytest.mark.parametrize(
    ("runs", "own", "for_all"),
    [
        ([], None, None),
        ([run_of("mine", "d")], "mine", "mine"),
        ([run_of("mine", "d"), run_of("other", "e")], "mine", "mine"),
        ([run_of("mine", "d", ended=True), run_of("other", "e")], None, "other"),
        ([run_of("other", "e"), run_of("third", "f"), run_of("mine", "d", ended=True)], None, "third"),
        ([run_of("other", "e", ended=True), run_of("mine", "d", ended=True)], None, None),
        ([run_of("other", "e", production="v0")], None, None),
    ],
    ids=["none", "own", "own-before-others", "own-ended", "newest-other", "all-ended", "other-production"],
)
def test_which_run_is_served(runs, own, for_all):
    """
    A candidate's worker, a comparator and a gate serve their own run alone; a worker of production goes on as long
    as any run against it does.
    """
    found = [served_run(runs, "d", production) for production in (None, "v1")]
    assert [own, for_all] == [run.name if run is not None else None for run in found]
