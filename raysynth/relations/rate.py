"""A number that is a whole count over a whole number: a mean over its rows, a share of words.

Only the count can be what it likes, so 2 of 3 is seen at once where 0.68 of 3 is not. A column
keeps its codes, so that what a model sees stays near to what people read, and is rounded to the
nearest count in the end. A count as code would be exact, too, but a mean length of words would come
back from two large numbers, each with an error of its own. What is not 0 keeps a count of 1 at the
least, so that zeros stay where `together` has them. Rows in which the base is 0 say nothing.

Of an order the counts must keep it: with whole numbers they do, and with another rate of the same
base, in as many digits. Columns in any other order are left as they are.

That it is no accident is asked of the sample: of rows whose rate is no whole number enough must
break it, were each given the base of another such row. Of bases that fit, the one of the smallest
counts is taken.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from raysynth.errors import ConfigError
from raysynth.hashing import Chance, Floats
from raysynth.numeric import EXACT
from raysynth.relations import PROBED, Mending, Range, View, Wish, told
from raysynth.values import Mask, Number, floats, put

TRIED = (64, PROBED)  # rows, for every pair and for what is left


@dataclass(frozen=True)
class Kind(Mending):
    """`target`, written as `number`, by `base` is a whole number."""

    kind = "rate"

    base: str
    target: str
    number: Number

    @classmethod
    def find(cls, view: View) -> Sequence[Self]:
        """One base a target at most, and none that an order would not outlive."""
        names = view.numbers("number", masked=True)
        numbers = {name: view.number(name) for name in names}
        # A base of few values may be taken for a category.
        wide = view.numbers("number", "category", masked=True)
        bases = [name for name in wide if _counts(view, name)]
        targets = [name for name in names if not _whole(numbers[name])]
        found: dict[str, Self] = {}
        for target in targets if bases else []:
            fits = [
                one
                for base in _candidates(view, target, numbers[target], bases)
                if (one := cls(base, target, numbers[target]))._tells(view)
                and not one.broken(view.summary.sample).any()
            ]
            if fits:
                sizes = np.abs(view.floats(target))
                found[target] = min(fits, key=lambda o: np.nanmean(sizes * view.floats(o.base)))
        while spoilt := [name for name in found if not _ordered(view, found, name)]:
            found = {name: one for name, one in found.items() if name not in spoilt}
        return [*found.values()]

    @classmethod
    def of(cls, names: Sequence[str], view: View) -> Sequence[Self]:
        """The first column by the second is a whole number."""
        target, base = told(cls.kind, names, 2, 2, view)
        if not _counts(view, base):
            raise ConfigError(
                f"relations: a 'rate' is over whole numbers from 0 on, and '{base}' has others; "
                "name the number first, then what it is over"
            )
        return [cls(base, target, view.number(target))]

    @property
    def sources(self) -> tuple[str, ...]:
        """See `Relation`."""
        return (self.base,)

    @property
    def written(self) -> tuple[str, ...]:
        """See `Relation`."""
        return (self.target,)

    @property
    def made(self) -> tuple[str, ...]:
        """See `Relation`: what others know of the column holds without it."""
        return ()

    @property
    def text(self) -> str:
        """See `Relation`."""
        return f"'{self.target}' * '{self.base}' is a whole number"

    def broken(self, table: pa.Table) -> Mask:
        """See `Relation`."""
        return self._off(floats(table, self.target), floats(table, self.base))

    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """See `Relation`."""
        rates = self._rates(floats(table, self.target), floats(table, self.base))
        return put(table, self.target, self.number.array(rates))

    def asked(self, name: str, wish: Wish) -> Mapping[str, Wish] | None:
        """Null, or what is not; of ranges, those that whole numbers end: it does not leave them."""
        low, high = (wish.low, wish.high) if isinstance(wish, Range) else (None, None)
        ends = [end.as_py() for end in (low, high) if end is not None]
        stays = all(end % 1 == 0 and abs(end) <= self._reach for end in ends)
        return {self.target: wish} if stays else None

    @property
    def _reach(self) -> float:
        """Up to here whole numbers stay what they are, rounded to the target's digits."""
        return 10.0**self.number.digits if self.number.digits else EXACT

    def _rates(self, values: Floats, base: Floats) -> Floats:
        """The nearest of the numbers (B,) that counts over `base` (B,) give."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            counts = np.copysign(np.fmax(np.abs(np.rint(values * base)), 1.0), values)
            rates = self.number.rounded(counts / base)
        # Past `EXACT` every product is a whole number.
        there = (values != 0) & (base >= 1) & (np.abs(counts) < EXACT)
        largest = self.number.largest
        return np.where(there & ~np.isnan(values), np.clip(rates, -largest, largest), values)

    def _off(self, values: Floats, base: Floats) -> Mask:
        return self.number.differ(values, self._rates(values, base), np.nan_to_num(values))

    def _tells(self, view: View) -> bool:
        """Whether rows would break it if bases were another's: half the way round, in order."""
        values, base = view.floats(self.target), view.floats(self.base)
        rows = (base > 1) & (np.nan_to_num(values) % 1 != 0)
        values, base = values[rows], base[rows]
        order = np.lexsort((values, base))
        other = np.roll(base[order], len(order) // 2)
        return view.tells(float(self._off(values[order], other).sum())) and view.held(rows)


def _whole(number: Number) -> bool:
    return number.decimals is not None and number.decimals <= 0


def _counts(view: View, name: str) -> bool:
    """Whether a column's numbers are whole, none below 0."""
    return _whole(view.number(name)) and (view.ends(name) or (-1.0, 0.0))[0] >= 0


def _candidates(view: View, target: str, number: Number, bases: Sequence[str]) -> Iterator[str]:
    """Bases that fit a few rows, then more of them."""
    left = [base for base in bases if base != target]
    for rows in TRIED:
        values = view.floats(target)[:rows]
        left = [
            base
            for base in left
            if not Kind(base, target, number)._off(values, view.floats(base)[:rows]).any()
        ]
    yield from left


def _ordered(view: View, found: Mapping[str, Kind], name: str) -> bool:
    """Whether all orders that a rate is in hold of its counts, too."""
    one = found[name]
    for order in view.orders:
        about = {*order.sources, *order.written}
        for other in about - {name} if name in about else ():
            alike = found.get(other)
            if alike is not None and (alike.base, alike.number) == (one.base, one.number):
                continue
            low, high = view.ends(other) or (0.0, 0.0)
            if not _whole(view.number(other)) or max(-low, high) > one._reach:
                return False
    return True
