"""Groups: is any part of the population drawn worse than the rest?

For each category or boolean column, every value that `LEAST` real rows or more have makes a group,
null being one. A group's score is the mean shape (`marginals`) of all other columns among its rows
alone, and a column's is that of its worst group: means over a whole table hide a minority, whose
rows are few in the mean. A group that the synthetic table lacks has 0, and one it is short of is
judged by the rows there are; leaving those out would reward a generator for dropping them.

The worst of many groups is mostly a small one, whose shape sampling noise alone lowers: read it
beside the ceiling, whose worst group is as small. Only columns are named, never a group: its value
is somebody's.

Departure from shape: KS is looked for between `BINS` bins that hold as many real rows each, not at
every value, and of the categories compared all but the `BINS` - 1 most frequent are one. At most
`COLUMNS` columns make groups, the first in the table that have any.
"""

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats, pooled
from raysynth.resample import Draws
from raysynth.schema import Column, Schema
from raysynth.tallies import Coded, binned, categories

LEAST = 100
BINS = 100
COLUMNS = 20


def replicates(
    real: pa.Table, synthetic: pa.Table, schema: Schema, draws: Draws
) -> dict[str, Floats]:
    """Each column's worst group's score in [0, 1], as the rows are and as drawn again, (R).

    Empty where no column has groups, or there is none beside it. Summarise by the least.
    """
    groups: dict[str, Coded] = {}
    for column in schema.columns:
        if not column.measured and len(groups) < COLUMNS:
            coded = _grouped(categories(real, synthetic, column.name))
            if coded.size > 1:
                groups[column.name] = coded
    others = {column.name: _coded(real, synthetic, column) for column in schema.columns}
    found = {}
    for name, group in groups.items():
        scores = [
            _shapes(group, other, schema[column].measured, draws)
            for column, other in others.items()
            if column != name
        ]
        if scores:
            found[name] = np.mean(scores, axis=0).min(axis=1)
    return found


def _coded(real: pa.Table, synthetic: pa.Table, column: Column) -> Coded:
    coded = binned(real, synthetic, column, BINS)
    if column.measured:
        return coded
    (left, right), size = pooled([coded.real, coded.synthetic], coded.size, keep=BINS)
    return Coded(left, right, size)


def _grouped(coded: Coded) -> Coded:
    """The same with groups of `LEAST` real rows numbered from 0, and all other rows last."""
    large = np.flatnonzero(np.bincount(coded.real, minlength=coded.size) >= LEAST)
    number = np.full(coded.size, len(large), dtype=np.int64)
    number[large] = np.arange(len(large))
    return Coded(number[coded.real], number[coded.synthetic], len(large) + 1)


def _shapes(group: Coded, other: Coded, number: bool, draws: Draws) -> Floats:
    """The shape of a column within each group, (R, groups)."""
    sides = []
    cells = (
        (group.real * other.size + other.real, draws.real),
        (group.synthetic * other.size + other.synthetic, draws.synthetic),
    )
    for cell, weights in cells:
        size = group.size * other.size
        counts = np.stack([np.bincount(cell, weight, size) for weight in weights])
        counts = counts.reshape(len(weights), group.size, other.size)[:, :-1]
        sides.append(counts / np.maximum(counts.sum(axis=2, keepdims=True), 1.0))
    apart = sides[0] - sides[1]
    if number:
        # Null, the last bin, ranks below every number.
        gaps = np.abs(np.roll(apart, 1, axis=2).cumsum(axis=2)).max(axis=2)
    else:
        gaps = np.abs(apart).sum(axis=2) / 2
    lacking = sides[1].sum(axis=2) == 0
    shapes: Floats = np.where(lacking, 0.0, 1.0 - np.minimum(1.0, gaps))
    return shapes
