"""Shares of a whole: numbers from 0 on, side by side in the table, that sum to 1 or to 100.

Of two the last is dropped: it is what the first one leaves. Of more each keeps its codes, and of
those drawn the largest becomes what the others leave, since it is the one that their errors change
least; where they leave less than nothing, they are scaled down to the whole. Where the table has
rows in which all are 0 (of no words, none are positive), the first one is null in the reduced table
there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa

from raysynth.hashing import Chance, Floats
from raysynth.relations import PROBED, Relation, View, told
from raysynth.values import Mask, Number, floats, put

WHOLES = (1.0, 100.0)


@dataclass(frozen=True)
class Kind(Relation):
    """`parts`, written as `numbers`, sum to `whole`; with `empty`, or all are 0."""

    kind = "shares"

    parts: tuple[str, ...]
    numbers: tuple[Number, ...]
    whole: float
    empty: bool

    @classmethod
    def find(cls, view: View) -> Sequence[Self]:
        """Runs of columns whose sums are 0 or the whole; the shortest from each start."""
        names = [n for n in view.numbers("number") if _is_share(view, n)]
        found, start = list[Self](), 0
        probe = [view.floats(name)[:PROBED] for name in names]
        while start < len(names) - 1:
            total, step = probe[start], 1
            for stop in range(start + 1, len(names)):
                total = total + probe[stop]
                one = cls._whole(names[start : stop + 1], total, view)
                if one is not None:
                    found.append(one)
                    step = stop + 1 - start
                    break
                if (total > max(WHOLES) * (1 + 1e-6)).any():
                    break
            start += step
        return found

    @classmethod
    def of(cls, names: Sequence[str], view: View) -> Sequence[Self]:
        """These columns are shares of 1, or of 100, whichever more rows sum to."""
        told(cls.kind, names, 2, len(names), view)
        tried = [cls._of(names, whole, view) for whole in WHOLES]
        return [min(tried, key=lambda one: int(one.broken(view.summary.sample).sum()))]

    @classmethod
    def _of(cls, names: Sequence[str], whole: float, view: View) -> Self:
        numbers = tuple(view.number(name) for name in names)
        empty = np.all([view.floats(name) == 0 for name in names], axis=0)
        return cls(tuple(names), numbers, whole, bool(empty.any()))

    @classmethod
    def _whole(cls, names: Sequence[str], total: Floats, view: View) -> Self | None:
        for whole in WHOLES:
            if not (np.isclose(total, whole, rtol=1e-4) | (total == 0)).all():
                continue
            one = cls._of(names, whole, view)
            full = np.any([view.floats(name) != 0 for name in names], axis=0)
            # Shares of a constant beside zeros would sum as well: each is to be of several values.
            breaks = min(_breaks(view.floats(name)) for name in names)
            if view.held(full) and view.tells(breaks) and not one.broken(view.summary.sample).any():
                return one
        return None

    @property
    def sources(self) -> tuple[str, ...]:
        """See `Relation`."""
        return ()

    @property
    def written(self) -> tuple[str, ...]:
        """See `Relation`."""
        return self.parts

    @property
    def dropped(self) -> tuple[str, ...]:
        """See `Relation`."""
        return self.parts[1:] if len(self.parts) == 2 else ()

    @property
    def text(self) -> str:
        """See `Relation`."""
        parts = " + ".join(f"'{part}'" for part in self.parts)
        return f"{parts} = {self.whole:g}{', or all are 0' if self.empty else ''}"

    def broken(self, table: pa.Table) -> Mask:
        """See `Relation`."""
        *parts, last = (floats(table, part) for part in self.parts)
        rest = self.numbers[-1].rounded(self.whole - np.sum(parts, axis=0))
        off = self.numbers[-1].differ(last, rest, np.full(len(last), self.whole))
        below = np.any([~(part >= 0) for part in (*parts, last)], axis=0)
        if self.empty:
            off &= ~np.all([part == 0 for part in (*parts, last)], axis=0)
        return np.asarray(off | below)

    def reduce(self, table: pa.Table) -> pa.Table:
        """See `Relation`."""
        if self.empty:
            empty = np.all([floats(table, part) == 0 for part in self.parts], axis=0)
            first = floats(table, self.parts[0])
            values = self.numbers[0].array(np.where(empty, np.nan, first))
            table = put(table, self.parts[0], values)
        return table.drop_columns(list(self.dropped))

    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """See `Relation`."""
        kept = [part for part in self.parts if part not in self.dropped]
        drawn = np.stack([floats(table, part) for part in kept])
        empty = np.isnan(drawn[0])
        drawn = np.maximum(np.where(empty, 0.0, drawn), 0.0)
        if self.dropped:
            drawn = np.minimum(drawn, self.whole)
            drawn = np.concatenate([drawn, self.whole - drawn])
        else:
            largest = drawn.argmax(0), np.arange(drawn.shape[1])
            drawn[largest] = 0.0
            total = drawn.sum(0)
            drawn = drawn * np.where(
                total > self.whole, self.whole / np.fmax(total, self.whole), 1.0
            )
            drawn = np.stack([*map(_floored, drawn, self.numbers)])
            drawn[largest] = np.maximum(self.whole - drawn.sum(0), 0.0)
        for part, number, values in zip(self.parts, self.numbers, drawn, strict=True):
            table = put(table, part, number.array(np.where(empty, 0.0, values)))
        return table

    @property
    def telling(self) -> tuple[str, ...]:
        """See `Relation`."""
        return self.parts[:1] if self.empty else ()


def _is_share(view: View, name: str) -> bool:
    ends = view.ends(name)
    within = ends is not None and ends[0] >= 0 and ends[1] <= max(WHOLES)
    return within and not view.summary[name].counters.nulls


def _breaks(values: Floats) -> float:
    counts = np.unique(values, return_counts=True)[1]
    return float(len(values) - (counts**2).sum() / len(values))


def _floored(values: Floats, number: Number) -> Floats:
    """Values (B,) with the column's decimals, none above what it was."""
    if number.decimals is None:
        return values
    scale = 10.0**number.decimals
    return np.asarray(np.floor(values * scale + 1e-6) / scale)  # what has no more is to stay
