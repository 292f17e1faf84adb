"""Attacks on a synthetic table: what a stranger who holds it learns of the rows behind it.

One file a kind of attack; each gives `attack(tables, schema, generator)`, the risks it measured.
Attacks do not know one another. What all are judged by is in `raysynth.risks`.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raysynth.frames import subsample


@dataclass(frozen=True)
class Tables:
    """What an attack works on; all with the columns of one schema.

    `train` are rows the generator was trained on, `held` rows of the same people that it never saw:
    the control, since what an attack learns of those it learned of everybody. Both are as many.
    """

    synthetic: pa.Table
    train: pa.Table
    held: pa.Table

    @classmethod
    def of(
        cls,
        synthetic: pa.Table,
        train: pa.Table,
        held: pa.Table,
        generator: np.random.Generator,
        rows: int,
    ) -> "Tables":
        """The same with `rows` rows at most of each, and as many of `train` as of `held`."""
        least = min(rows, train.num_rows, held.num_rows)
        return cls(
            subsample(synthetic, rows, generator),
            subsample(train, least, generator),
            subsample(held, least, generator),
        )
