"""Attacks on a synthetic table: what a stranger who holds it learns of the rows behind it.

One file a kind of attack; each gives `attack(tables, schema, generator)`, the risks it measured.
Attacks do not know one another. What all are judged by is in `raysynth.risks`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from raysynth.frames import subsample


class Candidates(NamedTuple):
    """Rows whose membership is guessed, as many `members` as `others`, and what is known of people.

    `reference` are rows of the same people that are neither: all that an attacker has beside the
    synthetic table.
    """

    members: pa.Table
    others: pa.Table
    reference: pa.Table


@dataclass(frozen=True)
class Tables:
    """What an attack works on; all with the columns of one schema.

    `train` are rows the generator was trained on, `held` rows of the same people that it never saw:
    the control, since what an attack learns of those it learned of everybody. Both are as many.
    """

    synthetic: pa.Table
    train: pa.Table
    held: pa.Table

    def drawn(self, generator: np.random.Generator, rows: int, synthetic_rows: int) -> "Tables":
        """So many rows at most of each, and as many of `train` as of `held`.

        Fewer synthetic rows hide more: what is remembered of a row may be among those left out.
        """
        least = min(rows, self.train.num_rows, self.held.num_rows)
        return Tables(
            subsample(self.synthetic, synthetic_rows, generator),
            subsample(self.train, least, generator),
            subsample(self.held, least, generator),
        )

    def candidates(self, generator: np.random.Generator, rows: int) -> Candidates:
        """At most `rows` rows of `train`, as many of `held`, and the rest of `held`: half or more.

        Both sides are drawn alike, and neither is in the reference, so that nothing but the
        synthetic table treats members otherwise.
        """
        count = min(rows, self.train.num_rows, self.held.num_rows // 2)
        order = generator.permutation(self.held.num_rows)
        others, rest = np.sort(order[:count]), np.sort(order[count:])
        members = subsample(self.train, count, generator)
        return Candidates(members, self.held.take(others), self.held.take(rest))
