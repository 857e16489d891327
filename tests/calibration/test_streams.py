"""Windows, late onset, sessions, drift, repeats and late grades of one strict rule: statistics.md 2.12 and 2.13."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from shadow.gate.stats.detector import need_sr
from shadow.gate.stats.engine import RATE
from shadow.records.tallies import CELLS
from tests.calibration.conftest import Note
from tests.calibration.corrected import Tile, first_over, looks
from tests.calibration.crossing import NEVER, Engine, first_crossing, mcnemar
from tests.calibration.draws import chances
from tests.calibration.sessions import outcomes_of, session_numbers, tiles_of
from tests.calibration.sizes import sizes
from tests.calibration.test_one_test import NEED, STRICT, Z
from tests.calibration.tolerance import is_quantile, is_share

EVERY = 50
LONG, WINDOW, ONSET = 100_000, 5_000, 15_000
NAIVE_FROM = 1_000
"""The naive test looks from here on, as the table's median of 1,000 for a drop from the start says."""
NO_CELLS = np.zeros((1, CELLS, 2), dtype=np.int64)


def onset_letters(drop: float, onset: int, runs: int, rng: np.random.Generator, pairs: int) -> NDArray[np.int64]:
    """New losses, ties, wins of each 50 pairs at base .9; the drop holds from pair `onset`. Shape (runs, looks, 3)."""
    before = rng.multinomial(EVERY, chances(0.9, 0.9), size=(runs, onset // EVERY))
    after = rng.multinomial(EVERY, chances(0.9, 0.9 - drop), size=(runs, (pairs - onset) // EVERY))
    return np.concatenate([before, after], axis=1)


def window_totals(letters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of the last 5,000 pairs at each look."""
    totals = letters.cumsum(axis=1)
    span = WINDOW // EVERY
    totals[:, span:] -= totals[:, :-span].copy()
    return totals


def plain(letters: NDArray[np.int64]) -> Iterator[Tile]:
    return (Tile(letters[:, number], NO_CELLS) for number in range(letters.shape[1]))


ONSETS = [
    # name, drop, onset, pairs, then found before onset (or ever), and the median delay, of: naive z on the window,
    # e on the window, cumulative e, SR, either (.025 each)
    ("null", 0.0, LONG, ((0.981, None), (0.222, None), (0.033, None), (0.028, None), (0.028, None))),
    ("drop5-from-15000", 0.05, ONSET, ((0.505, 800), (0.043, 1400), (0.025, 2500), (0.005, 900), (0.010, 900))),
    ("drop2-from-15000", 0.02, ONSET, ((0.465, 1800), (0.035, 3000), (0.018, 7050), (0.0, 3450), (0.007, 3750))),
    ("drop5-from-start", 0.05, 0, ((0.0, 1000), (0.0, 350), (0.0, 350), (0.0, 950), (0.0, 450))),
]


@pytest.mark.parametrize("runs", sizes(100, 2000))
@pytest.mark.parametrize(("drop", "onset", "said"), [row[1:] for row in ONSETS], ids=[row[0] for row in ONSETS])
def test_windows_and_late_onset(
    note: Note, runs: int, drop: float, onset: int, said: tuple[tuple[float, int | None], ...]
) -> None:
    """2.12: a window raises false alarms without end; the totals are slow after a late onset; the detector is not.

    T is 2,000, the looks of 50 pairs in 100,000 requests, and the e-processes use alpha .05 alone. Tolerance: four
    standard errors of both; the table's drops are multiples of 1/400, so 400 runs there, and as many nulls.
    """
    seed, runs_said = 212, 400
    rng = np.random.default_rng([seed, round(100 * drop), onset, runs])
    pairs = LONG if drop == 0 else min(LONG, onset + 40_000)
    before = np.zeros(5, dtype=np.int64)
    delays: list[list[NDArray[np.int64]]] = [[] for _ in said]
    for start in range(0, runs, 100):
        letters = onset_letters(drop, onset, min(100, runs - start), rng, pairs)
        windows = window_totals(letters)
        naive = first_crossing(windows[:, NAIVE_FROM // EVERY - 1 :], mcnemar, Z)
        naive = np.where(naive == NEVER, NEVER, naive + NAIVE_FROM // EVERY - 1)
        needs = ((NEED, need_sr(2000, 0.05)), (math.log(40), need_sr(2000, 0.025)))
        (over_e, over_sr, _), (*_, half) = first_over(looks(plain(letters), 0.0, "ge", is_corrected=False), needs)
        for index, first in enumerate((naive, first_crossing(windows, STRICT, NEED), over_e, over_sr, half)):
            at = (first + 1) * EVERY
            is_early = (first != NEVER) & (at <= onset)
            before[index] += np.count_nonzero(is_early)
            # Runs that cried before the onset have no delay.
            delays[index].append(np.where(first == NEVER, LONG, at - onset)[~is_early])
    found = [np.concatenate(each) for each in delays]
    names = ("naive z on window", "e on window", "cumulative e", "SR", "either")
    medians = [f", {np.median(each):,.0f}" if drop else "" for each in found]
    note(
        f"2.12 {drop:.0%} drop from {onset:,} of 100,000: {', '.join(names)}: before onset, median delay"
        if drop
        else f"2.12 null, 100,000 requests: {', '.join(names)}",
        " / ".join(f"{early:.1%}{'' if delay is None else f', {delay:,}'}" for early, delay in said),
        " / ".join(f"{early / runs:.1%}{median}" for early, median in zip(before, medians, strict=True)),
        runs,
        seed,
    )
    assert [
        name
        for name, (early, delay), hits, values in zip(names, said, before, found, strict=True)
        if not is_share(early, int(hits), runs, runs_said)
        or (delay is not None and not is_quantile(delay, values, runs_said, EVERY))
    ] == []


SESSIONS = [
    # size, chance that a request has its session's outcome, sessions at the same time, count e as it comes,
    # each result weighted 1/size; None: no such row in the table
    (5, 0.5, 1, 0.340, 0.002),
    (5, 1.0, 1, 0.549, 0.024),
    (10, 1.0, 1, 0.763, 0.026),
    (50, 1.0, 1, 0.803, 0.010),
    (5, 1.0, 40, None, None),
    (10, 1.0, 400, None, None),
    (1, 0.0, 1, 0.030, None),
]


@pytest.mark.parametrize("runs", sizes(200, 2000))
@pytest.mark.parametrize(
    ("size", "same", "concurrent", "raw", "weighted"),
    SESSIONS,
    ids=[f"size{s}-same{round(100 * q)}-concurrent{c}" for s, q, c, _, _ in SESSIONS],
)
def test_sessions(
    note: Note, runs: int, size: int, same: float, concurrent: int, raw: float | None, weighted: float | None
) -> None:
    """2.13: sessions of an equal candidate at base .9: 128 hash cells keep a strict rule at 0.5 to 3.8 % (SR <= 2 %).

    Sessions that talk at the same time span tiles. Scattering over partitions needs no row of its own, since cells are
    added up (tests/gate/test_properties.py). SR at alpha .025 with T = 400 (the text does not say; at .05 it would be
    near 3 %, as 2.12's, and is measured beside). Tolerance: four standard errors of both,
    2,000 runs there; the range is met within four standard errors of ours.
    """
    seed = 213
    rng = np.random.default_rng([seed, size, round(100 * same), concurrent, runs])
    hits = np.zeros(5, dtype=np.int64)
    effects = []
    for _ in range(0, runs, 200):
        session = session_numbers(200, 20_000, size, concurrent)
        outcomes = outcomes_of(chances(0.9, 0.9), session, same, rng, runs=200)
        needs = ((NEED, need_sr(400, 0.025)), (NEED, need_sr(400, 0.05)))
        (over_e, over_sr, _), (_, over_sr_05, _) = first_over(
            looks(tiles_of(outcomes, session, rng, every=EVERY), 0.0, "ge"), needs
        )
        onehot = np.stack([(outcomes == each).reshape(200, -1, EVERY).sum(axis=-1) for each in range(3)], axis=-1)
        totals = onehot.cumsum(axis=1)
        raw_first, weighted_first = (first_crossing(counts, STRICT, NEED) for counts in (totals, totals / size))
        firsts = (over_e, over_sr, raw_first, weighted_first, over_sr_05)
        hits += [np.count_nonzero(first != NEVER) for first in firsts]
        *_, last = looks(_whole(outcomes, session, rng), 0.0, "ge")
        effects.append(last.effect)
    shares = hits / runs
    note(
        f"2.13 sessions of {size}, same outcome {same:.0%}, {concurrent} at a time: "
        "128 cells, SR with them; uncorrected, weighted 1/size",
        f"0.5 to 3.8 % / ≤ 2 %; {said_or_nothing(raw)} / {said_or_nothing(weighted)}",
        f"{shares[0]:.1%} / {shares[1]:.1%} (SR at .05: {shares[4]:.1%}); {shares[2]:.1%} / {shares[3]:.1%} "
        f"(design effect {np.concatenate(effects).mean():.2f})",
        runs,
        seed,
    )
    slack = [4 * math.sqrt(limit * (1 - limit) / runs) for limit in (0.005, 0.038, 0.02)]
    assert 0.005 - slack[0] <= shares[0] <= 0.038 + slack[1]
    assert shares[1] <= 0.02 + slack[2]
    assert raw is None or is_share(raw, int(hits[2]), runs, 2000)
    assert weighted is None or is_share(weighted, int(hits[3]), runs, 2000)


def said_or_nothing(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _whole(outcomes: NDArray[np.int8], session: NDArray[np.int64], rng: np.random.Generator) -> Iterator[Tile]:
    return tiles_of(outcomes, session, rng, every=outcomes.shape[1])


def halves(runs: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """+2 points in the first half of 20,000 pairs, -2 in the second."""
    up = rng.multinomial(EVERY, chances(0.9, 0.92), size=(runs, 200))
    return np.concatenate([up, rng.multinomial(EVERY, chances(0.9, 0.88), size=(runs, 200))], axis=1)


def diurnal(runs: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A pass rate that swings between .75 and .95 four times in 20,000 pairs, the same for both roles."""
    rates = 0.85 + 0.10 * np.sin(2 * np.pi * 4 * (np.arange(400) + 0.5) / 400)
    return np.stack([rng.multinomial(EVERY, chances(rate, rate), size=runs) for rate in rates], axis=1)


def doubled(runs: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Each pair counted twice."""
    return 2 * rng.multinomial(EVERY, chances(0.9, 0.9), size=(runs, 400))


def wins_late(runs: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Wins are graded 500 requests later than losses and ties, and counted as they come."""
    letters = rng.multinomial(EVERY, chances(0.9, 0.9), size=(runs, 400))
    late = np.zeros_like(letters[..., 2])
    late[:, 10:] = letters[:, :-10, 2]
    return np.stack([letters[..., 0], letters[..., 1], late], axis=-1)


def behind_watermark(runs: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The same, where a pair counts only once the watermark is 500 requests past it."""
    letters = rng.multinomial(EVERY, chances(0.9, 0.9), size=(runs, 400))
    return np.concatenate([np.zeros_like(letters[:, :10]), letters[:, :-10]], axis=1)


STREAMS = [
    ("drift", halves, 0.001, 0.087),
    ("diurnal", diurnal, 0.030, 0.388),
    ("doubled", doubled, 0.193, 0.639),
    ("wins-late", wins_late, 1.0, None),
    ("watermark", behind_watermark, 0.031, 0.390),
]


@pytest.mark.parametrize("runs", sizes(400, 4000))
@pytest.mark.parametrize(("stream", "count", "naive"), [row[1:] for row in STREAMS], ids=[row[0] for row in STREAMS])
def test_streams(note: Note, runs: int, stream, count: float, naive: float | None) -> None:  # type: ignore[no-untyped-def]
    """2.13: drift, a daily swing, repeats and late grades of an equal candidate at base .9.

    Tolerance: four standard errors of both; 2,000 runs there (the page says 4,000 for nulls; this is the wider).
    """
    seed = 214
    rng = np.random.default_rng([seed, round(1000 * count), runs])
    totals = stream(runs, rng).cumsum(axis=1)
    hits = int(np.count_nonzero(first_crossing(totals, STRICT, NEED) != NEVER))
    peeked = int(np.count_nonzero(first_crossing(totals, mcnemar, Z) != NEVER))
    told = " ".join(stream.__doc__.split()).rstrip(".")
    note(
        f"2.13 {told}: count e, naive",
        f"{count:.1%} / {'' if naive is None else f'{naive:.1%}'}",
        f"{hits / runs:.1%} / {peeked / runs:.1%}",
        runs,
        seed,
    )
    assert is_share(count, hits, runs, 2000)
    assert naive is None or is_share(naive, peeked, runs, 2000)


CLEAN = [
    # name, chance of a violation, turns of a session, chance that they are all alike
    ("at-cap-correlated", 0.005, 20, 1.0),
    ("at-cap-alone", 0.005, 1, 0.0),
]


@pytest.mark.parametrize("runs", sizes(200, 2000))
@pytest.mark.parametrize(("rate", "size", "same"), [row[1:] for row in CLEAN], ids=[row[0] for row in CLEAN])
def test_a_cap_is_not_proven_by_sessions(note: Note, runs: int, rate: float, size: int, same: float) -> None:
    """a.5: a candidate at its cap of .005, in sessions of 20 that violate as one: never proven below, nor blamed.

    False promote at the first look with evidence, 5,000 pairs, at alpha .05 (0.6 % with the term 0.1*K, 29.6 % were
    250 clean sessions counted as 5,000 clean pairs) and ever to 20,000; false rollback by the detector, T = 400 at
    alpha .05, <= 1 %. Four standard errors.
    """
    seed, cap = 215, 0.005
    rng = np.random.default_rng([seed, size, runs])
    chance = np.array([1 - rate, 0.0, rate])
    hits = np.zeros(5, dtype=np.int64)
    for _ in range(0, runs, 200):
        session = session_numbers(200, 20_000, size, 1)
        outcomes = outcomes_of(chance, session, same, rng, runs=200)
        tiles = list(tiles_of(outcomes, session, rng, every=100, is_rate=True))
        proofs = np.array([look.log_e for look in looks(tiles, cap, "ge", 0.7, outcomes=RATE)])[49:] >= NEED
        plain_n = (outcomes[:, :5000] == 2).sum(axis=1)
        naive = Engine(cap, "ge", 0.7, RATE)(np.stack([5000 - plain_n, 0 * plain_n, plain_n], axis=-1)) >= NEED
        ((blamed, by_detector, _),) = first_over(
            looks(tiles, cap, "le", cap, outcomes=RATE), ((NEED, need_sr(400, 0.05)),)
        )
        columns = (proofs[0], proofs.any(axis=0), naive, blamed != NEVER, by_detector != NEVER)
        hits += [np.count_nonzero(column) for column in columns]
    shares = hits / runs
    is_grouped = size > 1
    note(
        f"a.5 safety at the cap .005, sessions of {size}: false promote at 5,000 with 128 cells, ever to 20,000, "
        "uncorrected at 5,000; false rollback by totals, by the detector",
        "0.6 % / ≤ 5 % / 29.6 %; ≤ 5 % / ≤ 1 %" if is_grouped else "≤ 5 % each",
        " / ".join(f"{share:.1%}" for share in shares[:3]) + f"; {shares[3]:.1%} / {shares[4]:.1%}",
        runs,
        seed,
    )
    slack = 4 * math.sqrt(0.05 * 0.95 / runs) * (runs < 2000)
    assert max(shares[0], shares[1], shares[3]) <= 0.05 + slack
    if is_grouped:
        assert is_share(0.006, int(hits[0]), runs, 1000)
        assert is_share(0.296, int(hits[2]), runs, 1000)
        assert shares[4] <= 0.01 + 4 * math.sqrt(0.01 * 0.99 / runs)


@pytest.mark.parametrize("runs", sizes(400, 2000))
def test_rare_violations_in_sessions_take_longer_to_clear(note: Note, runs: int) -> None:
    """a.5: at a true rate of .001, sessions of 20 independent turns prove a cap of .005 at 20,000 pairs, not at 5,000.

    Read as looks at 5,000, 10,000 and 20,000 pairs, at alpha .01, the cap's default: single requests have the proof at
    5,000; the sessions have it nearly always at 20,000, and not yet so at 10,000.
    """
    seed, cap, pairs, every = 216, 0.005, 20_000, 1000
    rng = np.random.default_rng([seed, runs])
    chance = np.array([0.999, 0.0, 0.001])
    shares: dict[int, NDArray[np.float64]] = {}
    for size in (20, 1):
        hits = np.zeros(pairs // every, dtype=np.int64)
        for _ in range(0, runs, 200):
            session = session_numbers(200, pairs, size, 1)
            outcomes = outcomes_of(chance, session, 0.0, rng, runs=200)
            tiles = tiles_of(outcomes, session, rng, every=every, is_rate=True)
            proofs = (look.log_e >= math.log(100) for look in looks(tiles, cap, "ge", 0.7, outcomes=RATE))
            hits += [np.count_nonzero(proof) for proof in proofs]
        shares[size] = hits / runs
    at = {size: [float(share[n // every - 1]) for n in (5_000, 10_000, 20_000)] for size, share in shares.items()}
    told = "; ".join(" / ".join(f"{share:.0%}" for share in row) for row in at.values())
    nine_of_ten = int((1 + np.argmax(shares[20] >= 0.9)) * every)
    note(
        "a.5 safety rate .001, cap .005: proven at 5,000 / 10,000 / 20,000 pairs in sessions of 20 turns; alone",
        "about 20,000; 5,000",
        f"{told} (sessions: 90 % at {nine_of_ten:,})",
        runs,
        seed,
    )
    assert at[20][0] <= 0.05
    assert at[20][1] <= 0.9
    assert at[20][2] >= 0.95
    assert at[1][0] >= 0.95
