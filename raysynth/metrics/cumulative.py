"""Cumulative distributions: how far apart do the two curves of a number lie, on the whole?

table-GAN (Park et al., "Data Synthesis based on Generative Adversarial Networks", VLDB 2018, arXiv
1806.03384) lays the cumulative distributions of each attribute over one another for the eye. Here
the area between the two curves is measured: the Wasserstein-1 distance, how far on average a value
must be moved to turn one distribution into the other. It is taken in ranges of the real column,
smallest to largest number, and a score is 1 less the distance, 0 at the least.

KS, the widest gap between the curves, takes no account of how far a misplaced value lies from where
it should; this does, and far-off values count as far as `FAR` ranges. A few of them widen the range
of the real column, and all else then looks near. Null counts for nothing here (`missing` has it).
Against a real column of one number the score is the share of synthetic ones that equal it.
"""

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats, floats
from raysynth.resample import Draws
from raysynth.schema import Schema
from raysynth.tallies import ranks

FAR = 10.0


def replicates(
    real: pa.Table, synthetic: pa.Table, schema: Schema, draws: Draws
) -> dict[str, Floats]:
    """Each number's score in [0, 1] over the rows as they are and as drawn again, (R).

    A column with no real number is left out; one with no synthetic number has 0.
    """
    found = {}
    for column in schema.columns:
        if column.measured:
            sides = floats(real, column.name), floats(synthetic, column.name)
            if not np.isnan(sides[0]).all():
                found[column.name] = 1.0 - _distances(*sides, draws)
    return found


def _distances(real: Floats, synthetic: Floats, draws: Draws) -> Floats:
    present = real[~np.isnan(real)]
    low, high = present.min(), present.max()
    # Halves, because the width of a range near the largest float overflows.
    width = high / 2 - low / 2

    def scaled(side: Floats) -> Floats:
        away = side / 2 - low / 2
        with np.errstate(over="ignore"):
            placed = away / width if width > 0 else np.sign(away)
        clipped: Floats = np.clip(placed, -FAR, 1 + FAR)
        return clipped

    coded, at = ranks(scaled(real), scaled(synthetic))
    counts = [count[:, np.isfinite(at)].cumsum(axis=1) for count in coded.counts(draws)]
    totals = [count[:, -1:] for count in counts]
    left, right = (c / np.maximum(t, 1.0) for c, t in zip(counts, totals, strict=True))
    steps = np.diff(at[np.isfinite(at)])
    apart = np.minimum(1.0, (np.abs(left - right)[:, :-1] * steps).sum(axis=1))
    empty = np.any([total[:, 0] == 0 for total in totals], axis=0)
    distances: Floats = np.where(empty, 1.0, apart)
    return distances
