"""What every store promises."""

from __future__ import annotations

import threading
import uuid

import pytest

from shadow.errors import Refused
from shadow.ports import Change, Store


def test_what_is_set_and_deleted_in_one_change_is_gone(store: Store, slot: str) -> None:
    """A change sets first and deletes then."""
    store.swap(slot, None, Change("v1", {"a": b"1"}, dropped=["a"], tiles={"1": b"t", "2": b"t"}, dropped_tiles=["1"]))
    assert store.load(slot) == ("v1", {})
    assert store.tile_names(slot) == ["2"]


@pytest.mark.parametrize("value", [b"", b"\0z", b"\0z" + bytes(9), bytes(511), b"x" * 512, bytes(range(256)) * 400])
def test_a_value_is_read_back_as_it_was(store: Store, slot: str, value: bytes) -> None:
    """Whatever a store does with long values, each comes back byte for byte."""
    store.swap(slot, None, Change("v1", {"a": value}, tiles={"1": value}))
    assert store.load(slot) == ("v1", {"a": value})
    assert (store.field(slot, "a"), store.tiles(slot, ["1"])) == (value, [value])


def test_an_unknown_slot_is_empty(store: Store, slot: str) -> None:
    """
    Nothing is there before the first change.
    """
    assert store.load(slot) is None
    assert store.tile_names(slot) == []
    assert store.tiles(slot, ["1", "2"]) == [None, None]
    assert store.tiles(slot, []) == []
    assert not store.purge(slot)


def test_what_was_changed_is_loaded(store: Store, slot: str) -> None:
    """
    State and tiles are set and deleted together, bytes of any kind.
    """
    store.swap(slot, None, Change("v1", {"next": b"17", "open": b"\x00\xff\r\n"}, tiles={"9": b"nine", "10": b"\x00"}))
    assert store.load(slot) == ("v1", {"next": b"17", "open": b"\x00\xff\r\n"})
    assert (store.field(slot, "next"), store.field(slot, "absent")) == (b"17", None)
    assert sorted(store.tile_names(slot)) == ["10", "9"]
    assert store.tiles(slot, ["10", "5", "9"]) == [b"\x00", None, b"nine"]

    store.swap(
        slot, "v1", Change("v2", {"next": b"18"}, dropped=["open"], tiles={"11": b"x"}, dropped_tiles=["9", "77"])
    )
    assert store.load(slot) == ("v2", {"next": b"18"})
    assert sorted(store.tile_names(slot)) == ["10", "11"]


def test_another_version_is_refused_and_nothing_is_written(store: Store, slot: str) -> None:
    """
    A zombie finds another version than it wrote.
    """
    store.swap(slot, None, Change("v1", {"a": b"1"}))
    store.swap(slot, "v1", Change("v2", {"a": b"2"}))
    zombie = Change("z", {"a": b"9", "b": b"9"}, dropped=["a"], tiles={"1": b"9"})
    for expected in ("v1", None, "never"):
        with pytest.raises(Refused, match="version v2"):
            store.swap(slot, expected, zombie)
    assert store.load(slot) == ("v2", {"a": b"2"})
    assert store.tile_names(slot) == []


def test_a_slot_that_is_gone_is_refused_to_its_owner(store: Store, slot: str) -> None:
    """
    A store that lost everything does not take a change of what it does not have.
    """
    store.swap(slot, None, Change("v1", {"a": b"1"}, tiles={"1": b"t"}))
    assert store.purge(slot)
    assert store.load(slot) is None
    assert store.tile_names(slot) == []
    with pytest.raises(Refused, match="version none"):
        store.swap(slot, "v1", Change("v2", {"a": b"2"}))
    store.swap(slot, None, Change("v3", {"a": b"3"}))
    assert store.load(slot) == ("v3", {"a": b"3"})


def test_sending_the_same_change_again_changes_nothing(store: Store, slot: str) -> None:
    """
    An answer that got lost: the version is there already, so the change was applied.
    """
    change = Change("v1", {"a": b"1"})
    store.swap(slot, None, change)
    store.swap(slot, None, change)
    assert store.load(slot) == ("v1", {"a": b"1"})


def test_many_fields_and_tiles_in_one_change(store: Store, slot: str) -> None:
    """
    One change of thousands of fields is atomic like one of two.
    """
    fields = {f"field-{number}": b"%d" % number for number in range(5000)}
    store.swap(slot, None, Change("v1", fields, tiles=dict.fromkeys(map(str, range(3000)), b"t")))
    assert store.load(slot) == ("v1", fields)
    store.swap(slot, "v1", Change("v2", {}, dropped=list(fields), dropped_tiles=list(map(str, range(3000)))))
    assert store.load(slot) == ("v2", {})
    assert store.tile_names(slot) == []


def test_slots_do_not_touch_each_other(store: Store, slot: str) -> None:
    """
    The gate's slot of a run is another one than its partitions'.
    """
    run = slot.split("/")[0]
    for name in (run, f"{run}/0", f"{run}/00"):
        store.swap(name, None, Change(f"v-{name}", {"name": name.encode()}))
    store.purge(f"{run}/0")
    assert store.load(run) == (f"v-{run}", {"name": run.encode()})
    assert store.load(f"{run}/00") == (f"v-{run}/00", {"name": f"{run}/00".encode()})


def test_of_many_writers_each_change_has_one_winner(store: Store, slot: str) -> None:
    """
    Four owners add one, 25 times each, with compare-and-set: nothing is lost.
    """
    store.swap(slot, None, Change("start", {"sum": b"0"}))

    def add() -> None:
        done = 0
        while done < 25:
            found = store.load(slot)
            assert found is not None
            version, state = found
            try:
                store.swap(slot, version, Change(uuid.uuid4().hex, {"sum": b"%d" % (int(state["sum"]) + 1)}))
            except Refused:
                continue
            done += 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = store.load(slot)
    assert found is not None
    assert found[1] == {"sum": b"100"}


def test_the_settings_of_a_proper_store_are_in_order(store: Store) -> None:
    """
    Nothing is evicted.
    """
    assert store.problems() == []
