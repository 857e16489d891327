"""Give a command: look at the whole topic, check, and write, all within one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shadow.adapters.avro import encode
from shadow.adapters.decisions import decisions_in
from shadow.errors import Usage
from shadow.gate.commands import refusal
from shadow.gate.history import Run, runs_in
from shadow.ports import DecisionWriter
from shadow.records.decisions import Command
from shadow.records.log import LogRecord


class UnknownRun(Usage):
    """The topic has no such run."""


class NotAllowed(Usage):
    """The run's state does not allow the command."""


@dataclass(frozen=True, slots=True)
class Given:
    """A command that stands in the topic.

    Args:
        run: Its run before it.
        is_new: False where the very same command, by its id, was there already.
    """

    command: Command
    run: Run
    is_new: bool


def give(writer: DecisionWriter, command: Command, *, four_eyes: bool) -> Given:
    """Write a command unless its run does not allow it; the same id is written once, however often it is given.

    Raises:
        UnknownRun: If the topic has no such run.
        NotAllowed: If the run's state does not allow it.
        Unavailable: If Kafka does not answer; the same call may be made again.
    """
    found: list[Given] = []

    def build(records: Sequence[LogRecord]) -> bytes | None:
        run = named(runs_in(decisions_in(records)), command.run)
        there = run.command(command.command_id)
        found[:] = [Given(there or command, run, is_new=there is None)]
        if there is not None:
            return None
        refused = refusal(run, command, four_eyes=four_eyes)
        if refused:
            raise NotAllowed(refused)
        return encode(command)

    writer.append(f"{command.run}/cmd/{command.command_id}".encode(), build)
    return found[0]


def named(runs: Sequence[Run], name: str) -> Run:
    """A run by its name. Raises UnknownRun."""
    for run in runs:
        if run.name == name:
            return run
    raise UnknownRun(f"no run is named {name[:80]!r}; known are {', '.join(run.name for run in runs) or 'none'}")
