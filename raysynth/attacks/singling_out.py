"""Singling out: do descriptions that fit one synthetic row fit exactly one training row?

After Giomi, Boenisch, Wehmeyer & Tasnadi, "A unified framework for quantifying privacy risk in
synthetic data" (PoPETs 2023, arXiv 2211.10459), as Anonymeter has it. A description is a predicate
on one column or several that holds for exactly one of the distinct synthetic rows; it succeeds
where it holds for exactly one distinct training row, and what it does among held rows is the
control.

- **univariate**: a column's value that one row has, or its least or greatest number, if one row's;
- **multivariate**: a synthetic row and `COLUMNS` columns drawn by chance; in each the row's
  category or missing cell, or "at least" its number where that lies above the median and "at most"
  where it does not. Kept if no other row fits, until there are enough, `PATIENCE` times as many
  were drawn, or `FUTILE` in a row found none.

Random guesses (the baseline) are of as many columns, with values that some synthetic row has and
comparisons drawn by chance.

Departures from Anonymeter:

- It divides successes by the attempts that were asked for, here they are divided by the predicates
  that were found: few are a wide interval, and no low risk.
- Times are compared as numbers are, there by their text alone.
- "Is not" holds for missing cells. Strict comparisons, which random guesses there may use, are
  those with the next value.
- No correction for the control's size: `Tables` holds as many held rows as training rows. Repeated
  rows count once, so the sizes may differ by as many as are repeated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.attacks import Tables
from raysynth.frames import Integers, codes, floats
from raysynth.risks import Attempts, Risk, skipped
from raysynth.schema import Column, Schema

FEWEST = 100  # rows of each table: among fewer, fitting one row is no feat
COLUMNS = 3
PATIENCE = 500
FUTILE = 10_000  # draws in a row that find none: there are hardly more
THIN = 16  # of so many synthetic rows one is asked first: most predicates already fit two there

NOTE = (
    "How much more often a description that fits one synthetic row fits exactly one training row "
    "than exactly one row the model never saw, as a share of those that do not: 0 is not at all."
)

Ranks = tuple[NDArray[np.int32], ...]  # a table's columns, (B,) each; 0 is missing


class Bounds(NamedTuple):
    """Whether a column's rank is `low` .. `high`, both included; with `low` > `high`, not between.

    So "is not 5" is 6 .. 4.
    """

    column: int
    low: int
    high: int

    def of(self, ranks: Ranks) -> NDArray[np.bool_]:
        """Where it holds, (B,)."""
        mine = ranks[self.column]
        if self.low == self.high:
            return np.equal(mine, self.low)
        ends = mine >= self.low, mine <= self.high
        return np.logical_and(*ends) if self.low < self.high else np.logical_or(*ends)


Predicate = tuple[Bounds, ...]


@dataclass(frozen=True)
class Ranked:
    """The distinct rows of the three tables as ranks, from 1, and the greatest rank of each column.

    Numbers are ranked by size; a category's rank says only which it is.
    """

    synthetic: Ranks
    train: Ranks
    held: Ranks
    greatest: tuple[int, ...]
    measured: tuple[bool, ...]

    @classmethod
    def of(cls, tables: Tables, schema: Schema) -> "Ranked":
        """Rank values of all three tables together."""
        three = [tables.synthetic, tables.train, tables.held]
        ranked = [_ranks(three, column) for column in schema.columns]
        synthetic, train, held = (
            _distinct(np.stack(side, axis=1)) for side in zip(*ranked, strict=True)
        )
        greatest = tuple(int(max(side.max() for side in sides)) for sides in ranked)
        measured = tuple(column.measured for column in schema.columns)
        return cls(synthetic, train, held, greatest, measured)


def attack(
    tables: Tables,
    schema: Schema,
    generator: np.random.Generator,
    attempts: int = 1000,
    columns: int = COLUMNS,
) -> list[Risk]:
    """The risks "singling_out_univariate" and "singling_out_multivariate", of `attempts` at most.

    Of a table of fewer than `columns` columns all are used.
    """
    three = (tables.synthetic, tables.train, tables.held)
    few = min(table.num_rows for table in three) < FEWEST
    columns = min(columns, len(schema.columns))
    names = "singling_out_univariate", "singling_out_multivariate"
    if few:
        return [skipped(name, "risk", NOTE, f"needs {FEWEST} rows of each table") for name in names]
    ranked = Ranked.of(tables, schema)
    risks = [_risk(names[0], _univariate(ranked, generator, attempts), ranked, generator, 1)]
    if columns < 2:
        return [*risks, skipped(names[1], "risk", NOTE, "needs 2 columns")]
    many = _multivariate(ranked, generator, attempts, columns)
    return [*risks, _risk(names[1], many, ranked, generator, columns)]


def _risk(
    name: str,
    predicates: Sequence[Predicate],
    ranked: Ranked,
    generator: np.random.Generator,
    columns: int,
) -> Risk:
    if not predicates:
        return skipped(name, "risk", NOTE, "needs a synthetic row that differs from all others so")
    guesses = _random(ranked, generator, len(predicates), columns)
    asked = ((predicates, ranked.train), (predicates, ranked.held), (guesses, ranked.train))
    main, control, baseline = (
        sum(_fitting(one, rows) == 1 for one in some) for some, rows in asked
    )
    return Attempts(len(predicates), main, control, baseline).risk(name, NOTE)


def _univariate(ranked: Ranked, generator: np.random.Generator, attempts: int) -> list[Predicate]:
    found = []
    for place, ranks in enumerate(ranked.synthetic):
        values, counts = np.unique(ranks, return_counts=True)
        found += [Bounds(place, int(value), int(value)) for value in values[counts == 1]]
        present = values > 0
        if ranked.measured[place] and present.any():
            low, high = values[present][[0, -1]].tolist()
            once, top = counts[present][[0, -1]] == 1
            found += [Bounds(place, 1, low)] * bool(once and low > 1)
            greatest = ranked.greatest[place]
            found += [Bounds(place, high, greatest)] * bool(top and high < greatest)
    order = generator.permutation(len(found))[:attempts]
    return [(found[one],) for one in order]


def _multivariate(
    ranked: Ranked, generator: np.random.Generator, attempts: int, columns: int
) -> list[Predicate]:
    """Distinct predicates that single out a synthetic row."""
    medians = [np.median(ranks[ranks > 0]) if ranks.any() else 0.0 for ranks in ranked.synthetic]
    rows = generator.integers(len(ranked.synthetic[0]), size=PATIENCE * attempts)
    thin = tuple(ranks[::THIN].copy() for ranks in ranked.synthetic)
    found: list[Predicate] = []
    seen: set[Predicate] = set()
    last = 0
    for draw, (row, places) in enumerate(
        zip(rows, _draws(ranked, generator, columns), strict=False)
    ):
        predicate = tuple(
            _extreme(ranked, place, int(ranked.synthetic[place][row]), float(medians[place]))
            for place in places
        )
        new = predicate not in seen
        seen.add(predicate)
        if new and _fitting(predicate, thin) < 2 and _fitting(predicate, ranked.synthetic) == 1:
            found.append(predicate)
            last = draw
        if len(found) == attempts or draw - last == FUTILE:
            break
    return found


def _extreme(ranked: Ranked, place: int, rank: int, median: float) -> Bounds:
    """What holds for this rank, and of numbers for those farther from the median on its side."""
    if not rank or not ranked.measured[place]:
        return Bounds(place, rank, rank)
    return Bounds(place, rank, ranked.greatest[place]) if rank > median else Bounds(place, 1, rank)


def _random(
    ranked: Ranked, generator: np.random.Generator, attempts: int, columns: int
) -> list[Predicate]:
    values = [np.unique(ranks) for ranks in ranked.synthetic]
    found = []
    for places, _ in zip(_draws(ranked, generator, columns), range(attempts), strict=False):
        bounds = []
        for place in places:
            rank = int(generator.choice(values[place]))
            kinds = [(rank, rank), (rank + 1, rank - 1)]
            if rank and ranked.measured[place]:
                # Twice, since Anonymeter has two kinds of either, strict and not.
                kinds += [(1, rank), (rank, ranked.greatest[place])] * 2
            bounds.append(Bounds(place, *kinds[generator.integers(len(kinds))]))
        found.append(tuple(bounds))
    return found


def _draws(ranked: Ranked, generator: np.random.Generator, columns: int) -> Iterator[list[int]]:
    """Sets of so many columns drawn by chance, in the table's order, without end."""
    while True:
        keys = generator.random((1000, len(ranked.greatest)))
        yield from np.sort(np.argsort(keys, axis=1)[:, :columns], axis=1).tolist()


def _fitting(predicate: Predicate, ranks: Ranks) -> int:
    """How many rows fit it."""
    return int(np.count_nonzero(reduce(and_, (bounds.of(ranks) for bounds in predicate))))


def _ranks(tables: Sequence[pa.Table], column: Column) -> list[NDArray[np.int32]]:
    """A column of each table as ranks of the values of all; missing is 0."""
    ends = np.cumsum([table.num_rows for table in tables])[:-1]
    if column.measured:
        every = np.concatenate([floats(table, column.name) for table in tables])
        gone = np.isnan(every)
        ranks = np.zeros(len(every), dtype=np.int32)
        ranks[~gone] = np.unique(every[~gone], return_inverse=True)[1] + 1
        return np.split(ranks, ends)
    coded, _ = codes(tables, column.name)
    gone = np.concatenate([table.column(column.name).is_null().to_numpy() for table in tables])
    ranks = np.where(gone, 0, np.concatenate(coded) + 1).astype(np.int32)
    return np.split(ranks, ends)


def _distinct(rows: NDArray[np.int32]) -> Ranks:
    """The distinct rows of a matrix, column by column."""
    kept: Integers = np.unique(rows, axis=0)
    return tuple(np.ascontiguousarray(column, dtype=np.int32) for column in kept.T)
