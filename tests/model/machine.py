"""A Hypothesis machine that schedules traffic, owners and faults, and compares the store with the reference."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from shadow.records.answers import RecordedGrade, Report, Tick
from tests.model.owner import FATES, Owner
from tests.model.world import EVERY_S, REQUESTS, SPEC_OF_ALL, World
from tests.stream.builders import RUN, SECOND, answer

ANSWER = st.tuples(
    st.integers(0, REQUESTS - 1),
    st.sampled_from(["candidate", "candidate", "candidate", "production", "baseline", "human"]),
    st.sampled_from(["answered"] * 6 + ["timeout", "expired", "unreadable"]),
    st.booleans(),
    st.booleans(),
)
REPORT = st.builds(
    Report,
    process=st.just("proxy"),
    epoch_us=st.just(1),
    sequence=st.integers(1, 2 * REQUESTS),
    seen=st.integers(2 * REQUESTS, 3 * REQUESTS),
    dropped=st.fixed_dictionaries({"queue_full": st.integers(0, 3), "kafka_down": st.integers(0, 2)}),
    is_final=st.booleans(),
)
GRADE = st.sampled_from(["passed", "passed", "failed", "broken"])
FOREIGN = st.tuples(
    st.integers(0, REQUESTS - 1),
    st.sampled_from(sorted(SPEC_OF_ALL.deadlines_us)),
    st.sampled_from(["reward", "reward", "correct", "nosuch"]),
    st.sampled_from(["candidate", "production", "human", "baseline"]),
    st.sampled_from(["asked", "asked", "passed", "failed", "broken"]),
)
FATE = st.sampled_from(["stored", *FATES])
TROUBLE = st.sampled_from(["none", "none", "none", "falls back", "is emptied", "other release"])
WHO = st.integers(0, 2)
RECORDS = st.integers(0, 12)
ANY = st.integers(0, 20)
OWNERS_MAX = 3


class Schedule(RuleBasedStateMachine):
    """Whatever is drawn, the store has the reference's integers in the end, and is a prefix of the log at any time."""

    owner_class: ClassVar[type[Owner]] = Owner
    is_strict: ClassVar[bool] = True
    seen: ClassVar[Counter[str]] = Counter()
    """What happened in all schedules, so that a search that no longer reaches something is noticed."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(is_strict=self.is_strict)
        self.owners = [self.owner_class(self.world)]
        self.tile = SPEC_OF_ALL.first_tile

    def owner(self, who: int) -> Owner:
        """The newest owner is 0; the others are zombies, which do not know that they are."""
        return self.owners[-1 - who % len(self.owners)]

    @rule(answers=st.lists(ANSWER, min_size=2, max_size=8), other=st.none() | REPORT)
    def traffic(self, answers, other):
        """
        Records of roles: firsts, repeats, late ones, and some that do not carry their request; and one that is
        something else: what a proxy has seen and dropped, or what nobody can read.
        """
        self.world.append(other)
        for offset, role, outcome, is_right, is_carrier in answers:
            exchange = self.world.requests[offset] if is_carrier else None
            run, body = ("*" if role == "production" else RUN), (b"right" if is_right else b"wrong")
            time_us = offset * EVERY_S * SECOND
            self.world.append(answer(exchange, offset, time_us, body=body, outcome=outcome, role=role, run=run))

    @rule(
        ahead=st.sampled_from([0, 0, 0, -1, 1]), wait_s=st.sampled_from([0, 1, 12, 40]), short=st.sampled_from([0, 1])
    )
    def tick(self, ahead, wait_s, short):
        """The tick of the next tile, once or again, sometimes too early, out of order, or of an owner that froze."""
        self.world.time_us += wait_s * SECOND
        tile = self.tile + ahead
        ends_us = (tile + 1) * SPEC_OF_ALL.tile_us
        requests_end = -(-ends_us // (EVERY_S * SECOND)) - short
        self.world.append(Tick(RUN, tile, min(REQUESTS, requests_end)))
        self.tile += ahead == 0 and self.world.time_us >= ends_us

    @rule(wait_s=st.sampled_from([-15, 1, 10, 30, 100]))
    def idle(self, wait_s):
        """Time goes on; a new leader's clock may be behind."""
        self.world.time_us = max(0, self.world.time_us + wait_s * SECOND)
        self.world.append(Tick(RUN))

    @rule(who=WHO, count=RECORDS)
    def consume(self, who, count):
        self.owner(who).consume(count)

    @precondition(lambda self: any(owner.asked for owner in self.owners))
    @rule(who=WHO, outcomes=st.lists(GRADE, min_size=1, max_size=12), is_flushed=st.booleans())
    def replies(self, who, outcomes, is_flushed):
        """A grading service answers an owner, or a zombie, each in its own way; oldest questions first."""
        for outcome in outcomes:
            self.owner(who).reply(outcome)
        if is_flushed:
            self.owner(who).flush()

    @rule(grades=st.lists(FOREIGN, min_size=1, max_size=4))
    def foreign_grades(self, grades):
        """Marks and grades that no owner wrote: for pairs that are not there yet, and of graders that nobody asked."""
        for offset, comparison, grader, role, outcome in grades:
            self.world.append(RecordedGrade(RUN, offset, comparison, grader, role, outcome))

    @rule(who=WHO, count=RECORDS, fate=FATE)
    def checkpoint(self, who, count, fate):
        """Some records, and the checkpoint behind them."""
        self.owner(who).consume(count)
        self.owner(who).save(fate)

    @precondition(lambda self: self.world.in_flight)
    @rule(index=ANY)
    def write_arrives(self, index):
        """A write that was under way is applied now, or refused."""
        self.world.deliver(index)

    @rule(who=WHO)
    def crash(self, who):
        """What was in memory is lost, whatever of it was queued for the log included."""
        self.owner(who).load()

    @rule()
    def rebalance(self):
        """Another owner takes the partition; the old one does not know."""
        self.owners = [*self.owners, self.owner_class(self.world)][-OWNERS_MAX:]

    @rule(trouble=TROUBLE, index=ANY)
    def redis(self, trouble, index):
        """Any former state is served, as after fail-overs there and back; or one of another release; or none."""
        match trouble:
            case "falls back":
                self.world.show(index)
            case "is emptied":
                self.world.empty()
            case "other release":
                self.world.write_another_format()

    @rule()
    def quiet(self):
        """Nothing goes wrong for a while: one owner folds what is left, and every integer is compared."""
        last = self.owner_class(self.world)
        for _ in range(2):  # what the first round appends is folded in the second
            last.consume(len(self.world.log.records))
            last.save()
        self.world.check()

    def teardown(self):
        """Everybody writes once more, and then it is quiet."""
        for owner in self.owners:
            owner.consume(len(self.world.log.records))
            owner.save()
        self.quiet()
        type(self).seen.update(self.world.seen)
