"""What a policy can prove at a given traffic, and when: `shadow plan`. Needs no services."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from shadow.cli import wiring
from shadow.cli.exits import DONE, checked_output, exiting
from shadow.errors import Usage
from shadow.gate.laws import Assumed, Detectable
from shadow.gate.plan import Plan, RulePlan, plan_to_json, rates_of
from shadow.gate.plan import plan as plan_of
from shadow.gate.stats.power import PSI
from shadow.records.policy import Rule
from shadow.records.slices import ALL
from shadow.settings.settings import Settings
from shadow.settings.traffic import Supply
from shadow.settings.units import duration_us_from, per_hour_from

UNITS = {"points": "points", "failing": "% fail", "ratio": "x"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(exiting(plan))


def plan(
    rate: Annotated[
        str,
        typer.Option("--rate", help="Live requests that methods and paths admit, such as 60/min.", metavar="RATE"),
    ],
    config: Annotated[Path, typer.Option("--config", "-c", metavar="FILE")] = Path("shadow.yaml"),
    slice_rate: Annotated[
        list[str] | None,
        typer.Option(
            "--slice-rate",
            help="Requests of one slice before sampling, once for each; else its `traffic` in the configuration.",
            metavar="NAME=RATE",
        ),
    ] = None,
    by: Annotated[str, typer.Option("--by", help="Hour at which the plan is read.", metavar="DURATION")] = "24h",
    psi: Annotated[float, typer.Option("--psi", help="Share of pairs whose grades differ, in (0, 1].")] = PSI,
    gain: Annotated[
        float | None,
        typer.Option("--gain", help="By how much the candidate is better where a rule demands it; else twice that."),
    ] = None,
    design_effect: Annotated[
        float, typer.Option("--design-effect", help="How many pairs of one session count as one.")
    ] = 1.0,
    attempt: Annotated[int, typer.Option("--attempt", help="Which attempt of this candidate it would be.")] = 1,
    output: Annotated[str, typer.Option("--output", "-o", help="table or json")] = "table",
) -> int:
    """Say what this policy proves and finds at a given traffic, and when; refuses what cannot be proven in time."""
    checked_output(output)
    assumed = _assumed(psi, gain, design_effect)
    if attempt < 1:
        raise Usage(f"--attempt: read {attempt}, must be at least 1")
    by_us = duration_us_from(by)
    if not by_us:
        raise Usage(f"--by: read {by!r}, must be a duration such as 12h, 24h or 7d")
    settings = wiring.settings_from(config)
    policy = settings.policy()
    rules = next(stage.rules for stage in policy.stages if stage.name == "shadow")
    supply = _supply(settings, _per_h("--rate", rate), slice_rate or [])
    _refuse_unknown(supply, rules)
    rates = rates_of(rules, supply.rule_per_h, supply.slice_per_h)
    found = plan_of(policy, rates, by_s=by_us / 1e6, assumed=assumed, attempt=attempt)
    if output == "json":
        typer.echo(orjson.dumps(plan_to_json(found), option=orjson.OPT_INDENT_2).decode())
    else:
        Console(highlight=False).print(shown(found))
    if found.refusals:
        raise Usage("\n".join(found.refusals))
    return DONE


def _assumed(psi: float, gain: float | None, effect: float) -> Assumed:
    if not 0 < psi <= 1:
        raise Usage(f"--psi: read {psi:g}, must be a share in (0, 1]")
    if gain is not None and not 0 < gain < 1:
        raise Usage(f"--gain: read {gain:g}, must be a difference in (0, 1)")
    if not 1 <= effect <= 1e6:
        raise Usage(f"--design-effect: read {effect:g}, must be from 1 to 1,000,000")
    return Assumed(psi=psi, gain=gain, effect=effect)


def _per_h(option: str, text: str) -> float:
    found = per_hour_from(text)
    if found is None:
        raise Usage(f"{option}: read {text!r}, must be a rate above 0 such as 300/h, 60/min or 2/s")
    return found


def _supply(settings: Settings, all_per_h: float, given: Sequence[str]) -> Supply:
    """What the options and the configuration say of the traffic.

    Raises:
        Usage: If an option names no slice, or a slice has more than all traffic.
    """
    rates = {name: slice.traffic_per_h for name, slice in settings.slices.items() if slice.traffic_per_h is not None}
    for text in given:
        name, has_sign, rate = text.partition("=")
        if not has_sign or name not in settings.slices:
            known = ", ".join(settings.slices) or "none"
            raise Usage(f"--slice-rate: read {text!r}, must be NAME=RATE with the name of a slice: {known}")
        rates[name] = _per_h(f"--slice-rate {name}", rate)
    for name, per_h in rates.items():
        if per_h > all_per_h:
            raise Usage(f"slice {name} has {per_h:g} requests/h, which is more than --rate, {all_per_h:g}/h in all")
    graders = {spec.name: spec.slices for spec in settings.grader_specs()}
    return Supply(settings.proxy.mirror, settings.workers, settings.human, graders, {ALL: all_per_h, **rates})


def _refuse_unknown(supply: Supply, rules: Sequence[Rule]) -> None:
    unknown = dict.fromkeys(slice for rule in rules for slice in supply.unknown(rule))
    if unknown:
        raise Usage(
            "\n".join(
                f"nothing says how much traffic slice {name} has: give --slice-rate {name}=RATE, or set "
                f"slices.{name}.traffic"
                for name in unknown
            )
        )


def shown(found: Plan) -> RenderableType:
    """A plan for a terminal: the rules, then when PROMOTE can come, then what was supposed."""
    by, expires = duration(found.by_s), duration(found.expires_s)
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    for name, justify in (
        ("rule", "left"),
        ("slice", "left"),
        (f"pairs {by}", "right"),
        (f"pairs {expires}", "right"),
        ("needs", "right"),
        ("for 90 %", "right"),
        ("90 % at", "right"),
        (f"finds {by}", "right"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for rule in found.rules:
        table.add_row(*_cells(rule), style="red" if rule.refusal else "")
    return Group(table, Text(), *(Text(line) for line in _summary(found)))


def _cells(rule: RulePlan) -> tuple[str, ...]:
    return (
        f"{rule.rule} {rule.grader}".strip(),
        rule.slice,
        f"{rule.pairs_by:,.0f}",
        f"{rule.pairs_expires:,.0f}",
        _count(rule.needs),
        _count(rule.likely),
        "–" if rule.likely_s is None else duration(rule.likely_s),
        finding(rule.finds),
    )


def finding(finds: Detectable | None) -> str:
    """The smallest regression in words, `–` where the rule rolls nothing back."""
    if finds is None:
        return "–"
    if finds.value is None:
        return "nothing"
    value = finds.value if finds.unit == "ratio" else 100 * finds.value
    return f"{value:.3g} {UNITS[finds.unit]}"


def _summary(found: Plan) -> list[str]:
    by, expires = duration(found.by_s), duration(found.expires_s)
    lines = []
    for each in found.volume:
        when = "not before the run expires" if each.at_s is None else f"after {duration(each.at_s)}"
        lines.append(f"{each.condition} of {each.slice}: {each.need:,} pairs {when}")
    earliest = "not before the run expires" if found.earliest_s is None else f"after {duration(found.earliest_s)}"
    likely = "never in time" if found.likely_s is None else f"after {duration(found.likely_s)}"
    rules = sum(rule.is_planned for rule in found.rules)
    lines += [
        f"PROMOTE: with average luck {earliest} (last: {found.last}); with a chance of 90 % {likely}",
        f"chance of PROMOTE with all {rules} rules: {found.chance_by:.1%} by {by}, "
        f"{found.chance_expires:.1%} by {expires}",
        *(
            f"{step.name}, {100 * step.share:.4g} % of the sessions: {step.need:,} pairs "
            + ("never within the stage's window" if step.takes_s is None else f"within {duration(step.takes_s)}")
            for step in found.steps
        ),
        "chance of a false rollback: at most "
        + " + ".join(f"{alpha:g} ({stage})" for stage, alpha in found.alphas.items())
        + f" = {found.alpha_sum:g} over all stages",
    ]
    unplanned = [f"{rule.rule} in {rule.slice}" for rule in found.rules if not rule.is_planned]
    if unplanned:
        lines.append(f"not foreseen: {', '.join(unplanned)}")
    assumed = found.assumed
    gain = "twice what is demanded" if assumed.gain is None else f"{100 * assumed.gain:g} points"
    lines.append(
        f"supposed: a candidate as good as production (better by {gain} where a rule demands it, failing a fifth of "
        f"what caps and floors allow); grades differ in {assumed.psi:.0%} of the pairs; design effect "
        f"{assumed.effect:g}; every copy becomes a pair; rules independent. "
        "`finds`: what one rule alone rolls back in 9 runs of 10"
    )
    return lines


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """A length of time in hours, minutes or days."""
    for length, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length or (seconds >= length and seconds % length == 0):
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.0f} s"
