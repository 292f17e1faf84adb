"""Pair trend: how near the relation of each two columns comes to the real one.

Definitions after CorrelationSimilarity and ContingencySimilarity of SDMetrics:

- two numbers: 1 - |r_real - r_synthetic| / 2, r being Pearson's correlation over the rows where
  both are present. Where r is undefined (a constant column, fewer than two such rows), r counts
  as 0: no linear relation. The score is never NaN.
- any pair with a category or boolean: 1 - TV, the total variation distance between the two
  contingency tables of shares. A number falls in one of `BINS` bins of equal width between the
  smallest and the largest value of the real table (values beyond fall in the outer bins); null is
  a bin and a category of its own.

Every pair counts. SDMetrics' quality report (0.32) counts those alone that relate in the real table
(|r| over 0.5, Cramer's V over 0.3); and it cuts a synthetic column between its own ends and puts
null in the bin of the largest value, where its ContingencySimilarity alone cuts as here.
"""

from itertools import combinations

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats, Integers, floats
from raysynth.resample import Draws
from raysynth.schema import Column, Schema
from raysynth.tallies import Coded, categories
from raysynth.threads import single

BINS = 10


def scores(real: pa.Table, synthetic: pa.Table, schema: Schema) -> dict[tuple[str, str], float]:
    """Each pair's score in [0, 1], keyed by column names in schema order; 1 is the same trend.

    Empty for a single column. Both tables hold at least one row. Summarise by the mean.
    """
    draws = Draws.of(real.num_rows, synthetic.num_rows)
    found = replicates(real, synthetic, schema, draws)
    return {names: float(values[0]) for names, values in found.items()}


def replicates(
    real: pa.Table, synthetic: pa.Table, schema: Schema, draws: Draws
) -> dict[tuple[str, str], Floats]:
    """Each pair's score over the rows as they are and as drawn again, (R)."""
    numbers = [column.name for column in schema.columns if column.measured]
    left = _correlations(real, numbers, draws.real)
    right = _correlations(synthetic, numbers, draws.synthetic)
    similar = 1.0 - np.abs(left - right) / 2
    place = {name: index for index, name in enumerate(numbers)}
    coded = {column.name: _codes(real, synthetic, column) for column in schema.columns}
    found: dict[tuple[str, str], Floats] = {}
    for one, other in combinations(schema.names, 2):
        if one in place and other in place:
            found[one, other] = similar[:, place[one], place[other]]
        else:
            found[one, other] = 1.0 - coded[one].joined(coded[other]).variation(draws)
    return found


def _codes(real: pa.Table, synthetic: pa.Table, column: Column) -> Coded:
    if not column.measured:
        return categories(real, synthetic, column.name)
    values = [floats(table, column.name) for table in (real, synthetic)]
    present = values[0][~np.isnan(values[0])]
    low, high = (present.min(), present.max()) if len(present) else (0.0, 0.0)
    # Halves, because the width of a range near the largest float overflows.
    width = (high / 2 - low / 2) / BINS
    left, right = (_bins(value, low, width) for value in values)
    return Coded(left, right, BINS + 1)


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


def _correlations(table: pa.Table, names: list[str], weights: Floats) -> Floats:
    """Pearson's r of every two columns over the rows where both are present, or 0: (R, N, N)."""
    values = np.stack(
        [_scaled(floats(table, name)) for name in names] or [np.empty(table.num_rows)],
        axis=1,
    )
    present = ~np.isnan(values)
    x, seen = np.where(present, values, 0.0), present.astype(np.float64)
    with single():
        return np.stack([_pearson(x, seen, weight[:, None]) for weight in weights])


def _pearson(x: Floats, seen: Floats, weight: Floats) -> Floats:
    weighted = x * weight
    rows = np.maximum(seen.T @ (seen * weight), 1.0)
    means, squares = (weighted.T @ seen) / rows, ((x * weighted).T @ seen) / rows
    variances = squares - means**2
    # A column that is constant over the shared rows leaves only rounding, not a variance.
    defined = variances > 1e-12 * squares
    variances = np.where(defined, variances, np.inf)
    covariances = (weighted.T @ x) / rows - means * means.T
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
