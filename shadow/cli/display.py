"""Render a run for a terminal: progress, rules, conditions, decision."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from shadow.records.comparisons import BASELINE_PRODUCTION, CANDIDATE_HUMAN
from shadow.records.decisions import PROMOTE
from shadow.settings.units import duration_text

STYLES = {"PASS": "green", "UNDECIDED": "yellow", "BROKEN": "magenta", "FAIL": "bold red"}
SHORT_VERDICTS = {"PASS": "pass", "UNDECIDED": "open", "BROKEN": "BROKEN", "FAIL": "FAIL"}
DECISIONS = {"promote": "bold green", "rollback": "bold red", "expire": "bold magenta", "hold": "yellow"}

ANSWERED_BY = {CANDIDATE_HUMAN: "people", BASELINE_PRODUCTION: "baseline"}
"""Who is asked for the rules of a comparison other than the main one."""


def run_panel(document: Mapping[str, Any], note: str = "") -> RenderableType:
    """The whole run: progress first, then each rule, then what holds it or what was decided."""
    parts: list[RenderableType] = [_head(document), _progress(document)]
    judgement = document.get("judgement")
    if judgement is not None:
        parts.append(rules_table(judgement))
        if document.get("decision") is None:
            parts.append(_conditions(judgement))
    parts += [*people_lines(document), decision_text(document)]
    if note:
        parts.append(Text(note, style="dim"))
    return Group(*parts)


def people_lines(document: Mapping[str, Any]) -> list[RenderableType]:
    """Who holds the run, since when and why, and what else people ordered that is not obeyed yet."""
    people = document.get("people") or {}
    lines: list[RenderableType] = [
        Text(f"held by {each['told']}; `shadow resume` ends it", style="bold magenta")
        for each in people.get("holds", ())
    ]
    for each in people.get("pending", ()):
        waits = "the gate obeys it soon"
        if each["command"] == PROMOTE and people.get("confirmed_by") is None:
            waits = f"the gate, or another person who confirms {each['command_id']}, is waited for"
        lines.append(Text(f"{each['command']} ordered by {each['told']}; {waits}", style="magenta"))
    if people.get("extended_s"):
        longer = duration_text(people["extended_s"] * 1_000_000)
        lines.append(Text(f"its longest age was extended by {longer}", style="dim"))
    return lines


def _head(document: Mapping[str, Any]) -> Text:
    stage = document.get("stage", "shadow")
    return Text.assemble(
        (f"{document['candidate']}", "bold"),
        " against ",
        (f"{document['production']}", "bold"),
        f"   run {document['run']}   stage {stage}",
    )


def _progress(document: Mapping[str, Any]) -> RenderableType:
    pairs, needed = document.get("window_pairs", 0), document.get("pairs_needed", 0)
    running = document.get("running", {}).get("classes", {}).get("paired")
    table = Table.grid(padding=(0, 2))
    counted = f"   {running:,} counted so far" if running is not None else ""
    table.add_row("pairs", f"{pairs:,} of {needed:,} in closed tiles{counted}")
    table.add_row("", ProgressBar(total=max(needed, 1), completed=min(pairs, needed), width=40))
    account = document.get("running", {}).get("account")
    if account and (account["seen"] or account["open"]):
        dropped = sum(account["dropped"].values())
        table.add_row(
            "live requests",
            f"{account['seen']:,} seen = {account['present']:,} mirrored + {dropped:,} not mirrored"
            f" + {account['lost']:,} lost; {account['open']:,} open",
        )
    return table


def rules_table(judgement: Mapping[str, Any]) -> Table:
    """Verdict, pairs and evidence of each rule: log e for it, with what it needs, and against it."""
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    lines = judgement["rules"]
    has_others = any(line.get("comparison") in ANSWERED_BY for line in lines)
    # Names are cut at these widths, so that the numbers fit into 80 columns.
    for name, justify, most in (
        ("", "left", 6),
        ("rule", "left", 22),
        *((("asked", "left", 8),) if has_others else ()),
        ("slice", "left", 10 if has_others else 18),
        ("pairs", "right", 7),
        ("estimate", "right", 8),
        ("for/need", "right", 10),
        ("against", "right", 7),
    ):
        table.add_column(name, justify=justify, no_wrap=True, max_width=most)
    for line in lines:
        table.add_row(
            Text(SHORT_VERDICTS[line["verdict"]], style=STYLES[line["verdict"]]),
            f"{line['rule']} {line['grader']}".strip(),
            *((ANSWERED_BY.get(line.get("comparison", ""), ""),) if has_others else ()),
            line["slice"],
            f"{line['pairs']:,}",
            _short(line["estimate"]),
            f"{_rounded(line['log_e_pass'])}/{line['need']:.1f}",
            _rounded(line["log_e_fail"]),
        )
    return table


def _conditions(judgement: Mapping[str, Any]) -> RenderableType:
    unmet = [condition for condition in judgement["conditions"] if not condition["met"]]
    if not unmet:
        return Text("conditions of evidence: all met", style="green")
    return Text("\n".join(f"holds: {condition['reason']}" for condition in unmet), style="yellow")


def decision_text(document: Mapping[str, Any]) -> RenderableType:
    """The decision, or what is still going on."""
    decision = document.get("decision")
    if decision is None:
        reason = document.get("broken") or document.get("judgement", {}).get("reason", "no tile has closed yet")
        return Text(f"hold: {reason}", style="yellow")
    culprits = f"\nculprits: {', '.join(decision['culprits'])}" if decision["culprits"] else ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(decision["decided_us"] / 1e6))
    return Panel(
        f"{decision['reason']}{culprits}\ndecision {decision['decision_id']}",
        title=f"{decision['decision'].upper()}  {when}",
        title_align="left",
        border_style=DECISIONS.get(decision["decision"], "white"),
    )


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}" if abs(value) < 1 else f"{value:.3f}"


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"


def _fixed(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def explanation(document: Mapping[str, Any], note: str = "") -> RenderableType:
    """Why: the decision or what holds it, what blocks, then each rule with have, need, verdict and what flips it."""
    rows = document.get("explain", [])
    conditions = [row for row in rows if row["verdict"] in ("met", "not met")]
    rules = [row for row in rows if row["verdict"] not in ("met", "not met")]
    unmet = [row for row in conditions if row["verdict"] == "not met"]
    is_decided = document.get("decision") is not None
    parts: list[RenderableType] = [_head(document), *people_lines(document), decision_text(document), Text()]
    if rows:
        parts.append(Text(f"conditions of evidence: {len(conditions) - len(unmet)} of {len(conditions)} met"))
        if not is_decided:
            parts.append(_reasons(unmet, is_open=True))
        parts += [Text(), Text("rules, those that block a promotion first"), _reasons(rules, is_open=not is_decided)]
    rollback = document.get("judgement", {}).get("rollback")
    if rollback:
        parts.append(
            Text(
                f"\nrollback process: log e {_fixed(rollback['log_e'])} of {_fixed(rollback['need'])}, "
                f"change detector {_fixed(rollback['log_sr'])} of {_fixed(rollback['need_sr'])}",
                style="dim",
            )
        )
    suspects = document.get("suspects", [])
    if suspects:
        named = ", ".join(f"{each['id']} {each['log_e']:.2f}{'*' * each['is_named']}" for each in suspects)
        star = " (*: named by e-BH)" if any(each["is_named"] for each in suspects) else ""
        parts.append(Text(f"evidence against the candidate, log e, strongest first: {named}{star}", style="dim"))
    noise = document.get("noise")
    if noise:
        told = f"{noise['alarms']:,} of {noise['blocks']:,} blocks of 1,000 pairs"
        most = f"at most {noise['budget']:.2%} may"
        parts.append(Text(f"false alarms between production and its baseline: {told}; {most}", style="dim"))
    if document.get("history", {}).get("points"):
        parts += [Text(), history(document["history"], document.get("judgement", {}))]
    if note:
        parts.append(Text(note, style="dim"))
    return Group(*parts)


def _reasons(rows: Sequence[Mapping[str, Any]], *, is_open: bool) -> Table:
    """One paragraph a row: its verdict, the sentence with the numbers, what is missing and what would flip it."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        told = row["reason"]
        if is_open and row.get("missing"):
            told += f"; missing: {row['missing']}, {row['when']}"
        if row.get("flip"):
            told += f"; flips to {row['flip']}"
        paragraph = Text(told)
        if row["verdict"] in STYLES:
            paragraph.append(f"\nhave {row['have']}; need {row['need']}", style="dim")
        table.add_row(Text(row["verdict"], style=STYLES.get(row["verdict"], "yellow")), paragraph)
    return table


HISTORY_WIDTH = 40
MARKS = {"P": ("+", "green"), "U": ("·", "yellow"), "B": ("!", "magenta"), "F": ("x", "bold red")}
LEVELS = "▁▂▃▄▅▆▇█"


def history(found: Mapping[str, Any], judgement: Mapping[str, Any]) -> RenderableType:
    """How the verdict came about: a row of marks a rule and one of the rollback process, over the log's time."""
    points = found["points"]
    last = len(points) - 1
    width = min(len(points), HISTORY_WIDTH)
    shown = [points[round(column * last / max(width - 1, 1))] for column in range(width)]
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False, pad_edge=False)
    table.add_column(no_wrap=True, max_width=38)
    table.add_column(no_wrap=True)
    for index, name in enumerate(found["rules"]):
        table.add_row(name, Text.assemble(*(MARKS[point["verdicts"][index]] for point in shown)))
    need = judgement.get("rollback", {}).get("need") or 1.0
    levels = (min(max(point["log_e"] / need, 0.0), 1.0) for point in shown)
    table.add_row("rollback process", "".join(LEVELS[round(level * (len(LEVELS) - 1))] for level in levels))
    begin, end = (time.strftime("%m-%d %H:%M", time.localtime(points[at]["at_us"] / 1e6)) for at in (0, last))
    table.add_row("", f"{begin} {end:>{max(width - len(begin) - 1, len(end))}}" if last else begin)
    return Group(Text("history: + pass, · open, ! BROKEN, x FAIL"), table)
