"""Rows as points, and how far they lie from one another.

A number or time is scaled by the range of the first table given, so that there it spans 0 to 1; a
value beyond that range goes on counting, as far as `FAR` ranges out. A range of one value has no
width: others lie 1 from it, below or above. A missing cell is the mean of the first table's values,
and beside each column with missing cells stands an indicator, 0 or 1. A category or boolean is
one-hot, null being a category of its own, but is never written out so: two rows that differ in it
differ by 2 in the L1 distance and by 2 in the square of Euclid's, whatever the number of
categories.

Distances are of all pairs, none approximate, a block of queries at a time (`BLOCK` pairs, which fit
a processor's cache), so they take hardly more memory than the points.

Shapes: B rows, N numbers and indicators, K categories.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from raysynth.frames import Floats, Integers, codes, floats
from raysynth.schema import Schema
from raysynth.threads import single

FAR = 10.0
BLOCK = 1 << 19


@dataclass(frozen=True)
class Points:
    """A table's rows: `numbers` (B, N), and K `codes` (B) of 0 .. `sizes` - 1."""

    numbers: Floats
    codes: tuple[NDArray[Any], ...]
    sizes: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.numbers)

    def take(self, rows: Integers) -> "Points":
        """Those rows, in that order."""
        return Points(self.numbers[rows], tuple(code[rows] for code in self.codes), self.sizes)

    def from_centre(self, others: "Points") -> Floats:
        """How far each of `others` (B) lies from the mean of these, by Euclid's distance.

        The mean of a one-hot category is the share p of each of its values, so a row with value v
        is off by |p|^2 - 2 p_v + 1, squared.
        """
        squares = np.square(others.numbers - self.numbers.mean(axis=0)).sum(axis=1)
        for own, code, size in zip(self.codes, others.codes, self.sizes, strict=True):
            shares = np.bincount(own, minlength=size) / len(own)
            squares += (np.square(shares).sum() + 1 - 2 * shares)[code]
        distances: Floats = np.sqrt(np.maximum(squares, 0.0))
        return distances


def points(tables: Sequence[pa.Table], schema: Schema) -> list[Points]:
    """The rows of each table on one footing. The first gives ranges and means, of a row or more."""
    numbers: list[list[Floats]] = [[np.empty((table.num_rows, 0))] for table in tables]
    coded, sizes = [], []
    for column in schema.columns:
        if column.measured:
            values = _scaled([floats(table, column.name) for table in tables])
            for mine, value in zip(numbers, values, strict=True):
                mine.append(value)
        else:
            shared, size = codes(tables, column.name)
            coded.append([code.astype(np.min_scalar_type(size)) for code in shared])
            sizes.append(size)
    rows: Any = zip(*coded, strict=True) if coded else ((),) * len(tables)
    return [
        Points(np.concatenate(mine, axis=1), tuple(code), tuple(sizes))
        for mine, code in zip(numbers, rows, strict=True)
    ]


def _scaled(columns: Sequence[Floats]) -> list[Floats]:
    """A column of each table as (B, 1), or (B, 2) with its indicator where any has a NaN."""
    nulls = [np.isnan(column) for column in columns]
    present = columns[0][~nulls[0]]
    low, high = (present.min(), present.max()) if len(present) else (0.0, 0.0)
    # Halves, because the width of a range near the largest float overflows.
    width = high / 2 - low / 2
    with np.errstate(over="ignore"):
        away = [column / 2 - low / 2 for column in columns]
        scaled = [a / width if width > 0 else np.sign(a) for a in away]
    scaled = [np.clip(value, -FAR, 1 + FAR) for value in scaled]
    if not any(null.any() for null in nulls):
        return [value[:, None] for value in scaled]
    mean = scaled[0][~nulls[0]].mean() if len(present) else 0.0
    return [
        np.stack([np.where(null, mean, value), null.astype(np.float64)], axis=1)
        for value, null in zip(scaled, nulls, strict=True)
    ]


def nearest(
    queries: Points, references: Points, own: Integers | None = None
) -> tuple[Integers, Floats]:
    """Which reference lies nearest each query by Euclid's distance, and how far: both (B).

    `own` (B) says which of the references a query itself is: that one is passed over.
    """
    # |q - r|^2 less |q|^2, which a query's references share, in one product.
    left = np.concatenate([-2 * queries.numbers, np.ones((queries.rows, 1))], axis=1)
    squares = np.square(references.numbers).sum(axis=1, keepdims=True)
    right = np.concatenate([references.numbers, squares], axis=1).T
    found = np.empty(queries.rows, dtype=np.int64)
    # One thread, as elsewhere: sums in another order may find another of two that are as near.
    with single():
        for rows in _blocks(queries, references):
            apart = left[rows] @ right
            apart += _mismatched(queries, references, rows)
            if own is not None:
                apart[np.arange(len(apart)), own[rows]] = np.inf
            found[rows] = apart.argmin(axis=1)
    there = references.take(found)
    # Measured anew, since that product does not give equal rows a distance of exactly 0.
    exact = np.square(queries.numbers - there.numbers).sum(axis=1)
    for one, other in zip(queries.codes, there.codes, strict=True):
        exact += 2.0 * (one != other)
    return found, np.sqrt(exact)


def neighbours(queries: Points, references: Points, count: int) -> Floats:
    """How far each query lies from its `count` nearest references by Euclid's distance, (B, count).

    In rising order; where there are fewer references than `count`, the farthest one stands in.
    """
    wanted = min(count, references.rows)
    left = np.concatenate([-2 * queries.numbers, np.ones((queries.rows, 1))], axis=1)
    squares = np.square(references.numbers).sum(axis=1, keepdims=True)
    right = np.concatenate([references.numbers, squares], axis=1).T
    found = np.empty((queries.rows, count))
    with single():
        for rows in _blocks(queries, references):
            apart = left[rows] @ right
            apart += _mismatched(queries, references, rows)
            near = np.argpartition(apart, wanted - 1, axis=1)[:, :wanted]
            found[rows, :wanted] = np.sort(_exact(queries, references, rows, near), axis=1)
    found[:, wanted:] = found[:, wanted - 1 : wanted]
    return np.sqrt(found)


def _exact(queries: Points, references: Points, rows: slice, near: Any) -> Floats:
    """The squares of distances to the references `near` (rows, k), equal rows exactly 0 apart."""
    exact: Floats = np.square(queries.numbers[rows, None] - references.numbers[near]).sum(axis=2)
    for one, other in zip(queries.codes, references.codes, strict=True):
        exact += 2.0 * (one[rows, None] != other[near])
    return exact


def closest(queries: Points, references: Points) -> Floats:
    """How far each query lies from the reference nearest it by the L1 distance, (B)."""
    found = np.empty(queries.rows)
    for rows in _blocks(queries, references):
        apart = cdist(queries.numbers[rows], references.numbers, "cityblock")
        apart += _mismatched(queries, references, rows)
        found[rows] = apart.min(axis=1)
    return found


def _blocks(queries: Points, references: Points) -> Iterator[slice]:
    step = max(1, BLOCK // references.rows)
    return (slice(first, first + step) for first in range(0, queries.rows, step))


def _mismatched(queries: Points, references: Points, rows: slice) -> Any:
    """Twice the categories in which each pair differs, (rows, B): one pass a column, no one-hot."""
    size = len(queries.numbers[rows]), references.rows
    found = np.zeros(size, dtype=np.min_scalar_type(2 * len(queries.codes)))
    for one, other in zip(queries.codes, references.codes, strict=True):
        found += one[rows, None] != other
    return 2 * found
