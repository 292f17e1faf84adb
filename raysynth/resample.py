"""The bootstrap: how much a figure of two tables would be off with other rows of as many.

Efron, "Bootstrap methods: another look at the jackknife" (Annals of Statistics 7, 1979): rows of
both tables are drawn again with replacement, as many as there are, and the figure is measured anew.
A table drawn again is its own rows with a weight each, how often it was drawn, so that codes and
ranks are made once and only counted again.

An interval is the figure plus and minus `Z` standard deviations of the replicates, not their
quantiles: rows drawn twice bring noise of their own, so that replicates of a distance lie above the
distance itself, and an interval of quantiles may well leave it out. For the same reason it is
about what tables of so many rows would have on average, sampling noise included, as the ceiling
has; not about what endless rows would. Where two tables hardly differ it errs on the wide side.

Shapes: R replicates, the first of which is the tables as they are; B rows of a table.
"""

from dataclasses import dataclass

import numpy as np

from raysynth.frames import Floats
from raysynth.risks import Interval, Z

REPLICATES = 25  # a standard deviation of so many is off by a seventh


@dataclass(frozen=True)
class Draws:
    """Weights of the rows of two tables, (R, B) each: all 1 in the first replicate."""

    real: Floats
    synthetic: Floats

    @classmethod
    def of(
        cls,
        real: int,
        synthetic: int,
        generator: np.random.Generator | None = None,
        replicates: int = REPLICATES,
    ) -> "Draws":
        """Of tables of so many rows, one or more; without a generator, as they are and no more."""

        def weights(rows: int) -> Floats:
            drawn = [np.ones(rows)]
            if generator is not None:
                again = (generator.integers(rows, size=rows) for _ in range(replicates))
                drawn += [np.bincount(row, minlength=rows).astype(np.float64) for row in again]
            return np.stack(drawn)

        return cls(weights(real), weights(synthetic))


def interval(values: Floats) -> Interval:
    """A figure in [0, 1] of replicates (R), two or more of them beside the first, the figure."""
    value, half = float(values[0]), Z * float(values[1:].std(ddof=1))
    return Interval(value, max(0.0, value - half), min(1.0, value + half))
