"""Pair trend: how near the relation of each two columns comes to the real one.

Definitions after CorrelationSimilarity and ContingencySimilarity of SDMetrics:

- two numbers: 1 - |r_real - r_synthetic| / 2, r being Pearson's correlation over the rows where
  both are present. Where r is undefined (a constant column, fewer than two such rows), r counts
  as 0: no linear relation. The score is never NaN.
- any pair with a category or boolean: 1 - TV, the total variation distance between the two
  contingency tables of shares. A number falls in one of `BINS` bins of equal width between the
  smallest and the largest value of the real table (values beyond fall in the outer bins); null is
  a bin and a category of its own.
"""

from itertools import combinations

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats, Integers, codes, floats
from raysynth.schema import Column, Schema

BINS = 10
_DENSE = 1 << 20  # cells of a contingency table that are counted without sorting


def scores(real: pa.Table, synthetic: pa.Table, schema: Schema) -> dict[tuple[str, str], float]:
    """Each pair's score in [0, 1], keyed by column names in schema order; 1 is the same trend.

    Empty for a single column. Both tables hold at least one row. Summarise by the mean.
    """
    numbers = [column.name for column in schema.columns if column.measured]
    left, right = (_correlations(table, numbers) for table in (real, synthetic))
    similar = 1.0 - np.abs(left - right) / 2
    place = {name: index for index, name in enumerate(numbers)}
    coded = {column.name: _codes(real, synthetic, column) for column in schema.columns}
    found: dict[tuple[str, str], float] = {}
    for one, other in combinations(schema.names, 2):
        if one in place and other in place:
            found[one, other] = float(similar[place[one], place[other]])
        else:
            found[one, other] = 1.0 - _contingency(coded[one], coded[other])
    return found


def _codes(real: pa.Table, synthetic: pa.Table, column: Column) -> tuple[list[Integers], int]:
    if not column.measured:
        return codes([real, synthetic], column.name)
    values = [floats(table, column.name) for table in (real, synthetic)]
    present = values[0][~np.isnan(values[0])]
    low, high = (present.min(), present.max()) if len(present) else (0.0, 0.0)
    # Halves, because the width of a range near the largest float overflows.
    width = (high / 2 - low / 2) / BINS
    return [_bins(value, low, width) for value in values], BINS + 1


def _bins(values: Floats, low: float, width: float) -> Integers:
    null = np.isnan(values)
    away = np.where(null, 0.0, values / 2 - low / 2)
    with np.errstate(over="ignore"):
        bins = np.clip(np.floor(away / width), 0, BINS - 1) if width > 0 else _sides(away)
    bins[null] = BINS
    return bins.astype(np.int64)


def _sides(away: Floats) -> Floats:
    """Below, at and above a real column's only value: its range has no width to divide."""
    return np.sign(away) + 1.0


def _contingency(one: tuple[list[Integers], int], other: tuple[list[Integers], int]) -> float:
    (rows, height), (columns, width) = one, other
    cells = [row * width + column for row, column in zip(rows, columns, strict=True)]
    size = height * width
    if size > _DENSE:
        _, joint = np.unique(np.concatenate(cells), return_inverse=True)
        cells, size = np.split(joint, [len(cells[0])]), int(joint.max()) + 1
    shares = [np.bincount(cell, minlength=size) / len(cell) for cell in cells]
    return min(1.0, float(np.abs(shares[0] - shares[1]).sum() / 2))


def _correlations(table: pa.Table, names: list[str]) -> Floats:
    """Pearson's r of every two columns over the rows where both are present, (N, N); or 0."""
    values = np.stack(
        [_scaled(floats(table, name)) for name in names] or [np.empty(table.num_rows)],
        axis=1,
    )
    present = ~np.isnan(values)
    x, seen = np.where(present, values, 0.0), present.astype(np.float64)
    rows = np.maximum(seen.T @ seen, 1.0)
    means, squares = (x.T @ seen) / rows, ((x * x).T @ seen) / rows
    variances = squares - means**2
    # A column that is constant over the shared rows leaves only rounding, not a variance.
    defined = variances > 1e-12 * squares
    variances = np.where(defined, variances, np.inf)
    covariances = (x.T @ x) / rows - means * means.T
    correlations: Floats = covariances / np.sqrt(variances) / np.sqrt(variances.T)
    return np.clip(correlations, -1.0, 1.0)


def _scaled(values: Floats) -> Floats:
    """Shifted and scaled into [-1, 1], a constant column to exactly 0, so no sum overflows."""
    present = values[~np.isnan(values)]
    if not len(present):
        return values
    values = values / (np.abs(present).max() or 1.0)
    values = values - values[np.argmax(~np.isnan(values))]
    values = values / (np.nanmax(np.abs(values)) or 1.0)
    return values - np.nanmean(values)
