"""Distinct values and how many rows hold each: counts that merge, held by Arrow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.arrays import stored


@dataclass(frozen=True, eq=False)
class Counts:
    """Distinct `values` (D,), ascending, as `arrays.stored`, and the `rows` (D,) that hold each."""

    values: pa.Array
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, array: pa.Array | pa.ChunkedArray) -> "Counts":
        """The counts of an array's values that are not null."""
        if pa.types.is_dictionary(array.type):
            return cls._of_encoded(array)
        counted = pc.value_counts(stored(array).drop_null())
        return cls(counted.field("values"), counted.field("counts").to_numpy())._sorted()

    @classmethod
    def _of_encoded(cls, array: pa.Array | pa.ChunkedArray) -> "Counts":
        # Rows are counted by index. A dictionary may name a value twice, or one that no row holds.
        array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        indices = array.indices.drop_null().to_numpy()
        values = stored(array.dictionary)
        rows = np.bincount(indices, minlength=len(values))
        occurs = (rows > 0) & np.asarray(values.is_valid())
        return cls._summed(values.filter(pa.array(occurs)), rows[occurs])

    @classmethod
    def sum(cls, parts: Sequence["Counts"]) -> "Counts":
        """The counts of all parts together."""
        if len(parts) == 1:
            return parts[0]
        values = pa.concat_arrays([part.values for part in parts])
        return cls._summed(values, np.concatenate([part.rows for part in parts]))

    @classmethod
    def _summed(cls, values: pa.Array, rows: NDArray[np.int64]) -> "Counts":
        # Of values that may be named more than once.
        table = pa.table({"value": values, "rows": rows})
        summed = table.group_by("value", use_threads=False).aggregate([("rows", "sum")])
        values = summed.column("value").combine_chunks()
        return cls(values, summed.column("rows_sum").to_numpy())._sorted()

    def _sorted(self) -> "Counts":
        order = pc.sort_indices(self.values)
        return Counts(self.values.take(order), self.rows[order.to_numpy()])

    def __len__(self) -> int:
        return len(self.rows)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Counts):
            return NotImplemented
        return bool(self.values.equals(other.values)) and np.array_equal(self.rows, other.rows)

    __hash__ = None  # type: ignore[assignment]

    @property
    def pairs(self) -> tuple[tuple[Any, int], ...]:
        """(value, rows) by value, for the eye; slow where there are many."""
        return tuple(zip(self.values.to_pylist(), self.rows.tolist(), strict=True))
