"""Where a column's values are cut: those that many rows hold, and edges between shares of the rest.

What codecs by rank are fitted with. Everything found is shared: a heavy value by `least` distinct
holders, and between two edges lie as many; an edge lies midway between two values, so none is a
lone one.
"""

import numpy as np
from numpy.typing import NDArray

from raysynth.hashing import Floats
from raysynth.numeric import distinct


def heavy(floats: Floats, holders: NDArray[np.int64], least: int, share: float) -> Floats:
    """Values (B,) of at least `share` of the rows that enough distinct holders have, ascending."""
    points, place, counts = np.unique(floats, return_inverse=True, return_counts=True)
    found = np.flatnonzero(counts >= share * len(floats))
    return points[[i for i in found if distinct(holders[place == i]) >= least]]


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
