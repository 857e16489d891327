"""Errors, grouped by what the caller must do about them.

A candidate's failure is never an exception: it is an Answer with an outcome.
"""

from __future__ import annotations


class ShadowError(Exception):
    """Anything that Shadow itself refuses or cannot do; the text is one sentence for a person."""


class Usage(ShadowError):
    """Ask the user to change what they typed or configured (exit code 2)."""


class InvalidConfiguration(Usage):
    """Ask the user to change the configuration file; carries every problem found, not only the first.

    Args:
        problems: One sentence per problem, each with its line, what was read and what would be right.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class InvalidRecord(ShadowError):
    """Write the record to the dead letters, count it, and go on."""


class Unavailable(ShadowError):
    """A service does not answer: say so, wait, and try again; nothing was changed."""


class Refused(ShadowError):
    """Another owner wrote since: drop the own state and load again."""


class BrokenEvidence(ShadowError):
    """The evidence cannot be completed any more: hold the run and name the hole (exit code 5)."""
