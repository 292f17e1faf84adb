"""A number that is the product of two others, their ratio, or the share of one in both.

Where it would be divided by 0, it is 0 in every row or null in every row. Of columns that fit, the
first `COLUMNS` of the table are looked at.

Two rates of one base, each in a few digits, no longer tell the last digit of their ratio; yet where
both are counts over that base, it is a fraction of two counts. So of all fractions as near as those
digits tell, it is the one of the smallest terms, where that gives every value of the sample.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Self

import numpy as np
import pyarrow as pa

from raysynth.hashing import Chance, Floats
from raysynth.relations import PROBED, Relation, View, told
from raysynth.values import Mask, Number, floats, portions, put

COLUMNS = 128
TRIED = (16, PROBED)  # rows, for every pair and for what is left
FORMS = ("product", "ratio", "share")
TERMS = 40  # of a continued fraction: more than any of 15 digits takes


@dataclass(frozen=True)
class Kind(Relation):
    """`target`, written as `number`, is the `form` of `left` and `right`.

    `null`: it is null where it would be divided by 0, and not 0. `digits` are those of both columns
    where it is a fraction of the counts that they stand for.
    """

    kind = "product"

    form: str
    left: str
    right: str
    target: str
    number: Number
    null: bool
    digits: int | None = None

    @classmethod
    def find(cls, view: View) -> Sequence[Self]:
        """Products first, then what is left of ratios and shares."""
        names = view.numbers("number")[:COLUMNS]
        if len(names) < 3:
            return []
        numbers = {name: view.number(name) for name in names}
        found, gone = [], set[str]()
        for form, left, right, target in _candidates(view, names):
            trio = names[left], names[right], names[target]
            if gone.intersection(trio):
                continue
            for null in (False, True):
                one = cls(form, *trio, numbers[trio[2]], null)
                if _tells(view, one) and not one.broken(view.summary.sample).any():
                    digits = [numbers[name].digits or 0 for name in trio[:2]]
                    found.append(one._sharper(min(digits), view))
                    gone.add(trio[2])
                    break
        return found

    @classmethod
    def of(cls, names: Sequence[str], view: View) -> Sequence[Self]:
        """The first column is of the other two what fits it best."""
        target, left, right = told(cls.kind, names, 3, 3, view)
        number = view.number(target)
        tried = [
            cls(form, *pair, target, number, null)
            for form in FORMS
            for pair in ((left, right), (right, left))
            for null in (False, True)
        ]
        best = min(tried, key=lambda one: int(one.broken(view.summary.sample).sum()))
        digits = [view.number(name).digits or 0 for name in (left, right)]
        return [best._sharper(min(digits), view)]

    def _sharper(self, digits: int, view: View) -> Self:
        """The same of counts, where that gives every value of the sample."""
        if not digits or self.form == "product":
            return self
        one = replace(self, digits=digits)
        values, told = view.floats(self.target), one._target(view.summary.sample)
        return one if np.array_equal(values, told, equal_nan=True) else self

    @property
    def sources(self) -> tuple[str, ...]:
        """See `Relation`."""
        return (self.left, self.right)

    @property
    def written(self) -> tuple[str, ...]:
        """See `Relation`."""
        return (self.target,)

    @property
    def text(self) -> str:
        """See `Relation`."""
        left, right = f"'{self.left}'", f"'{self.right}'"
        form = {
            "product": f"{left} * {right}",
            "ratio": f"{left} / {right}",
            "share": f"{left} / ({left} + {right})",
        }[self.form]
        return f"'{self.target}' = {form}"

    def broken(self, table: pa.Table) -> Mask:
        """See `Relation`."""
        expected = self._target(table)
        return self.number.differ(floats(table, self.target), expected, np.nan_to_num(expected))

    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """See `Relation`."""
        return put(table, self.target, self.number.array(self._target(table)))

    def _target(self, table: pa.Table) -> Floats:
        left, right = floats(table, self.left), floats(table, self.right)
        found = _form(self.form, left, right, self.null)
        found = self.number.rounded(_fractions(found, self.digits) if self.digits else found)
        # A ratio to what is almost 0 may be more than its column's type can hold.
        return np.clip(found, -self.number.largest, self.number.largest)


def _form(form: str, left: Floats, right: Floats, null: bool) -> Floats:
    if form == "product":
        return left * right
    below = left + right if form == "share" else right
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, np.nan if null else 0.0, left / below)


def _fractions(values: Floats, digits: int) -> Floats:
    """Of each value (B,) the first fraction that it may be, of two numbers in so many digits.

    By its continued fraction; a value that comes to none stays.
    """
    sizes = np.where(np.isfinite(values), np.abs(values), 0.0)
    near = 10.0 ** (1 - digits) * sizes
    rest = sizes % 1
    terms = np.stack([sizes - rest, np.ones(len(sizes))])  # (2, B): above, below
    last = np.stack([np.ones(len(sizes)), np.zeros(len(sizes))])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for _ in range(TERMS):
            off = np.abs(terms[0] / terms[1] - sizes) > near
            if not off.any():
                break
            step = np.floor(1 / rest)
            rest = 1 / rest - step
            last, terms = terms, np.where(off, step * terms + last, terms)
        found = terms[0] / terms[1]
        known = np.isfinite(values) & (np.abs(found - sizes) <= near)
    return np.where(known, np.copysign(found, values), values)


def _candidates(view: View, names: Sequence[str]) -> Iterator[tuple[str, int, int, int]]:
    """Forms of two columns that say more than that columns are equal, and a third that is near.

    Near in a few rows, then in more of them.
    """
    probe = np.stack([view.floats(name)[: TRIED[1]] for name in names])
    steps = np.array([_step(view.number(name)) for name in names])[:, None]
    some, other = _marked(view, names)
    telling = {"product": other @ other.T, "ratio": some @ other.T, "share": some @ some.T}
    for form in FORMS:
        for one, by in permutations(range(len(names)), 2):
            if (form == "product" and by < one) or not view.tells(telling[form][one, by]):
                continue
            targets = np.arange(len(names))
            for rows in TRIED:
                made = _form(form, probe[one, :rows], probe[by, :rows], null=False)
                found = probe[targets, :rows]
                near = np.abs(found - made) <= 1e-4 * np.abs(made) + steps[targets]
                targets = targets[(near | np.isnan(found) | np.isnan(made)).all(1)]
            for target in targets[(targets != one) & (targets != by)].tolist():
                yield form, one, by, target


def _marked(view: View, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Where columns (D, B) have a value that is not 0, and one that is neither 0 nor 1 nor -1."""
    values = [np.abs(np.nan_to_num(view.floats(name))) for name in names]
    some = np.stack([value != 0 for value in values])
    other = np.stack([value != 1 for value in values]) & some
    return some.astype(np.float32), other.astype(np.float32)


def _step(number: Number) -> float:
    return 0.0 if number.decimals is None else 0.51 * 10.0**-number.decimals


def _tells(view: View, one: Kind) -> bool:
    """Whether it says more than that two of the three are equal, in enough rows."""
    left, right, target = (view.floats(name) for name in (one.left, one.right, one.target))
    rows = ~np.isnan(left) & ~np.isnan(right) & (left != 0) & (right != 0)
    if one.form != "share":
        rows &= np.abs(right) != 1
    if one.form == "product":
        rows &= np.abs(left) != 1
    told = float(rows.sum()) * (1 - float((portions(pa.array(target[rows])) ** 2).sum()))
    ends = [max(map(abs, view.ends(name) or (0.0, 0.0))) for name in (one.left, one.right)]
    fits = one.form != "product" or ends[0] * ends[1] <= one.number.largest
    return fits and view.tells(told) and view.held(rows)
