"""Columns of several tables on one footing: shared codes, plain floats, features for learners.

Every function takes tables as `schema.select` returns them: same columns, same Arrow types. NaN
and infinite numbers count as missing everywhere here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.arrays import stored
from raysynth.schema import Schema

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]

CATEGORIES = 255  # the most categories a histogram learner of scikit-learn takes in one column
_LIMIT = 1 << 62  # keys of joined columns stay below this, inside int64


def floats(table: pa.Table, name: str) -> Floats:
    """One column of numbers or times as float64, (B,); missing is NaN."""
    array = stored(table.column(name)).cast(pa.float64(), safe=False)
    values: Floats = np.array(array.to_numpy(), dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def codes(tables: Sequence[pa.Table], name: str) -> tuple[list[Integers], int]:
    """One column of several tables as codes that mean the same in each, and how many codes.

    Each array is (B,) in 0 .. size - 1; missing is a code of its own. Values are compared exactly
    (64-bit integers do not pass through floats); -0.0 equals 0.0.
    """
    chunks = [chunk for table in tables for chunk in table.column(name).chunks]
    column = comparable(pa.chunked_array(chunks, type=tables[0].schema.field(name).type))
    encoded: Any = pc.dictionary_encode(column, null_encoding="encode").combine_chunks()
    indices = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    ends = np.cumsum([table.num_rows for table in tables])[:-1]
    return np.split(indices, ends), len(encoded.dictionary)


def comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same cells such that those that count as equal are equal: one null, one zero."""
    column = stored(column)
    if not pa.types.is_floating(column.type):
        return column
    return pc.add(pc.if_else(pc.is_finite(column), column, None), 0.0)


def missing(table: pa.Table, name: str) -> NDArray[np.bool_]:
    """Where a column is null, (B,)."""
    null: NDArray[np.bool_] = table.column(name).is_null().to_numpy()
    return null


def pooled(arrays: Sequence[Integers], size: int, keep: int) -> tuple[list[Integers], int]:
    """The same codes with all but the `keep` - 1 most frequent made one; and how many remain.

    Frequencies are counted over all arrays together; ties go to the lower code.
    """
    if size <= keep:
        return list(arrays), size
    counts = np.bincount(np.concatenate(arrays), minlength=size)
    frequent = np.argsort(-counts, kind="stable")[: keep - 1]
    renamed = np.full(size, keep - 1, dtype=np.int64)
    renamed[frequent] = np.arange(keep - 1)
    return [renamed[array] for array in arrays], keep


def keys(tables: Sequence[pa.Table], names: Sequence[str]) -> list[Integers]:
    """Rows as numbers, (B,) a table, that are equal where rows are in all the columns `names`.

    Compared exactly: no hashes, no rounding; null equals null.
    """
    joined, sizes = np.zeros(sum(table.num_rows for table in tables), dtype=np.int64), 1
    for name in names:
        coded, size = codes(tables, name)
        if sizes * size >= _LIMIT:
            joined, sizes = _dense(joined)
        joined = joined * size + np.concatenate(coded)
        sizes *= size
    return np.split(joined, np.cumsum([table.num_rows for table in tables])[:-1])


def _dense(groups: Integers) -> tuple[Integers, int]:
    """The same groups numbered from 0, and how many there are."""
    encoded: Any = pc.dictionary_encode(pa.array(groups))
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)


def features(
    tables: Sequence[pa.Table], schema: Schema, without: str | None = None
) -> tuple[list[Floats], NDArray[np.bool_]]:
    """What a histogram learner of scikit-learn takes: one (B, F) matrix a table, and a mask (F,).

    The mask says which features are categories: codes shared by the tables, the rarest pooled
    where there are more than `CATEGORIES`. Missing is NaN. The column `without` is left out.
    """
    columns = [column for column in schema.columns if column.name != without]
    matrices = [np.empty((table.num_rows, len(columns))) for table in tables]
    for place, column in enumerate(columns):
        if column.measured:
            values = [floats(table, column.name) for table in tables]
        else:
            shared, _ = pooled(*codes(tables, column.name), keep=CATEGORIES)
            values = [code.astype(np.float64) for code in shared]
            for table, value in zip(tables, values, strict=True):
                value[missing(table, column.name)] = np.nan
        for matrix, value in zip(matrices, values, strict=True):
            matrix[:, place] = value
    return matrices, np.array([not column.measured for column in columns], dtype=np.bool_)


def learnable(fit: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Both matrices, with 0 for every feature that has no value in `fit`.

    A histogram learner refuses a feature that is missing in every row it is fitted on.
    """
    empty = np.isnan(fit).all(axis=0)
    return np.where(empty, 0.0, fit), np.where(empty, 0.0, other)


def subsample(table: pa.Table, rows: int, generator: np.random.Generator) -> pa.Table:
    """`rows` rows drawn without replacement, in the table's order; all of them if not more."""
    if table.num_rows <= rows:
        return table
    chosen = np.sort(generator.choice(table.num_rows, rows, replace=False))
    return table.take(chosen)


def permuted(table: pa.Table, generator: np.random.Generator) -> pa.Table:
    """Every column shuffled on its own: the same columns with nothing left between them."""
    return pa.table(
        [column.take(generator.permutation(table.num_rows)) for column in table.itercolumns()],
        schema=table.schema,
    )
