"""Coverage: of what the real table holds, how much does the synthetic one reach?

Definitions after CategoryCoverage and RangeCoverage of SDMetrics, for what `LEAST` real rows share
instead of one, since a generator that keeps a lone person's value to itself does well:

- category, boolean: the share of the real categories of `LEAST` rows or more that occur;
- number: the share of the range from the smallest to the largest real number that lies between the
  smallest and the largest synthetic one, both real ends moved in so far that `LEAST` rows lie at or
  beyond them.

With a `LEAST` of 1 both are SDMetrics'. Null counts for nothing here (`missing` has it). A number
whose range has no width, where SDMetrics has no score, is covered where the synthetic range holds
it. A column with no such category, or fewer than twice as many numbers, is left out.

How often a category occurs does not matter, once is enough, and nothing is said of what lies
between the ends of a range: shape sees both. What is to be covered stays the same where rows are
drawn again, and an interval is rough: a range hangs on two rows, and where all is covered with
rows to spare it has no width.
"""

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats, floats, missing
from raysynth.resample import Draws
from raysynth.schema import Schema
from raysynth.tallies import categories

LEAST = 10


def replicates(
    real: pa.Table, synthetic: pa.Table, schema: Schema, draws: Draws, least: int = LEAST
) -> dict[str, Floats]:
    """Each column's score in [0, 1] over the rows as they are and as drawn again, (R)."""
    found = {}
    for column in schema.columns:
        if column.measured:
            sides = floats(real, column.name), floats(synthetic, column.name)
            score = _ranges(*sides, draws, least)
        else:
            score = _categories(real, synthetic, column.name, draws, least)
        if score is not None:
            found[column.name] = score
    return found


def _categories(
    real: pa.Table, synthetic: pa.Table, name: str, draws: Draws, least: int
) -> Floats | None:
    coded = categories(real, synthetic, name)
    there = coded.counts(draws)[1] > 0
    shared = np.bincount(coded.real[~missing(real, name)], minlength=coded.size) >= least
    if not shared.any():
        return None
    covered: Floats = (there & shared).sum(axis=1) / shared.sum()
    return covered


def _ranges(real: Floats, synthetic: Floats, draws: Draws, least: int) -> Floats | None:
    present = np.sort(real[~np.isnan(real)])
    if len(present) < max(2 * least, 1):
        return None
    low, high = present[least - 1], present[-least]
    made = ~np.isnan(synthetic)
    scores = [_covered(low, high, synthetic[(weight > 0) & made]) for weight in draws.synthetic]
    return np.array(scores)


def _covered(low: float, high: float, values: Floats) -> float:
    if not len(values):
        return 0.0
    first, last = values.min(), values.max()
    # Halves, because the width of a range near the largest float overflows.
    width = high / 2 - low / 2
    if width <= 0:
        return float(first <= low <= last)
    with np.errstate(over="ignore"):
        missed = max(0.0, (first / 2 - low / 2) / width) + max(0.0, (high / 2 - last / 2) / width)
    return float(max(0.0, 1.0 - missed))
