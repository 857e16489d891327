"""Requests made from real handwritten digits, and the images that the models may learn from.

    1,797 images ─┬─ 35 % for training   ── shifted, noisy copies ──► models.py
                  └─ 65 % held out       ── shifted, noisy copies ──► requests; the image is the session

The split lives here, beside the requests, so that no model learns from an image that it is asked about. Copies of one
image are not independent, and they say so: all of them carry the image's session. Self-contained on purpose: this file
is also loaded by path, from outside its directory.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

PATH: Final = "/predict"
COUNT_MAX: Final = 50_000
SIDE: Final = 8
PIXELS: Final = SIDE * SIDE
INK_MAX: Final = 16
TRAINING_SHARE: Final = 0.35
SPLIT_SEED: Final = 20_240
SHIFT_MAX: Final = 0.4
"""Greatest shift along each axis, in pixels."""
NOISE: Final = 1.5
"""Standard deviation of the noise of one pixel; full ink is 16."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class ExampleExtraMissing(RuntimeError):
    """The data set cannot be loaded, because scikit-learn is not installed; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Request:
    """One image to be read.

    Args:
        session_id: Value of the header `x-session-id`: the image that this one is a copy of.
        pixels: 64 numbers from 0 to 16, row by row.
        digit: What is written there.
        density: `high` if the original has more ink than the median image, else `low`.
    """

    session_id: str
    pixels: tuple[int, ...]
    digit: int
    density: str

    @property
    def headers(self) -> dict[str, str]:
        return {"content-type": "application/json", "x-session-id": self.session_id}

    @property
    def body(self) -> dict[str, object]:
        return {"pixels": list(self.pixels), "metadata": {"answer": str(self.digit), "density": self.density}}

    def line(self) -> str:
        """The request as one line of JSON."""
        return json.dumps({"method": "POST", "path": PATH, "headers": self.headers, "body": self.body})


@dataclass(frozen=True, slots=True)
class Images:
    """Labelled images.

    Args:
        ids: Position in scikit-learn's data set. Shape (N,).
        pixels: Ink, 0 to 16. Shape (N, 8, 8).
        digits: Labels, 0 to 9. Shape (N,).
        dense: Whether there is more ink than in the median image of the whole set. Shape (N,).
    """

    ids: Ints
    pixels: Floats
    digits: Ints
    dense: NDArray[np.bool_]

    def take(self, which: Ints) -> "Images":
        return Images(self.ids[which], self.pixels[which], self.digits[which], self.dense[which])


def generate(count: int, seed: int) -> Iterator[Request]:
    """Make requests from the held-out images, each image once before any comes again.

    The same count and seed give the same requests, and a greater count only adds more.

    Args:
        count: From 0 to 50,000.
        seed: From 0 up.

    Raises:
        ValueError: If count or seed is out of range.
        ExampleExtraMissing: If scikit-learn is not installed.
    """
    if not 0 <= count <= COUNT_MAX:
        raise ValueError(f"count is {count}; it must be from 0 to {COUNT_MAX}")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or more")
    return _requests(held_out(), count, seed)


def _requests(images: Images, count: int, seed: int) -> Iterator[Request]:
    for turn in range(-(-count // len(images.ids))):
        rng = np.random.default_rng((seed, turn))
        shown = images.take(rng.permutation(len(images.ids)))
        copies = perturbed(shown.pixels, rng)
        for index in range(min(len(copies), count - turn * len(copies))):
            yield Request(
                session_id=f"image-{shown.ids[index]}",
                pixels=tuple(copies[index].tolist()),
                digit=int(shown.digits[index]),
                density="high" if shown.dense[index] else "low",
            )


def perturbed(pixels: Floats, rng: np.random.Generator) -> Ints:
    """A shifted and noisy copy of each image.

    Args:
        pixels: Shape (N, 8, 8).
        rng: Where chance comes from.

    Returns:
        Ink from 0 to 16. Shape (N, 64).
    """
    shifts = rng.uniform(-SHIFT_MAX, SHIFT_MAX, (len(pixels), 2, 1, 1))
    moved = _moved(_moved(pixels, shifts[:, 0], axis=1), shifts[:, 1], axis=2)
    noisy = moved + rng.normal(0.0, NOISE, moved.shape)
    return np.clip(np.rint(noisy), 0, INK_MAX).astype(np.int64).reshape(len(pixels), PIXELS)


def _moved(pixels: Floats, shifts: Floats, *, axis: int) -> Floats:
    """Shift each image along one axis by less than a pixel, by linear interpolation; blank paper comes in."""
    widths = [(0, 0), (0, 0), (0, 0)]
    widths[axis] = (1, 1)
    framed = np.pad(pixels, widths)
    before, after = (np.take(framed, np.arange(SIDE) + offset, axis=axis) for offset in (0, 2))
    result: Floats = (1 - np.abs(shifts)) * pixels + np.maximum(shifts, 0) * before + np.maximum(-shifts, 0) * after
    return result


def training() -> Images:
    """The images that models learn from."""
    images, order = _shuffled()
    return images.take(order[: int(len(order) * TRAINING_SHARE)])


def held_out() -> Images:
    """The images that requests are made from; none of them is among `training`."""
    images, order = _shuffled()
    return images.take(order[int(len(order) * TRAINING_SHARE) :])


@cache
def _shuffled() -> tuple[Images, Ints]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as trouble:
        raise ExampleExtraMissing(
            "the digits example needs scikit-learn, which is not installed: pip install 'shadow-canary[examples]'"
        ) from trouble
    bunch = load_digits()
    pixels = np.asarray(bunch.images, dtype=np.float64)
    ink = pixels.sum(axis=(1, 2))
    images = Images(np.arange(len(pixels)), pixels, np.asarray(bunch.target, dtype=np.int64), ink > np.median(ink))
    return images, np.random.default_rng(SPLIT_SEED).permutation(len(pixels))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write requests to standard output, one JSON object a line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=8_000, help=f"how many, up to {COUNT_MAX}")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        for request in generate(options.count, options.seed):
            print(request.line())
    except (ValueError, ExampleExtraMissing) as trouble:
        print(f"requests.py: {trouble}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; a closed stderr keeps the interpreter from saying so at exit.
        sys.stderr.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
