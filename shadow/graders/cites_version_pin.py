"""`cites_version_pin`: the answer names the exact version of a package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Final

from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, passed
from shadow.patterns import compiled, found
from shadow.records.grades import Grade

_SEPARATORS: Final = "-_."
_VERSION: Final = r"v?[0-9]+(?:\.[0-9]+)*[0-9a-z.+!-]*"
_END: Final = r"(?:\.?(?:$|[^0-9a-z.*+_-]))"


@dataclass(frozen=True)
class CitesVersionPin(Plain):
    """Passes where the package stands with one exact version.

    A pin is `name==1.2`, `name===1.2`, `name@1.2`, with extras (`name[x]==1.2`) too, or in prose the word: `name
    version 1.2`, `name v1.2`. A range (`>=`, `~=`, `^`) or a wildcard (`==4.*`) is not. Letter case and the choice
    between `-`, `_` and `.` in the name do not matter; whether the version exists is not checked.

    Args:
        package: Name of the package.
    """

    kind: ClassVar[str] = "cites_version_pin"

    package: str

    @cached_property
    def _pattern(self) -> Any:
        return compiled(pattern_of(self.package))

    def __post_init__(self) -> None:
        _ = self._pattern

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Look for a pin anywhere in the text."""
        if found(self._pattern, answer.utf8()):
            return passed()
        return failed(f"the answer pins no version of {self.package}, expected is like {self.package}==1.2.3")


def pattern_of(package: str) -> str:
    """The RE2 pattern of a pin of this package."""
    name = "".join("[-_.]" if character in _SEPARATORS else _escaped(character) for character in package)
    operator = r"(?:\[[^\]]{0,64}\])?\s{0,4}(?:===?|@)\s{0,4}"
    prose = r"[`\"']?\s{1,4}(?:version\s{1,4}|v)"
    return rf"(?im)(?:^|[^0-9a-z._-]){name}(?:{operator}|{prose}){_VERSION}{_END}"


def _escaped(character: str) -> str:
    return character if character.isascii() and character.isalnum() else f"\\x{{{ord(character):x}}}"
