"""The rows that the calibration found, as one table at the end of the run (for docs/evidence.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

Note = Callable[..., None]
HERE: Final = Path(__file__).parent


@pytest.fixture
def note(record_property: Callable[[str, object], None]) -> Note:
    """Write down one row: what was simulated, what statistics.md says, what was found, runs and seed."""

    def write(row: str, says: str, found: str, runs: int, seed: int) -> None:
        # A property travels from an xdist worker to the process that prints.
        record_property("calibration", f"| {row} | {says} | {found} | {runs:,}, {seed} |")

    return write


def rows_of(report: pytest.TestReport) -> list[str]:
    """The rows that a test wrote down."""
    missed = "" if report.passed else " **missed**"
    return [f"{value}{missed}" for name, value in report.user_properties if name == "calibration"]


class Rows:
    """Prints each row as soon as it is there, because a run may be stopped, and all of them in order at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.rows: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print the rows of a test that has ended; an xdist worker leaves it to the process that collects."""
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if report.when == "call" and terminal is not None and not hasattr(self.config, "workerinput"):
            self.rows += rows_of(report)
            for row in rows_of(report):
                terminal.ensure_newline()
                terminal.write_line(row)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table."""
        if self.rows:
            terminalreporter.section("calibration")
            terminalreporter.write_line("| row | statistics.md | found | runs, seed |\n|---|---|---|---|")
            for row in sorted(self.rows):
                terminalreporter.write_line(row)


def pytest_configure(config: pytest.Config) -> None:
    """Collect the rows."""
    config.pluginmanager.register(Rows(config), "calibration-rows")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Simulations have an hour: on a busy machine the usual five minutes would decide, not the counts."""
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.timeout(3600))
