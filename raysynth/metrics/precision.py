"""Alpha-precision and beta-recall: do rows fall where real ones do, and are real ones reached?

Alaa, van Breugel, Saveliev & van der Schaar, "How Faithful is Your Synthetic Data? Sample-level
Metrics for Evaluating and Auditing Generative Models" (ICML 2022, arXiv 2102.08921), in the variant
that synthcity calls naive, which the tables of TabSyn, TabDiff and TabPC report: rows are the
points of `raysynth.points`, and no embedding is learned. With `ALPHAS` levels a, even from 0 to 1:

- **alpha-precision**: P(a) is the share of synthetic rows no farther from the mean of the real ones
  than the a-quantile of the real rows' own distances. The score is 1 - 2 mean |a - P(a)|.
- **beta-recall**: a real row is *reached* where its nearest synthetic row is no farther than its
  nearest other real row. R(b) is the share of real rows that are reached by a synthetic row whose
  distance from the mean of the synthetic ones is no more than the b-quantile of that distance over
  all nearest synthetic rows. The score is 1 - 2 mean |b - R(b)|.

A perfect generator has 1 in the first and about one half in the second, as a row's nearest
neighbour is as often of one table as of the other; only the real rows themselves have 1 there.
Ties count as reached, and rows in one place come within a level all at once, so tables of few
distinct rows shift both scores, real rows' own with them: read them beside the ceiling.

Departures from synthcity: its loader takes the last column for a target and leaves it out, here all
are kept; missing cells, which it refuses, are imputed with an indicator; real rows are asked about
`QUERIES` at most, drawn by chance, while the rows they are held against stay as many.

Where rows are drawn again (`raysynth.resample`), distances and neighbours stay those of the tables
as they are: a row that is drawn twice would be its own neighbour.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats, Integers
from raysynth.points import nearest, points
from raysynth.resample import Draws
from raysynth.schema import Schema

ALPHAS = 30
QUERIES = 20_000


class Scores(NamedTuple):
    """Both in [0, 1]."""

    alpha_precision: float
    beta_recall: float


@dataclass(frozen=True)
class Real:
    """Real rows, `asked` of them by number, and how far each of those lies from another."""

    table: pa.Table
    schema: Schema
    asked: Integers
    gaps: Floats

    @classmethod
    def of(
        cls,
        table: pa.Table,
        schema: Schema,
        generator: np.random.Generator,
        queries: int = QUERIES,
    ) -> "Real":
        """Measure the real rows, two or more, once for all that is held against them."""
        (mine,) = points([table], schema)
        asked = np.sort(generator.permutation(mine.rows)[:queries])
        return cls(table, schema, asked, nearest(mine.take(asked), mine, asked)[1])

    def scores(self, synthetic: pa.Table) -> Scores:
        """Those of a synthetic table of about as many rows: more of them reach more."""
        found = self.replicates(synthetic, Draws.of(self.table.num_rows, synthetic.num_rows))
        return Scores(*(float(values[0]) for values in found.values()))

    def replicates(self, synthetic: pa.Table, draws: Draws) -> dict[str, Floats]:
        """Both scores over the rows as they are and as drawn again, (R), by their names."""
        real, made = points([self.table, synthetic], self.schema)
        found, away = nearest(real.take(self.asked), made)
        central = made.from_centre(made)[found]
        held = np.where(away <= self.gaps, central, np.inf)
        spread = _Sorted.of(real.from_centre(real)), _Sorted.of(real.from_centre(made))
        reached = _Sorted.of(central), _Sorted.of(held)
        scores = [
            (_curve(*spread, mine, other), _curve(*reached, mine[self.asked], mine[self.asked]))
            for mine, other in zip(draws.real, draws.synthetic, strict=True)
        ]
        both = np.array(scores).T
        return dict(zip(Scores._fields, both, strict=True))


@dataclass(frozen=True)
class _Sorted:
    """Distances in order, and the order, so that rows drawn again need no sorting."""

    values: Floats
    order: Integers

    @classmethod
    def of(cls, distances: Floats) -> "_Sorted":
        order = np.argsort(distances, kind="stable")
        return cls(distances[order], order)

    def drawn(self, weights: Floats) -> Floats:
        """The distances, each as often as its weight says, in order."""
        return np.repeat(self.values, weights[self.order].astype(np.int64))


def _curve(own: _Sorted, others: _Sorted, weights: Floats, theirs: Floats) -> float:
    """How near the shares of `others` within the quantiles of `own` come to the quantiles' levels.

    0 where no row was drawn.
    """
    alphas = np.linspace(0, 1, ALPHAS)
    mine, distances = own.drawn(weights), others.drawn(theirs)
    if not len(mine) or not len(distances):
        return 0.0
    within = np.searchsorted(distances, np.quantile(mine, alphas), side="right") / len(distances)
    # Not below 0 for any curve that rises, but for rounding.
    return max(0.0, 1 - 2 * float(np.abs(alphas - within).mean()))
