"""Tiles close by ticks and the watermark, in order, and never by a clock of ours."""

from __future__ import annotations

from shadow.stream.tile import Tiles


def test_end_belongs_to_the_next_tile():
    """
    A request appended at the very end of a tile belongs to the next one.
    """
    tiles = Tiles(tile_us=10, deadline_us=30, oldest=0)

    #  9  10
    #  I  I
    # -0--)[--1--
    assert (0, 1) == (tiles.tile_of(9, 0), tiles.tile_of(10, 0))


def test_request_before_the_run_counts_in_its_first_tile():
    """
    An append time before the first tile counts as the first tile.
    """
    assert 7 == Tiles(tile_us=10, deadline_us=30, oldest=7).tile_of(12, 7)


def test_tick_counts_once_in_order_and_not_too_early():
    """
    Only the next tile's tick counts, once, and only if it was appended at or after that tile's end.
    """
    tiles = Tiles(tile_us=10, deadline_us=30, oldest=0)

    too_early = tiles.tick(0, 5, 9)
    out_of_order = tiles.tick(1, 5, 25)
    in_time = tiles.tick(0, 5, 10)
    again = tiles.tick(0, 6, 11)

    assert (False, False, True, False) == (too_early, out_of_order, in_time, again)
    assert ([5], 1) == (tiles.ends, tiles.next_tick)


def test_requests_end_never_runs_backwards():
    """
    A later tick with a smaller end (a broker's clock stepped back) takes the former end.
    """
    tiles = Tiles(tile_us=10, deadline_us=30, oldest=0)
    tiles.tick(0, 8, 10)
    tiles.tick(1, 3, 20)

    assert [8, 8] == tiles.ends


def test_overdue_after_the_deadline():
    """
    A ticked tile is overdue once the watermark is past its end plus the evidence deadline.
    """
    tiles = Tiles(tile_us=10, deadline_us=30, oldest=0)
    tiles.tick(0, 8, 10)
    at_deadline = tiles.is_overdue(40)

    assert (False, True) == (at_deadline, tiles.is_overdue(41))
