"""`answer_tag`: the answer states its result in exactly one `<tag>…</tag>` that is not empty."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, passed
from shadow.records.grades import Grade


@dataclass(frozen=True)
class AnswerTag(Plain):
    """Passes on one well-formed tag: several results in one answer would let a model guess.

    Args:
        tag: Name of the tag, without brackets.
    """

    kind: ClassVar[str] = "answer_tag"

    tag: str = "answer"

    @cached_property
    def _tags(self) -> tuple[str, str]:
        return f"<{self.tag}>", f"</{self.tag}>"

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Grade the form only; whether the result is right is for other graders to say."""
        text = answer.text()
        opening, closing = self._tags
        opened, closed = text.count(opening), text.count(closing)
        if opened != 1 or closed != 1:
            return failed(f"<{self.tag}> opens {opened:,} times and closes {closed:,} times, expected is once each")
        start, end = text.find(opening) + len(opening), text.find(closing)
        if end < start:
            return failed(f"</{self.tag}> stands before <{self.tag}>")
        return passed() if text[start:end].strip() else failed(f"<{self.tag}> is empty")
