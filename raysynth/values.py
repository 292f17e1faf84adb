"""Columns of a table as floats and as codes, and back in exactly their types.

For what is computed from several columns at once; `numeric` is about one.

Shapes: B rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.arrays import is_time, plain, plain_type, restored, stored_type
from raysynth.hashing import Floats
from raysynth.numeric import EXACT, decimals
from raysynth.schema import arrow_type
from raysynth.ticks import read, write

NEAR = {pa.float16(): 2e-3, pa.float32(): 1e-5}  # of a float64: 1e-9
DIGITS = range(10, 16)  # with fewer, rounding would be further than `NEAR`; with 16, no float's are
_TENS = np.array([float(f"1e{n}") for n in range(23)])  # all that a float64 holds exactly

Mask = NDArray[np.bool_]
Line = NDArray[Any]  # float64 of numbers, int64 of times


@dataclass(frozen=True)
class Number:
    """How numbers of one column are written: its type, and decimals, None for all there are.

    Where there are too many, `digits` are the significant ones that float64 values have, if few.
    """

    type: str
    decimals: int | None
    digits: int | None = None

    @classmethod
    def of(cls, kind: pa.DataType, values: Floats) -> Self:
        """As a column of the type `kind` is written, that holds `values`, NaN for null."""
        plain_ = plain_type(kind)
        if pa.types.is_floating(plain_):
            shown = values[~np.isnan(values)]
            places = decimals(shown, plain_)
            few = places is None and kind == pa.float64()
            return cls(str(kind), places, _digits(shown) if few else None)
        return cls(str(kind), getattr(plain_, "scale", 0))

    @property
    def kind(self) -> pa.DataType:
        """The type, without an encoding."""
        return plain_type(arrow_type(self.type))

    @property
    def largest(self) -> float:
        """The largest number that the type, and a float64, can hold exactly."""
        kind = self.kind
        if pa.types.is_floating(kind):
            return float(np.finfo(kind.to_pandas_dtype()).max)
        if pa.types.is_decimal(kind):
            return float(min(10.0**kind.precision - 1, EXACT) / 10.0**kind.scale)
        return float(min(np.iinfo(kind.to_pandas_dtype()).max, EXACT))

    def rounded(self, values: Floats) -> Floats:
        """Values as the column would show them."""
        if self.decimals is not None:
            return np.round(values, self.decimals)
        return significant(values, self.digits) if self.digits else values

    def array(self, values: Floats) -> pa.Array:
        """Values (B,) in the column's type; NaN is null."""
        nulls, kind = np.isnan(values), self.kind
        if pa.types.is_boolean(kind):
            return restored(pa.array(values == 1, mask=nulls), arrow_type(self.type))
        shown = np.where(nulls, 0.0, self.rounded(values))
        if pa.types.is_decimal(kind):
            shown = shown * 10.0**kind.scale
        whole = not pa.types.is_floating(kind)
        ticks = np.rint(shown).astype(np.int64) if whole else shown
        return restored(write(kind, ticks, nulls), arrow_type(self.type))

    def differ(self, found: Floats, told: Floats, reach: Floats) -> Mask:
        """Where values (B,) are not what they are `told` to be, from terms of such `reach`."""
        near = NEAR.get(self.kind, 1e-9) * np.abs(reach)
        if self.decimals is not None:
            near = near + 0.5 * 10.0**-self.decimals
        both = np.isnan(found) & np.isnan(told)
        return ~(both | (np.abs(found - told) <= near))


def significant(values: Floats, digits: int) -> Floats:
    """Values (B,) to significant digits, `DIGITS` of them: what a reader makes of those digits."""
    known = np.isfinite(values) & (values != 0)
    numbers = np.where(known, values, 1.0)
    powers = np.floor(np.log10(np.abs(numbers))).astype(np.int64)
    powers -= np.abs(numbers) < 10.0**powers  # a logarithm may round up to a whole number
    places = digits - 1 - powers
    up, down = (_TENS[np.clip(n, 0, len(_TENS) - 1)] for n in (places, -places))
    scaled = numbers * up / down
    whole = np.rint(scaled)
    found = whole / up * down
    # Each is rounded once, so that only what lies midway is in doubt, and what no power reaches.
    doubt = np.abs(np.abs(scaled - whole) - 0.5) < 4e-16 * 10.0**digits
    doubt |= np.abs(places) >= len(_TENS)
    found[doubt] = [float(f"{number:.{digits - 1}e}") for number in numbers[doubt].tolist()]
    return np.where(known, found, values)


def _digits(values: Floats) -> int | None:
    """The fewest of `DIGITS` that tell all values (B,); None where none do."""
    for digits in DIGITS:
        if all(np.array_equal(significant(some, digits), some) for some in (values[:99], values)):
            return digits
    return None


def is_number(kind: pa.DataType) -> bool:
    """Whether values are numbers or booleans, once decoded."""
    kind, types = plain_type(kind), pa.types
    tests = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    return any(test(kind) for test in tests) and not is_time(kind)


def column(table: pa.Table, name: str) -> pa.Array:
    """A column of a table as one plain array."""
    return plain(table.column(name)).combine_chunks()


def floats(table: pa.Table, name: str) -> Floats:
    """A column of numbers (B,) as float64, NaN for null; decimals by their value."""
    values = column(table, name)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    ticks = read(values).astype(np.float64)
    if pa.types.is_decimal(values.type):
        ticks = ticks / 10.0**values.type.scale
    return np.where(np.asarray(values.is_null()), np.nan, ticks) if values.null_count else ticks


def put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """A table with `values` as the column `name`, in its place or last."""
    if name in table.schema.names:
        return table.set_column(table.schema.names.index(name), name, values)
    return table.append_column(name, values)


def coded(values: pa.Array) -> tuple[NDArray[np.int64], int]:
    """Each value (B,) as a number, null too, and how many numbers there are."""
    encoded = pc.dictionary_encode(values, null_encoding="encode")
    return np.asarray(encoded.indices).astype(np.int64), len(encoded.dictionary)


def portions(values: pa.Array) -> Floats:
    """The share of rows that each value has, null too."""
    codes, size = coded(values)
    return np.asarray(np.bincount(codes, minlength=size) / max(1, len(codes)))


def timed(kind: pa.DataType) -> bool:
    """Whether values are times, whose ticks are counted."""
    return is_time(plain_type(kind))


def line(table: pa.Table, name: str, whole: bool = False) -> tuple[Line, Mask]:
    """A column's numbers, or ticks of times and what is `whole`, (B,), and where it is null."""
    values = column(table, name)
    if whole or timed(values.type):
        return read(values), np.asarray(values.is_null())
    numbers = floats(table, name)
    return numbers, np.isnan(numbers)


def highest(table: pa.Table, names: Sequence[str]) -> tuple[Line, Mask]:
    """The largest (B,) of columns that lie on one line, and where all of them are null."""
    lines = [line(table, name) for name in names]
    low = np.iinfo(np.int64).min if lines[0][0].dtype == np.int64 else -np.inf
    largest: Line = np.max([np.where(nulls, low, values) for values, nulls in lines], axis=0)
    return largest, np.all([nulls for _, nulls in lines], axis=0)


def listed(values: pa.Array) -> tuple[Any, ...]:
    """A stored array as JSON can hold it."""
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.string())
    return tuple(values.to_pylist())


def unlisted(values: Sequence[Any], column_type: pa.DataType) -> pa.Array:
    """What `listed` gave of a column of this type, stored again."""
    kind = stored_type(plain_type(column_type))
    return pa.array(values, pa.string() if pa.types.is_decimal(kind) else kind).cast(kind)
