"""How much denser synthetic rows lie about a row than real ones: signs that it was trained on.

A generator that overfits puts rows where its training rows are, more than where people are. So van
Breugel, Sun, Qian & van der Schaar, "Membership Inference Attacks against Synthetic Data through
Overfitting Detection" (AISTATS 2023, arXiv 2302.12580), who call it DOMIAS, score a row by the
density of synthetic rows over that of reference rows. Both densities are estimated in two ways:

- by nearest neighbours (Loftsgaarden & Quesenberry, "A nonparametric estimate of a multivariate
  density function", Annals of Mathematical Statistics 36, 1965): the density is k over the number
  of rows and the volume that the k-th nearest lies in. In a ratio the volumes' dimension is a
  factor of the logarithm and the numbers of rows a summand, alike for every row, so neither changes
  how rows are ranked: what is left is the logarithm of one distance over the other.
- by gradient-boosted trees told synthetic rows from reference rows, whose log-odds are the
  logarithm of the ratio, but for a summand (Sugiyama, Suzuki & Kanamori, "Density Ratio Estimation
  in Machine Learning", 2012, chapter 4).

Departures from DOMIAS: it fits a flow or kernels, which take no categories.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier

from raysynth.frames import Floats, features, learnable
from raysynth.points import Points, neighbours
from raysynth.schema import Schema
from raysynth.threads import single

SAME = 1e-6  # of a number's range: rows that lie nearer than this are taken to be this far


def away(asked: Points, rows: Points, count: int) -> Floats:
    """Logarithms of how far each row asked about lies from the `count` nearest `rows`, (B, count).

    `rows` hold at least one.
    """
    return np.log(np.maximum(neighbours(asked, rows, count), SAME))


def odds(
    synthetic: pa.Table,
    reference: pa.Table,
    asked: Sequence[pa.Table],
    schema: Schema,
    generator: np.random.Generator,
) -> list[Floats]:
    """The log-odds (B,) of being synthetic and not of `reference`, of each row of tables `asked`.

    None of those may be in the reference: trees know the rows that they were fitted on. Both hold
    at least one row.
    """
    (made, real, *rest), categories = features([synthetic, reference, *asked], schema)
    fit, held = learnable(np.concatenate([made, real]), np.concatenate(rest))
    truth = np.repeat([1, 0], [len(made), len(real)])
    trees = HistGradientBoostingClassifier(
        categorical_features=categories,
        early_stopping=False,
        random_state=int(generator.integers(2**31)),
    )
    # One thread, and overflows let be, for the reasons that `threads` and detection give.
    with single(), np.errstate(over="ignore"):
        scores: Floats = trees.fit(fit, truth).decision_function(held)
    return np.split(scores, np.cumsum([len(matrix) for matrix in rest])[:-1])
