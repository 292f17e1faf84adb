"""What only a few rows hold: does the synthetic table give it away?

Looked for in the output itself, whatever the generator promises: rules of small numbers are kept by
what a table shows, and not by settings. Each is a share of synthetic rows over the same share of
held-out rows, which can only have it by chance (`risks.residual`): 0 is what strangers' rows show.

- **rare_values**: rows with a value that fewer than `least` training rows hold. Of a category or
  boolean that is any such value. Of a number or time, where in the middle of a column most values
  are rare and say nothing, it is one under the `least`-th smallest or over the `least`-th largest
  of the training rows, and exactly a training row's: somebody stands out by it. Null is no value,
  and one made up, which no training row has, is nobody's.
- **rare_combinations**: rows that repeat a combination of the quasi-identifiers which exactly one
  training row has (Sweeney, "k-anonymity: a model for protecting privacy", International Journal on
  Uncertainty, Fuzziness and Knowledge-based Systems 10, 2002). Unless they are named, those are
  the categories and booleans, and the columns of whole numbers that have `FEW` values at most in
  the training rows: what a neighbour may know. Null is a value here.
- **near_copies**: rows as near a training row as `NEAR` of held-out rows are. The distance is the
  quantile over one half of the held-out rows, and the control is the other half.
- **exact_copies**: rows that equal a training row in every column.

What is rare is counted among the training rows given: of a part of them more is rare than of all.

Beside rare values stands how many there are (`values`) and which share of them is shown by any row,
synthetic (`shown`) or held-out: a generator that keeps a rule of small numbers shows none, while
held-out rows show those that several people have.

Beside near copies stands the median ratio of the distances to the nearest and the second nearest
training row (`nndr`), of synthetic and of held-out rows: near 0 where single rows were remembered.
Like the share of nearer rows it is a smoke test: see `metrics.dcr`.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raysynth.arrays import is_whole
from raysynth.attacks import Tables
from raysynth.frames import Floats, Integers, codes, floats, keys, missing, subsample
from raysynth.points import neighbours, points
from raysynth.risks import FEWEST, Bools, Risk, over_control, skipped
from raysynth.schema import Column, Schema

LEAST = 10
FEW = 100  # distinct values
NEAR = 0.01
ASKED = 4_000  # rows of a side whose nearest training rows are looked for

NOTES = {
    "rare_values": (
        "The share of rows with a value that so few training rows hold that it singles them out, "
        "over that of held-out rows: 0 is no more than strangers have, 1 is all."
    ),
    "rare_combinations": (
        "The share of rows that repeat what a single training row has in the columns that others "
        "may know of a person, over that of held-out rows: 0 is no more than strangers have."
    ),
    "near_copies": (
        "The share of rows as near a training row as one held-out row in a hundred is, over that "
        "of held-out rows: 0 is no more than strangers are. A smoke test: 0 proves nothing about "
        "privacy."
    ),
    "exact_copies": (
        "The share of rows that equal a training row in every column, over that of held-out rows: "
        "0 is no more than strangers have."
    ),
}


def attack(
    tables: Tables,
    schema: Schema,
    generator: np.random.Generator,
    least: int = LEAST,
    quasi: Sequence[str] | None = None,
) -> list[Risk]:
    """All four; skipped with fewer than `FEWEST` rows of a table, the near copies with twice those.

    `quasi` names the columns that others may know. Raises `TableError` for one that is not there.
    """
    known = _quasi(tables.train, schema) if quasi is None else [schema[name].name for name in quasi]
    sizes = (tables.synthetic.num_rows, tables.train.num_rows, tables.held.num_rows)
    if min(sizes) < FEWEST:
        why = f"needs {FEWEST} rows of each table"
        return [skipped(name, "risk", note, why) for name, note in NOTES.items()]
    return [
        _rare(tables, schema, least),
        _combined(tables, known),
        _near(tables, schema, generator),
        _over("exact_copies", *_repeated(tables, schema.names, alone=False)),
    ]


def _over(name: str, hits: Bools, control: Bools, **details: float) -> Risk:
    return over_control(name, hits, control, NOTES[name], **details)


def _quasi(train: pa.Table, schema: Schema) -> list[str]:
    """The columns that others may know, where nobody says which."""

    def known(column: Column) -> bool:
        if not column.measured:
            return True
        whole = column.kind == "number" and is_whole(column.type)
        return whole and codes([train], column.name)[1] <= FEW

    return [column.name for column in schema.columns if known(column)]


def _rare(tables: Tables, schema: Schema, least: int) -> Risk:
    """By rows that hold a rare training value, and beside it by values that some row holds."""
    sides = (tables.synthetic, tables.held)
    hits = [np.zeros(side.num_rows, dtype=np.bool_) for side in sides]
    values, shown = 0, [0, 0]
    for column in schema.columns:
        (own, *others), size = codes([tables.train, *sides], column.name)
        there = ~missing(tables.train, column.name)
        if column.measured:
            there &= _outermost(floats(tables.train, column.name), least)
        counts = np.bincount(own[there], minlength=size)
        rare = (counts > 0) & (counts < least)
        values += int(rare.sum())
        for place, other in enumerate(others):
            np.logical_or(hits[place], rare[other], out=hits[place])
            shown[place] += len(np.unique(other[rare[other]]))
    shares = [one / max(1, values) for one in shown]
    details = {"values": float(values), "shown": shares[0], "shown_control": shares[1]}
    return _over("rare_values", hits[0], hits[1], **details)


def _outermost(values: Floats, least: int) -> Bools:
    """Which values (B,) lie beyond those that so many reach: all, where fewer are present."""
    there: Bools = ~np.isnan(values)
    present = np.sort(values[there])
    if len(present) < least:
        return there
    outer: Bools = (values < present[least - 1]) | (values > present[-least])
    return outer


def _combined(tables: Tables, quasi: Sequence[str]) -> Risk:
    name = "rare_combinations"
    if len(quasi) < 2:
        why = "needs two columns that others may know; name them"
        return skipped(name, "risk", NOTES[name], why)
    return _over(name, *_repeated(tables, quasi, alone=True))


def _repeated(tables: Tables, names: Sequence[str], alone: bool) -> tuple[Bools, Bools]:
    """Which rows of either side have in those columns what a training row has, one `alone`."""
    own, *others = keys([tables.train, tables.synthetic, tables.held], names)
    found, counts = np.unique(own, return_counts=True)
    asked: Integers = found[counts == 1] if alone else found
    made, held = (np.isin(other, asked) for other in others)
    return made, held


def _near(tables: Tables, schema: Schema, generator: np.random.Generator) -> Risk:
    name = "near_copies"
    asked = [subsample(side, ASKED, generator) for side in (tables.synthetic, tables.held)]
    if asked[1].num_rows < 2 * FEWEST:
        why = f"needs {2 * FEWEST} held-out rows"
        return skipped(name, "risk", NOTES[name], why)
    train, *sides = points([tables.train, *asked], schema)
    made, held = (neighbours(side, train, 2) for side in sides)
    half, control = np.array_split(generator.permutation(len(held)), 2)
    reach = np.quantile(held[half, 0], NEAR)
    return _over(
        name,
        made[:, 0] <= reach,
        held[control, 0] <= reach,
        nndr=_ratio(made),
        nndr_control=_ratio(held),
    )


def _ratio(distances: Floats) -> float:
    """The median ratio of the nearest to the second nearest distance, 1 where both are 0."""
    near, next_ = distances.T
    return float(np.median(np.divide(near, next_, out=np.ones_like(near), where=next_ > 0)))
