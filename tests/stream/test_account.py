"""Every live request of a partition is present, dropped with a reason, or lost; or nothing is said of it yet."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shadow.records.answers import Report, Tick
from shadow.stream.account import Account, Accounts, Mark
from tests.stream.builders import RUN, SECOND, AnswersLog, answer, fold_of, request

EVERYTHING = 1 << 40


def settled(accounts: Accounts) -> Account:
    """The account once everything that is known is decided and stands behind a tick."""
    for _ in range(2):
        accounts.tick(0)
        accounts.advance(EVERYTHING)
    return accounts.account()


def test_gap_without_a_reason_is_lost():
    """
    A sequence number that is not in the topic is a lost request; a dropped one never got a number.
    """
    accounts = Accounts()

    # sequence  1   2   3   .   5
    # seen      1   2   4   .   7        two were dropped: before 3, and between 3 and 5
    for sequence, seen, dropped in ((1, 1, 0), (2, 2, 0), (3, 4, 1), (5, 7, 2)):
        accounts.present("proxy", 1, Mark(sequence, seen, {"queue_full": dropped}), offset=sequence)

    assert Account(seen=7, present=4, lost=1, dropped={"queue_full": 2}) == settled(accounts)


def test_unacknowledged_copies_are_no_loss():
    """
    A copy that Kafka never acknowledged is counted under its reason, and only once.
    """
    accounts = Accounts()
    accounts.present("proxy", 1, Mark(1, 1, {}), offset=0)
    accounts.report("proxy", 1, Mark(4, 4, {"kafka_down": 3}), is_final=True)

    assert Account(seen=4, present=1, lost=0, dropped={"kafka_down": 3}) == settled(accounts)


def test_what_happened_before_the_run_is_left_out():
    """
    The first present request of an epoch bounds the range from below, whatever the counters were.
    """
    accounts = Accounts()
    accounts.report("proxy", 1, Mark(90, 100, {"off": 10}), is_final=False)
    accounts.present("proxy", 1, Mark(101, 120, {"off": 19}), offset=0)
    accounts.present("proxy", 1, Mark(102, 122, {"off": 20}), offset=1)

    assert Account(seen=3, present=2, lost=0, dropped={"off": 1}) == settled(accounts)


def test_a_report_before_the_first_decision_counts():
    """
    The last report of a proxy may be read before any of its requests is decided; it bounds the range all the same.
    """
    accounts = Accounts()
    accounts.report("proxy", 1, Mark(3, 3, {}), is_final=True)
    accounts.present("proxy", 1, Mark(1, 1, {}), offset=0)

    assert Account(seen=3, present=1, lost=2, dropped={}) == settled(accounts)


def test_requests_in_flight_are_open_and_not_lost():
    """
    A report that runs ahead of the decisions says nothing of losses until every request below its tick is decided.
    """
    accounts = Accounts()
    accounts.present("proxy", 1, Mark(1, 1, {}), offset=0)
    accounts.report("proxy", 1, Mark(5, 6, {"queue_full": 1}), is_final=False)
    assert Account(seen=0, present=0, lost=0, dropped={}, open=6) == accounts.account()

    accounts.tick(4)  # one of the five copies never came: the partition ends at 4
    accounts.advance(1)
    assert Account(seen=0, present=0, lost=0, dropped={}, open=6) == accounts.account()

    for sequence, offset in ((4, 3), (2, 1), (3, 2), (6, 4)):
        accounts.present("proxy", 1, Mark(sequence, sequence + (sequence > 5), {"queue_full": 0}), offset=offset)
    accounts.advance(4)
    assert Account(seen=6, present=4, lost=1, dropped={"queue_full": 1}, open=1) == accounts.account()


events = st.lists(st.sampled_from(["present", "lost", "queue_full", "kafka_down"]), min_size=1, max_size=60)


@given(events, st.randoms(use_true_random=False))
def test_sums_are_exact_in_any_order(kinds, random):
    """
    Seen equals present plus dropped plus lost at every moment, nothing is called lost that still comes, a snapshot
    changes nothing, and in the end all requests are accounted for, in whatever order they are decided.
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
            records.append((len(records), Mark(sequence, seen, dict(dropped))))
    random.shuffle(records)
    accounts = Accounts()
    decided: set[int] = set()
    for offset, mark in records:
        accounts.present("proxy", 1, mark, offset=offset)
        decided.add(offset)
        base = next(number for number in range(len(records) + 1) if number not in decided)
        if random.random() < 0.3:
            accounts.tick(random.randrange(base, len(records) + 1))
        accounts.advance(base)
        accounts = Accounts.from_json(accounts.to_json())
        account = accounts.account()
        assert account.seen == account.present + account.lost + sum(account.dropped.values())
        assert account.lost <= kinds.count("lost")
    accounts.report("proxy", 1, Mark(sequence, seen, dict(dropped)), is_final=True)

    account = settled(accounts)

    assert seen == account.seen == account.present + account.lost + sum(account.dropped.values())
    assert (kinds.count("lost"), 0) == (account.lost, account.open)
    assert account == Accounts.from_json(accounts.to_json()).account()


def test_the_fold_says_lost_only_behind_closed_evidence():
    """
    While answers are under way their requests are open; the tile's close accounts for them, and for the lost one.
    """
    requests = {offset: request(number) for offset, number in enumerate((1, 2, 4))}  # number 3 never came
    fold, log = fold_of(requests), AnswersLog()

    def apply(content, time_us):
        fold.apply(*log.append(content, time_us))
        return fold.state.accounts.account()

    apply(answer(requests[0], 0, 1 * SECOND), 2 * SECOND)
    account = apply(Report("proxy", 1, 4, 4, {}), 3 * SECOND)
    assert (0, 0, 4) == (account.seen, account.lost, account.open)
    apply(Tick(RUN, 0, 3), 10 * SECOND)
    account = apply(answer(requests[2], 2, 1 * SECOND), 11 * SECOND)
    assert (0, 0, 4) == (account.seen, account.lost, account.open)
    account = apply(answer(requests[1], 1, 1 * SECOND), 12 * SECOND)
    assert Account(seen=4, present=3, lost=1, dropped={}) == account
