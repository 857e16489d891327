"""An endpoint's place: nothing is lost, nothing is stuck, and it outlives restarts. Pure."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shadow.notify.place import WAITING_MAX, Patience, Place, Waiting

S = 1_000_000
DAY_US = 24 * 3600 * S


def test_new_events_come_before_those_that_failed() -> None:
    """
    One that fails waits for its time; what is read meanwhile is sent at once, in order.
    """
    place = Place(10)
    for offset in (10, 11, 12):
        place.read(offset, is_wanted=True)
    loaded = dict.fromkeys((10, 11, 12), b"")

    #  10  11  12
    #  !          tried, due at 5 s
    assert 10 == place.due(1 * S, loaded)
    place.began(10, 1 * S).due_us = 5 * S
    assert 11 == place.due(2 * S, loaded)
    place.done(11)
    assert 12 == place.due(2 * S, loaded)
    place.done(12)
    assert place.due(4 * S, loaded) is None
    assert 10 == place.due(5 * S, loaded)
    assert (10, 13) == (place.position(), place.next)


def test_the_note_brings_back_what_waits() -> None:
    """
    After a restart the same events wait, with their tries and times; those delivered in between are not sent again.
    """
    place = Place(100, {100: Waiting(3, 7 * S, 60 * S), 103: Waiting(1, 9 * S, 20 * S), 107: Waiting()}, "ab")
    place.next = 110
    again = Place.from_note(place.position(), place.note())
    assert place == again
    assert [100, 103, 107] == [offset for offset in range(100, 110) if again.takes(offset)]
    assert again.takes(110)


@given(
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 99)), max_size=WAITING_MAX, unique_by=lambda row: row[0]),
    st.integers(0, 10**12),
)
def test_a_full_note_fits_into_kafkas_bytes(rows: list[tuple[int, int]], base: int) -> None:
    """
    However far apart the waiting ones are and however often they were tried, the note has at most 4,096 bytes.
    """
    waiting = {base + offset: Waiting(tries, 1_900_000_000 * S, 1_900_300_000 * S) for offset, tries in rows}
    place = Place(max(waiting, default=base) + 1, waiting, "f" * 16)
    assert len(place.note()) <= 4096
    assert place == Place.from_note(place.position(), place.note())


@pytest.mark.parametrize(
    "note",
    ["", "{", "[]", "null", '{"format":2}', '{"format":1}', '{"format":1,"next":"x","new":[],"waiting":[],"gone":""}'],
)
def test_a_note_that_cannot_be_read_loses_nothing(note: str) -> None:
    """
    Everything from the committed offset on is sent, some of it again.
    """
    place = Place.from_note(7, note)
    assert (Place(7), True) == (place, place.takes(7))


@given(st.data())
@settings(max_examples=50)
def test_every_event_is_delivered_however_often_it_ends(data: st.DataObject) -> None:
    """
    Random failures, restarts before and after a commit, and unwanted records: at the end every wanted event was
    delivered, and never one that was not wanted.
    """
    wanted = data.draw(st.sets(st.integers(0, 11)), label="wanted")
    committed = (0, "")
    delivered: list[int] = []
    place, loaded, reads, now_us = Place.from_note(*committed), {}, 0, 0
    for _ in range(60):
        match data.draw(st.sampled_from(["read", "fail", "deliver", "deliver", "commit", "restart"]), label="step"):
            case "read" if reads < 12:
                if place.takes(reads):
                    place.read(reads, is_wanted=reads in wanted)
                    if reads in wanted:
                        loaded[reads] = b""
                reads += 1
            case "fail" if (offset := place.due(now_us, loaded)) is not None:
                place.began(offset, now_us).due_us = now_us + 3 * S
            case "deliver" if (offset := place.due(now_us, loaded)) is not None:
                delivered.append(offset)
                place.done(offset)
                loaded.pop(offset)
            case "commit":
                committed = (place.position(), place.note())
            case "restart":
                place, loaded = Place.from_note(*committed), {}
                reads = place.position()
            case _:
                now_us += S
    for offset in range(reads, 12):
        if place.takes(offset):
            place.read(offset, is_wanted=offset in wanted)
            loaded |= {offset: b""} if offset in wanted else {}
    now_us += 60 * S
    while (due := place.due(now_us, loaded)) is not None:
        delivered.append(due)
        place.done(due)
    assert wanted == set(delivered)
    assert 12 == place.position()


def test_waits_grow_up_to_their_longest_and_are_jittered() -> None:
    """
    5 s, 15 s, 45 s … 6 h, each halved at most; a receiver may ask for more, up to 6 h.
    """
    patience = Patience()
    assert [5, 15, 45, 135] == [patience.wait_us(tries, 0.9999) // S + 1 for tries in (1, 2, 3, 4)]
    assert 2.5 * S == patience.wait_us(1, 0.0)
    assert 3 * 3600 * S == patience.wait_us(1000, 0.0)
    assert 120 * S == patience.wait_us(1, 0.0, asked_s=120)
    assert 6 * 3600 * S == patience.wait_us(1, 0.0, asked_s=10**6)


def test_three_days_of_tries() -> None:
    """
    An event that always fails is tried some twenty times in three days, and then given up.
    """
    patience, waiting, now_us = Patience(), Waiting(), 5 * DAY_US
    place = Place(1, {0: waiting})
    while True:
        place.began(0, now_us)
        if patience.is_over(waiting, now_us):
            break
        now_us += patience.wait_us(waiting.tries, 0.5)
    assert 3 * DAY_US <= now_us - 5 * DAY_US <= 3 * DAY_US + 6 * 3600 * S
    assert 20 <= waiting.tries <= 30
