"""The upper of two ordered columns, coded as its distance from the lower: a stay, not its end.

Of every order that `FAR` of the rows would break if its columns had no relation. The distance is
from the largest of the lower columns, where all rows that have the upper one have one of these,
where distances are whole steps of the upper column's own, and where as many rows hold an exact
distance (0, where they are equal) as hold an exact value: few have both.

What a distance leads to is brought back to the column's range, which ends where `least` lie beyond.
The order itself is kept by `order`, in the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from raysynth.arrays import plain_type, restored
from raysynth.errors import ConfigError, TableError
from raysynth.hashing import Chance
from raysynth.numeric import Scale
from raysynth.quantiles import SHARE, heavy
from raysynth.relations import Relation, Values, View, Wish
from raysynth.schema import Column, Schema, arrow_type
from raysynth.ticks import write
from raysynth.values import Line, Mask, Number, highest, line, put, timed

FAR = 0.05


@dataclass(frozen=True)
class Kind(Relation):
    """`target`, of the Arrow type `type`, is coded as its distance from the largest of `below`.

    It comes back in the range `ends`, ticks of times; `decimals` are those of numbers.
    """

    kind = "gap"
    late = 3

    target: str
    below: tuple[str, ...]
    type: str
    ends: tuple[float, float]
    decimals: int | None

    @classmethod
    def find(cls, view: View) -> Sequence[Self]:
        """The highest first, as orders are."""
        found = []
        for order in view.orders:
            (target,), below = order.written, order.sources
            names = view.summary.schema.names
            if {target, *below} <= set(names) and _overlap(view, target, below) >= FAR:
                one = cls._on(target, below, view)
                found += [] if one is None else [one]
        return found

    @classmethod
    def of(cls, names: Sequence[str], view: View) -> Sequence[Self]:
        """None: it is a way to code an order."""
        raise ConfigError("relations: a 'gap' is how an 'order' is coded; ask for the order")

    @classmethod
    def _on(cls, target: str, below: Sequence[str], view: View) -> Self | None:
        part = view.summary[target]
        try:
            scale = Scale.fit(part, view.least)
        except TableError:
            return None
        kind = plain_type(part.column.type)
        unit = 10 ** getattr(kind, "scale", 0)
        ends: tuple[Any, Any] = (scale.lower, scale.upper)
        if unit > 1:
            ends = scale.lower / unit, scale.upper / unit
        decimals = None if timed(kind) else view.number(target).decimals
        one = cls(target, tuple(below), str(part.column.type), ends, decimals)
        if not one._steps(scale, view) or one.broken(view.summary.sample).any():
            return None
        sample = view.summary.sample
        exact = [_exact(*codes, view) for codes in (one._gaps(sample), line(sample, target))]
        return one if exact[0] >= exact[1] else None

    def _steps(self, scale: Scale, view: View) -> bool:
        """Whether distances are whole steps of the target's own, so that it comes back in them."""
        if timed(self._kind):
            zoned = getattr(self._kind, "tz", None) not in (None, "UTC")
            rows = [line(view.summary.sample, name) for name in self.below]
            return not zoned and all(not (v[~n] % scale.step).any() for v, n in rows)
        if self.decimals is None:
            return True
        numbers = [view.number(name) for name in self.below]
        step = scale.step if pa.types.is_integer(self._kind) else 1
        rows = [line(view.summary.sample, name) for name in self.below]
        return all(n.decimals is not None and n.decimals <= self.decimals for n in numbers) and (
            step == 1 or all(not (v[~n] % step).any() for v, n in rows)
        )

    def _gaps(self, table: pa.Table) -> tuple[Line, Mask]:
        """Distances (B,), and where they are null."""
        values, nulls = line(table, self.target)
        base, none = highest(table, self.below)
        with np.errstate(invalid="ignore"):
            apart = np.where(nulls | none, values.dtype.type(0), values - base)
        if self.decimals is not None:
            apart = np.round(apart, self.decimals)
        return apart, nulls | none

    @property
    def _kind(self) -> pa.DataType:
        return plain_type(arrow_type(self.type))

    @property
    def _coded(self) -> pa.DataType:
        """The type of distances."""
        whole = timed(self._kind) or pa.types.is_integer(self._kind)
        return pa.int64() if whole else pa.float64()

    @property
    def sources(self) -> tuple[str, ...]:
        """See `Relation`."""
        return self.below

    @property
    def written(self) -> tuple[str, ...]:
        """See `Relation`."""
        return (self.target,)

    @property
    def dropped(self) -> tuple[str, ...]:
        """See `Relation`."""
        return ()

    @property
    def text(self) -> str:
        """See `Relation`."""
        below = ", ".join(f"'{name}'" for name in self.below)
        return f"'{self.target}' is coded as its distance from {below}"

    def columns(self, schema: Schema) -> Schema:
        """See `Relation`."""
        new = Column(self.target, "number", self._coded, why="a distance")
        return Schema(tuple(new if o.name == self.target else o for o in schema.columns))

    def broken(self, table: pa.Table) -> Mask:
        """See `Relation`."""
        values, nulls = line(table, self.target)
        base, none = highest(table, self.below)
        return ~nulls & (none | (values < base))

    def reduce(self, table: pa.Table) -> pa.Table:
        """See `Relation`."""
        values, nulls = self._gaps(table)
        dtype = self._coded.to_pandas_dtype()
        whole = np.rint(values) if dtype is np.int64 else values
        return put(table, self.target, pa.array(whole.astype(dtype), mask=nulls))

    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """See `Relation`."""
        base, none = highest(table, self.below)
        gaps, nulls = line(table, self.target, whole=timed(self._kind))
        nulls = nulls | none
        values = np.where(nulls, gaps.dtype.type(0), gaps + np.where(none, 0, base))
        values = np.clip(values, *(values.dtype.type(end) for end in self.ends))
        kind = arrow_type(self.type)
        if timed(kind):
            return put(table, self.target, restored(write(self._kind, values, nulls), kind))
        number = Number(self.type, self.decimals)
        return put(table, self.target, number.array(np.where(nulls, np.nan, values)))

    def asked(self, name: str, wish: Wish) -> Mapping[str, Wish] | None:
        """Of a distance, only to be null or not."""
        there = Values((None,), but=True)
        if wish == there:
            return dict.fromkeys((self.target, *self.below), there)
        return {self.target: wish} if wish == Values((None,)) else None

    def unknown(self, nulls: Mapping[str, Mask]) -> dict[str, Mask]:
        """See `Relation`: a distance is, where one of the two is."""
        rows = np.any([nulls[name] for name in (self.target, *self.below)], axis=0)
        return {**nulls, self.target: rows}


def _exact(values: Line, nulls: Mask, view: View) -> float:
    """The share of rows whose value is one that many rows hold."""
    shown = values[~nulls].astype(np.float64)
    if not len(shown):
        return 0.0
    points = heavy(shown, view.summary.holders[~nulls], view.least, SHARE)
    return float(np.isin(shown, points).mean())


def _overlap(view: View, high: str, below: Sequence[str]) -> float:
    """The share of rows in which `high` would be below, had it no relation to what is."""
    base, none = highest(view.summary.sample, below)
    values, nulls = line(view.summary.sample, high)
    ranked, lower = np.sort(values[~nulls]), base[~none]
    under = np.searchsorted(ranked, lower, "left").sum()
    return float(under / max(1, len(ranked) * len(lower)))
