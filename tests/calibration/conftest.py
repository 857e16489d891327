"""The rows that the calibration found, as one table at the end of the run (for docs/evidence.md)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Note = Callable[..., None]


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Note:
    """Write down one row: what was simulated, what statistics.md says, what was found, runs and seed."""

    def write(row: str, says: str, found: str, runs: int, seed: int) -> None:
        # A property travels from an xdist worker to the process that prints.
        record_property("calibration", f"| {row} | {says} | {found} | {runs:,}, {seed} |")

    return write


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    rows = [
        f"{value}{'' if report.passed else ' **missed**'}"
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for name, value in getattr(report, "user_properties", ())
        if name == "calibration"
    ]
    if rows:
        terminalreporter.section("calibration")
        terminalreporter.write_line("| row | statistics.md | found | runs, seed |\n|---|---|---|---|")
        for row in sorted(rows):
            terminalreporter.write_line(row)
