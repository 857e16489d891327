"""What people may order of a run, and what the gate makes of it.

    hold      no promotion from now on, until someone resumes; rollbacks by evidence go on
    resume    ends every hold
    extend    the run's longest age, and with it T of the change detector, grows
    promote   against the gate's own proof (override); where four eyes are wanted, once another person confirms it
    rollback  at once

A rollback comes before a promotion, and a hold takes back a promotion that the gate has not obeyed yet.

Pure: everything follows from the records of `shadow-decisions` in their order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from shadow.gate.history import Run
from shadow.gate.judgement import Judgement
from shadow.records.decisions import COMMANDS, EXTEND, HOLD, PROMOTE, RESUME, ROLLBACK, Command, Decision

NAME_MAX: Final = 64
REASON_MAX: Final = 500
EXTENSION_S_MAX: Final = 365 * 86_400
_DONE: Final = {PROMOTE: "promoted", ROLLBACK: "rolled back"}


@dataclass(frozen=True, slots=True)
class Order:
    """A promotion or a rollback that the gate must obey.

    Args:
        confirmation: Of the second person; None where there is none.
    """

    command: Command
    confirmation: Command | None = None


def fault(command: Command) -> str:
    """What is wrong with a command whatever its run; empty if nothing."""
    if command.command not in COMMANDS:
        return f"read {command.command!r}, must be one of {', '.join(COMMANDS)}"
    for name, value, most in (("name", command.by, NAME_MAX), ("reason", command.reason, REASON_MAX)):
        if not value.strip() or len(value) > most or not value.isprintable():
            shown = repr(value[:80])
            return f"the {name} is {shown}, must be one line of 1 to {most} printable characters"
    if command.command == EXTEND and not 1 <= command.for_s <= EXTENSION_S_MAX:
        return f"the extension is {command.for_s} s, must be 1 s to 365d"
    if command.command == PROMOTE and not command.override:
        return "the gate promotes by itself once everything is proven; a person's promotion needs --override"
    return ""


def refusal(run: Run, command: Command, *, four_eyes: bool) -> str:
    """Why a command may not be given to a run; empty if it may.

    Args:
        four_eyes: Whether a promotion needs a second person (`admin.four_eyes`).
    """
    wrong = fault(command)
    if wrong:
        return wrong
    if run.is_finished:
        last = run.decisions[-1]
        return f"the run {run.name} has ended ({last.decision} at tile {last.tile}): it takes no more commands"
    if command.command == RESUME and not run.holds:
        return f"no hold is in force on the run {run.name}, so there is nothing to resume"
    if command.command == PROMOTE:
        return _promotion_refused(run, command, four_eyes=four_eyes)
    return ""


def _promotion_refused(run: Run, command: Command, *, four_eyes: bool) -> str:
    if run.holds:
        return f"the run {run.name} is held by {told(run.holds[0])}; resume it first"
    back = _rollback(run)
    if back is not None:
        return f"the run {run.name} is to be rolled back, ordered by {told(back)}"
    open_ = _promotion(run)
    if not command.confirms:
        if open_ is None:
            return ""
        waits = "--confirm it by its id" if four_eyes else "the gate obeys it soon"
        return f"the promotion {open_.command_id} by {told(open_)} is there already; {waits}"
    if not four_eyes:
        return "admin.four_eyes is not true in this configuration, so a promotion needs no confirmation"
    if open_ is None or open_.command_id != command.confirms:
        known = f"; {open_.command_id} waits" if open_ is not None else ""
        return f"no promotion {command.confirms!r} of the run {run.name} waits for a confirmation{known}"
    if same_person(open_.by, command.by):
        return f"{open_.by} ordered this promotion, so another person must confirm it"
    if confirmation_of(run, open_) is not None:
        return f"the promotion {open_.command_id} is confirmed already; the gate obeys it soon"
    return ""


def same_person(one: str, other: str) -> bool:
    """Whether two names are one person's."""
    return one.strip().casefold() == other.strip().casefold()


def told(command: Command) -> str:
    """Who gave a command, when and why; the same words on every machine."""
    when = datetime.fromtimestamp(command.given_us // 1_000_000, UTC)
    return f"{command.by} at {when:%Y-%m-%d %H:%M:%S} UTC: {command.reason}"


def due(run: Run, *, four_eyes: bool) -> Order | None:
    """The promotion or rollback that the gate must obey now; None if there is none."""
    if run.is_finished:
        return None
    back = _rollback(run)
    if back is not None:
        return Order(back)
    promotion = None if run.holds else _promotion(run)
    if promotion is None:
        return None
    confirmation = confirmation_of(run, promotion)
    return None if four_eyes and confirmation is None else Order(promotion, confirmation)


def order_of(run: Run, command_id: str) -> Order | None:
    """The order that a recorded decision obeyed; None where the topic has no such command."""
    command = run.command(command_id)
    if command is None or command.command not in (PROMOTE, ROLLBACK):
        return None
    return Order(command, confirmation_of(run, command) if command.command == PROMOTE else None)


def confirmation_of(run: Run, promotion: Command) -> Command | None:
    """The first confirmation of a promotion by another person."""
    for each in run.commands:
        confirms = each.command == PROMOTE and each.confirms == promotion.command_id
        if confirms and not same_person(each.by, promotion.by):
            return each
    return None


def _rollback(run: Run) -> Command | None:
    done = {each.command_id for each in run.decisions}
    return next((each for each in run.commands if each.command == ROLLBACK and each.command_id not in done), None)


def _promotion(run: Run) -> Command | None:
    """The promotion that no hold and no decision behind it took back."""
    found: Command | None = None
    for each in run.commands[run.commands_before :]:
        if each.command == HOLD:
            found = None
        elif each.command == PROMOTE and each.override and not each.confirms and found is None:
            found = each
    return found


def obeying(judgement: Judgement, order: Order) -> Judgement:
    """The judgement with an order in the place of what the evidence says."""
    command, second = order.command, order.confirmation
    confirmed = f", confirmed by {second.by} ({second.reason})" if second is not None else ""
    reason = (
        f"{_DONE[command.command]} by {command.by}{confirmed}: {command.reason}; "
        f"the evidence alone says {judgement.decision}: {judgement.reason}"
    )
    return replace(judgement, decision=command.command, culprits=(), reason=reason)


def under_hold(run: Run, tile: int, judgement: Judgement) -> Judgement:
    """The judgement of a tile as people let it stand: a promotion under a hold is none."""
    if judgement.decision != PROMOTE:
        return judgement
    holds = run.holds_at(tile)
    if holds:
        why = f"held by {told(holds[0])}"
    elif tile < run.settled_tile:
        why = f"tile {tile} was judged before the commands that hold from tile {run.settled_tile}, and decided nothing"
    else:
        return judgement
    return replace(judgement, decision=HOLD, reason=f"{why}; the evidence says promote: {judgement.reason}")


def forbidden(known: Run, now: Run, decision: Decision) -> bool:
    """Whether the topic, read to its end, stands against a decision: someone ordered something since it was made.

    A rollback by evidence is never forbidden.

    Args:
        known: The run as it was known when the decision was made.
        now: As the topic says it inside the decision's transaction.
    """
    if decision.decision == ROLLBACK and not decision.command_id:
        return False
    if decision.decision == PROMOTE and (now.holds or now.pending):
        return True
    return (known.commands, known.obeyed) != (now.commands, now.obeyed)


def people_tree(run: Run) -> dict[str, Any]:
    """What people ordered and how far it is obeyed, JSON-ready, for `status` and `explain`."""
    promotion = None if run.is_finished or run.holds else _promotion(run)
    back = None if run.is_finished else _rollback(run)
    pending = [*run.pending, *(each for each in (promotion, back) if each is not None)]
    second = confirmation_of(run, promotion) if promotion is not None else None
    return {
        "holds": [] if run.is_finished else [_tree(each) for each in run.holds],
        "pending": [] if run.is_finished else [_tree(each) for each in pending],
        "confirmed_by": second.by if second is not None else None,
        "extended_s": run.extended_s,
        "expires_us": run.expires_us,
    }


def _tree(command: Command) -> dict[str, Any]:
    return {
        "command_id": command.command_id,
        "command": command.command,
        "by": command.by,
        "reason": command.reason,
        "given_us": command.given_us,
        "told": told(command),
    }
