"""What `shadow replay` says: as a table for people, as JSON for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from consumers.gate import decision_tree
from shadow.cli.display import DECISIONS, decision_text, rules_table
from shadow.cli.replay_compare import Comparison
from shadow.cli.replay_run import Replayed
from shadow.gate.judgement import judgement_to_json
from shadow.records.decisions import Decision, Started
from shadow.records.slices import ALL
from shadow.records.tallies import CLASSES, Key

LINES_MAX: Final = 20
"""Unreadable records, and differences, that the table names."""


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, where that is a terminal; told of records done and records in all."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("records"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """A replay and what it was compared with.

    Args:
        source: Where the records came from, `kafka` or the archive's folder.
        first: First tile that was judged or compared.
        recorded: The decision that stands in the log.
    """

    started: Started
    source: str
    first: int
    replayed: Replayed
    comparison: Comparison
    recorded: Decision | None
    is_backtest: bool

    @property
    def is_identical(self) -> bool | None:
        """Whether everything that could be compared is the same; None where nothing was, as in a back-test."""
        if self.is_backtest:
            return None
        if self.comparison.count or self.replayed.broken:
            return False
        return True if any(self.comparison.compared.values()) else None


def document_of(report: Report) -> dict[str, Any]:
    """The report, JSON-ready."""
    replayed, comparison = report.replayed, report.comparison
    state, started = replayed.state, report.started
    return {
        "run": started.run,
        "candidate": started.candidate,
        "production": started.production,
        "source": report.source,
        "backtest": report.is_backtest,
        "tiles": {"first": report.first, "last": state.folded, "count": max(0, state.folded - report.first + 1)},
        "tiles_digest": state.tiles_digest.hex(),
        "classes": classes_of(replayed),
        "pairs": replayed.pairs,
        "records": replayed.records,
        "counters": replayed.counters,
        "judgement": None if replayed.judgement is None else judgement_to_json(replayed.judgement),
        "decision": _with_id(replayed.decision, report),
        "recorded": decision_tree(report.recorded),
        "early": None if replayed.early is None else {"tile": replayed.early[0], "decision": replayed.early[1]},
        "identical": report.is_identical,
        "compared": comparison.compared,
        "differences": [
            {**dataclasses.asdict(difference), "sentence": difference.sentence} for difference in comparison.differences
        ],
        "differences_count": comparison.count,
        "unreadable": [{"place": place, "reason": reason} for place, reason in replayed.unreadable],
        "unreadable_count": replayed.unreadable_count,
        "broken": replayed.broken,
        "notes": comparison.notes,
        "speed": {
            "took_s": replayed.took_s,
            "pairs_per_s": replayed.pairs / replayed.took_s if replayed.took_s else None,
            "records_per_s": replayed.records / replayed.took_s if replayed.took_s else None,
            "times_live": replayed.times_live,
        },
    }


def _with_id(decision: Decision | None, report: Report) -> dict[str, Any] | None:
    tree = decision_tree(decision)
    if tree is not None and report.is_backtest:
        # It was taken by nobody, so it has neither the id nor the time of a decision.
        del tree["decision_id"], tree["decided_us"]
    return tree


def classes_of(replayed: Replayed) -> dict[str, int]:
    """Requests of slice `all` by class, in the tiles folded."""
    vector = replayed.state.totals.to_tally().vectors.get(Key(ALL, "classes", ""), [0] * len(CLASSES))
    return dict(zip(CLASSES, vector, strict=True))


def table_of(report: Report) -> RenderableType:
    """The report for a terminal."""
    replayed, started, state = report.replayed, report.started, report.replayed.state
    parts: list[RenderableType] = [
        Text.assemble((started.candidate, "bold"), f" against {started.production}   run {started.run}"),
        _facts(report),
    ]
    if replayed.judgement is not None:
        parts.append(rules_table(judgement_to_json(replayed.judgement)))
    parts.append(_verdict(report))
    parts += _lines(
        [f"{place}: {reason}" for place, reason in replayed.unreadable], replayed.unreadable_count, "magenta"
    )
    parts += [Text(note, style="dim") for note in report.comparison.notes]
    sentences = [difference.sentence for difference in report.comparison.differences]
    parts += _lines(sentences, report.comparison.count, "bold red")
    parts.append(_outcome(report, state.folded))
    return Group(*parts)


def _lines(sentences: list[str], count: int, style: str) -> list[RenderableType]:
    """The first sentences, and how many more there are."""
    shown = sentences[:LINES_MAX]
    more = (
        [f"and {count - len(shown):,} more; -o json names {len(sentences):,} of {count:,}"]
        if count > len(shown)
        else []
    )
    return [Text(sentence, style=style) for sentence in (*shown, *more)]


def _facts(report: Report) -> Table:
    replayed, state = report.replayed, report.replayed.state
    count = max(0, state.folded - report.first + 1)
    speed = f"{replayed.pairs / replayed.took_s:,.0f} pairs/s" if replayed.took_s else ""
    live = f", {replayed.times_live:,.1f} x live" if replayed.times_live is not None else ""
    classes = ", ".join(f"{name} {number:,}" for name, number in classes_of(replayed).items() if number)
    table = Table.grid(padding=(0, 2))
    table.add_row("tiles", f"{count:,} ({report.first} to {state.folded})" if count else "none")
    table.add_row("requests", classes or "none")
    table.add_row("read", f"{replayed.records:,} records in {replayed.took_s:.1f} s: {speed}{live}")
    table.add_row("digest", state.tiles_digest.hex())
    return table


def _verdict(report: Report) -> RenderableType:
    decision, judgement = report.replayed.decision, report.replayed.judgement
    if decision is None:
        reason = judgement.reason if judgement is not None else "no tile has closed"
        return Text(f"hold: {reason}", style="yellow")
    if report.is_backtest:
        said = f"{decision.decision} at tile {decision.tile}: {decision.reason}"
        return Text(said, style=DECISIONS[decision.decision])
    return decision_text({"decision": decision_tree(decision)})


def _outcome(report: Report, folded: int) -> Text:
    replayed, comparison = report.replayed, report.comparison
    if replayed.broken:
        return Text(f"BROKEN after tile {folded}: {replayed.broken}", style="bold red")
    if report.is_backtest:
        was = report.recorded
        then = "the run has no decision" if was is None else f"the run: {was.decision} at tile {was.tile}"
        return Text(f"back-test; {then}", style="bold")
    compared = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in comparison.compared.items())
    if comparison.count:
        return Text(f"DIFFERENT: {comparison.count:,} differences in {compared}", style="bold red")
    if report.is_identical is None:
        return Text("nothing to compare with: no decision, and nothing in redis", style="yellow")
    return Text(f"identical: {compared}", style="bold green")
