"""Where a column's values are cut: those that many rows hold, and edges between shares of the rest.

What codecs by rank are fitted with. Everything found is shared: a heavy value by `least` distinct
holders, and between two edges lie as many; an edge lies midway between two values, so none is a
lone one.
"""

import numpy as np
from numpy.typing import NDArray

from raysynth.hashing import Floats
from raysynth.numeric import distinct

SHARE = 0.003  # of the rows, for an exact value
MOST = 1_000
NEIGHBOURS = 10
OFTEN = 3.0


def heavy(
    floats: Floats, holders: NDArray[np.int64], least: int, share: float, grid: float | None = None
) -> Floats:
    """Values of `floats` (B,) that `share` of the rows have, and `least` holders, ascending.

    No more than the `MOST` most frequent ones. With `grid`, the step between values (0 for none),
    those of fewer rows too that have `OFTEN` times what a step has on average between the
    `NEIGHBOURS` distinct values on each side: prices in whole hundreds, codes, ratios like 2/3.
    """
    points, place, counts = np.unique(floats, return_inverse=True, return_counts=True)
    enough = counts >= share * len(floats)
    if grid is not None:
        enough |= counts >= OFTEN * _around(points, counts, grid)
    found = np.flatnonzero(enough & (counts >= least))
    if distinct(holders) < len(holders):
        found = np.array([i for i in found if distinct(holders[place == i]) >= least], np.int64)
    return points[np.sort(found[np.argsort(-counts[found], kind="stable")][:MOST])]


def _around(points: Floats, counts: NDArray[np.int64], grid: float) -> Floats:
    """Rows of a step, on average, between the neighbours on each side of each point, without it."""
    places, total = np.arange(len(points)), np.r_[0, counts.cumsum()]
    first = np.maximum(places - NEIGHBOURS, 0)
    last = np.minimum(places + NEIGHBOURS, len(points) - 1)
    rows = total[last + 1] - total[first] - counts
    if not grid:
        return np.zeros(len(points))
    return np.asarray(rows / np.maximum((points[last] - points[first]) / grid, 1))


def cuts(
    floats: Floats, holders: NDArray[np.int64], least: int, stretches: int
) -> tuple[float, ...] | None:
    """Edges between at most `stretches` equal shares of `floats` (B,); None where too few are left.

    Each share has `least` distinct holders or more; one of fewer is joined with the next.
    """
    if distinct(holders) < least:
        return None
    order = np.argsort(floats, kind="stable")
    floats, holders = floats[order], holders[order]
    # A share ends before the value at which it is full.
    full = np.arange(1, stretches) * len(floats) // stretches
    found, start = [], 0
    for end in np.unique(np.searchsorted(floats, floats[full])).tolist():
        if distinct(holders[start:end]) >= least:
            found.append(float(floats[end - 1] / 2 + floats[end] / 2))
            start = end
    if found and distinct(holders[start:]) < least:
        found.pop()
    return tuple(found)
