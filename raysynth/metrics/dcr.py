"""DCR share: do synthetic rows lie nearer to training rows than to rows the model never saw?

The distance to the closest record (DCR) of a synthetic row is the L1 distance to the row nearest
it, numbers scaled by their range over the rows of both sides and categories one-hot, so that a
mismatch is 2 (`raysynth.points`). The **share** is that of synthetic rows whose closest training
row is nearer than their closest held-out row, of as many of either; a tie counts half. A generator
that remembered nothing has 0.5, but for chance; one that hands out training rows nears 1. So
TabSyn (Zhang et al., ICLR 2024, arXiv 2310.09656) has it.

It is a smoke test: a share of 0.5 proves nothing about privacy. A few remembered people among
thousands do not move it, nor does what is told of them short of a near copy (Ganev & De Cristofaro,
2023, arXiv 2312.05114; Yao et al., 2025, "The DCR Delusion", arXiv 2505.01524).
"""

import numpy as np
import pyarrow as pa

from raysynth.frames import subsample
from raysynth.points import closest, points
from raysynth.schema import Schema

QUERIES = 20_000


def share(
    synthetic: pa.Table,
    train: pa.Table,
    held: pa.Table,
    schema: Schema,
    generator: np.random.Generator,
    queries: int = QUERIES,
) -> float:
    """The share, in [0, 1], of at most `queries` synthetic rows, drawn by chance.

    Of the larger of `train` and `held` as many rows are drawn as the smaller has; each table holds
    at least one.
    """
    rows = min(train.num_rows, held.num_rows)
    tables = [subsample(table, rows, generator) for table in (train, held)]
    asked = subsample(synthetic, queries, generator)
    _, near, far, made = points([pa.concat_tables(tables), *tables, asked], schema)
    trained, unseen = closest(made, near), closest(made, far)
    return float(np.mean((trained < unseen) + 0.5 * (trained == unseen)))
