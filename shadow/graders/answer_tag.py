"""`answer_tag`: the answer states its result in exactly one `<tag>…</tag>` that is not empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, passed
from shadow.graders.tag import content_of, counts
from shadow.records.grades import Grade


@dataclass(frozen=True)
class AnswerTag(Plain):
    """Passes on one well-formed tag: several results in one answer would let a model guess.

    Args:
        tag: Name of the tag, without brackets.
    """

    kind: ClassVar[str] = "answer_tag"

    tag: str = "answer"

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Grade the form only; whether the result is right is for other graders to say."""
        text = answer.text()
        opened, closed = counts(text, self.tag)
        if (opened, closed) != (1, 1):
            return failed(f"<{self.tag}> opens {opened:,} times and closes {closed:,} times, expected is once each")
        content = content_of(text, self.tag)
        if content is None:
            return failed(f"</{self.tag}> stands before <{self.tag}>")
        return passed() if content else failed(f"<{self.tag}> is empty")
