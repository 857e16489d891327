"""Obey people: see what they ordered, write down from which tile it holds, and let nothing be decided against it.

1. The decisions topic is read each second, so that an order is obeyed soon.
2. A hold, a resume or an extension that nobody has taken over is written as `Obeyed`, with the first tile that is
   judged with it: the newest one, which has decided nothing; of a resume the one behind, since the newest was judged
   under the hold. From then on the log says what a replay must do.
3. Inside the transaction of a decision all of it is looked at again (`forbidden`): what came in between
    is obeyed first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from shadow.adapters.avro import encode
from shadow.adapters.decisions import DecisionsTail, decisions_in
from shadow.adapters.logs import Repeated
from shadow.errors import Unavailable
from shadow.gate.commands import Order, due
from shadow.gate.history import Run, runs_in
from shadow.gate.judgement import Judgement
from shadow.ports import Clock, DecisionWriter
from shadow.records.decisions import RESUME, ROLLBACK, Command, DecisionsRecord, Obeyed, Started
from shadow.records.log import LogRecord

log = logging.getLogger("shadow.gate")

LOOK_US: Final = 1_000_000
AWAY_US: Final = 10_000_000
"""How long a topic that did not answer is let alone: judging must not wait for it each second."""


class People:
    """What people ordered of one run, as the topic said it last.

    Args:
        four_eyes: Whether a person's promotion needs a second person (`admin.four_eyes`).
    """

    def __init__(self, started: Started, writer: DecisionWriter, clock: Clock, *, four_eyes: bool) -> None:
        self.run = Run(started, ())
        self.records: Sequence[DecisionsRecord] = ()
        self._started = started
        self._writer = writer
        self._tail = DecisionsTail(writer)
        self._clock = clock
        self._four_eyes = four_eyes
        self._next_us = 0
        self._trouble = Repeated(log, every_s=30.0)

    @property
    def order(self) -> Order | None:
        """The promotion or rollback to obey now."""
        return due(self.run, four_eyes=self._four_eyes)

    def refresh(self) -> Run:
        """Read the topic to its end. Raises Unavailable."""
        self.records = self._tail.read()
        self.run = self.run_in(self.records)
        self._next_us = self._clock.now_us() + LOOK_US
        return self.run

    def look(self) -> None:
        """1. Read the topic if a second has passed; one that is away is no trouble as long as nothing is decided."""
        if self._clock.now_us() < self._next_us:
            return
        try:
            self.refresh()
        except Unavailable as away:
            self._next_us = self._clock.now_us() + AWAY_US
            self._trouble.warning("what people order cannot be read: %s", away)

    def run_in(self, records: Sequence[DecisionsRecord]) -> Run:
        """The run as records of the topic tell it."""
        return next((run for run in runs_in(records) if run.name == self._started.run), Run(self._started, ()))

    def judged(self, tile: int, judge: Callable[[int, bool], Judgement], *, is_broken: bool) -> Judgement:
        """Judge a tile with the extensions that hold there, and take over what is pending unless it is rolled back.

        Args:
            is_broken: The evidence rolls nothing back then.
            judge: Gets the seconds by which the longest age is extended, and whether bounds are wanted; a decision
                that obeys a person is written down with its bounds.

        Raises:
            Unavailable: If Kafka does not take down what is obeyed.
        """
        while True:
            judgement = judge(self.run.extended_s_at(tile), self.order is not None)
            if (judgement.decision == ROLLBACK and not is_broken) or not self.run.pending:
                return judgement
            # A look fences nobody: another gate may have taken it over since.
            for command in self.refresh().pending:
                self._take_over(command, tile)
            self.refresh()

    def _take_over(self, command: Command, tile: int) -> None:
        """2. Write from which tile a command holds, unless another gate did."""
        wanted = max(tile, self._started.first_tile) + (command.command == RESUME)

        def build(records: Sequence[LogRecord]) -> bytes | None:
            run = self.run_in(decisions_in(records))
            if run.is_finished or command not in run.pending:
                return None
            # Never before what was obeyed earlier, so that the tiles stand in the order of the commands.
            from_tile = max(wanted, run.settled_tile)
            return encode(Obeyed(command.command_id, run.name, from_tile, self._clock.now_us()))

        key = f"{self._started.run}/cmd/{command.command_id}/obeyed".encode()
        if self._writer.append(key, build) is not None:
            log.info("%s: %s by %s holds from tile %d on", self._started.run, command.command, command.by, wanted)
