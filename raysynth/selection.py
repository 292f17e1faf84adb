"""Which part of a table is used: some columns, the rows a condition holds for, a share of them."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raysynth.errors import ConfigError, nearest
from raysynth.hashing import Ids, uniform
from raysynth.where import Where

_FRACTION = 2**32 + 1  # the stream of the hash that draws a share of the rows


@dataclass(frozen=True)
class Selection:
    """The `columns` (none: all), the rows `where` a condition holds, and a `fraction` of the rows.

    The fraction is drawn by a hash of each row's id, so it is the same for any partitioning.
    """

    columns: tuple[str, ...] = ()
    where: str | None = None
    fraction: float = 1.0

    def condition(self, schema: pa.Schema) -> Where | None:
        """Its condition, for tables of `schema`; `ConfigError` for one that cannot be tested."""
        return None if self.where is None else Where.parse(self.where, schema)

    def left_out(self, schema: pa.Schema) -> tuple[str, ...]:
        """The columns it leaves out; `ConfigError` for one that is not there."""
        for name in self.columns:
            if name not in schema.names:
                close = nearest(name, schema.names)
                raise ConfigError(f"select: no column is called '{name}'; {close}")
        return tuple(n for n in schema.names if self.columns and n not in self.columns)

    def rows(self, table: pa.Table, ids: Ids, where: Where | None) -> tuple[pa.Table, Ids]:
        """The rows of `table` (B rows, with `ids`) that it keeps, and their ids."""
        if self.fraction < 1:
            kept = uniform(ids, 0, _FRACTION) < self.fraction
            table, ids = table.filter(pa.array(kept)), ids[kept]
        if where is not None:
            mask = where.mask(table)
            table, ids = table.filter(mask), ids[np.asarray(mask)]
        return table, ids

    def apply(self, table: pa.Table) -> pa.Table:
        """What it leaves of a whole table in memory."""
        ids = np.arange(table.num_rows, dtype=np.uint64)
        kept, _ = self.rows(table, ids, self.condition(table.schema))
        left_out = self.left_out(table.schema)
        return kept.select([name for name in table.schema.names if name not in left_out])


WHOLE = Selection()
