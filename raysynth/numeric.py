"""Any orderable Arrow type as float64, and back into exactly that type.

A `Scale` is fitted on a column's sample and remembers what decoding must restore: the Arrow type,
the decimals of floats, the coarsest step that all values are multiples of (a power of ten of whole
numbers and decimals; of times a day, hour, minute, second, millisecond, microsecond or nanosecond),
and the range. Both ends of the range are values that lie `least` distinct holders deep, so nothing
past them is ever written down: what lies beyond comes back as the end.

Floats count steps from an origin. It is 0 where 0 lies in the range or every value lies within
2 ** 53 steps of it, else the middle of the range.

**Tolerance.** A value in range that is a multiple of the step comes back exactly within 2 ** 53
steps of the origin, and so do both ends; beyond, to half a unit in the last place of the float64.
One that is no multiple (the sample held none) comes back as the nearest. Floats come back exactly,
or rounded to the sample's decimals where it has at most `DECIMALS`.

Midnight is judged on the clock of a timestamp's own zone: where every value begins a day there, the
floats count local days, so that what is decoded begins a day too, in summer and in winter. All
other steps are judged in UTC. A zone that this machine's database lacks has no midnights.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.arrays import plain_type, restored
from raysynth.errors import TableError
from raysynth.hashing import Floats
from raysynth.schema import arrow_type
from raysynth.summary import ColumnSummary
from raysynth.ticks import WORD, Ticks, read, write

DECIMALS = 6
COARSEST = -9
EXACT = 2**53  # up to here float64 tells every whole number apart

_DAY = 86_400 * 10**9
_UNITS = (_DAY, 3_600 * 10**9, 60 * 10**9, 10**9, 10**6, 10**3, 1)  # nanoseconds
_UNIT = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def is_numeric(kind: pa.DataType) -> bool:
    """Whether a `Scale` can be fitted on columns of this type."""
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_decimal, types.is_temporal)
    return any(test(kind) for test in tests) and not types.is_interval(kind)


def distinct(holders: NDArray[np.int64]) -> int:
    """How many holders these rows (B,) have."""
    apart = bool((holders[1:] > holders[:-1]).all())  # most tables: whose a row is, is its number
    return len(holders) if apart else len(np.unique(holders))


def null_share(column: ColumnSummary, least: int) -> float:
    """The share of rows that are null, or 0 where fewer than `least` are known to hold one."""
    return column.counters.nulls / column.rows if column.null_holders >= least else 0.0


@dataclass(frozen=True)
class Scale:
    """How one column's values lie on a line of float64.

    `lower` and `upper` are values of the column: floats, or else whole numbers of its type's own
    unit (ticks), as are `step` and `origin`. `local`: ticks are those of the zone's clock.
    """

    type: str
    lower: int | float
    upper: int | float
    step: int = 1
    origin: int = 0
    local: bool = False
    decimals: int | None = None

    @classmethod
    def fit(cls, column: ColumnSummary, least: int = 10) -> Self:
        """Fit on a column's sample.

        Raises `TableError` where fewer than 2 `least` distinct holders have a value.
        """
        name, kind, ticks = str(column.column.type), column.sample.type, read(column.sample)
        there = ~np.asarray(column.sample.is_null())
        if pa.types.is_floating(kind):
            there &= ~np.isnan(ticks)
        _check(column, there, least)
        values, ticks = column.sample.filter(pa.array(there)), ticks[there]
        low, high = _ends(ticks, column.holders[there], least)
        inside = (ticks >= ticks[low]) & (ticks <= ticks[high])
        if pa.types.is_floating(kind):
            ends = float(ticks[low]), float(ticks[high])
            return cls(name, *ends, decimals=decimals(ticks[inside], kind))
        local = _midnights(values.filter(pa.array(inside)))
        if local:
            ticks = read(pc.local_timestamp(values))
        lower, upper = int(ticks[low]), int(ticks[high])
        step = _step(ticks[inside], kind)
        return cls(name, lower, upper, step, _origin(lower, upper, step), local)

    @cached_property
    def kind(self) -> pa.DataType:
        """The Arrow type of what is encoded: the column's own, without an encoding."""
        return plain_type(arrow_type(self.type))

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The range as floats."""
        if pa.types.is_floating(self.kind):
            return float(self.lower), float(self.upper)
        lower, upper = self._steps(np.array([self.lower, self.upper], self._dtype))
        return float(lower), float(upper)

    @property
    def grid(self) -> float:
        """The step between floats that all values are multiples of, or 0 where there is none."""
        if not pa.types.is_floating(self.kind):
            return 1.0
        return 0.0 if self.decimals is None else 10.0**-self.decimals

    def past(self, values: pa.Array) -> NDArray[np.bool_]:
        """Which values (B,) lie past the ends; what is said of nulls means nothing."""
        ticks = self._read(values)
        return np.asarray((ticks < self.lower) | (ticks > self.upper), np.bool_)

    def floats(self, values: pa.Array) -> Floats:
        """Values (B,) of the column's type as float64 (B,) within the range; nulls are NaN."""
        ticks = self._read(values)
        if not pa.types.is_floating(self.kind):
            if self._dtype.hasobject:
                ticks = ticks.astype(object)
            # Python's whole numbers, where a block holds some, fit once they are cut to the range.
            floats = self._steps(np.clip(ticks, self.lower, self.upper).astype(self._dtype))
        else:
            floats = np.clip(ticks, self.lower, self.upper)
        if values.null_count:
            floats[np.asarray(values.is_null())] = np.nan
        return floats

    def point(self, value: Any) -> Floats:
        """One Python value as a float (1,); NaN where it lies past the ends."""
        array = pa.array([value], self.kind)
        return np.where(self.past(array), np.nan, self.floats(array))

    def values(self, floats: Floats) -> pa.Array:
        """Values (B,) nearest to `floats` (B,), rounded and cut to the range; NaN gives null."""
        return restored(self._plain(floats), arrow_type(self.type))

    def _plain(self, floats: Floats) -> pa.Array:
        nulls = np.isnan(floats)
        lower, upper = self.ends
        floats = np.where(nulls, lower, np.clip(floats, lower, upper))
        if pa.types.is_floating(self.kind):
            if self.decimals is not None:
                floats = np.clip(np.round(floats, self.decimals), lower, upper)
            return write(self.kind, floats, nulls)
        inner = (floats > lower) & (floats < upper)
        ticks = self._whole(np.where(inner, np.rint(floats), 0.0))
        # The ends are exact, however far from the origin. Between them, no float rounds past one.
        ends = np.array([self.lower, self.upper], self._dtype)
        ticks = np.where(inner, ticks, ends[(floats > lower).astype(np.int64)])
        if not self.local:
            return write(self.kind, ticks, nulls)
        clock = write(pa.timestamp(self.kind.unit), ticks, nulls)
        return self._zoned(_begin, clock, self.kind.tz)

    def to_json(self) -> dict[str, Any]:
        """A JSON value that `from_json` turns back into an equal scale."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The scale that `to_json` described."""
        return cls(**value)

    def _read(self, values: pa.Array) -> Ticks:
        return read(self._zoned(pc.local_timestamp, values) if self.local else values)

    def _zoned(self, change: Callable[..., pa.Array], *values: Any) -> pa.Array:
        try:
            return change(*values)
        except pa.ArrowInvalid:
            raise TableError(
                f"this machine's time zone database lacks '{self.kind.tz}', which a column of the "
                "run is in; install the system's tzdata"
            ) from None

    @cached_property
    def _dtype(self) -> np.dtype[Any]:
        if self.kind == pa.uint64():
            return np.dtype(np.uint64)
        widest = max(abs(self.lower), abs(self.upper))
        wide = pa.types.is_decimal(self.kind) and widest >= WORD // 2
        return np.dtype(object if wide else np.int64)

    def _steps(self, ticks: Ticks) -> Floats:
        """Ticks in the range to steps from the origin; `_origin` is such that none overflows."""
        if self._dtype.hasobject:
            return ((ticks - self.origin) / self.step).astype(np.float64)
        if self.origin:
            ticks = (ticks - self._dtype.type(self.origin)).view(np.int64)
        if self.step == 1:
            return ticks.astype(np.float64)
        steps, rest = np.divmod(ticks, ticks.dtype.type(self.step))
        floats: Floats = steps.astype(np.float64) + rest / float(self.step)
        return floats

    def _whole(self, floats: Floats) -> Ticks:
        """Whole steps from the origin to ticks."""
        if self._dtype.hasobject:
            return np.array([int(step) * self.step + self.origin for step in floats], object)
        steps = floats.astype(np.int64 if self.origin else self._dtype)
        ticks: Ticks = (steps * steps.dtype.type(self.step)).view(self._dtype)
        ticks += self._dtype.type(self.origin)
        return ticks


def _check(column: ColumnSummary, there: NDArray[np.bool_], least: int) -> None:
    rows, found = int(there.sum()), distinct(column.holders[there])
    if found < 2 * least:  # with fewer, the ends would cross
        name = column.column.name
        whose = "" if found == rows else f" of {found} holders"
        raise TableError(
            f"column '{name}' has {rows} values that are not null{whose}; at least {2 * least} are "
            f"needed; leave it out with --drop '{name}'"
        )


def _ends(ticks: Ticks, holders: NDArray[np.int64], least: int) -> tuple[int, int]:
    """Where the lowest and the highest value lie that `least` distinct holders reach."""
    order = np.argsort(ticks, kind="stable")
    places = []
    for rows in (order, order[::-1]):
        first, deep = np.empty(0, np.int64), least
        while len(first) < least:
            first = np.unique(holders[rows[:deep]], return_index=True)[1]
            deep *= 2
        places.append(int(rows[np.sort(first)[least - 1]]))
    return places[0], places[1]


def decimals(values: Floats, kind: pa.DataType) -> int | None:
    """Decimals that tell all `values`, but for noise in their last places; None where too many.

    Fewer than none where all are multiples of a power of ten.
    """
    near = {pa.float32(): 1e-6, pa.float64(): 1e-12}.get(kind, 0.0)

    def told(values: Floats, places: int) -> bool:
        rounded = np.round(values, places).astype(kind.to_pandas_dtype())
        return np.allclose(rounded.astype(np.float64), values, rtol=near, atol=0)

    with np.errstate(over="ignore"):
        for places in range(COARSEST if values.any() else 0, DECIMALS + 1):
            if told(values[:99], places) and told(values, places):
                return places
    return None


def _step(ticks: Ticks, kind: pa.DataType) -> int:
    """The coarsest step, in ticks, that all `ticks` are multiples of."""
    divisor = abs(int(np.gcd.reduce(ticks)))
    if not pa.types.is_temporal(kind):
        tens = len(str(divisor)) - len(str(divisor).rstrip("0")) if divisor else 0
        return int(10**tens)
    tick = _DAY if kind == pa.date32() else _UNIT[getattr(kind, "unit", "ms")]
    steps = (unit // tick for unit in _UNITS if unit >= tick)
    return next(step for step in steps if divisor % step == 0)


def _origin(lower: int, upper: int, step: int) -> int:
    if lower <= 0 <= upper or max(abs(lower), abs(upper)) <= EXACT * step:
        return 0
    return (lower + upper) // 2 // step * step


def _midnights(values: pa.Array) -> bool:
    """Whether every one of these timestamps begins a day in their own zone."""
    zone = getattr(values.type, "tz", None)
    if zone is None:
        return False
    try:
        days = pc.floor_temporal(pc.local_timestamp(values), unit="day")
        return bool(_begin(days, zone).equals(values))
    except pa.ArrowInvalid:
        return False


def _begin(days: pa.Array, zone: str) -> pa.Array:
    """Instants at which `days` begin: past a midnight that the clock skips, the first of two."""
    return pc.assume_timezone(days, zone, ambiguous="earliest", nonexistent="latest")
