"""The notifier against receivers that fail in every way (P18, failure matrix "webhook")."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumers.loop import WallClock
from shadow.adapters.memory_log import MemoryLog
from shadow.notify.events import event_of
from shadow.notify.place import Patience
from tests.flow.harness import wait_until
from tests.notifier.receiver import Receiver, crash, hang, status
from tests.notifier.records import decision, started
from tests.notifier.world import World

NOW_US = WallClock().now_us


@pytest.fixture
def world() -> Iterator[World]:
    """A topic on a log in memory."""
    made = World(MemoryLog(NOW_US))
    yield made
    made.close()


def id_of(record: object) -> str:
    event = event_of(record)
    assert event is not None
    return event.event_id


def test_everything_is_told_in_order_and_only_what_is_wanted(world: World, tmp_path: Path) -> None:
    """
    Two endpoints get what they chose; foreign records are passed over.
    """
    (tmp_path / "b").mkdir()
    with Receiver(tmp_path) as everything, Receiver(tmp_path / "b") as rollbacks:
        plans = (
            world.plan(everything),
            world.plan(rollbacks, "rollbacks", events=frozenset({"rollback"})),
        )
        records = [started(), decision("promote", 1), started("b-00000000-1"), decision("rollback", 1, "b-00000000-1")]
        with world.notifying(*plans) as (notifier, metrics):
            world.write(*records)
            wait_until(lambda: len(everything.got) == 4 and len(rollbacks.got) == 1, "the deliveries")
            wait_until(lambda: notifier.readiness() == (True, "ok"), "readiness")
            # A receiver has an event before the notifier has its answer.
            delivered = {"endpoint": "on-call", "result": "delivered"}
            wait_until(lambda: metrics.value("shadow_notify_attempts_total", **delivered) == 4, "the answers")
        assert [id_of(record) for record in records] == everything.ids()
        assert [id_of(records[3])] == rollbacks.ids()


def test_failures_are_repeated_with_the_same_id(world: World, tmp_path: Path) -> None:
    """
    P18: 5xx, a crash, a redirect and a time-out before it works: one id throughout, and the next event did not wait.
    """
    first, second = decision("promote", 1), decision("rollback", 2)
    with Receiver(tmp_path) as receiver:
        ways = iter([status(503), crash, status(302, location="https://e.example/"), hang])

        async def answer(request, received):  # type: ignore[no-untyped-def]
            way = next(ways, status(204)) if received.event_id == id_of(first) else status(204)
            return await way(request, received)

        receiver.answer = answer
        world.write(first, second)
        with world.notifying(world.plan(receiver)) as (_, metrics):
            wait_until(lambda: receiver.ids().count(id_of(first)) == 5, "five sendings")
            wait_until(
                lambda: metrics.value("shadow_notify_attempts_total", endpoint="on-call", result="delivered") == 2,
                "the deliveries",
            )
        assert [id_of(first), id_of(second)] == receiver.ids()[:2]
        assert 1 == receiver.ids().count(id_of(second))
        bodies = {got.body for got in receiver.got if got.event_id == id_of(first)}
        assert 1 == len(bodies)


def test_one_bad_endpoint_never_delays_another(world: World, tmp_path: Path) -> None:
    """
    While a receiver hangs, the other one gets all of its events.
    """
    (tmp_path / "b").mkdir()
    with Receiver(tmp_path) as good, Receiver(tmp_path / "b") as bad:
        bad.answer = hang
        with world.notifying(world.plan(good, "good"), world.plan(bad, "bad", timeout_s=600.0)):
            world.write(started())
            wait_until(lambda: len(bad.got) == 1, "the hanging request")
            world.write(*(decision(step=step) for step in range(1, 30)))
            wait_until(lambda: len(good.got) == 30, "the deliveries")
            assert 1 == len(bad.got)


def test_a_restart_goes_on_where_it_was(world: World, tmp_path: Path) -> None:
    """
    What was delivered is not sent again, also behind one that waits; what waits keeps its tries.
    """
    waits, delivered = decision("promote", 1), decision("rollback", 2)
    with Receiver(tmp_path) as receiver:

        async def answer(request, received):  # type: ignore[no-untyped-def]
            way = status(500) if received.event_id == id_of(waits) and len(receiver.got) < 6 else status(204)
            return await way(request, received)

        receiver.answer = answer
        world.write(waits, delivered)
        with world.notifying(world.plan(receiver)):
            wait_until(lambda: len(receiver.got) >= 3, "both were tried")
        group = world.log.group_of(world.plan(receiver).group, world.topic)
        assert '"waiting":[[0,' in group.notes[0]
        for _ in range(3):
            with world.notifying(world.plan(receiver)) as (_, metrics):
                wait_until(
                    lambda: len(receiver.got) >= 6 and metrics.value("shadow_notify_waiting", endpoint="on-call") == 0,
                    "the last delivery",
                )
                metrics.text()
        assert 1 == receiver.ids().count(id_of(delivered))


def test_410_ends_an_endpoint_until_its_configuration_changes(world: World, tmp_path: Path) -> None:
    """
    Nothing more is sent, also after a restart; with another configuration it gets all since.
    """
    records = [decision(step=step) for step in (1, 2, 3)]
    with Receiver(tmp_path) as receiver:
        receiver.answer = status(410)
        world.write(records[0])
        with world.notifying(world.plan(receiver)) as (_, metrics):
            wait_until(lambda: len(receiver.got) == 1, "the refusal")
            wait_until(lambda: b'shadow_notify_gone{endpoint="on-call"} 1.0' in metrics.text(), "the end")
            world.write(records[1])
        receiver.answer = status(204)
        with world.notifying(world.plan(receiver)) as (notifier, metrics):
            wait_until(lambda: notifier.readiness()[0], "readiness")
            wait_until(lambda: b'shadow_notify_gone{endpoint="on-call"} 1.0' in metrics.text(), "the end")
            world.write(records[2])
        assert 1 == len(receiver.got)
        with world.notifying(world.plan(receiver, configuration="b" * 16)):
            wait_until(lambda: len(receiver.got) == 4, "all since")
        assert sorted(map(id_of, records)) == sorted(receiver.ids()[1:])


def test_what_is_given_up_is_a_dead_letter(world: World, tmp_path: Path) -> None:
    """
    After its time, or where the receiver refuses the event for good, it is put aside and counted; the next goes on.
    """
    (tmp_path / "b").mkdir()
    record = decision("rollback", 1)
    with Receiver(tmp_path) as failing, Receiver(tmp_path / "b") as refusing:
        failing.answer, refusing.answer = status(500), status(413)
        patience = Patience(first_s=0.05, factor=2.0, longest_s=0.2, give_up_s=0.5)
        world.write(record)
        plans = world.plan(failing, "failing", patience=patience), world.plan(refusing, "refusing", patience=patience)
        with world.notifying(*plans) as (_, metrics):
            wait_until(lambda: metrics.value("shadow_dead_letters_total", topic=world.topic) == 2, "the dead letters")
            failing.answer = refusing.answer = status(204)
            tried = len(failing.got)
            world.write(decision("promote", 2))
            wait_until(lambda: len(failing.got) == tried + 1 and len(refusing.got) == 2, "the next event")
    letters = {letter.error.split(":")[0]: letter for letter in world.letters_written()}
    assert {"endpoint failing", "endpoint refusing"} == set(letters)
    assert (world.topic, 0, 0, "notifier") == (
        letters["endpoint failing"].topic,
        letters["endpoint failing"].partition,
        letters["endpoint failing"].offset,
        letters["endpoint failing"].process,
    )
    assert tried > 1
    assert "given up after 1 sendings: the receiver answered with status 413" in letters["endpoint refusing"].error


def test_a_new_endpoint_begins_with_the_last_three_days(tmp_path: Path) -> None:
    """
    Events that are older than they would be tried are history, and are not sent to who comes new.
    """
    times = iter([NOW_US() - 4 * 24 * 3600 * 1_000_000, NOW_US() - 1_000_000])
    world = World(MemoryLog(lambda: next(times)))
    world.write(decision(step=1), decision(step=2))
    with Receiver(tmp_path) as receiver, world.notifying(world.plan(receiver)):
        wait_until(lambda: len(receiver.got) == 1, "the delivery")
    assert [id_of(decision(step=2))] == receiver.ids()
    world.close()


def test_a_log_that_stops_is_waited_for(world: World, tmp_path: Path) -> None:
    """
    Without Kafka nothing is sent and the process says so; afterwards all is delivered.
    """
    with Receiver(tmp_path) as receiver, world.notifying(world.plan(receiver)) as (notifier, _):
        wait_until(lambda: notifier.readiness()[0], "readiness")
        world.log.stop()
        wait_until(lambda: "stopped" in notifier.readiness()[1], "the trouble")
        world.log.start()
        world.write(decision())
        wait_until(lambda: len(receiver.got) == 1 and notifier.readiness()[0], "the delivery")


def test_a_topic_made_anew_is_begun_anew(world: World, tmp_path: Path) -> None:
    """
    A place that the topic does not hold any more is left with a line, not with silence.
    """
    with Receiver(tmp_path) as receiver:
        world.log.group_of(world.plan(receiver).group, world.topic).committed[0] = 1000
        world.write(decision())
        with world.notifying(world.plan(receiver)):
            wait_until(lambda: len(receiver.got) == 1, "the delivery")


def test_no_more_wait_than_a_note_can_hold(world: World, tmp_path: Path) -> None:
    """
    With a receiver that is away at most 64 events are read; once it is back all come.
    """
    with Receiver(tmp_path) as receiver:
        receiver.answer = status(503)
        world.write(*(decision(step=step) for step in range(1, 81)))
        with world.notifying(world.plan(receiver)) as (_, shown):
            wait_until(lambda: b'shadow_notify_waiting{endpoint="on-call"} 64.0' in shown.text(), "64 that wait")
            receiver.answer = status(204)
            wait_until(
                lambda: shown.value("shadow_notify_attempts_total", endpoint="on-call", result="delivered") == 80,
                "the deliveries",
            )
    assert 80 == len(set(receiver.ids()))
