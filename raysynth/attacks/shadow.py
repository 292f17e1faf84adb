"""Membership inference by shadow models: an attacker who can train generators like this one.

Stadler, Oprisanu & Troncoso, "Synthetic Data - Anonymisation Groundhog Day" (USENIX Security 2022,
arXiv 2011.07018), after Shokri, Stronati, Song & Shmatikov, "Membership Inference Attacks against
Machine Learning Models" (IEEE S&P 2017, arXiv 1610.05820): the attacker trains generators of the
same family on rows of their own, so knows of each who was a member, and learns from those how a
member looks against a synthetic table. What was learned is put to the table attacked. A row is seen
by:

- how far its closest synthetic row lies, and its `FAR`th; the same of reference rows; the
  differences of both (logarithms all);
- its rank: the share of reference rows that lie nearer their closest synthetic row;
- the log-odds of trees told synthetic from reference rows (`raysynth.density`).

Departures from Stadler et al.: they take one target row at a time and train the shadows with and
without it, on which a table's summaries are learned; here one lot of shadows serves all rows, which
is what can be paid for with a deep generator, and sees less. Rows of shadows should be none of the
candidates: then the attack is fair, and knows no more than a stranger could.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from sklearn.ensemble import HistGradientBoostingClassifier

from raysynth.attacks import Tables
from raysynth.density import away, odds
from raysynth.frames import Floats
from raysynth.points import points
from raysynth.risks import FEWEST, Risk, membership, skipped
from raysynth.schema import Schema
from raysynth.threads import single

ROWS = 4_000
FAR = 5
LEAVES, ROUNDS = 8, 60  # few of both: eight features tell little, and members of shadows are few

NAME = "membership_shadow"
NOTE = (
    "How well training rows are told from held-out ones by one who trained generators like this "
    "one: 0.5 is not at all, 1 is always."
)


class Shadow(NamedTuple):
    """A generator that the attacker trained: its rows, rows it was trained on, and rows not."""

    synthetic: pa.Table
    members: pa.Table
    others: pa.Table


def attack_with(
    shadows: Sequence[Shadow],
    tables: Tables,
    schema: Schema,
    generator: np.random.Generator,
    rows: int = ROWS,
) -> list[Risk]:
    """The one risk, on at most `rows` candidates of a side; each shadow gives as many to learn.

    Each table, a shadow's or the one attacked, has its own reference, half of the rows that are no
    members, so what is learned of one holds for the other.
    """
    known = [Tables(shadow.synthetic, shadow.members, shadow.others) for shadow in shadows]
    if not known:
        return [skipped(NAME, "AUC", NOTE, "needs a shadow")]
    if min(_fewest(one) for one in (*known, tables)) < FEWEST:
        why = f"needs {FEWEST} members, as many synthetic rows, twice as many others, of each table"
        return [skipped(NAME, "AUC", NOTE, why)]
    seen = [_seen(one, schema, generator, rows) for one in known]
    truth = np.concatenate([np.repeat([1, 0], [len(one), len(other)]) for one, other in seen])
    trees = HistGradientBoostingClassifier(
        max_leaf_nodes=LEAVES,
        max_iter=ROUNDS,
        early_stopping=False,
        random_state=int(generator.integers(2**31)),
    )
    asked = _seen(tables, schema, generator, rows)
    with single():
        trees.fit(np.concatenate([side for pair in seen for side in pair]), truth)
        members, others = (trees.decision_function(side) for side in asked)
    return [membership(NAME, members, others, NOTE)]


def _fewest(tables: Tables) -> int:
    return int(min(tables.train.num_rows, tables.held.num_rows // 2, tables.synthetic.num_rows))


def _seen(
    tables: Tables, schema: Schema, generator: np.random.Generator, rows: int
) -> tuple[Floats, Floats]:
    """How members and others (B, F) look against the synthetic table."""
    members, others, reference = tables.candidates(generator, rows)
    real, made, *asked = points([reference, tables.synthetic, members, others], schema)
    some = np.sort(generator.permutation(real.rows)[:rows])
    usual = np.sort(away(real.take(some), made, 1)[:, 0])
    scores = odds(tables.synthetic, reference, [members, others], schema, generator)
    sides = []
    for side, score in zip(asked, scores, strict=True):
        near, real_near = (away(side, table, FAR)[:, [0, FAR - 1]] for table in (made, real))
        rank = np.searchsorted(usual, near[:, 0]) / len(usual)
        sides.append(np.column_stack([near, real_near, near - real_near, rank, score]))
    return sides[0], sides[1]
