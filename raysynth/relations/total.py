"""Numbers that add up: a total of others, or a fixed multiple of one.

Found by linear algebra on a few rows: a column that depends on those before it is made of them in
one way, and is kept where that takes the factors 1 and -1 and the constants 0, 1 and -1 alone. A
multiple of one column may have any factor of few digits: inches of centimetres.

The column dropped stands alone on its side of the equation, as a total does, so that what is
computed is no difference that could fall below 0. An equation in which none stands alone is kept
where the last column is below 0 in the table itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from raysynth.hashing import Chance, Floats
from raysynth.relations import Relation, View, told
from raysynth.values import Mask, Number, floats, put

SIMPLE = 1e-5  # a factor is no further from a simple one
DIGITS = 4  # of the factor of a multiple, or of one in it
_ROWS = 64  # more than there are columns


@dataclass(frozen=True)
class Kind(Relation):
    """`target`, written as `number`, is the sum of `terms` by their `factors`, and `constant`."""

    kind = "total"

    target: str
    terms: tuple[str, ...]
    factors: tuple[float, ...]
    constant: float
    number: Number

    @classmethod
    def find(cls, view: View) -> Sequence[Self]:
        """See the module."""
        names = view.numbers("number")
        found, gone = list[Self](), set[str]()
        for names_, factors in _dependent(view, names):
            one = cls._solved(names_, factors, view)
            if one is None or gone.intersection((one.target, *one.terms)):
                continue
            if one._tells(view) and not one.broken(view.summary.sample).any():
                found.append(one)
                gone.add(one.target)
        return found

    @classmethod
    def of(cls, names: Sequence[str], view: View) -> Sequence[Self]:
        """The first column is the sum of the others."""
        target, *terms = told(cls.kind, names, 2, len(names), view)
        ones = (1.0,) * len(terms)
        return [cls(target, tuple(terms), ones, 0.0, view.number(target))]

    @classmethod
    def _solved(cls, names: Sequence[str], factors: Sequence[float], view: View) -> Self | None:
        """The equation in which `names`, by their `factors`, and the constant last come to 0.

        Solved for the one that stands alone; None where it is of no simple form.
        """
        *factors, constant = factors
        if len(names) == 2 and constant == 0:
            return cls._multiple(names, -factors[0] / factors[1], view)
        simple = [round(factor) for factor in (*factors, constant)]
        near = np.abs(np.array(simple) - [*factors, constant]) < SIMPLE
        if not near.all() or max(map(abs, simple)) > 1 or len(names) < 2:
            return None
        signs = simple[:-1]
        alone = [place for place, sign in enumerate(signs) if signs.count(sign) == 1]
        below = (view.ends(names[-1]) or (0.0, 0.0))[0] < 0
        if not alone and not below:
            return None
        place = alone[-1] if alone else len(names) - 1
        by = -signs[place]
        terms = tuple(name for name in names if name != names[place])
        turned = tuple(float(by * sign) for at, sign in enumerate(signs) if at != place)
        number = view.number(names[place])
        return cls(names[place], terms, turned, float(by * simple[-1]), number)

    @classmethod
    def _multiple(cls, names: Sequence[str], factor: float, view: View) -> Self | None:
        """The second name is the first by `factor`, or the first is the second by one over it."""
        first, last = names
        for source, target, by in ((first, last, factor), (last, first, 1 / factor)):
            digits = float(f"{by:.{DIGITS}g}")
            if abs(by / digits - 1) < 1e-7:
                return cls(target, (source,), (digits,), 0.0, view.number(target))
        return None

    @property
    def sources(self) -> tuple[str, ...]:
        """See `Relation`."""
        return self.terms

    @property
    def written(self) -> tuple[str, ...]:
        """See `Relation`."""
        return (self.target,)

    @property
    def text(self) -> str:
        """See `Relation`."""
        parts = [f"{self.constant:+g}"] if self.constant else []
        for term, factor in zip(self.terms, self.factors, strict=True):
            by = "" if abs(factor) == 1 else f"{abs(factor):g} * "
            parts.append(f"{'-' if factor < 0 else '+'} {by}'{term}'")
        return f"'{self.target}' = {' '.join(parts).removeprefix('+').strip()}"

    def broken(self, table: pa.Table) -> Mask:
        """See `Relation`."""
        expected, reach = self._target(table)
        return self.number.differ(floats(table, self.target), expected, np.nan_to_num(reach))

    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """See `Relation`."""
        return put(table, self.target, self.number.array(self._target(table)[0]))

    def _target(self, table: pa.Table) -> tuple[Floats, Floats]:
        """The sum (B,), rounded, and the largest of its terms (B,)."""
        total = np.full(table.num_rows, self.constant)
        reach = np.abs(total)
        for term, factor in zip(self.terms, self.factors, strict=True):
            part = factor * floats(table, term)
            total, reach = total + part, np.maximum(reach, np.abs(part))
        return self.number.rounded(total), reach

    def _tells(self, view: View) -> bool:
        """Whether enough rows have terms of several values, and every sum can be written."""
        reach = 0.0
        for term, factor in zip(self.terms, self.factors, strict=True):
            ends = view.ends(term) or (0.0, 0.0)
            reach += abs(factor) * max(-ends[0], ends[1])
        rows = np.ones(view.summary.sample.num_rows, np.bool_)
        for name in (self.target, *self.terms):
            rows &= ~np.isnan(view.floats(name))
        values = view.floats(self.target)[rows]
        counts = np.unique(values, return_counts=True)[1]
        breaks = len(values) - float((counts**2).sum()) / max(1, len(values))
        fits = reach + abs(self.constant) <= self.number.largest
        return fits and view.tells(breaks) and view.held(rows)


def _dependent(view: View, names: Sequence[str]) -> list[tuple[list[str], list[float]]]:
    """Equations among columns: names, the last the one that depends, and factors, constant last.

    A column that is null anywhere in the rows looked at is in none: what nulls leave is too few.
    """
    rows = 2 * len(names) + _ROWS
    kept = [n for n in names if not np.isnan(view.floats(n)[:rows]).any()]
    basis: list[Floats] = []
    independent: list[str] = []
    found = []
    columns = {name: view.floats(name)[:rows] for name in kept}
    one = np.ones(min(rows, view.summary.sample.num_rows))
    basis.append(one / np.linalg.norm(one))
    for name in kept:
        values = columns[name]
        size = float(np.linalg.norm(values))
        rest = values
        for _ in range(2):  # once more, for what rounding left of the first
            rest = rest - np.stack(basis, 1) @ (np.stack(basis) @ rest)
        if np.linalg.norm(rest) > 1e-6 * max(size, 1e-300):
            independent.append(name)
            basis.append(rest / np.linalg.norm(rest))
            continue
        if not independent:
            continue
        sizes = [np.linalg.norm(columns[n]) for n in independent]
        matrix = np.stack([*(columns[n] / s for n, s in zip(independent, sizes, strict=True)), one])
        factors = np.linalg.lstsq(matrix.T, values, rcond=None)[0] / [*sizes, 1.0]
        # A factor is nothing where all of its column comes to nothing beside the one it is made of.
        parts = np.abs(factors) * [*sizes, np.linalg.norm(one)]
        factors = np.where(parts > 1e-5 * size, factors, 0.0)
        terms = [at for at, n in enumerate(independent) if factors[at] != 0]
        if terms:
            chosen = [independent[at] for at in terms]
            found.append(
                ([*chosen, name], [*(float(factors[at]) for at in terms), -1.0, float(factors[-1])])
            )
    return found
