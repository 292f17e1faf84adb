"""A column that follows from a category: class from product, years of schooling from degree.

What it is for each value of the category is looked up. The table holds no more than values that
`least` hold: then as many hold what follows from them. A rarer value never comes back from a codec,
and neither does one that the sample does not show, which is left out of the category's counts.
Where several categories determine a column, it is looked up from the one of the fewest values; of
two that determine each other the first stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.arrays import restored, stored, unstored
from raysynth.counts import Counts
from raysynth.errors import ConfigError
from raysynth.hashing import Chance
from raysynth.relations import PROBED, Relation, Values, View, Wish, holds, told
from raysynth.schema import arrow_type
from raysynth.summary import ColumnSummary, Summary
from raysynth.values import Mask, coded, column, listed, put, unlisted

COLUMNS, VALUES = (
    1_024,
    1_000,
)  # looked at: columns, and values of a category (`onehot` keeps that many)
COVERED = 0.95  # of the rows, by values that may be written down


@dataclass(frozen=True)
class Kind(Relation):
    """`target` is the one of `values` at the place that `source` has among `keys`.

    Both as `arrays.stored`, decimals as text; None is null. `types` are the Arrow types of source
    and target, `other` is the place of a value for a source that is none of the keys.
    """

    kind = "lookup"

    source: str
    target: str
    types: tuple[str, str]
    keys: tuple[Any, ...]
    values: tuple[Any, ...]
    other: int

    @classmethod
    def find(cls, view: View) -> Sequence[Self]:
        """See the module."""
        codes, sizes = _codes(view)
        places = {name: place for place, name in enumerate(codes)}
        matrix = np.stack([*codes.values()], 1) if codes else np.empty((0, 0), np.int32)
        sources = [
            one.name
            for one in view.open()
            if one.kind in ("category", "boolean") and one.name in codes
        ]
        determined: dict[str, list[str]] = {name: [] for name in codes}
        for source in sources:
            held = _held(matrix, places[source])
            for name, follows in zip(codes, held, strict=True):
                if follows and name != source:
                    determined[name].append(source)
        found, gone = [], set[str]()
        for target in sorted(codes, key=lambda name: (sizes[name], -places[name])):
            for source in sorted(determined[target], key=lambda name: (sizes[name], places[name])):
                first = (sizes[source], -places[source]) > (sizes[target], -places[target])
                if source in gone or not first:
                    continue
                relation = cls._between(source, target, view)
                if relation is not None:
                    found.append(relation)
                    gone.add(target)
                    break
        return found

    @classmethod
    def of(cls, names: Sequence[str], view: View) -> Sequence[Self]:
        """The first column, a category, determines the second."""
        source, target = told(cls.kind, names, 2)
        if view.summary.schema[source].measured:
            raise ConfigError(
                f"relations: a 'lookup' is from a category, and '{source}' is no category; say "
                f"kind = 'category' under [columns.{source}]"
            )
        return [cls._of(source, target, view)[0]]

    @classmethod
    def _between(cls, source: str, target: str, view: View) -> Self | None:
        relation, covered = cls._of(source, target, view)
        share = np.bincount(coded(view.array(target))[0]) / len(covered)
        breaks = len(covered) * (1 - float((share**2).sum()))
        told = covered.mean() >= COVERED and view.tells(breaks) and len(relation.keys) > 1
        return relation if told else None

    @classmethod
    def _of(cls, source: str, target: str, view: View) -> tuple[Self, Mask]:
        """The relation by the most frequent pairs, and the rows of the sample (B,) that it says."""
        part, kinds = view.summary[source], [view.summary.schema[n].type for n in (source, target)]
        left, right = (stored(view.array(name)) for name in (source, target))
        pairs = pa.table({"key": left, "value": right}).group_by(
            ["key", "value"], use_threads=False
        )
        counted = pairs.aggregate([([], "count_all")])
        kept = _kept(part, view.least)
        rows = counted.column("count_all").to_numpy()
        keys, values = (counted.column(n).combine_chunks() for n in ("key", "value"))
        shown = np.asarray(pc.is_in(keys, value_set=kept)) & (
            np.asarray(keys.is_valid()) | bool(part.counted_nulls(view.least))
        )
        order = pc.sort_indices(
            pa.table({"key": keys, "rows": -rows, "value": values}),
            [("key", "ascending"), ("rows", "ascending"), ("value", "ascending")],
        ).to_numpy()
        order = order[shown[order]]
        codes = coded(keys.take(pa.array(order)))[0]
        chosen = order[np.unique(codes, return_index=True)[1]]
        keys, values = (array.take(pa.array(chosen)) for array in (keys, values))
        weight = dict[Any, int]()
        for value, count in zip(values.to_pylist(), rows[chosen].tolist(), strict=True):
            weight[value] = weight.get(value, 0) + count
        known = values.to_pylist()
        other = max(range(len(known)), key=lambda place: weight[known[place]], default=0)
        relation = cls(
            source, target, (str(kinds[0]), str(kinds[1])), listed(keys), listed(values), other
        )
        return relation, np.asarray(pc.is_in(left, value_set=keys))

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
        return f"'{self.target}' follows from '{self.source}'"

    def broken(self, table: pa.Table) -> Mask:
        """See `Relation`: a source that is none of the keys breaks nothing, it never comes back."""
        keys, values = self._arrays
        places = pc.index_in(stored(column(table, self.source)), value_set=keys)
        expected, found = values.take(places), stored(column(table, self.target))
        same = pc.equal(expected, found).fill_null(False)
        both = pc.and_(expected.is_null(), found.is_null())
        wrong = pc.and_(places.is_valid(), pc.invert(pc.or_(same, both)))
        return np.asarray(wrong, np.bool_)

    def reduced(self, summary: Summary) -> Summary:
        """See `Relation`: values of the source that are none of the keys are not to be kept."""
        new = super().reduced(summary)
        place = new.schema.names.index(self.source)
        part = new[self.source]
        known = np.asarray(pc.is_in(part.counts.values, value_set=self._arrays[0]))
        counts = Counts(part.counts.values.filter(pa.array(known)), part.counts.rows[known])
        nulls = new.counters[place].nulls if None in self.keys else 0
        changed = replace(new.counters[place], counts=counts, nulls=nulls)
        counters = (*new.counters[:place], changed, *new.counters[place + 1 :])
        return replace(new, counters=counters)

    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """See `Relation`. A dictionary column's dictionary is all that may be looked up."""
        kind = arrow_type(self.types[1])
        keys, values = self._arrays
        places = pc.index_in(stored(column(table, self.source)), value_set=keys)
        places = places.fill_null(self.other)
        if not pa.types.is_dictionary(kind):
            shown = restored(unstored(values.take(places), kind), kind)
            return put(table, self.target, shown)
        distinct = values.unique().drop_null().sort()
        found = pc.index_in(values, value_set=distinct).take(places)
        dictionary = restored(unstored(distinct, kind), kind.value_type)
        indices = found.cast(kind.index_type)
        shown = pa.DictionaryArray.from_arrays(indices, dictionary, ordered=kind.ordered)
        return put(table, self.target, shown)

    def asked(self, name: str, wish: Wish) -> Mapping[str, Wish]:
        """The keys whose value is as wished."""
        keys, values = (
            unstored(array, arrow_type(kind))
            for array, kind in zip(self._arrays, self.types, strict=True)
        )
        keys = keys.filter(pa.array(holds(wish, values))).to_pylist()
        return {self.source: Values(tuple(keys))}

    @property
    def _arrays(self) -> tuple[pa.Array, pa.Array]:
        pairs = zip((self.keys, self.values), self.types, strict=True)
        keys, values = (unlisted(told, arrow_type(kind)) for told, kind in pairs)
        return keys, values


def _codes(view: View) -> tuple[dict[str, NDArray[np.int32]], dict[str, int]]:
    """By column that may follow from another: its values as numbers, and how many there are."""
    codes, sizes = {}, {}
    for one in view.open()[:COLUMNS]:
        values = stored(view.array(one.name))
        if len(values.slice(0, PROBED).unique()) > VALUES:
            continue
        numbered, size = coded(values)
        if 2 <= size <= VALUES:
            codes[one.name], sizes[one.name] = numbered.astype(np.int32), size
    return codes, sizes


def _held(matrix: NDArray[np.int32], source: int) -> Mask:
    """Which columns of `matrix` (B, D) are one value wherever the column `source` is."""
    held = np.ones(matrix.shape[1], np.bool_)
    for rows in (matrix[:PROBED], matrix):
        order, tried = np.argsort(rows[:, source], kind="stable"), np.flatnonzero(held)
        keys, values = rows[order, source], rows[np.ix_(order, tried)]
        same, steps = keys[1:] == keys[:-1], values[1:] != values[:-1]
        held[tried] = ~(steps & same[:, None]).any(0)
    return held


def _kept(part: ColumnSummary, least: int) -> pa.Array:
    """The values of a category that enough hold, and null."""
    values = part.counts.values.filter(pa.array(part.held >= least))
    return pa.concat_arrays([values, pa.nulls(1, values.type)])
