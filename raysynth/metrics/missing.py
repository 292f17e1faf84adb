"""Missing cells: as many in each column, and together in the same rows, as in the real table?

- each column: 1 less the difference of the shares of missing cells, as MissingValueSimilarity of
  SDMetrics has it;
- **together**: 1 - TV, the total variation distance between the shares of every pattern of missing
  and present cells in a row. It is never above the score of any column, and the floor, which keeps
  every column's share, loses it.

NaN and infinite numbers count as missing, as everywhere in `raysynth.frames`.
"""

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats, floats, missing
from raysynth.resample import Draws
from raysynth.schema import Column, Schema
from raysynth.tallies import Coded


def replicates(
    real: pa.Table, synthetic: pa.Table, schema: Schema, draws: Draws
) -> dict[str, Floats]:
    """Each column's score in [0, 1] over the rows as they are and as drawn again, (R).

    Only of columns in which either table misses a cell: the others, all right, would hide them.
    """
    found = {}
    for column in schema.columns:
        coded = _coded(real, synthetic, column)
        if coded.real.any() or coded.synthetic.any():
            left, right = coded.shares(draws)
            found[column.name] = 1.0 - np.abs(left - right)[:, 1]
    return found


def together(
    real: pa.Table, synthetic: pa.Table, schema: Schema, draws: Draws
) -> dict[tuple[str, ...], Floats]:
    """The one score of all columns that either table misses a cell in, keyed by their names."""
    names: list[str] = []
    pattern = None
    for column in schema.columns:
        coded = _coded(real, synthetic, column)
        if coded.real.any() or coded.synthetic.any():
            names.append(column.name)
            pattern = coded if pattern is None else pattern.joined(coded)
    return {} if pattern is None else {tuple(names): 1.0 - pattern.variation(draws)}


def _coded(real: pa.Table, synthetic: pa.Table, column: Column) -> Coded:
    left, right = (
        np.isnan(floats(table, column.name)) if column.measured else missing(table, column.name)
        for table in (real, synthetic)
    )
    return Coded(left.astype(np.int64), right.astype(np.int64), 2)
