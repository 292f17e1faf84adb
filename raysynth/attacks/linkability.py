"""Linkability: do two who each know other columns of a person find out that it is the same one?

After Giomi, Boenisch, Wehmeyer & Tasnadi, "A unified framework for quantifying privacy risk in
synthetic data" (PoPETs 2023, arXiv 2211.10459), as Anonymeter has it: the columns are split in two
sets. A row is attacked by the synthetic rows nearest to it (Gower's distance) by one set alone, and
by the other alone; it is linked where a synthetic row is among both. The risk is what training rows
are linked more often than held ones, whom a link tells nothing but what people are like.

Departures:

- Nobody knows which columns an attacker will have, so by default the columns are halved by chance,
  anew for every one of `SPLITS` parts of the attempts; Anonymeter asks for the sets.
- Of synthetic rows that are as near, either set takes one by chance, and not both the same: else
  sets of few categories would link everybody, by the order in which rows happen to lie.
- Two random guesses meet as often as reckoned (1 in as many synthetic rows, for one neighbour);
  Anonymeter throws dice.
- No correction for the control's size: `Tables` holds as many held rows as training rows.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from scipy.stats import hypergeom

from raysynth.attacks import Tables
from raysynth.frames import Integers
from raysynth.gower import Cells, cells, nearest
from raysynth.risks import Attempts, Risk, skipped
from raysynth.schema import Schema

FEWEST = 100  # rows of each table: under this the interval of no link at all ends above 0.03
NEIGHBOURS = 1
SPLITS = 5

NOTE = (
    "How much more often two who know different columns of a training row meet in one synthetic "
    "row than they do for rows the model never saw, as a share of those: 0 is not at all."
)

Split = tuple[Sequence[str], Sequence[str]]


def attack(
    tables: Tables,
    schema: Schema,
    generator: np.random.Generator,
    attempts: int = 1000,
    neighbours: int = NEIGHBOURS,
    known: Split | None = None,
) -> list[Risk]:
    """The risk "linkability" of at most `attempts` rows of either kind, drawn by chance.

    `known` are the names of the columns that each of the two knows, none in both.
    """
    synthetic, rows = tables.synthetic.num_rows, min(tables.train.num_rows, tables.held.num_rows)
    if min(synthetic, rows) < FEWEST:
        return [skipped("linkability", "risk", NOTE, f"needs {FEWEST} rows of each table")]
    if len(schema.columns) < 2:
        return [skipped("linkability", "risk", NOTE, "needs 2 columns")]
    tried = min(attempts, rows)
    splits = [_places(schema, known)] if known else _halves(len(schema.columns), generator)
    main, control = (
        _linked(tables.synthetic, side, schema, splits, generator, tried, neighbours)
        for side in (tables.train, tables.held)
    )
    met = 1 - float(hypergeom.pmf(0, synthetic, neighbours, neighbours))
    return [Attempts(tried, main, control, met * tried).risk("linkability", NOTE)]


def _places(schema: Schema, known: Split) -> tuple[Integers, Integers]:
    one, other = (np.array([schema.names.index(name) for name in names]) for names in known)
    return one, other


def _halves(columns: int, generator: np.random.Generator) -> list[tuple[Integers, Integers]]:
    orders = [generator.permutation(columns) for _ in range(SPLITS)]
    return [(order[: columns // 2], order[columns // 2 :]) for order in orders]


def _linked(
    synthetic: pa.Table,
    rows: pa.Table,
    schema: Schema,
    splits: Sequence[tuple[Integers, Integers]],
    generator: np.random.Generator,
    tried: int,
    neighbours: int,
) -> int:
    """How many of `tried` of the rows are linked, each by one of the splits."""
    made, every = cells([synthetic, rows], schema)
    chosen, found = generator.permutation(rows.num_rows)[:tried], 0
    for part, split in zip(np.array_split(chosen, len(splits)), splits, strict=True):
        asked = [one.take(part) for one in every]
        found += _links(asked, made, split, neighbours, generator)
    return found


def _links(
    asked: Sequence[Cells],
    made: Sequence[Cells],
    split: tuple[Integers, Integers],
    neighbours: int,
    generator: np.random.Generator,
) -> int:
    """How many of the rows `asked` have a synthetic row near by both sets."""
    found = []
    for places in split:
        # An order of its own, since of several as near the first is found.
        order = generator.permutation(len(made[0].values))
        there = [made[place].take(order) for place in places]
        found.append(order[nearest([asked[place] for place in places], there, neighbours)])
    one, other = found
    return int((one[:, :, None] == other[:, None, :]).any(axis=(1, 2)).sum())
