"""Flags of which one is set in every row, or one at most: one category, the name of the flag set.

Columns are tried in the table's order, each joined to the group before it none of whose flags is
ever set with it. A group stands if one flag is set in every row; or else one at most, where so many
flags could not avoid one another by chance. A flag that fewer than `least` set becomes, as any rare
value, another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.arrays import plain_type, stored
from raysynth.counts import Counts
from raysynth.hashing import Chance, Floats
from raysynth.relations import Relation, Values, View, Wish, holds, told
from raysynth.schema import Column, Schema, arrow_type
from raysynth.summary import Counters, Summary
from raysynth.values import Mask, Number, column, floats, put

FLAGS = 1_024  # looked at, the first ones
NONE = "none of them"


@dataclass(frozen=True)
class Kind(Relation):
    """One of the `flags`, of the Arrow types `types`, is 1 and the others 0; with `none`, or all.

    `name` is the category's.
    """

    kind = "choice"

    flags: tuple[str, ...]
    types: tuple[str, ...]
    none: bool
    name: str

    @classmethod
    def find(cls, view: View) -> Sequence[Self]:
        """See the module."""
        names = view.numbers("number", "category", "boolean", most=FLAGS)
        flags = [name for name in names if _is_flag(view, name)]
        if len(flags) < 2:
            return []
        given = np.stack([view.floats(name) for name in flags]) == 1
        wide = given.astype(np.float32)
        meet = wide @ wide.T > 0
        ones = [_ones(view, name) for name in flags]
        left, found = list(range(len(flags))), []
        while left:
            group = _group(left, meet, given, ones, view.summary.rows)
            none = not (given[group].sum(0) == 1).all()
            if none:
                group = _telling(view, given, group)
            if len(group) > 1 and view.tells(_meetings(given[group]).sum() / 2):
                found.append(cls._named([flags[place] for place in group], none, view))
            left = [place for place in left if place not in group[1:] and place != left[0]]
        return found

    @classmethod
    def of(cls, names: Sequence[str], view: View) -> Sequence[Self]:
        """One of these flags is set, or one at most where the sample has rows without."""
        told(cls.kind, names, 2, len(names), view)
        given = np.stack([view.floats(name) for name in names])
        return [cls._named(names, not (given.sum(0) == 1).all(), view)]

    @classmethod
    def _named(cls, flags: Sequence[str], none: bool, view: View) -> Self:
        schema, name = view.summary.schema, f"{flags[0]} ... {flags[-1]}"
        while name in schema.names:
            name += " "
        types = tuple(str(schema[flag].type) for flag in flags)
        return cls(tuple(flags), types, none, name)

    @property
    def sources(self) -> tuple[str, ...]:
        """See `Relation`."""
        return (self.name,)

    @property
    def written(self) -> tuple[str, ...]:
        """See `Relation`."""
        return self.flags

    @property
    def made(self) -> tuple[str, ...]:
        """See `Relation`."""
        return (self.name,)

    @property
    def text(self) -> str:
        """See `Relation`."""
        named = ", ".join(f"'{flag}'" for flag in self.flags)
        return f"one {'at most ' if self.none else ''}of {named}"

    @property
    def _values(self) -> tuple[str, ...]:
        return (*self.flags, NONE)

    def columns(self, schema: Schema) -> Schema:
        """See `Relation`: the category comes where its first flag was."""
        first = next(name for name in schema.names if name in self.flags)
        return Schema(
            tuple(
                Column(self.name, "category", pa.string(), why=f"{len(self.flags)} flags")
                if one.name == first
                else one
                for one in schema.columns
                if one.name == first or one.name not in self.flags
            )
        )

    def broken(self, table: pa.Table) -> Mask:
        """See `Relation`."""
        total, sound = np.zeros(table.num_rows), np.ones(table.num_rows, np.bool_)
        for flag in self.flags:
            values = floats(table, flag)
            sound &= (values == 0) | (values == 1)
            total += values
        right = (total == 1) | (total == 0) if self.none else total == 1
        return np.asarray(~(sound & right))

    def reduce(self, table: pa.Table) -> pa.Table:
        """See `Relation`."""
        places = np.full(table.num_rows, len(self.flags), np.int32)
        for place, flag in enumerate(self.flags):
            places[floats(table, flag) == 1] = place
        values = pa.DictionaryArray.from_arrays(pa.array(places), pa.array(self._values))
        first = next(name for name in table.schema.names if name in self.flags)
        table = table.set_column(table.schema.names.index(first), self.name, values)
        return table.drop_columns([flag for flag in self.flags if flag != first])

    def reduced(self, summary: Summary) -> Summary:
        """See `Relation`: the category's counts are exact where those of the flags are."""
        new = super().reduced(summary)
        ones = [_set(summary[flag].counters) for flag in self.flags]
        rows = [one for one in ones if one is not None]
        if len(rows) < len(ones):
            return new
        counted = [(name, count) for name, count in zip(self.flags, rows, strict=True) if count]
        if (rest := summary.rows - sum(rows)) > 0:
            counted.append((NONE, rest))
        counted.sort()
        values, held = zip(*counted, strict=True)
        place = new.schema.names.index(self.name)
        counters = list(new.counters)
        counts = Counts(pa.array(values), np.array(held, np.int64))
        counters[place] = replace(counters[place], counts=counts)
        return replace(new, counters=tuple(counters))

    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """See `Relation`."""
        places = pc.index_in(column(table, self.name), value_set=pa.array(self._values))
        chosen = np.asarray(places.fill_null(len(self.flags)))
        for place, (flag, kind) in enumerate(zip(self.flags, self.types, strict=True)):
            table = put(table, flag, Number(kind, 0).array((chosen == place).astype(np.float64)))
        return table

    def asked(self, name: str, wish: Wish) -> Mapping[str, Wish]:
        """A flag that is set is one value of the category, one that is not is all others."""
        kind = plain_type(arrow_type(self.types[self.flags.index(name)]))
        off, on = holds(wish, pa.array([0, 1]).cast(kind))
        if off and on:
            return {}
        return {self.name: Values((name,), but=bool(off)) if off or on else Values(())}

    def unknown(self, nulls: Mapping[str, Mask]) -> dict[str, Mask]:
        """See `Relation`: the category is, where any flag is."""
        return {
            **super().unknown(nulls),
            self.name: np.any([nulls[flag] for flag in self.flags], axis=0),
        }


def _is_flag(view: View, name: str) -> bool:
    values = view.floats(name)
    return view.ends(name) == (0.0, 1.0) and bool(((values == 0) | (values == 1)).all())


def _set(counters: Counters) -> int | None:
    """In how many rows a flag is set, None where that is not known exactly."""
    if counters.counts is None:
        return None
    where = np.asarray(pc.equal(stored(counters.counts.values).cast(pa.int8()), 1))
    return int(counters.counts.rows[where].sum())


def _ones(view: View, name: str) -> int:
    known = _set(view.summary[name].counters)
    share = view.summary.rows / max(1, view.summary.sample.num_rows)
    return round(float((view.floats(name) == 1).sum()) * share) if known is None else known


def _group(left: list[int], meet: Mask, given: Mask, ones: list[int], rows: int) -> list[int]:
    """The first of the flags `left`, and those after it that avoid it and one another.

    No more than fill all `rows`: a flag that no row of the sample sets avoids every other.
    """
    group, total = [left[0]], ones[left[0]]
    for place in left[1:]:
        if total == rows and (given[group].sum(0) == 1).all():
            break
        if not meet[place, group].any() and total + ones[place] <= rows:
            group.append(place)
            total += ones[place]
    return group


def _meetings(given: Mask) -> Floats:
    """In how many rows each flag, (F, B), would be set with another, were they of no relation."""
    shares = given.mean(1)
    return np.asarray(given.shape[1] * shares * (shares.sum() - shares))


def _telling(view: View, given: Mask, group: list[int]) -> list[int]:
    """The flags of a group that would meet others of it often, had they no relation."""
    while len(group) > 1:
        meetings = _meetings(given[group])
        rarest = int(meetings.argmin())
        if view.tells(float(meetings[rarest])):
            break
        group = [place for at, place in enumerate(group) if at != rarest]
    return group
