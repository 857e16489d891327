"""`concise`: the answer is not longer than it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, passed
from shadow.records.grades import Grade


@dataclass(frozen=True)
class Concise(Plain):
    """Passes where the text keeps every given bound.

    Args:
        max_words: Most words, as blanks separate them; None: no bound.
        max_chars: Most characters, blanks at both ends aside; None: no bound.
        min_words: Fewest words: saying nothing is not concise.
    """

    kind: ClassVar[str] = "concise"

    max_words: int | None = None
    max_chars: int | None = None
    min_words: int = 1

    def __post_init__(self) -> None:
        if self.max_words is None and self.max_chars is None:
            raise ValueError("has no bound, must name max_words or max_chars")

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Count words and characters."""
        text = answer.text().strip()
        words = len(text.split())
        if words < self.min_words:
            return failed(f"the answer has {words:,} words, at least {self.min_words:,} are expected")
        if self.max_words is not None and words > self.max_words:
            return failed(f"the answer has {words:,} words, at most {self.max_words:,} are allowed")
        if self.max_chars is not None and len(text) > self.max_chars:
            return failed(f"the answer has {len(text):,} characters, at most {self.max_chars:,} are allowed")
        return passed(f"the answer has {words:,} words")
