"""What a table of any size has of what others show: counted in a pass, a block at a time.

The others are some tables, the sides: synthetic rows, and held-out ones. Of each of their rows it
is counted how many rows of the table have its value, column by column; its combination of the
columns that others may know; and all of it. Of numbers and times the outermost values are kept
besides, `least` at either end. What is held grows with the sides, and not with the table.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa

from raysynth.arrays import is_whole
from raysynth.frames import Bools, Floats, Integers, codes, floats, missing
from raysynth.schema import Column, Schema
from raysynth.sought import Sought

FEW = 100  # distinct values of a whole-number column that others may know


@dataclass
class Counted:
    """How many rows of the table equal each distinct one that is looked for, (D,)."""

    sought: Sought
    counts: Integers

    @classmethod
    def of(cls, sides: Sequence[pa.Table], names: Sequence[str]) -> Self:
        """None yet, of the rows of all sides."""
        sought = Sought.of(sides, names)
        return cls(sought, np.zeros(len(sought.keys), np.int64))

    def side(self, place: int) -> Integers:
        """How many rows of the table equal each row of a side, (B,)."""
        return self.counts[self.sought.places[place]]


@dataclass
class Census:
    """The counts so far; `quasi` are the columns that others may know."""

    schema: Schema
    least: int
    quasi: tuple[str, ...]
    columns: dict[str, Counted]
    combinations: Counted | None  # None of fewer than two such columns
    rows: Counted
    seen: int = 0  # rows counted
    lows: dict[str, Floats] = field(default_factory=dict)  # of measured columns, in no order
    highs: dict[str, Floats] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        sides: Sequence[pa.Table],
        schema: Schema,
        least: int,
        quasi: Sequence[str] | None = None,
    ) -> Self:
        """Nothing counted yet, of sides as `schema.select` gives them.

        Unless they are named, `quasi` are the categories and booleans, and the columns of whole
        numbers of which the sides have `FEW` values at most. Raises `TableError` for one that is
        not there.
        """
        names = _known(sides, schema) if quasi is None else [schema[one].name for one in quasi]
        return cls(
            schema,
            least,
            tuple(names),
            {column.name: Counted.of(sides, [column.name]) for column in schema.columns},
            Counted.of(sides, names) if len(names) > 1 else None,
            Counted.of(sides, schema.names),
        )

    def add(self, block: pa.Table) -> None:
        """Count rows of the table, as `schema.select` gives them."""
        self.seen += block.num_rows
        for counted in self._all():
            counted.counts = counted.counts + counted.sought.counts(block)
        for column in self.schema.columns:
            if column.measured:
                values = floats(block, column.name)
                for end in ("low", "high"):
                    self._extend(end, column.name, values[~np.isnan(values)])

    def rare(self, table: pa.Table, place: int) -> dict[str, Bools]:
        """By column, which rows of a side, `table`, show a value that is rare here, (B,).

        Such a value is held by a row, and by fewer than `least`. Of a number or time, where most
        values in the middle are rare and say nothing, it also lies under the `least`-th smallest or
        over the `least`-th largest. Null is no value.
        """
        found = {}
        for column in self.schema.columns:
            held = self.columns[column.name].side(place)
            there = ~missing(table, column.name) & (held > 0) & (held < self.least)
            if column.measured:
                there &= self._outermost(column.name, floats(table, column.name))
            found[column.name] = there
        return found

    def to_bytes(self) -> bytes:
        """What was counted, for `merge` into another census of the same sides."""
        sink = io.BytesIO()
        arrays: dict[str, Any] = {"seen": self.seen}
        arrays |= {str(number): counted.counts for number, counted in enumerate(self._all())}
        for end, values in (("low", self.lows), ("high", self.highs)):
            arrays |= {f"{end} {self.schema.names.index(name)}": v for name, v in values.items()}
        np.savez_compressed(sink, allow_pickle=False, **arrays)  # most counts are 0
        return sink.getvalue()

    def merge(self, data: bytes) -> None:
        """Add what another counted in other rows of the table."""
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            self.seen += int(arrays["seen"])
            for number, counted in enumerate(self._all()):
                counted.counts = counted.counts + arrays[str(number)]
            for key in arrays:
                end, _, place = key.partition(" ")
                if place:
                    self._extend(end, self.schema.names[int(place)], arrays[key])

    def _all(self) -> list[Counted]:
        both = [] if self.combinations is None else [self.combinations]
        return [*self.columns.values(), *both, self.rows]

    def _extend(self, end: str, name: str, values: Floats) -> None:
        """Keep the `least` outermost of a column's values at one end."""
        ends, sign = (self.lows, 1) if end == "low" else (self.highs, -1)
        both = np.concatenate([ends.get(name, np.empty(0)), values])
        if len(both) > self.least:
            both = sign * np.partition(sign * both, self.least - 1)[: self.least]
        ends[name] = both

    def _outermost(self, name: str, values: Floats) -> Bools:
        """Which values (B,) lie beyond those that `least` rows reach; all, where fewer do."""
        low, high = self.lows.get(name, np.empty(0)), self.highs.get(name, np.empty(0))
        if len(low) < self.least:
            return ~np.isnan(values)
        beyond: Bools = (values < low.max()) | (values > high.min())
        return beyond


def _known(sides: Sequence[pa.Table], schema: Schema) -> list[str]:
    """The columns that others may know, where nobody says which."""

    def known(column: Column) -> bool:
        if not column.measured:
            return True
        whole = column.kind == "number" and is_whole(column.type)
        return whole and codes(sides, column.name)[1] <= FEW

    return [column.name for column in schema.columns if known(column)]
