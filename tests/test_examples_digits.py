"""The digits example: its data, its trained models, and what they lost or gained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.example_services import DIGITS, ask, module_at, service

ASKED = 2_000
READERS = ("production", "candidate_better", "candidate_damaged")

images = module_at(DIGITS / "requests.py")


@pytest.fixture(scope="module")
def readings() -> dict[str, list[bool]]:
    """Whether each reader was right, for 2,000 images."""
    requests = list(images.generate(ASKED, 1))
    calls = [(images.PATH, request.headers, request.body) for request in requests]
    result = {}
    for name in READERS:
        with service(DIGITS / f"{name}.py") as running:
            replies = ask(running.url, calls)
        assert all(reply["answer"] == f"<answer>{reply['digit']}</answer>" for reply in replies)
        result[name] = [reply["digit"] == request.digit for reply, request in zip(replies, requests, strict=True)]
    return result


def share_right(right: Sequence[bool], which: Callable[[Any], bool]) -> float:
    """Share of right readings among the images that fit."""
    fitting = [ok for ok, request in zip(right, images.generate(ASKED, 1), strict=True) if which(request)]
    return sum(fitting) / len(fitting)


def test_better_reader_is_better(readings: dict[str, list[bool]]) -> None:
    """
    Production reads about nine in ten images, and the better candidate at least three points more.
    """
    production = share_right(readings["production"], lambda _: True)

    assert production == pytest.approx(0.91, abs=0.02)
    assert share_right(readings["candidate_better"], lambda _: True) > production + 0.03


def test_damage_hides_in_the_average(readings: dict[str, list[bool]]) -> None:
    """
    The damaged candidate is not worse than production by more than a point on average, and by over 20 on the digit 8.
    """
    gap = {
        name: share_right(readings["candidate_damaged"], which) - share_right(readings["production"], which)
        for name, which in (("all", lambda _: True), ("eight", lambda request: request.digit == 8))
    }

    assert gap["all"] > -0.01
    assert gap["eight"] < -0.20


def test_no_model_learns_from_an_image_that_is_asked() -> None:
    """
    Training images and requests share none, most images are asked, and each digit has about a tenth of the requests.
    """
    requests = list(images.generate(3_000, 1))
    shown = {int(request.session_id.removeprefix("image-")) for request in requests}

    assert shown.isdisjoint(images.training().ids.tolist())
    assert len(shown) >= 0.6 * 1_797
    assert len(requests) == len({request.pixels for request in requests})
    assert all(0.08 < sum(r.digit == digit for r in requests) / 3_000 < 0.12 for digit in range(10))
