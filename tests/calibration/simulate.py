"""Synthetic traffic as closed tiles: pairs of answers with known pass rates, in sessions or alone.

Each named slice has an equal share of the traffic. A latent uniform number a grader decides the outcome of
both roles, correlated by phi; in a session, a request repeats the first one's numbers every other time, or always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from shadow.records.tallies import CELLS, Key, Tally

SLICES = ("headache-red-flags", "debug-search-api", "division")
RATES = {"reward": 0.85, "urgent": 0.95, "pinned": 0.90, "current": 0.95, "correct": 0.85, "tagged": 0.985}
"""Production's pass rates."""
SLICE_OF = {"urgent": SLICES[0], "pinned": SLICES[1], "current": SLICES[1], "correct": SLICES[2]}
LATENTS = (*RATES, "safe", "hack", "cost", "latency", "noise_c", "noise_p")

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What is true of the candidate.

    Args:
        shift: Points by which its pass rate is above production's, by grader.
        onset: Pair from which the shift holds.
        session: Requests of a session.
        slice_share: Share of each named slice.
        alike: Chance that a request repeats its session's numbers.
        reward: Production's pass rate of the reward.
    """

    shift: Mapping[str, float] = field(default_factory=dict)
    onset: int = 0
    session: int = 1
    slice_share: float = 0.25
    phi: float = 0.5
    alike: float = 0.5
    reward: float = RATES["reward"]


def tiles(seed: int, truth: Truth, *, pairs: int, per_tile: int) -> Iterator[Tally]:
    """The merged tiles of a run, in order."""
    rng = np.random.default_rng(seed)
    sessions = -(-pairs // truth.session)
    of_session = np.repeat(np.arange(sessions), truth.session)[:pairs]
    cell = rng.integers(CELLS, size=sessions)[of_session]
    # A permutation, so that every slice has its exact share.
    place = ((rng.permutation(sessions) + 0.5) / sessions)[of_session]
    latent = _latents(rng, of_session, truth, pairs)
    named = {
        name: (place >= i * truth.slice_share) & (place < (i + 1) * truth.slice_share) for i, name in enumerate(SLICES)
    }
    named["all"] = np.ones(pairs, dtype=bool)
    parts = _parts(latent, named, truth, pairs)
    for number in range(pairs // per_tile):
        span = slice(number * per_tile, (number + 1) * per_tile)
        yield _tile(parts, named, cell, span)


def _latents(rng: np.random.Generator, of_session: NDArray[np.int64], truth: Truth, pairs: int) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for name in LATENTS:
        draw = rng.random(pairs)
        if truth.session > 1:
            repeats = rng.random(pairs) < truth.alike
            draw = np.where(repeats, draw[of_session * truth.session], draw)
        columns[name] = draw
    return columns


def _paired(draw: Column, p: float, q: Column, phi: float) -> tuple[Column, Column]:
    """Outcomes (production, candidate) of pass rates p and q with correlation phi."""
    both = np.minimum(p * q + phi * np.sqrt(p * (1 - p) * q * (1 - q)), np.minimum(p, q))
    production = draw < p
    candidate = (draw < both) | ((draw >= p) & (draw < p + q - both))
    return production.astype(float), candidate.astype(float)


@dataclass(frozen=True)
class Part:
    """One statistic: where it applies, its vector's columns, and its cells' columns."""

    key: Key
    applies: NDArray[np.bool_]
    vector: NDArray[np.int64]
    cells: NDArray[np.int64]


def _parts(latent: dict[str, Column], named: dict[str, NDArray[np.bool_]], truth: Truth, pairs: int) -> list[Part]:
    ones = np.ones(pairs, dtype=np.int64)
    is_shifted = np.arange(pairs) >= truth.onset
    graded = {
        name: _paired(latent[name], p, np.clip(p + truth.shift.get(name, 0.0) * is_shifted, 0, 1), truth.phi)
        for name, p in {**RATES, "reward": truth.reward}.items()
    }
    result = []

    def part(key: Key, applies: NDArray[np.bool_], columns: list[Column], cells: list[Column]) -> None:
        result.append(Part(key, applies, np.array(columns).T.astype(np.int64), np.array(cells).T.astype(np.int64)))

    for name, (p, c) in graded.items():
        within = SLICE_OF.get(name, "all")
        part(
            Key(within, "graders", name),
            named[within],
            [p * c, p * (1 - c), (1 - p) * c, (1 - p) * (1 - c)],
            [ones, c - p],
        )
    unsafe = (latent["safe"] < 0.001 + truth.shift.get("unsafe", 0.0) * is_shifted).astype(float)
    part(Key("all", "rates", "safe"), named["all"], [unsafe, ones], [ones, unsafe])
    quality = named[SLICES[0]] | named[SLICES[2]]
    p, c = (np.where(named[SLICES[0]], graded["urgent"][i], graded["correct"][i]) for i in (0, 1))
    bins = 20 * (c - p)
    part(Key("all", "numeric", "quality"), quality, [(bins + 20 == i).astype(float) for i in range(41)], [ones, bins])
    wobble_c, wobble_p = 0.2 * ndtri(latent["noise_c"]), 0.2 * ndtri(latent["noise_p"])
    cost = 0.55 * ndtri(latent["cost"])
    money_c, money_p = (np.round(1000 * np.exp(cost + wobble)) for wobble in (wobble_c, wobble_p))
    part(
        Key("all", "cost", "request"),
        named["all"],
        [ones, money_c, money_p, money_c**2, money_p**2, money_c * money_p],
        [ones, money_c, money_p],
    )
    slow = 0.5 * ndtri(latent["latency"])
    tau0 = np.exp(1.6449 * np.sqrt(0.5**2 + 0.2**2))
    u = (np.exp(slow + wobble_c) > 1.25 * tau0).astype(float)
    v = (np.exp(slow + wobble_p) > tau0).astype(float)
    part(Key("all", "latency", "total:0.95:1.25"), named["all"], [u * (1 - v), v * (1 - u), ones, v], [ones, u - v])
    h_p, h_c = _paired(latent["hack"], 0.01, np.full(pairs, 0.01), 0.3)
    part(
        Key("all", "reward_hacking", ""), named[SLICES[1]], [h_c * (1 - h_p), h_p * (1 - h_c), ones], [ones, h_c - h_p]
    )
    return result


def _tile(parts: list[Part], named: dict[str, NDArray[np.bool_]], cell: NDArray[np.int64], span: slice) -> Tally:
    tally = Tally()
    for name, members in named.items():
        n = int(members[span].sum())
        tally.vector(Key(name, "classes", ""))[0] = n
        tally.vectors[Key(name, "missing", "")] = [n, 500 * n, 800_000 * n, 0, 0, 0]
    for part in parts:
        chosen = part.applies[span]
        if not chosen.any():
            continue
        tally.vectors[part.key] = part.vector[span][chosen].sum(axis=0).tolist()
        sums = np.zeros((CELLS, part.cells.shape[1]), dtype=np.int64)
        np.add.at(sums, cell[span][chosen], part.cells[span][chosen])
        filled = np.flatnonzero(sums[:, 0])
        tally.cells[part.key] = dict(zip(filled.tolist(), sums[filled].tolist(), strict=True))
    return tally
