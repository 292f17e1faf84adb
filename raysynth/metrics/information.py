"""Mutual information: does knowing one column tell as much of another as it does in the real table?

The mean absolute difference of the normalised mutual information (NMI) of each two columns, by
which TGAN is judged (Xu & Veeramachaneni, "Synthesizing Tabular Data using Generative Adversarial
Networks", 2018, arXiv 1811.11264); here each pair's score is 1 less its difference. Pearson's
correlation sees lines alone and has nothing to say of categories; this sees any relation, though
not which way it goes: a relation turned upside down tells as much.

NMI is I(X; Y) over the mean of the entropies H(X) and H(Y), as scikit-learn has it: 0 for
independent columns, 1 for two that follow from each other, 0 where either is constant. Numbers fall
in `BINS` bins that hold as many real rows each (`raysynth.tallies`); null is a bin and a category
of its own. Of few rows and many cells the mutual information comes out too high, by as much in
tables of as many rows: compare no others. Of more than `PAIRS` pairs so many are drawn by chance.
"""

from itertools import combinations

import numpy as np
import pyarrow as pa

from raysynth.frames import Floats
from raysynth.resample import Draws
from raysynth.schema import Schema
from raysynth.tallies import Coded, binned

BINS = 20
PAIRS = 500


def replicates(
    real: pa.Table,
    synthetic: pa.Table,
    schema: Schema,
    draws: Draws,
    generator: np.random.Generator,
) -> dict[tuple[str, str], Floats]:
    """Each pair's score in [0, 1] over the rows as they are and as drawn again, (R).

    Empty for a single column. Both tables hold at least one row. Summarise by the mean.
    """
    pairs = list(combinations(schema.names, 2))
    chosen = sorted(generator.permutation(len(pairs))[:PAIRS])
    coded = {column.name: binned(real, synthetic, column, BINS) for column in schema.columns}
    alone = {name: _entropies(column, draws) for name, column in coded.items()}
    found = {}
    for one, other in (pairs[place] for place in chosen):
        both = _entropies(coded[one].joined(coded[other]), draws)
        sides = zip(alone[one], alone[other], both, strict=True)
        left, right = (_normalised(*entropies) for entropies in sides)
        found[one, other] = 1.0 - np.abs(left - right)
    return found


def _entropies(coded: Coded, draws: Draws) -> tuple[Floats, Floats]:
    """H of the codes in either table, (R) each, in nats."""
    real, synthetic = (
        -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
        for share in coded.shares(draws)
    )
    return real, synthetic


def _normalised(one: Floats, other: Floats, both: Floats) -> Floats:
    mean = (one + other) / 2
    # An entropy of rounding alone is that of a constant.
    told = np.where(np.minimum(one, other) > 1e-12, one + other - both, 0.0)
    return np.clip(told / np.maximum(mean, 1e-12), 0.0, 1.0)
