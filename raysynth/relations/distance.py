"""A number that is how far another lies from 0, 1/2 or 1, on either side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from raysynth.hashing import Chance, Floats
from raysynth.relations import PROBED, Relation, View, told
from raysynth.values import Mask, Number, floats, put

CENTRES = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Kind(Relation):
    """`target`, written as `number`, is the distance of `source` from `centre`."""

    kind = "distance"

    source: str
    target: str
    centre: float
    number: Number

    @classmethod
    def find(cls, view: View) -> Sequence[Self]:
        """Pairs of which the source lies on both sides."""
        names = view.numbers("number")
        if len(names) < 2:
            return []
        probe = np.stack([view.floats(name)[:PROBED] for name in names])
        found, gone = [], set[str]()
        for source, values in zip(names, probe, strict=True):
            for centre in CENTRES:
                apart = np.abs(values - centre)
                near = np.isclose(probe, apart, rtol=1e-4, atol=1e-4, equal_nan=True).all(1)
                for place in np.flatnonzero(near):
                    target = names[place]
                    if target == source or target in gone or source in gone:
                        continue
                    one = cls(source, target, centre, view.number(target))
                    if _tells(view, one) and not one.broken(view.summary.sample).any():
                        found.append(one)
                        gone.add(target)
        return found

    @classmethod
    def of(cls, names: Sequence[str], view: View) -> Sequence[Self]:
        """The second column is the distance of the first from the centre that fits it best."""
        source, target = told(cls.kind, names, 2, 2, view)
        number = view.number(target)
        tried = [cls(source, target, centre, number) for centre in CENTRES]
        return [min(tried, key=lambda one: int(one.broken(view.summary.sample).sum()))]

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
        return f"'{self.target}' = |'{self.source}' - {self.centre:g}|"

    def broken(self, table: pa.Table) -> Mask:
        """See `Relation`."""
        expected, values = self._target(table), floats(table, self.source)
        return self.number.differ(
            floats(table, self.target), expected, np.abs(values) + self.centre
        )

    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """See `Relation`."""
        return put(table, self.target, self.number.array(self._target(table)))

    def _target(self, table: pa.Table) -> Floats:
        return self.number.rounded(np.abs(floats(table, self.source) - self.centre))


def _tells(view: View, one: Kind) -> bool:
    """Whether enough rows lie on each side, and all distances can be written."""
    values = view.floats(one.source)
    sides = values < one.centre, values > one.centre
    ends = view.ends(one.source) or (0.0, 0.0)
    fits = max(abs(end - one.centre) for end in ends) <= one.number.largest
    return fits and all(view.tells(float(side.sum())) and view.held(side) for side in sides)
