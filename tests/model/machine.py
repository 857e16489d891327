"""A Hypothesis machine that schedules traffic, owners and faults, and compares the store with the reference."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from shadow.records.answers import Tick
from tests.model.world import REQUESTS, SPEC_OF_ALL, Owner, World
from tests.stream.builders import RUN, SECOND, answer

OFFSET = st.integers(0, REQUESTS - 1)
ROLE = st.sampled_from(["candidate", "candidate", "production", "baseline", "human"])
OUTCOME = st.sampled_from(["answered"] * 4 + ["timeout", "expired", "unreadable"])
WHO = st.integers(0, 2)


class Miscounted(Exception):
    """The store holds other integers than the reference."""


class Schedule(RuleBasedStateMachine):
    """Whatever is drawn, the store ends up with the reference's integers."""

    owner_class = Owner

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.owners = [self.owner_class(self.world)]
        self.tile = 0

    def owner(self, who: int) -> Owner:
        return self.owners[who % len(self.owners)]

    @rule(offset=OFFSET, role=ROLE, outcome=OUTCOME, is_right=st.booleans(), is_carrier=st.booleans())
    def answer(self, offset, role, outcome, is_right, is_carrier):
        """A record of a role; a repeat, a late one, or one that does not carry its request as often as not."""
        exchange = self.world.requests[offset] if is_carrier else None
        run = "*" if role == "production" else RUN
        body = b"right" if is_right else b"wrong"
        time_us = offset * 4 * SECOND
        self.world.append(answer(exchange, offset, time_us, body=body, outcome=outcome, role=role, run=run))

    @rule(ahead=st.sampled_from([0, 0, 0, -1, 1]), wait_s=st.sampled_from([0, 1, 12, 40]))
    def tick(self, ahead, wait_s):
        """The tick of the next tile, once or again, sometimes too early or out of order."""
        self.world.time_us += wait_s * SECOND
        tile = self.tile + ahead
        if tile < 0:
            return
        ends = (tile + 1) * SPEC_OF_ALL.tile_us
        self.world.append(Tick(RUN, tile, min(REQUESTS, (ends + 4 * SECOND - 1) // (4 * SECOND))))
        self.tile += ahead == 0 and self.world.time_us >= ends

    @rule(wait_s=st.integers(1, 30))
    def idle(self, wait_s):
        """Time goes on."""
        self.world.time_us += wait_s * SECOND
        self.world.append(Tick(RUN))

    @rule(who=WHO, count=st.integers(1, 12))
    def consume(self, who, count):
        self.owner(who).consume(count)

    @rule(who=WHO, count=st.integers(0, 12), is_answer_lost=st.booleans(), dies=st.booleans())
    def checkpoint(self, who, count, is_answer_lost, dies):
        """Some records, and the checkpoint behind them, of the owner or of a zombie."""
        self.owner(who).consume(count)
        self.owner(who).save(is_answer_lost=is_answer_lost, dies=dies)

    @rule(who=WHO)
    def crash(self, who):
        self.owner(who).load()

    @rule()
    def rebalance(self):
        """Another owner takes the partition; the old one does not know."""
        if len(self.owners) < 3:
            self.owners.append(self.owner_class(self.world))

    @rule(writes=st.integers(1, 3))
    def redis_falls_back(self, writes):
        """A fail-over to a replica that lags."""
        remembered = len(self.world.store._snapshots)
        if remembered:
            self.world.store.roll_back(min(writes, remembered))

    @rule()
    def redis_is_emptied(self):
        self.world.store.wipe()

    def teardown(self):
        """Everybody goes on until everything is folded; then every integer is compared."""
        for owner in (*self.owners, self.owner_class(self.world)):
            owner.consume(10**6)
            owner.save()
        last = self.owner_class(self.world)
        last.consume(10**6)
        last.save()
        expected, stored = self.world.expected(), self.world.stored()
        if expected != stored:
            raise Miscounted(f"the reference has {expected}, the store {stored}")
