"""Records that are made fast are what their own class makes."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, field

import pytest

from shadow.graders.graded import Graded, make_graded
from shadow.records.made import maker
from shadow.records.requests import Live
from tests.graders.answers import request


def test_a_record_is_equal_and_frozen():
    """
    By position or by name, with defaults: the same record of the same class, which cannot be changed.
    """
    own = Live("v1", "production", "answered", 200, {}, b"x", 1, 2, finish_reason="stop")
    made = maker(Live)(
        "v1", "production", "answered", 200, {}, b"x", duration_us=2, first_byte_us=1, finish_reason="stop"
    )

    assert own == made and type(made) is Live and repr(own) == repr(made)
    with pytest.raises(FrozenInstanceError):
        made.status = 500


def test_what_is_not_an_argument_has_its_default():
    """
    An answer remembers nothing of another one's text.
    """
    first = make_graded("candidate", request(), "answered", 200, {}, b"one")
    assert "one" == first.text() == first.folded()
    second = make_graded("candidate", request(), "answered", 200, {}, b"two")

    assert "two" == second.text()
    assert second == Graded("candidate", request(), "answered", 200, {}, b"two")


def test_classes_that_do_more_are_refused():
    """
    What a class does beyond setting its fields would be passed over; what it makes afresh must be given.
    """

    @dataclass(frozen=True, slots=True)
    class Checked:
        number: int

        def __post_init__(self) -> None:
            """Would check the number."""

    @dataclass(frozen=True, slots=True)
    class Filled:
        numbers: list[int] = field(default_factory=list)

    with pytest.raises(TypeError, match="Checked has a __post_init__"):
        maker(Checked)
    with pytest.raises(TypeError, match="numbers"):
        maker(Filled)()
    assert Filled([1]) == maker(Filled)([1])
