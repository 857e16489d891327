"""Closed tiles leave the store an hour of log time after the gate has folded them."""

from __future__ import annotations

from dataclasses import replace

from consumers.comparator.dropping import KEPT_US, tiles_to_drop
from shadow.ports import Change
from shadow.records.comparisons import CANDIDATE_HUMAN, CANDIDATE_PRODUCTION, tile_numbers
from shadow.stream.state import slot_of
from tests.comparator.world import World
from tests.stream.builders import RUN, SECOND, SPEC

KEPT = KEPT_US // SPEC.tile_us


def test_nothing_goes_before_the_hour_is_over():
    """Tiles stay while the gate has not folded them for an hour, and while it has folded none."""
    assert ((0, ()), (0, ())) == tuple(
        (each.below, each.names) for each in (tiles_to_drop(SPEC, 0, -1, 99), tiles_to_drop(SPEC, 0, KEPT, 99))
    )
    assert ("0", "1") == tiles_to_drop(SPEC, 0, KEPT + 2, 99).names
    assert ("1",) == tiles_to_drop(SPEC, 1, KEPT + 2, 99).names


def test_nothing_is_passed_over_by_an_owner_that_counts_again():
    """What an owner has not closed again stays to be dropped by it, however far the gate is."""
    dropping = tiles_to_drop(SPEC, 0, KEPT + 38, 3)
    assert (3, ("0", "1", "2")) == (dropping.below, dropping.names)
    assert (5, ("3", "4")) == ((then := tiles_to_drop(SPEC, dropping.below, KEPT + 38, 5)).below, then.names)
    assert (7, ()) == ((late := tiles_to_drop(SPEC, 7, KEPT + 38, 5)).below, late.names)


def test_tiles_of_people_go_with_the_main_tile_they_were_folded_with():
    """Another comparison's tile lies its lag behind, and goes when the main tile goes that was folded with it."""
    spec = replace(SPEC, deadlines_us={CANDIDATE_PRODUCTION: 30 * SECOND, CANDIDATE_HUMAN: 60 * SECOND})
    dropping = tiles_to_drop(spec, 6, KEPT + 8, 99)
    assert (8, ("6", "7", "candidate-human/0")) == (dropping.below, dropping.names)


def test_an_owner_drops_what_the_gate_has_passed_and_remembers_it():
    """
    A comparator that closes a tile deletes those that the gate passed an hour ago, and the next owner goes on there.
    """
    world = World()
    world.play(3)
    world.run()
    slot = slot_of(RUN, 0)
    closed = tile_numbers(world.store.tile_names(slot))
    assert [0, 1, 2] == closed[:3]
    world.store.swap(RUN, None, Change("gate-1", {"folded": str(KEPT + 2).encode()}))
    world.store.purge(slot)
    world.run()
    assert closed[2:] == tile_numbers(world.store.tile_names(slot))
    assert b"2" == world.store.field(slot, "dropped")
    world.run()
    assert b"2" == world.store.field(slot, "dropped")
