"""Rows that are looked for in a table of any size, a block at a time.

Rows are compared cell for cell, exactly: no hashes, no rounding; null equals null. No more of the
table is held than a block; what is held grows with the rows that are looked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.arrays import is_encoded
from raysynth.frames import Integers, comparable

_LIMIT = 1 << 62  # keys of joined columns stay below this, inside int64


@dataclass(frozen=True)
class Sought:
    """The rows of some tables, to be counted in the blocks of another; D of them are distinct.

    Of each column the distinct `values` are numbered. A row's key is those numbers joined, column
    by column; before one would leave int64, the keys so far are numbered anew. A row of a block
    that has a value or a key which none of the sought rows has is dropped on the spot, so what is
    left at the end equals a sought row. `places` says which distinct row each sought one is.
    """

    columns: tuple["_Column", ...]
    keys: Integers
    places: tuple[Integers, ...]

    @classmethod
    def of(cls, tables: Sequence[pa.Table], names: Sequence[str]) -> Self:
        """The rows of `tables`, each as `schema.select` gives it, by the columns `names`."""
        whole = pa.concat_tables([table.select(list(names)) for table in tables])
        keys, size, columns = np.zeros(whole.num_rows, np.int64), 1, []
        encoded = {name: _encoded(whole.column(name)) for name in names}
        # The column of the most values first: it drops the most rows of a block.
        for name in sorted(names, key=lambda name: -len(encoded[name][0])):
            values, codes = encoded.pop(name)
            before = None
            if size * len(values) >= _LIMIT:
                before, keys = np.unique(keys, return_inverse=True)
                size = len(before)
            columns.append(_Column(name, values, before))
            keys, size = keys * len(values) + codes, size * len(values)
        distinct, places = np.unique(keys, return_inverse=True)
        ends = np.cumsum([table.num_rows for table in tables])[:-1]
        return cls(tuple(columns), distinct, tuple(np.split(places, ends)))

    def counts(self, block: pa.Table) -> Integers:
        """How many rows of `block` equal each of the distinct ones, (D,). Of several: the sum.

        The block is as `schema.select` gives it, encoded or not.
        """
        rows, keys = np.arange(block.num_rows), np.zeros(block.num_rows, np.int64)
        for column in self.columns:
            if column.before is not None:
                keys, known = _numbered(keys, column.before)
                rows, keys = rows[known], keys[known]
            cells = block.column(column.name)
            codes = column.codes(cells if len(rows) == len(cells) else cells.take(rows))
            known = codes >= 0
            rows, keys = rows[known], (keys * len(column.values) + codes)[known]
        places, known = _numbered(keys, self.keys)
        return np.bincount(places[known], minlength=len(self.keys))


@dataclass(frozen=True)
class _Column:
    """A column's distinct `values`, and the keys that are numbered anew before it is joined."""

    name: str
    values: pa.Array
    before: Integers | None

    def codes(self, cells: pa.ChunkedArray) -> Integers:
        """The numbers of `cells` among the values, (B,); -1 where it is none of them."""
        if not is_encoded(cells):
            return self._found(comparable(cells))
        null = self._found(pa.nulls(1, self.values.type))[0]
        parts = [np.empty(0, np.int64)]
        for chunk in cells.chunks:  # a text is looked up once, however many rows share it
            codes = np.append(self._found(chunk.dictionary), null)
            parts.append(codes[chunk.indices.fill_null(len(codes) - 1).to_numpy()])
        return np.concatenate(parts)

    def _found(self, cells: pa.Array | pa.ChunkedArray) -> Integers:
        found = pc.fill_null(pc.index_in(cells, value_set=self.values), -1)
        return np.asarray(found, dtype=np.int64)


def _encoded(column: pa.ChunkedArray) -> tuple[pa.Array, Integers]:
    encoded: Any = pc.dictionary_encode(comparable(column), null_encoding="encode").combine_chunks()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return encoded.dictionary, codes


def _numbered(keys: Integers, known: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """Where each key stands in `known`, which ascend, and whether it is there."""
    if not len(known):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), np.bool_)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return places, known[places] == keys
