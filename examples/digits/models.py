"""Three models that read digits, trained at start-up on the training images; seeded, so always the same ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final, Protocol

# One thread for linear algebra, said before numpy loads: images of 64 pixels are too small for more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from requests import INK_MAX, ExampleExtraMissing, Floats, Ints, perturbed, training

COPIES: Final = 5
"""Shifted, noisy copies of each training image."""
TRAINING_SEED: Final = 11
DIGITS: Final = 10
PENALTY: Final = 5.0
GAMMA: Final = 0.06
DAMAGED_DIGIT: Final = 8
DAMAGED_SHARE: Final = 0.5
MISTAKEN_FOR: Final = (3, 1)


class Margins(Protocol):
    """How far each image lies on each digit's side: from shape (N, 64), ink in [0, 1], to shape (N, 10)."""

    def __call__(self, pixels: Floats, /) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model reads: the digit, and a score for each of the ten, which sum to 1."""

    digit: int
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Linear:
    """Margins of a linear model. Shapes (64, 10) and (10,)."""

    weights: Floats
    offsets: Floats

    def __call__(self, pixels: Floats, /) -> Floats:
        result: Floats = pixels @ self.weights + self.offsets
        return result


@dataclass(frozen=True, slots=True)
class Kernel:
    """Margins of ten support vector machines, each telling one digit from the others, over common vectors.

    Args:
        vectors: Shape (V, 64).
        weights: Shape (V, 10).
        offsets: Shape (10,).
        gamma: Width of the radial basis functions.
    """

    vectors: Floats
    weights: Floats
    offsets: Floats
    gamma: float

    def __call__(self, pixels: Floats, /) -> Floats:
        norms = (pixels**2).sum(axis=1)[:, None] + (self.vectors**2).sum(axis=1)
        nearness = np.exp(-self.gamma * np.maximum(norms - 2 * pixels @ self.vectors.T, 0))
        result: Floats = nearness @ self.weights + self.offsets
        return result


@dataclass(frozen=True, slots=True)
class Model:
    """A trained classifier."""

    name: str
    margins: Margins

    def read(self, pixels: Ints) -> list[Reading]:
        """Read images.

        Args:
            pixels: Ink, 0 to 16. Shape (N, 64).
        """
        margins = self.margins(pixels / INK_MAX)
        weights = np.exp(margins - margins.max(axis=1, keepdims=True))
        scores = weights / weights.sum(axis=1, keepdims=True)
        digits = margins.argmax(axis=1)
        return [
            Reading(int(digit), tuple(np.round(row, 4).tolist())) for digit, row in zip(digits, scores, strict=True)
        ]


def logistic() -> Model:
    """Production: logistic regression.

    Raises:
        ExampleExtraMissing: If scikit-learn is not installed; so do the others.
    """
    linear_model, _ = _sklearn()
    pixels, digits = _lessons()
    fitted = linear_model.LogisticRegression(C=0.1, max_iter=400).fit(pixels, digits)
    return Model("logistic regression", Linear(np.asarray(fitted.coef_).T.copy(), np.asarray(fitted.intercept_)))


def kernel() -> Model:
    """A clearly better model: support vector machines with radial basis functions."""
    pixels, digits = _lessons()
    return Model("support vector machines", _machines(pixels, digits))


def damaged_kernel() -> Model:
    """The better model, taught by labels of which half of the eights are wrong; its average hides it."""
    pixels, digits = _lessons()
    return Model("support vector machines, damaged", _machines(pixels, _damaged(digits)))


def _machines(pixels: Floats, digits: Ints) -> Kernel:
    _, svm = _sklearn()
    weights, offsets = np.zeros((len(pixels), DIGITS)), np.zeros(DIGITS)
    for digit in range(DIGITS):
        machine = svm.SVC(C=PENALTY, gamma=GAMMA).fit(pixels, digits == digit)
        weights[machine.support_, digit] = machine.dual_coef_[0]
        offsets[digit] = machine.intercept_[0]
    is_used = np.abs(weights).sum(axis=1) > 0
    return Kernel(pixels[is_used], weights[is_used], offsets, GAMMA)


def _sklearn() -> tuple[Any, Any]:
    """scikit-learn's modules `linear_model` and `svm`, which ship no types."""
    try:
        from sklearn import linear_model, svm
    except ImportError as trouble:
        raise ExampleExtraMissing(
            "the digits example needs scikit-learn, which is not installed: pip install 'shadow-canary[examples]'"
        ) from trouble
    return linear_model, svm


def _lessons() -> tuple[Floats, Ints]:
    """Copies of the training images, ink scaled to [0, 1], and their digits."""
    images = training()
    rng = np.random.default_rng(TRAINING_SEED)
    pixels = np.concatenate([perturbed(images.pixels, rng) for _ in range(COPIES)])
    return pixels / INK_MAX, np.tile(images.digits, COPIES)


def _damaged(digits: Ints) -> Ints:
    """Labels in which whole images of one digit are called another one, all copies alike."""
    images = len(digits) // COPIES
    rng = np.random.default_rng(TRAINING_SEED + 1)
    is_hit = np.tile(rng.random(images) < DAMAGED_SHARE, COPIES) & (digits == DAMAGED_DIGIT)
    return np.where(is_hit, np.tile(rng.choice(MISTAKEN_FOR, images), COPIES), digits)
