"""Which columns a model leans on, and whether two models lean on the same.

Permutation importance (Breiman, "Random forests", Machine Learning 45, 2001): how much worse a
model predicts real rows when one column is shuffled among them, the mean of `REPEATS` shuffles.
Columns that say the same share what they are worth, in both models alike.

Two models are compared by what their importances have in common: each divided by its sum, those
under 0 counted as 0, the lesser of both summed over columns. That is 1 less half the L1 distance: 1
for the same, 0 for models that lean on different columns. It does not ask how well they predict,
which other figures do, and unlike a rank correlation it does not count the order of columns that
neither needs.

The interval is over the rows asked, drawn again with their moves taken for linear, as
`raysynth.ranking` has it; the shuffles stay as they are.
"""

from collections.abc import Callable

import numpy as np

from raysynth import resample
from raysynth.frames import Floats
from raysynth.predictions import Measured
from raysynth.ranking import moved
from raysynth.risks import Interval

ROWS = 2_000
REPEATS = 3
CELLS = 100_000  # rows times columns, at most, so that wide tables take no longer
CLASSES = 3  # of more, each with trees of its own, fewer rows are asked, for the same reason
FEWEST = 200
AT_ONCE = 5_000_000  # cells of shuffled copies that are asked about in one call


def rows(columns: int, classes: int = 1) -> int:
    """How many rows are asked of a table of so many columns, about a target of so many classes."""
    most = min(ROWS, CELLS // max(1, columns))
    return max(FEWEST, most * CLASSES // max(CLASSES, classes))


def importances(
    predict: Callable[[Floats], Floats],
    measure: Callable[[Floats], Measured],
    x: Floats,
    generator: np.random.Generator,
    weights: Floats,
) -> Floats:
    """How much `measure` of what is predicted for rows (B, F) falls with a column shuffled.

    (1 + R, F): the first are of the rows as they are, the others of rows as often as `weights`
    (R, B) say. `predict` is asked about many copies of the rows at once, and answers row by row.
    """
    whole = measure(predict(x))
    width = x.shape[1]
    falls, moves = np.zeros(width), np.zeros((width, len(x)))
    orders = [generator.permutation(len(x)) for _ in range(REPEATS)]
    some = max(1, AT_ONCE // (REPEATS * max(1, x.size)))
    for start in range(0, width, some):
        places = range(start, min(start + some, width))
        copies = np.tile(x, (len(places) * REPEATS, 1)).reshape(len(places), REPEATS, *x.shape)
        for copy, place in zip(copies, places, strict=True):
            for shuffled, order in zip(copy, orders, strict=True):
                shuffled[:, place] = x[order, place]
        said = predict(copies.reshape(-1, width))
        for number, guess in enumerate(np.split(said, len(places) * REPEATS)):
            less, place = measure(guess), places[number // REPEATS]
            falls[place] += (whole.value - less.value) / REPEATS
            moves[place] += (whole.moves - less.moves) / REPEATS
    return moved(falls, moves, weights)


def common(one: Floats, other: Floats) -> float:
    """What two models' importances (F,) have in common, in [0, 1]; two that need nothing, 1."""
    parts = [np.maximum(falls, 0.0) for falls in (one, other)]
    sums = [float(part.sum()) for part in parts]
    if not all(sums):
        return 0.0 if any(sums) else 1.0
    return float(min(1.0, np.minimum(*(p / s for p, s in zip(parts, sums, strict=True))).sum()))


def agreement(one: Floats, reference: Floats) -> Interval | None:
    """The same of importances (1 + R, F), both asked about the same rows, with its interval.

    None where `reference` needs no column: there is nothing to agree on.
    """
    if not (reference[0] > 0).any():
        return None
    return resample.interval(np.array([common(*both) for both in zip(one, reference, strict=True)]))
