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
  the categories, booleans and whole numbers of few values (`raysynth.census`): what a neighbour
  may know. Null is a value here.
- **near_copies**: rows as near a training row as `NEAR` of held-out rows are. The distance is the
  quantile over one half of the held-out rows, and the control is the other half.
- **exact_copies**: rows that equal a training row in every column.

What is rare is counted over all training rows, however many (`raysynth.census`). Beside rare values
stands how many are shown by some row, synthetic (`shown`) or held-out (`shown_control`): a
generator that keeps a rule of small numbers shows none, while held-out rows show those that several
people have.

Beside near copies stands the median ratio of the distances to the nearest and the second nearest
training row (`nndr`), of synthetic and of held-out rows: near 0 where single rows were remembered.
Like the share of nearer rows it is a smoke test: see `metrics.dcr`.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raysynth.attacks import Tables
from raysynth.census import Census
from raysynth.frames import Bools, Floats, subsample
from raysynth.points import neighbours, points
from raysynth.risks import FEWEST, Risk, over_control, skipped
from raysynth.schema import Schema

LEAST = 10
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
    census: Census | None = None,
) -> list[Risk]:
    """All four; skipped with fewer than `FEWEST` rows of a table, the near copies with twice those.

    `quasi` names the columns that others may know. Raises `TableError` for one that is not there.
    `census` has counted, for the synthetic and the held-out rows, all training rows where `tables`
    has but a sample of them.
    """
    sides = (tables.synthetic, tables.held)
    if census is None:
        census = Census.of(sides, schema, least, quasi)
        census.add(tables.train)
    if min(table.num_rows for table in (*sides, tables.train)) < FEWEST:
        why = f"needs {FEWEST} rows of each table"
        return [skipped(name, "risk", note, why) for name, note in NOTES.items()]
    return [
        _rare(sides, census),
        _combined(census),
        _near(tables, schema, generator),
        _over("exact_copies", *(census.rows.side(place) > 0 for place in (0, 1))),
    ]


def _over(name: str, hits: Bools, control: Bools, **details: float) -> Risk:
    return over_control(name, hits, control, NOTES[name], **details)


def _rare(sides: Sequence[pa.Table], census: Census) -> Risk:
    """By rows that hold a rare training value, and beside it by how many such values are shown."""
    hits, shown = [], [0, 0]
    for place, side in enumerate(sides):
        found = census.rare(side, place)
        hits.append(np.logical_or.reduce(list(found.values())))
        for name, rare in found.items():
            shown[place] += len(np.unique(census.columns[name].sought.places[place][rare]))
    return _over("rare_values", *hits, shown=float(shown[0]), shown_control=float(shown[1]))


def _combined(census: Census) -> Risk:
    name = "rare_combinations"
    if census.combinations is None:
        why = "needs two columns that others may know; name them"
        return skipped(name, "risk", NOTES[name], why)
    return _over(name, *(census.combinations.side(place) == 1 for place in (0, 1)))


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
