"""Membership inference from the synthetic table alone: was this row trained on?

The attacker holds the synthetic table, a row, and rows of the same people that are in no training
(`Tables.candidates`). Rows of `train` are to score higher than as many of `held`:

- **membership_distance**: the nearer its closest synthetic row, the likelier a member (Chen, Yu,
  Zhang & Fritz, "GAN-Leaks", CCS 2020, arXiv 1909.03935, full black-box attack);
- **membership_density**: the same distance against those to its `NEIGHBOURS` closest reference
  rows, in logarithms, of which the mean is taken;
- **membership_trees**: the log-odds of trees that were told synthetic from reference rows.

The last two are density ratios after DOMIAS; `raysynth.density` says how both estimate them.

One synthetic neighbour, since what was remembered is one row. Of 6,000 rows of Adult with noise on
their numbers, a fifth of the deviation, one synthetic against five reference neighbours told 0.87,
five against five 0.78; with half that noise and 15 % of the categories exchanged, 0.71 and 0.66.

Numbers are scaled by the reference rows, which are neither members nor the others.
"""

import numpy as np

from raysynth.attacks import Tables
from raysynth.density import away, odds
from raysynth.points import points
from raysynth.risks import FEWEST, Risk, membership, skipped
from raysynth.schema import Schema

ROWS = 4_000  # candidates of a side: an AUC of so many has a standard error of 0.0065 at most
NEIGHBOURS = 5

NOTES = {
    "membership_distance": (
        "How well training rows are told from held-out ones by the distance to the closest "
        "synthetic row: 0.5 is not at all, 1 is always."
    ),
    "membership_density": (
        "The same by how much nearer synthetic rows lie than other people's: what is common to "
        "everybody is left out."
    ),
    "membership_trees": (
        "The same by boosted trees that were told synthetic rows from other people's."
    ),
}


def attack(
    tables: Tables, schema: Schema, generator: np.random.Generator, rows: int = ROWS
) -> list[Risk]:
    """All three on at most `rows` candidates of a side; skipped with fewer than `FEWEST`."""
    members, others, reference = tables.candidates(generator, rows)
    if min(members.num_rows, tables.synthetic.num_rows) < FEWEST:
        why = f"needs {FEWEST} training rows, as many synthetic, and twice as many held-out ones"
        return [skipped(name, "AUC", note, why) for name, note in NOTES.items()]
    real, made, *asked = points([reference, tables.synthetic, members, others], schema)
    near = [away(side, made, 1)[:, 0] for side in asked]
    usual = [away(side, real, NEIGHBOURS).mean(axis=1) for side in asked]
    scores = {
        "membership_distance": [-side for side in near],
        "membership_density": [one - other for one, other in zip(usual, near, strict=True)],
        "membership_trees": odds(tables.synthetic, reference, [members, others], schema, generator),
    }
    return [membership(name, one, other, NOTES[name]) for name, (one, other) in scores.items()]
