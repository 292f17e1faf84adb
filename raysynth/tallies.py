"""Columns of two tables as shared codes, counted over the rows as they are and as drawn again.

Shapes: B rows, S codes, R replicates (`raysynth.resample`).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats, Integers, codes, floats
from raysynth.resample import Draws
from raysynth.schema import Column


@dataclass(frozen=True)
class Coded:
    """A column, or several joined: codes (B) of 0 .. `size` - 1, the same meaning in both."""

    real: Integers
    synthetic: Integers
    size: int

    def joined(self, other: "Coded") -> "Coded":
        """A code for each two codes that stand in one row."""
        size = self.size * other.size
        real = self.real * other.size + other.real
        synthetic = self.synthetic * other.size + other.synthetic
        rows = len(real) + len(synthetic)
        if size <= max(rows, 1):
            return Coded(real, synthetic, size)
        # More cells than rows: those that no row falls in are left out.
        found, both = np.unique(np.concatenate([real, synthetic]), return_inverse=True)
        return Coded(both[: len(real)], both[len(real) :], len(found))

    def counts(self, draws: Draws) -> tuple[Floats, Floats]:
        """Rows of each code in real and synthetic table, (R, S) each."""
        sides = (self.real, draws.real), (self.synthetic, draws.synthetic)
        real, synthetic = (
            np.array([np.bincount(code, weight, self.size) for weight in weights], np.float64)
            for code, weights in sides
        )
        return real, synthetic

    def shares(self, draws: Draws) -> tuple[Floats, Floats]:
        """The same as shares of the rows; 0 in a table of none."""
        real, synthetic = (
            count / np.maximum(count.sum(axis=1, keepdims=True), 1.0)
            for count in self.counts(draws)
        )
        return real, synthetic

    def variation(self, draws: Draws) -> Floats:
        """The total variation distance between the shares of both tables, (R) in [0, 1]."""
        real, synthetic = self.shares(draws)
        distances: Floats = np.minimum(1.0, np.abs(real - synthetic).sum(axis=1) / 2)
        return distances


def categories(real: pa.Table, synthetic: pa.Table, name: str) -> Coded:
    """A column by its exact values, null being one of them."""
    (left, right), size = codes([real, synthetic], name)
    return Coded(left, right, size)


def ranks(real: Floats, synthetic: Floats) -> tuple[Coded, Floats]:
    """Numbers by their rank among those of both tables, and the number of each code, (S).

    NaN ranks below every number, as minus infinity.
    """
    both = np.concatenate([real, synthetic])
    both = np.where(np.isnan(both), -np.inf, both)
    found, place = np.unique(both, return_inverse=True)
    return Coded(place[: len(real)], place[len(real) :], len(found)), found


def quantiles(real: Floats, synthetic: Floats, bins: int) -> Coded:
    """Numbers by bins that hold as many real rows each, at most `bins`; NaN is one more, the last.

    A value that fills several bins has one, and ends it.
    """
    present = real[~np.isnan(real)]
    levels = np.arange(1, bins) / bins
    # Never between two values: the mean of the largest floats overflows.
    ends = np.unique(np.quantile(present, levels, method="lower")) if len(present) else present
    left, right = (
        np.where(np.isnan(side), len(ends) + 1, np.searchsorted(ends, side)).astype(np.int64)
        for side in (real, synthetic)
    )
    return Coded(left, right, len(ends) + 2)


def binned(real: pa.Table, synthetic: pa.Table, column: Column, bins: int) -> Coded:
    """A number or time by `quantiles`, any other column by its values."""
    if column.measured:
        return quantiles(floats(real, column.name), floats(synthetic, column.name), bins)
    return categories(real, synthetic, column.name)
