"""How alike rows are by Gower's distance, and which rows are the most alike.

Gower, "A general coefficient of similarity and some of its properties" (Biometrics 27, 1971): the
mean over columns of |a - b| over the column's range where it holds numbers or times, and of 0 or 1,
equal or not, where it holds categories. The range is that of all tables given together.

Departure: Gower leaves a column out where a cell is missing, so that a row of many missing cells is
near to all. Here a missing cell is a value of its own: 0 from another missing one, 1 from the rest.

Distances are whole numbers, so many to the 1 of Gower that the sum over all columns stays below
2^31: sums are exact in any order, and what a column added can be taken off again. They are of all
pairs, none approximate, a block of queries at a time (`BLOCK` pairs, which fit a processor's
cache).

Shapes: Q queries, R references.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.frames import Floats, Integers, codes, floats
from raysynth.schema import Schema

BLOCK = 1 << 18

Distances = NDArray[np.int32]  # (Q, R)


@dataclass(frozen=True)
class Cells:
    """One column of one table, (B,): numbers as parts of `unit`, or codes of categories."""

    values: NDArray[np.int32]
    missing: NDArray[np.bool_] | None  # None in a column of categories, and where none is
    unit: int
    measured: bool

    def take(self, rows: Integers) -> "Cells":
        """Those rows, in that order."""
        missing = None if self.missing is None else self.missing[rows]
        return Cells(self.values[rows], missing, self.unit, self.measured)

    def apart(self, others: "Cells", rows: slice) -> Distances:
        """How far each of these `rows` lies from each of the others, up to `unit`."""
        own = self.values[rows, None]
        if not self.measured:
            unequal: Distances = np.multiply(own != others.values, self.unit, dtype=np.int32)
            return unequal
        found: Distances = own - others.values
        np.abs(found, out=found)
        if self.missing is not None and others.missing is not None:
            found[self.missing[rows, None] != others.missing] = self.unit
        return found


def cells(tables: Sequence[pa.Table], schema: Schema) -> list[tuple[Cells, ...]]:
    """The columns of each table, in the schema's order, on one footing."""
    unit = ((1 << 31) - 1) // len(schema.columns)
    columns: list[list[Cells]] = [[] for _ in tables]
    for column in schema.columns:
        if column.measured:
            made = _measured([floats(table, column.name) for table in tables], unit)
        else:
            coded, _ = codes(tables, column.name)
            made = [Cells(code.astype(np.int32), None, unit, False) for code in coded]
        for mine, one in zip(columns, made, strict=True):
            mine.append(one)
    return [tuple(mine) for mine in columns]


def _measured(columns: Sequence[Floats], unit: int) -> list[Cells]:
    every = np.concatenate(columns)
    gone = np.isnan(every)
    present = every[~gone]
    low, high = (present.min(), present.max()) if len(present) else (0.0, 0.0)
    # Halves, because the width of a range near the largest float overflows.
    width = high / 2 - low / 2
    away = np.where(gone, 0.0, every / 2 - low / 2)
    scaled = np.rint(away / width * unit) if width > 0 else np.zeros(len(every))
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return [
        Cells(value, null if gone.any() else None, unit, True)
        for value, null in zip(
            np.split(scaled.astype(np.int32), ends), np.split(gone, ends), strict=True
        )
    ]


def nearest(queries: Sequence[Cells], references: Sequence[Cells], neighbours: int) -> Integers:
    """Which references are the nearest to each query, (Q, `neighbours`), in no order.

    Of several as near the one that comes first is taken, for one neighbour; else any.
    """
    rows = len(queries[0].values)
    found = np.empty((rows, neighbours), dtype=np.int64)
    for block in _blocks(rows, len(references[0].values)):
        apart = _apart(queries, references, block)
        if neighbours == 1:
            found[block, 0] = apart.argmin(axis=1)
        else:
            found[block] = apart.argpartition(neighbours - 1, axis=1)[:, :neighbours]
    return found


def nearest_without(
    queries: Sequence[Cells], references: Sequence[Cells], left_out: Sequence[int]
) -> Integers:
    """Which reference is nearest by all columns but one, for each one `left_out`: (.., Q).

    Of several as near the one that comes first.
    """
    rows = len(queries[0].values)
    found = np.empty((len(left_out), rows), dtype=np.int64)
    for block in _blocks(rows, len(references[0].values)):
        apart = _apart(queries, references, block)
        for mine, place in zip(found, left_out, strict=True):
            rest = apart - queries[place].apart(references[place], block)
            mine[block] = rest.argmin(axis=1)
    return found


def _apart(queries: Sequence[Cells], references: Sequence[Cells], block: slice) -> Distances:
    total = queries[0].apart(references[0], block)
    for one, other in zip(queries[1:], references[1:], strict=True):
        total += one.apart(other, block)
    return total


def _blocks(queries: int, references: int) -> Iterator[slice]:
    step = max(1, BLOCK // references)
    return (slice(first, min(first + step, queries)) for first in range(0, queries, step))
