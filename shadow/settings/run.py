"""`run`: which version is tried against which."""

from __future__ import annotations

from typing import Final, Self

from pydantic import model_validator

from shadow.settings.names import VersionName
from shadow.settings.section import Section, refused_whole

ATTEMPTS_MAX: Final = 9999
CANDIDATE_CHARACTERS_MAX: Final = 64 - len("-01234567-9999")
"""A run's name is candidate, digest and attempt, and has at most 64 characters."""


class Run(Section):
    """The two versions.

    Args:
        candidate: Name of the version under test, also the beginning of the run's name.
        production: Name of the version in service.
    """

    candidate: VersionName
    production: VersionName

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.candidate == self.production:
            raise refused_whole(f"candidate and production are both {self.candidate}, must differ")
        if len(self.candidate) > CANDIDATE_CHARACTERS_MAX:
            raise refused_whole(
                f"candidate has {len(self.candidate)} characters, must have at most {CANDIDATE_CHARACTERS_MAX}, "
                "since the run's name adds digest and attempt"
            )
        return self
