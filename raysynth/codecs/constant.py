"""A column of one value, of any type: nothing to model, so no parts; every row decodes to it.

`least` distinct holders must share the value. Nulls that fewer have become the value.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.arrays import plain_type, restored
from raysynth.codecs import ColumnCodes, Unmodelled
from raysynth.errors import TableError
from raysynth.hashing import Chance
from raysynth.numeric import distinct, is_numeric, null_share
from raysynth.schema import arrow_type
from raysynth.summary import ColumnSummary
from raysynth.ticks import read, write


@dataclass(frozen=True)
class Codec(Unmodelled):
    """The value: of numbers and times, the number that Arrow keeps for it."""

    type: str
    value: str | bool | int | float

    @classmethod
    def fit(cls, column: ColumnSummary, *, least: int = 10, **_: Any) -> Self:
        """Take the sample's one value.

        Raises `TableError` where there is another, or null, or too few hold it.
        """
        name, sample = column.column.name, column.sample
        known = sample.drop_null()
        counted = is_numeric(known.type)  # Arrow has no way to count some of these
        count = len(np.unique(read(known)) if counted else pc.unique(known))
        if count != 1 or null_share(column, least):
            found = f"{count} distinct values{' and null' if sample.null_count else ''}"
            raise TableError(
                f"column '{name}' should have one value and no null to be kept as a constant but "
                f"has {found}; choose another codec"
            )
        holders = distinct(column.holders[np.asarray(sample.is_valid())])
        if holders < least:
            raise TableError(
                f"column '{name}' has one value, which {holders} share; at least {least} must; "
                f"leave it out with --drop '{name}'"
            )
        one = known.slice(0, 1)
        return cls(str(column.column.type), read(one).item() if counted else one[0].as_py())

    def decode(self, codes: ColumnCodes, chance: Chance) -> pa.Array:
        """The value in every row (B,)."""
        return self._one.take(pa.array(np.zeros(len(codes.indices), np.int64)))

    def to_json(self) -> dict[str, Any]:
        """See `codecs.Codec`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """See `codecs.Codec`."""
        return cls(**value)

    @cached_property
    def _one(self) -> pa.Array:
        kind = arrow_type(self.type)
        inner = plain_type(kind)
        if not is_numeric(inner):
            return restored(pa.array([self.value], inner), kind)
        wide = object if isinstance(self.value, int) and abs(self.value) >= 2**63 else None
        ticks = np.array([self.value], np.uint64 if inner == pa.uint64() else wide)
        return restored(write(inner, ticks, np.zeros(1, np.bool_)), kind)
