"""Categories and booleans: one index out of the values that enough rows share.

A value that fewer than `least` hold (rows, or subjects where the table names them) is never written
down: it is pooled. Pooled rows get an index of their own where there are enough of them, for which
models draw a kept value that fits the row (`layout.Part`); decoded all the same, it is one drawn by
frequency, as is any rare value where there are not. Null is a value like any other. However many
values there are, the `most` frequent are kept and the rest pooled, so a model's width is bounded.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.arrays import restored, stored, stored_type, unstored
from raysynth.codecs import ColumnCodes
from raysynth.errors import TableError
from raysynth.hashing import Chance, Floats
from raysynth.layout import Part
from raysynth.schema import arrow_type
from raysynth.summary import ColumnSummary


@dataclass(frozen=True)
class Codec:
    """Kept `values` by order and their row `counts`; then, if any, pooled rows; then nulls.

    Values are as `arrays.stored`, decimals as text.
    """

    type: str
    values: tuple[Any, ...]
    counts: tuple[int, ...]
    pooled: int
    nulls: int

    @classmethod
    def fit(cls, column: ColumnSummary, *, least: int = 10, most: int = 1_000, **_: Any) -> Self:
        """Keep at most `most` values, each held by at least `least`.

        Raises `TableError` where no value is shared by that many.
        """
        counts = column.counts
        # Counts from the sample are scaled up only in `shares`; the rule holds on what was counted.
        ranked = np.lexsort([np.arange(len(counts)), -counts.rows])
        ranked = ranked[column.held[ranked] >= least]
        kept = np.sort(ranked[: _most(column.column.type, most)])
        if not len(kept):
            raise TableError(
                f"column '{column.column.name}': no value is shared by {least} rows or more, so it "
                "looks like an identifier or free text; leave it out with "
                f"--drop '{column.column.name}'"
            )
        values = counts.values.take(kept)
        pooled = int(counts.rows.sum() - counts.rows[kept].sum())
        holders = pooled
        if column.grouped:
            shown = stored(column.sample)
            rare = pc.and_(shown.is_valid(), pc.invert(pc.is_in(shown, value_set=values)))
            holders = column.holders_of(np.asarray(rare))
        decimal = pa.types.is_decimal(values.type)
        return cls(
            str(column.column.type),
            tuple(map(str, values.to_pylist()) if decimal else values.to_pylist()),
            tuple(counts.rows[kept].tolist()),
            pooled if holders >= least else 0,
            column.counted_nulls(least),
        )

    @cached_property
    def _kind(self) -> pa.DataType:
        return arrow_type(self.type)

    @cached_property
    def _array(self) -> pa.Array:
        kind = stored_type(self._kind)
        return pa.array(self.values, pa.string() if pa.types.is_decimal(kind) else kind).cast(kind)

    @cached_property
    def _cumulative(self) -> Floats:
        cumulative: Floats = np.cumsum(self.counts) / sum(self.counts)
        return cumulative

    @property
    def parts(self) -> tuple[Part, ...]:
        """One category part."""
        pooled = len(self.values) if self.pooled else None
        return (Part("category", len(self.shares), pooled=pooled),)

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """Share of rows: kept values, then pooled, then null."""
        sizes = [*self.counts, *(size for size in (self.pooled, self.nulls) if size)]
        return tuple(size / sum(sizes) for size in sizes)

    def encode(self, values: pa.Array, chance: Chance) -> ColumnCodes:
        """Indices (B, 1); a rare value's stand-in is drawn by `chance`."""
        found = self._found(values)
        indices = np.array(found.fill_null(-1), np.int32)
        if len(self.shares) > len(self.values) or (indices < 0).any():
            nulls = np.asarray(values.is_null())
            rare = indices < 0
            if self.nulls:
                indices = np.where(nulls, len(self.shares) - 1, indices)
                rare &= ~nulls
            if self.pooled:
                indices = np.where(rare, len(self.values), indices)
            else:
                rows = np.flatnonzero(rare)
                indices[rows] = self._drawn(chance[rows].uniform)
        return ColumnCodes(
            indices.astype(np.int32, copy=False)[:, None], np.empty((len(indices), 0), np.float32)
        )

    def decode(self, codes: ColumnCodes, chance: Chance) -> pa.Array:
        """Values (B,); pooled rows become kept values drawn by `chance`.

        A dictionary column's dictionary is the kept values.
        """
        indices = codes.indices[:, 0]
        if self.pooled:
            pooled = indices == len(self.values)
            indices = np.where(pooled, self._drawn(chance.uniform), indices)
        places = pa.array(indices, pa.int32(), mask=indices >= len(self.values))
        if not pa.types.is_dictionary(self._kind):
            return restored(unstored(self._array.take(places), self._kind), self._kind)
        kept = restored(unstored(self._array, self._kind), self._kind.value_type)
        places = places.cast(self._kind.index_type)
        return pa.DictionaryArray.from_arrays(places, kept, ordered=self._kind.ordered)

    def index_of(self, value: Any) -> int | None:
        """The index of a kept value, or of null where null is kept."""
        if value is None:
            return len(self.shares) - 1 if self.nulls else None
        kept = unstored(self._array, self._kind).to_pylist()
        return next((i for i, known in enumerate(kept) if known == value), None)

    def to_json(self) -> dict[str, Any]:
        """See `codecs.Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """See `codecs.Codec`."""
        return cls(**{**value, "values": tuple(value["values"]), "counts": tuple(value["counts"])})

    def _found(self, values: pa.Array) -> pa.Array:
        # In a dictionary each of its values is looked for once, not in every row.
        if pa.types.is_dictionary(values.type):
            return self._found(values.dictionary).take(values.indices)
        return pc.index_in(stored(values), value_set=self._array)

    def _drawn(self, uniform: Floats) -> NDArray[np.int64]:
        return np.minimum(np.searchsorted(self._cumulative, uniform, "right"), len(self.values) - 1)


def _most(kind: pa.DataType, most: int) -> int:
    """As many values as may be kept: no more than a dictionary's indices can tell apart."""
    if not pa.types.is_dictionary(kind):
        return most
    return min(most, int(np.iinfo(kind.index_type.to_pandas_dtype()).max) + 1)
