"""A column that repeats another, value by value and null by null."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.arrays import plain_type, restored, stored
from raysynth.hashing import Chance
from raysynth.relations import Relation, View, Wish, told
from raysynth.schema import arrow_type
from raysynth.values import Mask, Number, column, floats, portions, put


@dataclass(frozen=True)
class Kind(Relation):
    """`target`, of the Arrow type `type`, is `source`."""

    kind = "equal"

    target: str
    source: str
    type: str

    @classmethod
    def find(cls, view: View) -> Sequence[Self]:
        """Of columns that are the same the one of the narrowest type, then the first, stays."""
        numbers = set(view.numbers("number", "category", "boolean"))
        alike = defaultdict(list)
        for one in view.open():
            known = hashlib.blake2b()
            if one.name in numbers:
                known.update(view.floats(one.name).tobytes())
            else:
                values = view.array(one.name)
                encoded = pc.dictionary_encode(stored(values), null_encoding="encode")
                known.update(repr((values.type, encoded.dictionary.to_pylist())).encode())
                known.update(np.asarray(encoded.indices).tobytes())
            alike[known.digest()].append(one.name)
        found = []
        for names in alike.values():
            source, *targets = sorted(names, key=lambda name: _breadth(view, name))
            if targets and view.tells(_breaks(view, source)):
                found += [cls(name, source, _type(view, name)) for name in targets]
        return found

    @classmethod
    def of(cls, names: Sequence[str], view: View) -> Sequence[Self]:
        """The second column is the first."""
        source, target = sorted(told(cls.kind, names, 2), key=lambda name: _breadth(view, name))
        return [cls(target, source, _type(view, target))]

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
        return f"'{self.target}' = '{self.source}'"

    def broken(self, table: pa.Table) -> Mask:
        """See `Relation`."""
        left, right = (column(table, name) for name in (self.target, self.source))
        if left.type != right.type:
            found, told = (floats(table, name) for name in (self.target, self.source))
            return np.asarray((found != told) & ~(np.isnan(found) & np.isnan(told)))
        same = pc.equal(stored(left), stored(right)).fill_null(False)
        either = pc.or_(same, pc.and_(left.is_null(), right.is_null()))
        return np.asarray(pc.invert(either), np.bool_)

    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """See `Relation`."""
        kind = arrow_type(self.type)
        values = column(table, self.source)
        if values.type == plain_type(kind):
            return put(table, self.target, restored(values, kind))
        return put(table, self.target, Number(self.type, None).array(floats(table, self.source)))

    def asked(self, name: str, wish: Wish) -> Mapping[str, Wish]:
        """The source is what the target is."""
        return {self.source: wish}


def _type(view: View, name: str) -> str:
    return str(view.summary.schema[name].type)


def _breadth(view: View, name: str) -> tuple[int, int]:
    """What every value of comes before what may have others: whole numbers, decimals, floats."""
    kind = plain_type(view.summary.schema[name].type)
    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_decimal)
    breadth = next((place for place, test in enumerate(tests) if test(kind)), len(tests))
    return breadth, view.summary.schema.names.index(name)


def _breaks(view: View, name: str) -> float:
    held = portions(view.array(name))
    return float(view.summary.sample.num_rows * (1 - (held**2).sum()))
