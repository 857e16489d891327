"""Read the decisions topic: which runs began, how far each went, what people ordered, what attempt comes next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from shadow.records.decisions import (
    DONE,
    EXTEND,
    FINAL_STAGES,
    HOLD,
    PROMOTE,
    RESUME,
    Command,
    Decision,
    DecisionsRecord,
    Obeyed,
    Started,
)
from shadow.records.policy import CANARY, WATCH

PROMOTED_ELSEWHERE: Final = "production is being replaced, since"
"""How the reason begins of a run that another one's promotion has ended."""

OFFLINE: Final = "offline"


@dataclass(frozen=True, slots=True)
class Run:
    """One run as the topic tells it.

    Args:
        started: How it began.
        decisions: Its transitions by step, repeats left out; the offline stage's (step 0) is before the run.
        commands: What people and alerts ordered, in the topic's order, repeats left out.
        obeyed: Which holds, resumes and extensions the gate took over, and from which tile.
        commands_before: How many of the commands stand before the newest decision.
    """

    started: Started
    decisions: tuple[Decision, ...]
    commands: tuple[Command, ...] = ()
    obeyed: tuple[Obeyed, ...] = ()
    commands_before: int = 0

    @property
    def name(self) -> str:
        return self.started.run

    @property
    def stage(self) -> str:
        """Stage that the run is in."""
        return self.decisions[-1].to_stage if self.decisions else self.started.stage

    @property
    def is_finished(self) -> bool:
        """Whether nothing can be decided any more."""
        return self.stage in FINAL_STAGES

    @property
    def is_live(self) -> bool:
        """Whether its candidate serves live requests, as it goes on to do once it was promoted to all of them."""
        return self.stage in (CANARY, WATCH) or (self.stage == DONE and self.decisions[-1].routing is not None)

    @property
    def holds(self) -> tuple[Command, ...]:
        """The holds that are in force, the oldest first; one resume ends all before it."""
        return _in_force(self.commands)

    def holds_at(self, tile: int) -> tuple[Command, ...]:
        """The holds under which a tile is judged, by what the gate took over."""
        tiles = self._tiles()
        return _in_force([each for each in self.commands if tiles.get(each.command_id, tile + 1) <= tile])

    @property
    def pending(self) -> tuple[Command, ...]:
        """Holds, resumes and extensions that the gate has not taken over yet."""
        known = self._tiles()
        kinds = (HOLD, RESUME, EXTEND)
        return tuple(each for each in self.commands if each.command in kinds and each.command_id not in known)

    @property
    def settled_tile(self) -> int:
        """Tiles below it were judged when a command was obeyed, and decided nothing: nor do they when folded again."""
        return max((each.tile for each in self.obeyed), default=self.started.first_tile)

    @property
    def extended_s(self) -> int:
        """Seconds by which people put the run's longest age off, as far as the gate took it over."""
        known = self._tiles()
        return sum(each.for_s for each in self.commands if each.command == EXTEND and each.command_id in known)

    def extended_s_at(self, tile: int) -> int:
        """The same, of the extensions with which a tile is judged."""
        tiles = self._tiles()
        return sum(
            each.for_s
            for each in self.commands
            if each.command == EXTEND and tiles.get(each.command_id, tile + 1) <= tile
        )

    @property
    def expires_us(self) -> int:
        """When the run's longest age is over, extensions included."""
        return self.started.expires_us + self.extended_s * 1_000_000

    def command(self, command_id: str) -> Command | None:
        """A command by its id."""
        return next((each for each in self.commands if each.command_id == command_id), None)

    def _tiles(self) -> dict[str, int]:
        return {each.command_id: each.tile for each in self.obeyed}


def _in_force(commands: Sequence[Command]) -> tuple[Command, ...]:
    holds: list[Command] = []
    for each in commands:
        if each.command == HOLD:
            holds.append(each)
        elif each.command == RESUME:
            holds = []
    return tuple(holds)


def runs_in(records: Sequence[DecisionsRecord]) -> list[Run]:
    """All runs, oldest first; of two decisions, commands or effects with one id the first one counts."""
    started = {record.run: record for record in records if isinstance(record, Started)}
    decisions: dict[str, dict[str, Decision]] = {run: {} for run in started}
    commands: dict[str, dict[str, Command]] = {run: {} for run in started}
    obeyed: dict[str, dict[str, Obeyed]] = {run: {} for run in started}
    before = dict.fromkeys(started, 0)
    for record in records:
        if record.run not in started:
            continue
        if isinstance(record, Decision):
            if record.from_stage == OFFLINE:
                continue  # it was taken before the run began
            if record.decision_id not in decisions[record.run]:
                before[record.run] = len(commands[record.run])
            decisions[record.run].setdefault(record.decision_id, record)
        elif isinstance(record, Command):
            commands[record.run].setdefault(record.command_id, record)
        elif isinstance(record, Obeyed):
            obeyed[record.run].setdefault(record.command_id, record)
    return [
        Run(
            begin,
            tuple(sorted(decisions[run].values(), key=lambda decision: decision.step)),
            tuple(commands[run].values()),
            tuple(obeyed[run].values()),
            before[run],
        )
        for run, begin in started.items()
    ]


def unfinished(runs: Sequence[Run], digest: str) -> Run | None:
    """The newest unfinished run of a configuration."""
    return next((run for run in reversed(runs) if run.started.digest == digest and not run.is_finished), None)


def next_attempt(runs: Sequence[Run], candidate: str, production: str) -> int:
    """Ordinal of the next run of a candidate against a production, under any configuration (statistics.md, a.6)."""
    return 1 + sum(run.started.candidate == candidate and run.started.production == production for run in runs)


def live_beside(runs: Sequence[Run], mine: Started) -> Run | None:
    """Another run whose candidate serves live requests of the same production: only one may at a time."""
    return next((run for run in runs if _is_rival(run.started, mine) and run.is_live), None)


def promoted_after(records: Sequence[DecisionsRecord], mine: Started) -> Decision | None:
    """The promotion of another candidate over the same production since a run began: it ends the run."""
    rivals: set[str] = set()
    is_after = False
    for record in records:
        if isinstance(record, Started):
            is_after = is_after or record.run == mine.run
            if _is_rival(record, mine):
                rivals.add(record.run)
        elif not isinstance(record, Decision) or record.run not in rivals or record.decision != PROMOTE:
            continue
        elif is_after and record.to_stage in (WATCH, DONE):
            return record
    return None


def _is_rival(other: Started, mine: Started) -> bool:
    return other.run != mine.run and other.production == mine.production
