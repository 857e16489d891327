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
        start, end = text.find(opening), text.find(closing)
        if start < 0 or end < 0 or _is_again(text, opening, start) or _is_again(text, closing, end):
            opened, closed = text.count(opening), text.count(closing)
            return failed(f"<{self.tag}> opens {opened:,} times and closes {closed:,} times, expected is once each")
        if end < start:
            return failed(f"</{self.tag}> stands before <{self.tag}>")
        return passed() if text[start + len(opening) : end].strip() else failed(f"<{self.tag}> is empty")


def _is_again(text: str, tag: str, at: int) -> bool:
    """Whether a tag that stands at one place stands behind it too."""
    return text.find(tag, at + len(tag)) >= 0
