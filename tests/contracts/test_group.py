"""What every log promises to the members of a group."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from shadow.errors import BrokenEvidence, Unavailable
from shadow.ports import LogGroup
from tests.contracts.conftest import LogCase, until


class Positions:
    """Callbacks of a member, with what they were told."""

    def __init__(self, start: Mapping[int, int] | None) -> None:
        self.start = start
        self.owned: set[int] = set()

    def assigned(self, partitions: list[int]) -> Mapping[int, int] | None:
        self.owned |= set(partitions)
        return None if self.start is None else {partition: self.start[partition] for partition in partitions}

    def revoked(self, partitions: list[int]) -> None:
        self.owned -= set(partitions)


def read_until_owned(member: LogGroup, told: Positions, partitions: set[int]) -> list[bytes | None]:
    """Read until a member owns these; returns the values that came meanwhile."""
    values: list[bytes | None] = []
    until(lambda: values.extend(r.value for r in member.read(100, 0.05)) or told.owned == partitions)
    return values


def test_a_member_reads_from_where_it_says_seeks_pauses_and_commits(case: LogCase) -> None:
    """
    One member's life: its own positions, a pause that holds only its partition, a seek back, a commit.
    """
    topic = case.topic(2)
    case.append(topic, [b"a0", b"a1", b"a2"], 0)
    case.append(topic, [b"b0", b"b1"], 1)
    told = Positions({0: 1, 1: 0})
    member = case.group(topic, topic, "m1", told.assigned, told.revoked)
    assert {b"a1", b"a2", b"b0", b"b1"} == {record.value for record in case.read(member, 4)}
    assert {0, 1} == told.owned

    member.pause([0])
    case.append(topic, [b"a3"], 0)
    case.append(topic, [b"b2"], 1)
    assert [record.value for record in case.read(member, 1)] == [b"b2"]
    assert member.read(10, 0.3) == []
    member.resume([0])
    assert [record.value for record in case.read(member, 1)] == [b"a3"]

    member.seek(0, 2)
    assert [record.value for record in case.read(member, 2)] == [b"a2", b"a3"]

    # Sought while paused: nothing before it is resumed, and then from there.
    member.pause([0])
    member.seek(0, 0)
    assert member.read(10, 0.3) == []
    member.resume([0])
    assert [record.value for record in case.read(member, 4)] == [b"a0", b"a1", b"a2", b"a3"]

    member.commit({0: 3, 1: 1})
    with pytest.raises(Unavailable, match="belong to another member"):
        member.commit({7: 1})
    member.close()
    assert set() == told.owned

    told = Positions(None)
    member = case.group(topic, topic, "m1", told.assigned, told.revoked)
    assert {b"a3", b"b1", b"b2"} == {record.value for record in case.read(member, 3)}


def test_a_note_is_kept_beside_an_offset(case: LogCase) -> None:
    """
    What was committed last comes back with its note, to the next member too; before a commit there is nothing.
    The embedded broker keeps no notes, and forgets all with its end.
    """
    topic, note = case.topic(), '{"waiting":[[0,3,1764512345,5]],"gone":""}' + "x" * 3000
    case.append(topic, [b"a", b"b"])
    told = Positions({0: 0})
    member = case.group(topic, topic, "m1", told.assigned, told.revoked)
    until(lambda: member.read(10, 0.05) or told.owned == {0})
    assert member.committed(0) is None
    member.commit({0: 1}, {0: note})
    note = "" if case.kind == "embedded" else note
    assert (1, note) == member.committed(0)
    member.close()

    member = case.group(topic, topic, "m1", told.assigned, told.revoked)
    until(lambda: member.read(10, 0.05) or told.owned == {0})
    assert (1, note) == member.committed(0)
    member.commit({0: 2})
    assert (2, "") == member.committed(0)


def test_offsets_set_from_outside_are_where_the_first_member_begins(case: LogCase) -> None:
    """
    A run's beginning is committed before its workers exist; a partition without an offset is read from its end.
    """
    topic = case.topic(2)
    case.append(topic, [b"a0", b"a1", b"a2"], 0)
    case.append(topic, [b"b0"], 1)
    case.admin.commit_group(topic, topic, [2])
    told = Positions(None)
    member = case.group(topic, topic, "m1", told.assigned, told.revoked)
    values = read_until_owned(member, told, {0, 1})
    case.append(topic, [b"b1"], 1)
    until(lambda: values.extend(r.value for r in member.read(100, 0.1)) or b"b1" in values)
    assert {b"a2", b"b1"} == set(values)


def test_a_group_is_deleted_once_nobody_is_in_it(case: LogCase) -> None:
    """
    With a member it is refused; once its session is over it is deleted, and a second time there is none.
    """

    def is_deleted() -> bool:
        try:
            return case.admin.delete_group(topic)
        except Unavailable:
            return False  # a named member is waited for until its session is over, though it said good-bye

    topic = case.topic()
    case.admin.commit_group(topic, topic, [0])
    told = Positions(None)
    member = case.group(topic, topic, "m1", told.assigned, told.revoked)
    until(lambda: member.read(10, 0.1) or told.owned == {0})
    if case.kind == "embedded":
        member.close()  # whether that broker refuses it depends on the moment
    else:
        with pytest.raises(Unavailable, match=f"the group {topic} has members"):
            case.admin.delete_group(topic)
        member.close()
    until(is_deleted)
    # The embedded broker says of any name that it has deleted that group.
    assert case.admin.delete_group(topic) is (case.kind == "embedded")


def test_a_start_outside_the_log_is_a_hole(case: LogCase) -> None:
    """
    A group whose position is not in the log says so instead of reading from elsewhere.
    """
    topic = case.topic()
    case.append(topic, [b"a"])
    told = Positions({0: 55})
    member = case.group(topic, topic, "m1", told.assigned, told.revoked)
    with pytest.raises(BrokenEvidence, match=f"{topic}/0: offset 55 "):
        until(lambda: member.read(10, 0.1))
    member.seek(0, 0)
    assert [record.value for record in case.read(member, 1)] == [b"a"]


def test_a_callback_that_fails_is_called_again(case: LogCase) -> None:
    """
    The error comes out of `read`, nothing is read from a default position, and the next `read` tries again.
    """
    topic = case.topic()
    case.append(topic, [b"a", b"b"])
    calls: list[list[int]] = []

    def assigned(partitions: list[int]) -> Mapping[int, int]:
        calls.append(partitions)
        if len(calls) == 1:
            raise Unavailable("the store is away")
        return {0: 1}

    member = case.group(topic, topic, "m1", assigned)
    with pytest.raises(Unavailable, match="the store is away"):
        until(lambda: member.read(10, 0.1))
    assert [record.value for record in case.read(member, 1)] == [b"b"]
    assert calls == [[0], [0]]


def test_partitions_move_to_a_second_member_and_back(case: LogCase) -> None:
    """
    Two members have one partition each, nobody has two, and what one leaves the other takes over where told.
    """
    topic = case.topic(2)
    start = {0: 0, 1: 0}
    one, two = Positions(start), Positions(start)
    first = case.group(topic, topic, "m1", one.assigned, one.revoked)
    read_until_owned(first, one, {0, 1})

    second = case.group(topic, topic, "m2", two.assigned, two.revoked)

    def shared() -> bool:
        first.read(10, 0.05)
        second.read(10, 0.05)
        assert not one.owned & two.owned
        return len(one.owned) == len(two.owned) == 1

    until(shared)
    assert {0, 1} == one.owned | two.owned
    with pytest.raises(Unavailable):
        first.commit(dict.fromkeys(two.owned, 0))

    case.append(topic, [b"a"], 0)
    case.append(topic, [b"b"], 1)
    second.close()
    assert set() == two.owned
    values = read_until_owned(first, one, {0, 1})
    until(lambda: values.extend(r.value for r in first.read(100, 0.1)) or {b"a", b"b"} == set(values))


def test_a_second_process_of_the_same_name_takes_the_first_ones_place(case: LogCase) -> None:
    """
    A restarted member goes on at once; the one that it replaced is told that it is out.
    """
    if case.kind == "embedded":
        pytest.skip("members of the embedded broker's groups are not static")
    topic = case.topic()
    case.append(topic, [b"a"])
    one, two = Positions({0: 0}), Positions({0: 0})
    first = case.group(topic, topic, "m1", one.assigned, one.revoked)
    case.read(first, 1)
    second = case.group(topic, topic, "m1", two.assigned, two.revoked)
    assert [record.value for record in case.read(second, 1)] == [b"a"]
    with pytest.raises(Unavailable, match="another process joined the group"):
        until(lambda: first.read(10, 0.1))
