"""Numbers and times that are never below others: an end after its start, a maximum over a mean.

An order is looked for between columns that would break it in `OVERLAP` of the rows or more, were
they of no relation; of those that follow from others (a, b and b, c give a, c) it is left out. A
row that breaks it is lifted to it. What the columns are coded as is not changed; see `gap`.

Of columns that follow the zeros of others (`together`), an order is kept where lifting a row takes
no zero away that must be, and makes none that must not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from raysynth.arrays import plain_type, restored
from raysynth.errors import ConfigError
from raysynth.hashing import Chance
from raysynth.relations import PROBED, Mending, Range, View, Wish, told
from raysynth.schema import arrow_type
from raysynth.ticks import write
from raysynth.values import Line, Mask, Number, highest, line, put, timed

OVERLAP = 0.01  # share of rows
COLUMNS = 256


class _Pair(NamedTuple):
    low: str
    high: str
    overlap: float


@dataclass(frozen=True)
class Kind(Mending):
    """`target`, of the Arrow type `type`, is not below any column of `below`.

    `decimals` are those that numbers are written with.
    """

    kind = "order"
    late = 1

    target: str
    below: tuple[str, ...]
    type: str
    decimals: int | None

    @classmethod
    def find(cls, view: View) -> Sequence[Self]:
        """The highest first: what it is above is to be restored before it."""
        pairs = _reduced([pair for names in _alike(view) for pair in _pairs(view, names)])
        height: dict[str, int] = {}
        names = view.summary.schema.names
        for name in names:
            _height(name, pairs, height)
        targets = {pair.high for pair in pairs}
        ranked = sorted(targets, key=lambda name: (height[name], names.index(name)))
        lows = {target: [pair.low for pair in pairs if pair.high == target] for target in ranked}
        return [cls._on(target, lows[target], view) for target in reversed(ranked)]

    @classmethod
    def of(cls, names: Sequence[str], view: View) -> Sequence[Self]:
        """Each column is not below the one before it."""
        told(cls.kind, names, 2, len(names))
        schema = view.summary.schema
        types = {plain_type(schema[name].type) for name in names if schema[name].kind == "time"}
        alike = {schema[name].kind for name in names}
        if len(types) > 1 or len(alike) > 1 or not alike <= {"number", "time"}:
            raise ConfigError(
                "relations: an 'order' is of numbers, or of times of one type; got "
                + ", ".join(f"'{name}' ({schema[name].type})" for name in names)
            )
        return [cls._on(high, [low], view) for low, high in reversed([*pairwise(names)])]

    @classmethod
    def _on(cls, target: str, below: Sequence[str], view: View) -> Self:
        kind = view.summary.schema[target].type
        decimals = None if timed(kind) else view.number(target).decimals
        return cls(target, tuple(below), str(kind), decimals)

    @property
    def sources(self) -> tuple[str, ...]:
        """See `Relation`."""
        return self.below

    @property
    def written(self) -> tuple[str, ...]:
        """See `Relation`."""
        return (self.target,)

    @property
    def text(self) -> str:
        """See `Relation`."""
        below = ", ".join(f"'{name}'" for name in self.below)
        return f"{below} <= '{self.target}'"

    def broken(self, table: pa.Table) -> Mask:
        """See `Relation`."""
        values, nulls = line(table, self.target)
        base, none = highest(table, self.below)
        return ~nulls & ~none & (values < base)

    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """See `Relation`."""
        values, nulls = line(table, self.target)
        base, none = highest(table, self.below)
        low = ~nulls & ~none & (values < base)
        kind = arrow_type(self.type)
        if timed(kind):
            ticks = np.where(low, base, values)
            return put(table, self.target, restored(write(plain_type(kind), ticks, nulls), kind))
        lifted = np.where(low, _ceiled(base, self.decimals), values)
        return put(table, self.target, Number(self.type, None).array(lifted))

    def asked(self, name: str, wish: Wish) -> Mapping[str, Wish]:
        """What is below must not lift it past its range."""
        if not isinstance(wish, Range) or wish.high is None:
            return {self.target: wish}
        return {self.target: wish, **dict.fromkeys(self.below, Range(None, wish.high))}


def _ceiled(values: Line, decimals: int | None) -> Line:
    if decimals is None:
        return values
    near = np.round(values, decimals)  # what has no more decimals is to stay as it is
    scale = 10.0**decimals
    with np.errstate(invalid="ignore"):
        return np.where(near >= values, near, np.ceil(values * scale) / scale)


def _alike(view: View) -> list[list[str]]:
    """Columns that can be put in order: numbers, and times of one type each."""
    groups: dict[str, list[str]] = {"": view.numbers("number", masked=True, most=COLUMNS)}
    for one in view.open(masked=True):
        if one.kind == "time":
            groups.setdefault(str(plain_type(one.type)), []).append(one.name)
    return [names[:COLUMNS] for names in groups.values() if len(names) > 1]


def _pairs(view: View, names: Sequence[str]) -> list[_Pair]:
    lines = {name: line(view.summary.sample, name) for name in names}
    probe = np.stack([lines[n][0][:PROBED].astype(np.float64) for n in names])
    probe[np.stack([lines[n][1][:PROBED] for n in names])] = np.nan
    # Zeros that a column has with another one say nothing of which is the larger.
    linked = {*view.masks, *(mask.source for mask in view.masks.values())}
    ranked = {
        n: np.sort(values[~nulls & ((values != 0) | (n not in linked))])
        for n, (values, nulls) in lines.items()
    }
    found = []
    for high, name in enumerate(names):
        # Times may be closer than a float tells apart, so those that seem equal go on.
        for low in np.flatnonzero(~(probe > probe[high]).any(1)).tolist():
            lower = names[low]
            if low == high or not _allowed(view, lower, name):
                continue
            (values, nulls), (tops, none) = lines[lower], lines[name]
            both = ~nulls & ~none
            if not view.held(both) or (values[both] > tops[both]).any():
                continue
            under = np.searchsorted(ranked[name], ranked[lower], "left")
            overlap = float(under.sum() / max(1, len(under) * len(ranked[name])))
            if overlap >= OVERLAP and view.tells(overlap * both.sum()):
                found.append(_Pair(lower, name, overlap))
    return found


def _allowed(view: View, low: str, high: str) -> bool:
    """Whether an order of these holds after each follows the nulls or zeros that it must."""
    kinds = [plain_type(view.summary.schema[name].type) for name in (low, high)]
    narrow = pa.types.is_floating(kinds[1]) and kinds[1] != pa.float64()
    if narrow and kinds[0] != kinds[1]:
        return False  # it could not be written without loss
    masks = {name: mask for name, mask in view.masks.items() if mask.what == "zero"}
    zero_with, at = [low], low  # low is 0 wherever one of these is
    while at in masks:
        at = masks[at].source
        zero_with.append(at)
    signed = view.ends(high) if masks else None
    if any(mask.source == high for mask in masks.values()) and (
        high not in zero_with or signed is None or signed[0] < 0
    ):
        return False  # others are 0 with it, and a row might be lifted to 0 or from it
    if high not in masks:
        return True
    mask = masks[high]
    if mask.source not in zero_with:
        return False
    own = masks.get(low)
    nonzero = low == mask.source or (own is not None and own.exact and own.source == mask.source)
    return not mask.exact or nonzero or (signed is not None and signed[0] >= 0)


def _reduced(pairs: Sequence[_Pair]) -> list[_Pair]:
    """Those that do not follow from two others."""
    known = {(pair.low, pair.high) for pair in pairs}
    between = {pair.low: [p.high for p in pairs if p.low == pair.low] for pair in pairs}
    return [
        pair
        for pair in pairs
        if not any((middle, pair.high) in known for middle in between[pair.low])
    ]


def _height(name: str, pairs: Sequence[_Pair], known: dict[str, int]) -> int:
    """How many columns lie below one another under this one."""
    if name not in known:
        lower = [pair.low for pair in pairs if pair.high == name]
        known[name] = 1 + max((_height(low, pairs, known) for low in lower), default=-1)
    return known[name]
