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

from raysynth.frames import Floats, Integers, codes, floats
from raysynth.schema import Schema


def scores(real: pa.Table, synthetic: pa.Table, schema: Schema) -> dict[str, float]:
    """Each column's score in [0, 1]; 1 is the same distribution. Summarise by the mean.

    Both tables hold at least one row. The order of the tables does not matter.
    """
    return {
        column.name: 1.0 - _distance(real, synthetic, column.name, column.measured)
        for column in schema.columns
    }


def _distance(real: pa.Table, synthetic: pa.Table, name: str, number: bool) -> float:
    if number:
        return _kolmogorov_smirnov(floats(real, name), floats(synthetic, name))
    (left, right), size = codes([real, synthetic], name)
    return _total_variation(left, right, size)


def _kolmogorov_smirnov(left: Floats, right: Floats) -> float:
    left, right = (np.sort(np.where(np.isnan(side), -np.inf, side)) for side in (left, right))
    at = np.concatenate([left, right])
    gaps = [np.searchsorted(side, at, side="right") / len(side) for side in (left, right)]
    return float(np.abs(gaps[0] - gaps[1]).max())


def _total_variation(left: Integers, right: Integers, size: int) -> float:
    shares = [np.bincount(side, minlength=size) / len(side) for side in (left, right)]
    return min(1.0, float(np.abs(shares[0] - shares[1]).sum() / 2))
