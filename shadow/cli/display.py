"""Render a run for a terminal: progress, rules, conditions, decision."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

STYLES = {"PASS": "green", "UNDECIDED": "yellow", "BROKEN": "magenta", "FAIL": "bold red"}
DECISIONS = {"promote": "bold green", "rollback": "bold red", "expire": "bold magenta", "hold": "yellow"}


def run_panel(document: Mapping[str, Any], note: str = "") -> RenderableType:
    """The whole run: progress first, then each rule, then what holds it or what was decided."""
    parts: list[RenderableType] = [_head(document), _progress(document)]
    judgement = document.get("judgement")
    if judgement is not None:
        parts += [rules_table(judgement), _conditions(judgement)]
    parts.append(decision_text(document))
    if note:
        parts.append(Text(note, style="dim"))
    return Group(*parts)


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
    table.add_row(
        "pairs in closed tiles",
        ProgressBar(total=max(needed, 1), completed=min(pairs, needed), width=30),
        f"{pairs:,} of {needed:,}" + (f"   ({running:,} counted so far)" if running is not None else ""),
    )
    account = document.get("running", {}).get("account")
    if account and account["seen"]:
        dropped = sum(account["dropped"].values())
        table.add_row(
            "live requests",
            "",
            f"{account['seen']:,} seen = {account['present']:,} mirrored + {dropped:,} not mirrored"
            f" + {account['lost']:,} lost",
        )
    return table


def rules_table(judgement: Mapping[str, Any]) -> Table:
    """Have, need and verdict of each rule."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name, justify in (
        ("rule", "left"),
        ("slice", "left"),
        ("verdict", "left"),
        ("pairs", "right"),
        ("estimate", "right"),
        ("bounds", "right"),
        ("log e for / need", "right"),
        ("against / need", "right"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for line in judgement["rules"]:
        rule = f"{line['rule']} {line['grader']}" if line["grader"] else line["rule"]
        bounds = f"{_short(line['lower'])} … {_short(line['upper'])}" if line["lower"] is not None else "–"
        table.add_row(
            rule,
            line["slice"],
            Text(line["verdict"], style=STYLES[line["verdict"]]),
            f"{line['pairs']:,}",
            _short(line["estimate"]),
            bounds,
            f"{_fixed(line['log_e_pass'])} / {_fixed(line['need'])}",
            f"{_fixed(line['log_e_fail'])} / {_fixed(line.get('need_fail'))}",
        )
    return table


def _conditions(judgement: Mapping[str, Any]) -> RenderableType:
    unmet = [condition for condition in judgement["conditions"] if not condition["met"]]
    if not unmet:
        return Text("evidence: every condition is met", style="green")
    return Text("\n".join(f"holds: {condition['reason']}" for condition in unmet[:6]), style="yellow")


def decision_text(document: Mapping[str, Any]) -> RenderableType:
    """The decision, or what is still going on."""
    decision = document.get("decision")
    if decision is None:
        reason = document.get("broken") or document.get("judgement", {}).get("reason", "no tile has closed yet")
        return Text(f"hold: {reason}", style="yellow")
    culprits = f"\nculprits: {', '.join(decision['culprits'])}" if decision["culprits"] else ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(decision["decided_us"] / 1e6))
    return Panel(
        f"{decision['reason']}{culprits}",
        title=f"{decision['decision'].upper()}  {when}  decision {decision['decision_id']}",
        title_align="left",
        border_style=DECISIONS.get(decision["decision"], "white"),
    )


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:+.4f}" if abs(value) < 1 else f"{value:.3f}"


def _fixed(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def explanation(document: Mapping[str, Any], note: str = "") -> RenderableType:
    """Why: the decision or what holds it, then each condition and rule with have, need and verdict."""
    parts: list[RenderableType] = [_head(document), decision_text(document)]
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for name in ("", "rule or condition", "slice", "verdict", "have", "need", "why"):
        table.add_column(name, overflow="fold")
    for row in document.get("explain", []):
        style = STYLES.get(row["verdict"], "green" if row["verdict"] == "met" else "yellow")
        eta = f" (at today's rate in {_duration(row['eta_s'])})" if row["eta_s"] else ""
        table.add_row(
            Text("blocks" if row["blocks"] else "", style="yellow"),
            f"{row['name']} {row['grader']}".strip(),
            row["slice"],
            Text(row["verdict"], style=style),
            row["have"],
            row["need"],
            row["reason"] + eta,
        )
    parts.append(table)
    rollback = document.get("judgement", {}).get("rollback")
    if rollback:
        parts.append(
            Text(
                f"rollback process: log e {_fixed(rollback['log_e'])} of {_fixed(rollback['need'])}, "
                f"change detector {_fixed(rollback['log_sr'])} of {_fixed(rollback['need_sr'])}",
                style="dim",
            )
        )
    if note:
        parts.append(Text(note, style="dim"))
    return Group(*parts)


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
