"""Column shape: how near each column's distribution comes to the real one.

Definitions after KSComplement and TVComplement of SDMetrics, which leave missing cells out; here
a missing cell is a value like any other:

- category, boolean: 1 - TV, the total variation distance, null being one more category;
- number: 1 - KS, the two-sample Kolmogorov-Smirnov statistic, null ranking below every number.

Without nulls both equal SDMetrics' scores. With nulls, both weigh missing cells by their share: a
column that should be 10 % null and never is loses 0.1 at least.
"""

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats, floats
from raysynth.resample import Draws
from raysynth.schema import Schema
from raysynth.tallies import categories, ranks


def scores(real: pa.Table, synthetic: pa.Table, schema: Schema) -> dict[str, float]:
    """Each column's score in [0, 1]; 1 is the same distribution. Summarise by the mean.

    Both tables hold at least one row. The order of the tables does not matter.
    """
    draws = Draws.of(real.num_rows, synthetic.num_rows)
    found = replicates(real, synthetic, schema, draws)
    return {name: float(values[0]) for name, values in found.items()}


def replicates(
    real: pa.Table, synthetic: pa.Table, schema: Schema, draws: Draws
) -> dict[str, Floats]:
    """Each column's score over the rows as they are and as drawn again, (R)."""
    return {
        column.name: 1.0 - _distances(real, synthetic, column.name, column.measured, draws)
        for column in schema.columns
    }


def _distances(
    real: pa.Table, synthetic: pa.Table, name: str, number: bool, draws: Draws
) -> Floats:
    if not number:
        return categories(real, synthetic, name).variation(draws)
    coded, _ = ranks(floats(real, name), floats(synthetic, name))
    left, right = (count.cumsum(axis=1) for count in coded.counts(draws))
    gaps: Floats = np.abs(left / left[:, -1:] - right / right[:, -1:]).max(axis=1)
    return gaps
