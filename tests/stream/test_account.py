"""Every live request of a partition is present, dropped with a reason, or lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shadow.stream.account import Account, Accounts, Mark


def test_gap_without_a_reason_is_lost():
    """
    A sequence number that is not in the topic is a lost request; a dropped one never got a number.
    """
    accounts = Accounts()

    # sequence  1   2   3   .   5
    # seen      1   2   4   .   7        two were dropped: before 3, and between 3 and 5
    for sequence, seen, dropped in ((1, 1, 0), (2, 2, 0), (3, 4, 1), (5, 7, 2)):
        accounts.present("proxy", 1, Mark(sequence, seen, {"queue_full": dropped}))

    assert Account(seen=7, present=4, lost=1, dropped={"queue_full": 2}) == accounts.account()


def test_unacknowledged_copies_are_no_loss():
    """
    A copy that Kafka never acknowledged is counted under its reason, and only once.
    """
    accounts = Accounts()
    accounts.present("proxy", 1, Mark(1, 1, {}))
    accounts.report("proxy", 1, Mark(4, 4, {"kafka_down": 3}), is_final=True)

    assert Account(seen=4, present=1, lost=0, dropped={"kafka_down": 3}) == accounts.account()


def test_what_happened_before_the_run_is_left_out():
    """
    The first present request of an epoch bounds the range from below, whatever the counters were.
    """
    accounts = Accounts()
    accounts.report("proxy", 1, Mark(90, 100, {"off": 10}), is_final=False)
    accounts.present("proxy", 1, Mark(101, 120, {"off": 19}))
    accounts.present("proxy", 1, Mark(102, 122, {"off": 20}))

    assert Account(seen=3, present=2, lost=0, dropped={"off": 1}) == accounts.account()


events = st.lists(st.sampled_from(["present", "lost", "queue_full", "kafka_down"]), min_size=1, max_size=60)


@given(events, st.randoms(use_true_random=False))
def test_sums_are_exact_in_any_order(kinds, random):
    """
    Seen equals present plus dropped plus lost, in whatever order the records are folded.
    """
    sequence = seen = 0
    dropped = {"queue_full": 0, "kafka_down": 0}
    records = []
    for kind in ["present", *kinds]:
        seen += 1
        if kind == "queue_full":
            dropped["queue_full"] += 1
            continue
        sequence += 1
        if kind == "kafka_down":
            dropped["kafka_down"] += 1
        if kind == "present":
            records.append(Mark(sequence, seen, dict(dropped)))
    random.shuffle(records)
    accounts = Accounts()
    for mark in records:
        accounts.present("proxy", 1, mark)
    accounts.report("proxy", 1, Mark(sequence, seen, dict(dropped)), is_final=True)

    account = accounts.account()

    assert seen == account.seen == account.present + account.lost + sum(account.dropped.values())
    assert kinds.count("lost") == account.lost
    assert account == Accounts.from_json(accounts.to_json()).account()
