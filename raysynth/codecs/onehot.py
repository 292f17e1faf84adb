"""Categories and booleans: one index out of the values that enough rows share.

A value that fewer than `least` rows hold is never written down: it is pooled. Pooled rows get an
index of their own where there are enough of them; it decodes to a kept value drawn by frequency, as
does any rare value where there are not. Null is a value like any other.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.codecs import ColumnCodes
from raysynth.errors import TableError
from raysynth.hashing import Chance, Floats
from raysynth.layout import Part
from raysynth.schema import arrow_type
from raysynth.summary import ColumnSummary


@dataclass(frozen=True)
class Codec:
    """Kept `values` by order and their row `counts`; then, if any, pooled rows; then nulls."""

    type: str
    values: tuple[Any, ...]
    counts: tuple[int, ...]
    pooled: int
    nulls: int

    @classmethod
    def fit(cls, column: ColumnSummary, *, least: int = 10, most: int = 1_000, **_: Any) -> Self:
        """Keep at most `most` values, each held by at least `least` rows.

        Raises `TableError` where no value is shared by that many rows.
        """
        ranked = sorted(column.counts, key=lambda pair: -pair[1])
        # Counts from the sample are scaled up only in `shares`; the rule holds on what was counted.
        kept = sorted((v, n) for v, n in ranked[:most] if n >= least)
        if not kept:
            raise TableError(
                f"column '{column.column.name}': no value is shared by {least} rows or more, so it "
                "looks like an identifier or free text; leave it out with "
                f"--drop '{column.column.name}'"
            )
        counted = sum(n for _, n in column.counts)
        pooled = counted - sum(n for _, n in kept)
        nulls = column.counters.nulls
        if column.counters.counts is None:
            nulls = column.sample.null_count
        return cls(
            str(column.column.type),
            tuple(v for v, _ in kept),
            tuple(n for _, n in kept),
            pooled if pooled >= least else 0,
            nulls if nulls >= least else 0,
        )

    @cached_property
    def _array(self) -> pa.Array:
        return pa.array(self.values, arrow_type(self.type))

    @cached_property
    def _cumulative(self) -> Floats:
        cumulative: Floats = np.cumsum(self.counts) / sum(self.counts)
        return cumulative

    @property
    def parts(self) -> tuple[Part, ...]:
        """One category part."""
        return (Part("category", len(self.shares)),)

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """Share of rows: kept values, then pooled, then null."""
        sizes = [*self.counts, *(size for size in (self.pooled, self.nulls) if size)]
        return tuple(size / sum(sizes) for size in sizes)

    def encode(self, values: pa.Array, chance: Chance) -> ColumnCodes:
        """Indices (B, 1); a rare value's stand-in is drawn by `chance`."""
        found = pc.index_in(values, value_set=self._array)
        indices = np.asarray(found.fill_null(-1), dtype=np.int32)
        if len(self.shares) > len(self.values) or (indices < 0).any():
            nulls = np.asarray(values.is_null())
            rare = indices < 0
            if self.nulls:
                indices = np.where(nulls, len(self.shares) - 1, indices)
                rare &= ~nulls
            spare = len(self.values) if self.pooled else self._drawn(chance.uniform)
            indices = np.where(rare, spare, indices)
        return ColumnCodes(
            indices.astype(np.int32)[:, None], np.empty((len(indices), 0), np.float32)
        )

    def decode(self, codes: ColumnCodes, chance: Chance) -> pa.Array:
        """Values (B,); pooled rows become kept values drawn by `chance`."""
        indices = codes.indices[:, 0]
        if self.pooled:
            pooled = indices == len(self.values)
            indices = np.where(pooled, self._drawn(chance.uniform), indices)
        nulls = indices >= len(self.values)
        return self._array.take(pa.array(indices, pa.int32(), mask=nulls))

    def index_of(self, value: Any) -> int | None:
        """The index of a kept value, or of null where null is kept."""
        if value is None:
            return len(self.shares) - 1 if self.nulls else None
        return next((i for i, kept in enumerate(self.values) if kept == value), None)

    def to_json(self) -> dict[str, Any]:
        """See `codecs.Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """See `codecs.Codec`."""
        return cls(**{**value, "values": tuple(value["values"]), "counts": tuple(value["counts"])})

    def _drawn(self, uniform: Floats) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.minimum(np.searchsorted(self._cumulative, uniform, "right"), len(self.values) - 1)
