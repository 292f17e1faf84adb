"""Point masses of a column: single values that many rows hold, as zeros and sentinels do."""

import numpy as np
from numpy.typing import NDArray

from raysynth.hashing import Floats
from raysynth.numeric import distinct

MOST = 10
SHARE = 0.005  # of rows, for a frequent spike: what a mode must have
ISOLATED = 0.002  # of rows, for an isolated one
NEIGHBOURS = 10  # distinct values on each side that a spike is held against
FREQUENT = 10.0  # times as many rows as they have on average

Ints = NDArray[np.int64]


def find(floats: Floats, holders: Ints, least: int) -> Floats:
    """The values that are point masses, ascending, at most `MOST`.

    A spike has `least` distinct holders or more. It is **frequent**: `SHARE` of the rows, and
    `FREQUENT` times those that the `NEIGHBOURS` distinct values on each side have on average. That
    finds zero inflation, a sentinel beside real values (-1), a peak such as 40 hours a week. Or it
    is **isolated**: further from every other value than the middle 90 % of the others are wide.
    That finds a sentinel far away (999), of which `ISOLATED` of the rows will do, because the mode
    it would share reaches over nothing else, and both values of a column of two. Whole numbers that
    simply repeat (ages, years of education) are neither.

    The heaviest is taken first, and taken out, so that two spikes side by side do not hide one
    another. Rows moved to an end of the range do not count: leave them out of `floats`.
    """
    points, place = np.unique(floats, return_inverse=True)
    counts = np.bincount(place).astype(np.float64)
    shared = counts.copy()
    if distinct(holders) < len(holders):
        pairs = np.unique(np.stack([place, holders]), axis=1)
        shared = np.bincount(pairs[0]).astype(np.float64)
    enough = (counts >= ISOLATED * len(floats)) & (shared >= least)
    found: list[float] = []
    while len(found) < MOST and enough.any():
        candidates = np.flatnonzero(enough)
        often = counts[candidates] >= SHARE * len(floats)
        apart = often & _frequent(counts, candidates) | _isolated(points, counts, candidates)
        if not apart.any():
            break
        heaviest = candidates[apart][counts[candidates[apart]].argmax()]
        found.append(float(points[heaviest]))
        points, counts = np.delete(points, heaviest), np.delete(counts, heaviest)
        enough = np.delete(enough, heaviest)
    return np.sort(found)


def index(spikes: tuple[float, ...], floats: Floats, nearest: bool = False) -> Ints:
    """Which of the ascending `spikes` each of `floats` (B,) is, or is `nearest`; else -1."""
    if not spikes:
        return np.full(len(floats), -1)
    values = np.array(spikes)
    places = np.searchsorted(values[:-1] / 2 + values[1:] / 2, floats)
    return places if nearest else np.where(values[places] == floats, places, -1)


def _frequent(counts: Floats, candidates: Ints) -> NDArray[np.bool_]:
    total = np.r_[0.0, counts.cumsum()]
    first = np.maximum(candidates - NEIGHBOURS, 0)
    last = np.minimum(candidates + NEIGHBOURS + 1, len(counts))
    around = total[last] - total[first] - counts[candidates]
    return np.asarray(counts[candidates] * (last - first - 1) >= FREQUENT * around)


def _isolated(points: Floats, counts: Floats, candidates: Ints) -> NDArray[np.bool_]:
    edges = np.r_[-np.inf, points, np.inf]
    gaps = np.diff(edges)
    gaps = np.minimum(gaps[candidates], gaps[candidates + 1])
    cumulative, own = counts.cumsum(), counts[candidates]
    others = cumulative[-1] - own
    ends = []
    for share in (0.05, 0.95):
        target = share * others
        # What a candidate holds is stepped over.
        target = np.where(target <= cumulative[candidates] - own, target, target + own)
        ends.append(np.searchsorted(cumulative, target).clip(max=len(points) - 1))
    return np.asarray((others == 0) | (gaps > points[ends[1]] - points[ends[0]]))
