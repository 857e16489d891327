"""What `shadow purge` deletes, and what it leaves."""

from __future__ import annotations

import orjson

from shadow.adapters import last_known
from shadow.adapters.memory_store import MemoryStore
from shadow.cli.begin import worker_group
from shadow.cli.purge import groups_of, purge_run
from shadow.gate.history import Run
from shadow.ports import Change
from shadow.stream.state import slot_of
from tests.answers.world import Review
from tests.replay.world import TOPICS


def test_what_is_derived_from_a_run_is_deleted_once() -> None:
    """
    Slots, tiles, groups and the last known state of this run go; the log and other runs stay; again there is nothing.
    """
    review = Review((2, 2))
    run = Run(review.started, ())
    store, admin = MemoryStore(), review.log.admin()
    others = ("another-run-1", slot_of("another-run-1", 0))
    for slot in (run.name, slot_of(run.name, 0), slot_of(run.name, 1), *others):
        store.swap(slot, None, Change(f"v-{slot}", {"head": b"1"}, tiles={"1": b"t", "candidate-human/1": b"t"}))
    groups = groups_of(review.settings, run.name)
    production = worker_group(review.settings, run.name, "production")
    for group in (groups[0], groups[2], production):
        admin.commit_group(group, TOPICS["requests"], [0, 0])
    for name in (run.name, "another-run-1"):
        last_known.save(f"run-{name}", {"run": name})
    before = admin.ends(TOPICS["requests"]), admin.ends(TOPICS["decisions"])

    purged = purge_run(review.log, store, review.settings, run)
    assert [slot_of(run.name, 0), slot_of(run.name, 1), run.name] == purged.slots
    assert (6, [groups[0], groups[2]], 1, []) == (purged.tiles, purged.groups, len(purged.files), purged.kept)
    assert all(store.load(slot) is not None for slot in others)
    assert orjson.loads(b'{"run":"another-run-1"}') == last_known.load("run-another-run-1")
    assert last_known.load(f"run-{run.name}") is None
    assert admin.delete_group(production)
    assert before == (admin.ends(TOPICS["requests"]), admin.ends(TOPICS["decisions"]))

    again = purge_run(review.log, store, review.settings, run)
    assert ([], 0, [], [], []) == (again.slots, again.tiles, again.groups, again.files, again.kept)


def test_a_group_with_members_is_kept_and_said() -> None:
    """
    A worker that still runs keeps its group; the rest is deleted all the same.
    """
    review = Review((2, 2))
    run = Run(review.started, ())
    store = MemoryStore()
    store.swap(run.name, None, Change("v1", {"gate": b"1"}))
    group = groups_of(review.settings, run.name)[0]
    member = review.log.group(
        TOPICS["requests"], group, member="worker", on_assigned=lambda added: None, on_revoked=lambda lost: None
    )
    member.read(1, 0.0)
    purged = purge_run(review.log, store, review.settings, run)
    assert [run.name] == purged.slots
    assert [f"{group}: the group {group} has members; it cannot be deleted"] == purged.kept
