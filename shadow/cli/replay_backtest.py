"""Judge a past run by another policy: what of another configuration a run's log can answer, and what it cannot."""

from __future__ import annotations

from dataclasses import dataclass

from shadow.errors import Usage
from shadow.graders.grader import GRADERS
from shadow.records.comparisons import PRODUCTION, ROLES_BY_COMPARISON
from shadow.records.decisions import Started
from shadow.records.grades import GraderSpec
from shadow.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Backtest:
    """A configuration that can be folded over a run's log.

    Args:
        settings: The run's own, with rules, slices, graders and times of the other one.
        notes: What of the other one could not be had, one sentence each.
    """

    settings: Settings
    notes: tuple[str, ...]


def backtest(base: Settings, other: Settings, started: Started, *, regrade: bool) -> Backtest:
    """Put another configuration's policy upon a run.

    Who was mirrored, asked and what calls cost stays as it was in the run. Deterministic graders grade the recorded
    answers; grades of graders that ask a service are those that the run recorded, and where it recorded none there is
    no evidence.

    Args:
        base: The run's own configuration.
        regrade: Whether deterministic graders may differ from the run's.

    Raises:
        Usage: If they differ and may not.
    """
    mine = {spec.name: spec for spec in base.grader_specs()}
    theirs = {spec.name: spec for spec in other.grader_specs()}
    changed = [
        name for name, spec in theirs.items() if not is_recorded(spec) and _grading(spec) != _grading(mine.get(name))
    ]
    if changed and not regrade:
        raise Usage(
            f"the graders {', '.join(changed)} are not configured as in the run {started.run}; "
            "give --regrade to grade its answers anew with them"
        )
    notes = [f"{name}: graded anew, since its settings are not those of the run" for name in changed]
    graders = {name: section for name, section in other.graders.items() if not is_recorded(theirs[name])}
    for name, spec in theirs.items():
        if not is_recorded(spec):
            continue
        missing = _why_unrecorded(spec, mine.get(name), base, other)
        if missing:
            notes.append(f"{name}: no evidence, since {missing}")
        else:
            graders[name] = base.graders[name]
            if spec != mine[name]:
                notes.append(f"{name}: the grades that the run recorded are used, not its changed settings")
    if other.times.tile_us != base.times.tile_us:
        notes.append(f"tile: {started.tile_us / 1e6:g} s as in the run, since its ticks stand in the log")
    times = other.times.model_copy(update={"tile_us": started.tile_us})
    parts = {"slices": other.slices, "graders": graders, "stages": other.stages, "times": times}
    tested = base.model_copy(update=parts)
    for comparison in tested.policy().comparisons:
        for role in ROLES_BY_COMPARISON[comparison]:
            if role != PRODUCTION and not base.worker_rate(role):
                notes.append(f"{comparison}: no evidence, since the run asked no {role}")
    return Backtest(tested, tuple(notes))


def is_recorded(spec: GraderSpec) -> bool:
    """Whether a grader asks a service, so that its grades stand in the log."""
    return GRADERS[spec.kind].is_recorded


def _grading(spec: GraderSpec | None) -> object:
    """What decides a grade; the slices only say where it counts."""
    return None if spec is None else (spec.kind, dict(spec.params))


def _why_unrecorded(spec: GraderSpec, mine: GraderSpec | None, base: Settings, other: Settings) -> str:
    """Why the log does not hold the grades that a recorded grader needs; empty where it holds them."""
    if mine is None or mine.kind != spec.kind:
        return "the run had no such grader, and a service cannot be asked about the past"
    asked = {slice.name: slice for slice in base.slice_specs()}
    now = {slice.name: slice for slice in other.slice_specs()}
    for name in mine.slices:
        if now.get(name) != asked.get(name):
            return f"the slice {name}, for which the run asked it, is not the same"
    return ""
