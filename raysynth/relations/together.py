"""Columns that are null, or 0, wherever another one is: no words, so no mean length of words.

A column keeps its codes, nulls and zeros among them, so that a model sees what is so, and is made
to be null or 0 where it must. Where the table has a column so exactly where the other is, a row in
which it alone is has one of `FILLS` values drawn for it: edges between equal shares of the others,
or categories that `least` hold. Only numbers of one sign can be exact in their zeros.

A column follows the one of the most such rows; of columns that are so together the first is
followed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.arrays import plain, plain_type, restored, stored, unstored
from raysynth.errors import TableError
from raysynth.hashing import Chance
from raysynth.numeric import Scale
from raysynth.quantiles import SHARE, cuts, heavy
from raysynth.relations import Follows, Mending, Range, Values, View, Wish, holds, told
from raysynth.schema import arrow_type
from raysynth.values import Mask, column, floats, listed, put, unlisted

COLUMNS, FILLS = 1_024, 100


@dataclass(frozen=True)
class Kind(Mending):
    """`target` is `what` ("null" or "zero") wherever `source` is; `types` are their Arrow types.

    With `exact` nowhere else: `fills`, as `values.listed`, are drawn from there. `signs` are those
    of both columns' numbers, 0 where they have both.
    """

    kind = "together"
    late = 2

    what: str
    source: str
    target: str
    types: tuple[str, str]
    signs: tuple[int, int]
    exact: bool
    fills: tuple[Any, ...]

    @classmethod
    def find(cls, view: View) -> Sequence[Self]:
        """See the module."""
        nulls = {
            one.name: np.asarray(view.array(one.name).is_null())
            for one in view.open()[:COLUMNS]
            if view.summary[one.name].counters.nulls
        }
        found = cls._follow("null", nulls, view)
        zeros = {
            name: view.floats(name) == 0
            for name in view.numbers("number", most=COLUMNS)
            if name not in nulls
        }
        return [*found, *cls._follow("zero", zeros, view)]

    @classmethod
    def of(cls, names: Sequence[str], view: View) -> Sequence[Self]:
        """All are null together; or, where the sample has no nulls, 0 together."""
        what = "null" if view.array(names[0]).null_count else "zero"
        told(cls.kind, names, 2, len(names), view if what == "zero" else None)
        return [cls._between(what, names[0], name, view) for name in names[1:]]

    @classmethod
    def _follow(cls, what: str, marked: Mapping[str, Mask], view: View) -> list[Self]:
        names = [name for name, rows in marked.items() if view.held(rows) and view.held(~rows)]
        if len(names) < 2:
            return []
        rows = np.stack([marked[name] for name in names])
        wide = rows.astype(np.float32)
        both, counts = wide @ wide.T, wide.sum(1)
        total = rows.shape[1]
        found = []
        # Those of the most such rows first: what they follow may itself follow another.
        for target in sorted(range(len(names)), key=lambda at: (-counts[at], -at)):
            followed = [
                source
                for source in range(len(names))
                if both[source, target] == counts[source]
                and (counts[source], source) < (counts[target], target)
                and view.tells(_breaks(counts[source], counts[target], total))
            ]
            if followed:
                source = max(followed, key=lambda at: (counts[at], -at))
                found.append(cls._between(what, names[source], names[target], view))
        return found

    @classmethod
    def _between(cls, what: str, source: str, target: str, view: View) -> Self:
        types = [str(view.summary.schema[name].type) for name in (source, target)]
        signs = [_sign(view, name) if what == "zero" else 0 for name in (source, target)]
        one = cls(what, source, target, (types[0], types[1]), (signs[0], signs[1]), True, ())
        exact = not one.broken(view.summary.sample).any() and (what == "null" or signs[1] != 0)
        fills = _fills(view, target, one._rows(view.summary.sample, target)) if exact else ()
        return replace(one, exact=bool(fills), fills=fills)

    @property
    def sources(self) -> tuple[str, ...]:
        """See `Relation`."""
        return (self.source,)

    @property
    def written(self) -> tuple[str, ...]:
        """See `Relation`."""
        return (self.target,)

    @property
    def text(self) -> str:
        """See `Relation`."""
        where = "exactly where" if self.exact else "wherever"
        what = "null" if self.what == "null" else "0"
        return f"'{self.target}' is {what} {where} '{self.source}' is"

    @property
    def mask(self) -> Follows:
        """See `Relation`."""
        return Follows(self.what, self.source, self.exact)

    def broken(self, table: pa.Table) -> Mask:
        """See `Relation`."""
        source, target = self._rows(table, self.source), self._rows(table, self.target)
        return source != target if self.exact else source & ~target

    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """See `Relation`."""
        rows, kind = self._rows(table, self.source), arrow_type(self.types[1])
        values = column(table, self.target)
        alone = self._rows(table, self.target) & ~rows
        if self.exact and alone.any():
            fills = unlisted(self.fills, kind)
            drawn = (chance.uniform * len(fills)).astype(np.int64)
            fills = unstored(fills.take(pa.array(drawn)), kind)
            values = pc.if_else(pa.array(alone), fills, values)
        nothing = None if self.what == "null" else pa.array([0], values.type)[0]
        values = pc.if_else(pa.array(rows), pa.scalar(nothing, values.type), values)
        return put(table, self.target, restored(values, kind))

    def asked(self, name: str, wish: Wish) -> Mapping[str, Wish] | None:
        """What is to be no null, or no 0, is so where the source is none.

        Of a range with 0 in it, rows that are 0 with the source may be left out.
        """
        kind = plain_type(arrow_type(self.types[1]))
        null = self.what == "null"
        if not holds(wish, pa.nulls(1, kind) if null else pa.array([0], kind))[0]:
            other = self._other
            return None if other is None else {self.target: wish, self.source: other}
        if not self.exact:
            return {self.target: wish}
        if isinstance(wish, Range):
            zero, least = pa.scalar(0), _least(kind, self.signs[1])
            if all(end is not None and end.as_py() == 0 for end in wish):
                return {self.source: Range(zero, zero)}
            positive = self.signs[1] > 0
            return {self.target: Range(least, wish.high) if positive else Range(wish.low, least)}
        if wish == Values((None,)):
            return {self.source: wish}
        others = {*wish.values, None} if wish.but else {*wish.values} - {None}
        there = Values((None,), but=True)
        return {self.target: Values(tuple(others), wish.but), self.source: there} if null else None

    @property
    def _other(self) -> Wish | None:
        """For the source to be no null, or no 0; None where both its signs would do."""
        if self.what == "null":
            return Values((None,), but=True)
        sign = self.signs[0]
        if not sign:
            return None
        least = _least(plain_type(arrow_type(self.types[0])), sign)
        return Range(least, None) if sign > 0 else Range(None, least)

    def _rows(self, table: pa.Table, name: str) -> Mask:
        if self.what == "null":
            return np.asarray(table.column(name).combine_chunks().is_null())
        return np.asarray(floats(table, name) == 0)


def _breaks(source: float, target: float, rows: int) -> float:
    """Rows that would break it if the two had no relation; where they are equal, in either way."""
    alone = source * (1 - target / rows)
    return float(2 * alone if source == target else alone)


def _sign(view: View, name: str) -> int:
    low, high = view.ends(name) or (0.0, 0.0)
    return 1 if low >= 0 else -1 if high <= 0 else 0


def _least(kind: pa.DataType, sign: int) -> pa.Scalar:
    """The number of this type and sign that is nearest to 0."""
    if pa.types.is_floating(kind):
        return pa.scalar(float(np.nextafter(0.0, 1.0)) * sign)
    if pa.types.is_decimal(kind):
        return pa.scalar(Decimal(sign).scaleb(-kind.scale))
    return pa.scalar(sign)


def _fills(view: View, name: str, rows: Mask) -> tuple[Any, ...]:
    """Values that stand for all of a column but what is in the marked rows (B,), as likely each."""
    part = view.summary[name]
    if not part.column.measured:
        known = part.held >= view.least
        weights = np.where(known, part.counts.rows, 0).cumsum()
        places = np.searchsorted(weights, (np.arange(FILLS) + 0.5) / FILLS * weights[-1])
        return listed(part.counts.values.take(pa.array(places))) if known.any() else ()
    part = replace(part, sample=part.sample.filter(pa.array(~rows)), holders=part.holders[~rows])
    try:
        scale = Scale.fit(part, view.least)
    except TableError:
        return ()
    told = scale.floats(part.sample)
    found = cuts(told, part.holders, view.least, FILLS)
    edges = np.array(found) if found else heavy(told, part.holders, view.least, SHARE)
    values = stored(plain(scale.values(edges)))
    return tuple(value for value in listed(values) if value != 0 or part.column.kind == "time")
