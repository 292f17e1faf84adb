"""Three-way relations: do three columns together take the values they take in the real table?

The mean of 1 - TV, the total variation distance between the two tables' shares of every cell that
three columns span, over at most `TRIPLES` triples of columns drawn by chance. It is the step after
the pairs of `pairs`: each two of three columns may relate as they should and all three not (of two
coins and whether they agree, any two are independent). MOSTLY AI's quality report measures triples
the same way.

Numbers fall in `BINS` bins that hold as many real rows each, null in one more; of the categories
all but the `BINS` - 1 most frequent of both tables are one. A triple has a thousand cells, so
sampling noise alone lowers the score, and the more, the fewer the rows: read it beside the ceiling,
which it lowers as much.
"""

from itertools import combinations
from math import comb

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats, pooled
from raysynth.resample import Draws
from raysynth.schema import Column, Schema
from raysynth.tallies import Coded, binned

BINS = 10
TRIPLES = 100

Names = tuple[str, str, str]


def replicates(
    real: pa.Table,
    synthetic: pa.Table,
    schema: Schema,
    draws: Draws,
    generator: np.random.Generator,
) -> dict[Names, Floats]:
    """Each triple's score in [0, 1] over the rows as they are and as drawn again, (R).

    Empty for fewer than three columns. Both tables hold at least one row.
    """
    chosen = _triples(schema.names, generator)
    named = {name for names in chosen for name in names}
    coded = {name: _coded(real, synthetic, schema[name]) for name in sorted(named)}
    return {
        (a, b, c): 1.0 - coded[a].joined(coded[b]).joined(coded[c]).variation(draws)
        for a, b, c in chosen
    }


def _triples(names: tuple[str, ...], generator: np.random.Generator) -> list[Names]:
    """All triples, or `TRIPLES` of them, in the order of the columns."""
    if comb(len(names), 3) <= TRIPLES:
        return list(combinations(names, 3))
    found: set[tuple[int, int, int]] = set()
    while len(found) < TRIPLES:
        a, b, c = sorted(int(i) for i in generator.choice(len(names), 3, replace=False))
        found.add((a, b, c))
    return [(names[a], names[b], names[c]) for a, b, c in sorted(found)]


def _coded(real: pa.Table, synthetic: pa.Table, column: Column) -> Coded:
    coded = binned(real, synthetic, column, BINS)
    if column.measured:
        return coded
    (left, right), size = pooled([coded.real, coded.synthetic], coded.size, keep=BINS)
    return Coded(left, right, size)
