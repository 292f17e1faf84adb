"""Which columns a model leans on, and whether two models lean on the same.

Permutation importance (Breiman, "Random forests", Machine Learning 45, 2001): how much worse a
model predicts real rows when one column is shuffled among them, the mean of `REPEATS` shuffles.
Columns that say the same share what they are worth, in both models alike.

Two models are compared by what their importances have in common: each divided by its sum, those
under 0 counted as 0, the lesser of both summed over columns. That is 1 less half the L1 distance: 1
for the same, 0 for models that lean on different columns. It does not ask how well they predict,
which other figures do, and unlike a rank correlation it does not count the order of columns that
neither needs.
"""

from collections.abc import Callable

import numpy as np

from raysynth.frames import Floats

ROWS = 2_000
REPEATS = 3
CELLS = 100_000  # rows times columns, at most, so that wide tables take no longer
FEWEST = 200


def rows(columns: int) -> int:
    """How many rows are asked of a table of so many columns."""
    return min(ROWS, max(FEWEST, CELLS // max(1, columns)))


def importances(
    measure: Callable[[Floats], float], x: Floats, generator: np.random.Generator
) -> Floats:
    """How much `measure` of rows (B, F) falls when a column is shuffled, (F,)."""
    whole = measure(x)
    falls = np.zeros(x.shape[1])
    orders = [generator.permutation(len(x)) for _ in range(REPEATS)]
    for place in range(x.shape[1]):
        shuffled = x.copy()
        for order in orders:
            shuffled[:, place] = x[order, place]
            falls[place] += (whole - measure(shuffled)) / REPEATS
    return falls


def common(one: Floats, other: Floats) -> float:
    """What two models' importances have in common, in [0, 1]; two that need nothing, 1."""
    parts = [np.maximum(falls, 0.0) for falls in (one, other)]
    sums = [float(part.sum()) for part in parts]
    if not all(sums):
        return 0.0 if any(sums) else 1.0
    return float(min(1.0, np.minimum(*(p / s for p, s in zip(parts, sums, strict=True))).sum()))
