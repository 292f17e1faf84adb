"""Tails: are there as many very small and very large numbers as in the real table?

The lower tail of a number is what lies under the real table's quantile at `TAIL`, the upper what
lies over that at 1 - `TAIL`: the threshold exceedances of extreme-value statistics (Coles, "An
Introduction to Statistical Modeling of Extreme Values", 2001). A tail's score is the smaller of the
two tables' shares of rows in it over the larger: 1 for as many, one half for half or twice as many,
0 for none. A column's is the mean of its tails. KS, a difference of shares, hardly sees what
becomes of one row in a hundred.

A tail that no real row lies in (a tenth of zeros, and nothing below) is left out, and so is a
column with neither. Null lies in no tail. How far out the rows of a tail lie is not looked at:
`cumulative` and alpha-precision see some of it. A hundredth of few rows is fewer still, and the
score of a fair draw is well under 1: read it beside the ceiling.
"""

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats, floats
from raysynth.resample import Draws
from raysynth.schema import Schema
from raysynth.tallies import Coded

TAIL = 0.01


def replicates(
    real: pa.Table, synthetic: pa.Table, schema: Schema, draws: Draws
) -> dict[str, Floats]:
    """Each number's score in [0, 1] over the rows as they are and as drawn again, (R).

    The thresholds are those of the real rows as they are. Both tables hold at least one row.
    """
    found = {}
    for column in schema.columns:
        if column.measured:
            sides = floats(real, column.name), floats(synthetic, column.name)
            shares = _beyond(*sides).shares(draws)
            tails = [_ratio(*(side[:, tail] for side in shares)) for tail in (0, 2)]
            scores = [ratio for ratio, own in zip(tails, shares[0][0, [0, 2]], strict=True) if own]
            if scores:
                found[column.name] = np.mean(scores, axis=0)
    return found


def _beyond(real: Floats, synthetic: Floats) -> Coded:
    """0 under the lower threshold, 2 over the upper, 1 for all else and NaN."""
    present = real[~np.isnan(real)]
    if not len(present):
        present = np.zeros(1)
    # Values that rows have: a quantile between two of the largest floats overflows.
    low = np.quantile(present, TAIL, method="higher")
    high = np.quantile(present, 1 - TAIL, method="lower")
    left, right = (
        1 - (side < low).astype(np.int64) + (side > high).astype(np.int64)
        for side in (real, synthetic)
    )
    return Coded(left, right, 3)


def _ratio(one: Floats, other: Floats) -> Floats:
    """The smaller over the larger, 1 where both are 0."""
    larger = np.maximum(one, other)
    return np.where(larger > 0, np.minimum(one, other) / np.where(larger > 0, larger, 1.0), 1.0)
