"""Small tables on which another's attacks were run, to hold ours against its figures."""

import numpy as np
import pyarrow as pa

from raysynth.attacks import Tables


def people(rows: int, seed: int) -> pa.Table:
    """Three related numbers without a tie, a category with missing cells, another, a boolean."""
    g = np.random.default_rng(seed)
    x, e, f = (g.random(rows) for _ in range(3))
    y, z = x + 0.4 * e, np.exp(3 * f) + x
    letter = np.array(list("abcdefgh"))[(8 * (0.7 * x + 0.3 * g.random(rows))).astype(int)]
    return pa.table(
        {
            "x": x,
            "y": y,
            "z": z,
            "letter": pa.array(letter, mask=g.random(rows) < 0.1),
            "colour": np.array(["red", "green", "blue"])[g.integers(3, size=rows)],
            "flag": z + 4 * g.random(rows) > 8,
        }
    )


def copied(rows: int = 400) -> Tables:
    """Half of the synthetic rows are training rows, half are fresh ones."""
    train, held, fresh = (people(rows, seed) for seed in (1, 2, 3))
    half = rows // 2
    return Tables(pa.concat_tables([train.slice(0, half), fresh.slice(half)]), train, held)
