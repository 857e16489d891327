"""`python`: a function of the user's own grades the answer."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from shadow.graders.graded import Graded
from shadow.graders.rule import Plain, failed, passed
from shadow.records.grades import BROKEN, Grade


@dataclass(frozen=True)
class PythonFunction(Plain):
    """Calls `function(answer, other)`, which returns True or False, a score in [0, 1], or a `Grade`.

    The function runs inside the comparator: it must be quick and depend on its arguments alone, or a replay gives
    other numbers. Anything else that it returns, or raises, is a broken grade. It is not stopped when it hangs.

    Args:
        callable: `module:function`.
        passes_at: Least score that passes, in [0, 1].

    Raises:
        ValueError: If the function cannot be found.
    """

    kind: ClassVar[str] = "python"

    callable: str
    passes_at: float = 0.5

    def __post_init__(self) -> None:
        _ = self._function

    @cached_property
    def _function(self) -> Callable[[Graded, Graded | None], Any]:
        return function_from_text(self.callable)

    def grade(self, answer: Graded, other: Graded | None) -> Grade:
        """Call the function; what it raises goes through, and the guard makes a broken grade of it."""
        result = self._function(answer, other)
        if isinstance(result, Grade):
            return result
        if isinstance(result, bool):
            return passed() if result else failed(f"{self.callable} says no")
        if isinstance(result, int | float) and 0 <= result <= 1:
            words = f"the score is {float(result):g}, passes at {self.passes_at:g}"
            return (passed if result >= self.passes_at else failed)(words, float(result))
        return Grade(BROKEN, None, f"{self.callable} returned {_described(result)}, must be a Grade, a bool or a score")


def function_from_text(text: str) -> Callable[..., Any]:
    """Import what `module:function` names.

    Raises:
        ValueError: If there is no such module or function, or importing it fails.
    """
    module_name, _, name = text.partition(":")
    if not module_name or not name:
        raise ValueError(f"callable: read {text!r}, must be module:function")
    try:
        thing: Any = importlib.import_module(module_name)
    except Exception as error:
        raise ValueError(
            f"callable: the module {module_name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    for part in name.split("."):
        thing = getattr(thing, part, None)
    if not callable(thing):
        raise ValueError(f"callable: the module {module_name} has no function {name}")
    function: Callable[..., Any] = thing
    return function


def _described(result: object) -> str:
    # The text of a number of thousands of digits raises, and that of a foreign object may do anything.
    if isinstance(result, float):
        return f"{result:g}"
    if isinstance(result, int):
        return str(result) if result.bit_length() < 128 else f"a number of {result.bit_length():,} bits"
    return "nothing" if result is None else f"a {type(result).__name__}"
