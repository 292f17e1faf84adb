"""Canaries: rows and values planted in a table before training, and looked for in what comes out.

Nobody's, so what is found of them was remembered and not learned (Carlini, Liu, Erlingsson, Kos &
Song, "The Secret Sharer: Evaluating and Testing Unintended Memorization in Neural Networks", USENIX
Security 2019, arXiv 1802.08232). Others are drawn alike and never planted, as many values, twice
as many rows: the control, and one half of the rows to say what is near.

- **rows**: of values each common in its column, in a combination that no row of the table has: a
  category as often held as `COMMON` says, a number or time between the quantiles `MIDDLE`.
- **values**: in rows of the table, one cell exchanged for a value that nobody has: a text made up,
  a number or time `BEYOND` times its column's range over the largest, whole where the range has
  room. A column that cannot hold such a value (a boolean, a time of day, a decimal, a type too
  narrow) has none.

Departure from Carlini et al.: they rank canaries by the model's likelihood, which a released table
does not tell; here by the distance to the closest synthetic row. `exposure` is the mean over
planted rows of log2 (N + 1) / rank among N rows never planted, about 1.44 where nothing was
remembered and log2 (N + 1) where each planted row is nearer than all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.arrays import is_text, stored, stored_type, unstored
from raysynth.errors import TableError
from raysynth.frames import Bools, Integers, codes, floats, keys
from raysynth.points import nearest, points
from raysynth.risks import FEWEST, Risk, auc, over_control, skipped
from raysynth.schema import Column, Schema

COMMON = 0.01  # of the rows hold a category of a canary
MIDDLE = (0.01, 0.99)
BEYOND = (2.0, 4.0)
NEAR = 0.05
ROUNDS = 20

ROWS_NOTE = (
    "The share of planted rows that have a synthetic row nearer than one in twenty rows never "
    "planted has, over that of rows never planted: 0 is nothing remembered, 1 is all."
)
VALUES_NOTE = (
    "The share of planted values, each in a single training row, that the synthetic table shows, "
    "over that of values never planted: 0 is nothing remembered, 1 is all."
)


Values = dict[str, pa.Array]


@dataclass(frozen=True)
class Canaries:
    """What was planted, and what was not; values by column, as stored."""

    rows: pa.Table
    other_rows: pa.Table
    values: Values
    other_values: Values


def plant(
    table: pa.Table,
    schema: Schema,
    rows: int,
    generator: np.random.Generator,
    values: int = 0,
    times: int = 1,
) -> tuple[pa.Table, Canaries]:
    """`table` with `rows` canary rows, each planted `times` times, in an order drawn anew.

    Of each column that can hold canary values, `values` cells of other rows are exchanged for one,
    which puts numbers far out: a training that is to be compared with another has none. The table
    is as `select` gives it. Raises `TableError` where it has too few rows for so many values, and
    where fewer combinations of its common values are left than canaries are asked for.
    """
    drawn = _drawn(table, schema, 3 * rows, generator)
    own, others = drawn.slice(0, rows), drawn.slice(rows)
    with_values, planted, spared = _exchanged(table, schema, values, generator)
    whole = pa.concat_tables([with_values, *[own] * times])
    whole = whole.take(generator.permutation(whole.num_rows))
    return whole, Canaries(own, others, planted, spared)


def found(synthetic: pa.Table, canaries: Canaries, schema: Schema) -> list[Risk]:
    """What a generator trained on the planted table gives away: of rows, and of values.

    Skipped where fewer were planted than `risks.FEWEST`.
    """
    return [_found_rows(synthetic, canaries, schema.modelled), _found_values(synthetic, canaries)]


def _found_rows(synthetic: pa.Table, canaries: Canaries, schema: Schema) -> Risk:
    name = "canary_rows"
    if min(synthetic.num_rows, canaries.rows.num_rows) < FEWEST:
        why = f"needs {FEWEST} planted rows, and as many synthetic ones"
        return skipped(name, "risk", ROWS_NOTE, why)
    # Scaled by rows that were never planted: far out values would leave no room for all others.
    spared, planted, made = points([canaries.other_rows, canaries.rows, synthetic], schema)
    own, others = (nearest(side, made)[1] for side in (planted, spared))
    usual, control = np.array_split(others, 2)
    reach, ranked = np.quantile(usual, NEAR), np.sort(others)
    nearer = [np.searchsorted(ranked, own, side=side) for side in ("left", "right")]
    rank = 1 + (nearer[0] + nearer[1]) / 2
    details = {
        "exact": float(np.mean(own == 0)),
        "auc": auc(-own, -others).value,
        "exposure": float(np.mean(np.log2((len(others) + 1) / rank))),
    }
    return over_control(name, own <= reach, control <= reach, ROWS_NOTE, **details)


def _found_values(synthetic: pa.Table, canaries: Canaries) -> Risk:
    name = "canary_values"
    if not canaries.values:
        return skipped(name, "risk", VALUES_NOTE, "needs planted values")

    def shown(values: Values) -> Bools:
        sides = [
            pc.is_in(one, stored(synthetic.column(column)).combine_chunks())
            for column, one in values.items()
        ]
        return np.concatenate([side.to_numpy(zero_copy_only=False) for side in sides])

    return over_control(name, shown(canaries.values), shown(canaries.other_values), VALUES_NOTE)


# -- rows -------------------------------------------------------------------------------------


def _drawn(table: pa.Table, schema: Schema, count: int, generator: np.random.Generator) -> pa.Table:
    """So many different rows of common values, none of them a row of `table`."""
    names, kept = schema.modelled.names, table.slice(0, 0)
    pools = {column.name: _common(table, column) for column in schema.columns}
    for _ in range(ROUNDS if count else 0):
        columns = [
            table.column(name).take(generator.choice(pools[name], 2 * count))
            for name in table.schema.names
        ]
        kept = pa.concat_tables([kept, pa.table(columns, schema=table.schema)])
        own, new = keys([table, kept], names)
        first = np.sort(np.unique(new, return_index=True)[1])
        kept = kept.take(first[~np.isin(new[first], own)][:count])
        if kept.num_rows == count:
            return kept
    if count:
        raise TableError(
            f"the table leaves {kept.num_rows} combinations of common values that no row has, but "
            f"{count} are needed; plant fewer canaries"
        )
    return kept


def _common(table: pa.Table, column: Column) -> Integers:
    """The rows whose value in the column is common; all where none is."""
    if column.measured:
        values = floats(table, column.name)
        present = values[~np.isnan(values)]
        low, high = np.quantile(present, MIDDLE) if len(present) else (0.0, 0.0)
        common = np.isnan(values) | ((values >= low) & (values <= high))
    else:
        (code,), size = codes([table], column.name)
        common = (np.bincount(code, minlength=size) >= COMMON * len(code))[code]
    return np.flatnonzero(common if common.any() else np.ones_like(common))


# -- values -----------------------------------------------------------------------------------


def _exchanged(
    table: pa.Table, schema: Schema, count: int, generator: np.random.Generator
) -> tuple[pa.Table, Values, Values]:
    """`table` with `count` canary values a column, each in a row of its own; and as many spared."""
    made = {}
    for column in schema.columns if count else ():
        drawn = _beyond(table.column(column.name), column, 2 * count, generator)
        if drawn is not None:
            made[column.name] = drawn
    if len(made) * count > table.num_rows:
        raise TableError(
            f"{len(made) * count} canary values need as many rows, but the table has "
            f"{table.num_rows}; plant fewer"
        )
    places = generator.permutation(table.num_rows)[: len(made) * count].reshape(len(made), count)
    for (name, drawn), rows in zip(made.items(), places, strict=True):
        place, array = table.schema.names.index(name), table.column(name)
        mask = np.zeros(table.num_rows, dtype=np.bool_)
        mask[rows] = True
        own = unstored(drawn.slice(0, count), array.type)
        changed = pc.replace_with_mask(array.combine_chunks(), mask, own)
        table = table.set_column(place, table.schema.field(name), changed)
    own = {name: drawn.slice(0, count) for name, drawn in made.items()}
    return table, own, {name: drawn.slice(count) for name, drawn in made.items()}


def _beyond(
    array: pa.ChunkedArray, column: Column, count: int, generator: np.random.Generator
) -> pa.Array | None:
    """So many different values that the column has not, as stored; None if it can hold none."""
    kind = stored_type(array.type)
    if column.kind == "category" and is_text(kind):
        numbers = generator.integers(2**48, size=count)
        return pa.array([f"canary-{number:012x}" for number in numbers], kind)
    if not column.modelled or pa.types.is_time(array.type) or array.null_count == len(array):
        return None
    ends = pc.min_max(stored(array)).as_py()
    if pa.types.is_integer(kind):
        step = 86_400_000 if pa.types.is_date64(array.type) else 1  # which holds whole days
        drawn = _whole(ends["min"] // step, ends["max"] // step, count, generator)
        drawn = [value * step for value in drawn]
        return pa.array(drawn, kind) if _holds(array.type, max(drawn)) else None
    if not pa.types.is_floating(kind) or pa.types.is_float16(array.type):
        return None
    width = (ends["max"] - ends["min"]) or 1.0
    apart = np.linspace(*BEYOND, count, endpoint=False) + generator.random(count) / (2 * count)
    values = ends["max"] + width * generator.permutation(apart)
    values = np.floor(values) if width > 2 * count else values
    held = pa.array(values).cast(kind, safe=False)
    return held if pc.all(pc.is_finite(held)).as_py() else None


def _holds(kind: pa.DataType, value: int) -> bool:
    """Whether a column of that type can have the value, as stored, and can show it."""
    if value > np.iinfo(str(stored_type(kind))).max:
        return False
    try:
        unstored(pa.array([value], stored_type(kind)), kind)[0].as_py()
    except (ValueError, OverflowError):  # a year that Python's dates do not have
        return False
    return True


def _whole(low: int, high: int, count: int, generator: np.random.Generator) -> Sequence[int]:
    """So many different whole numbers, `BEYOND` times the range over the largest."""
    width = max(high - low, count)  # wide enough for all
    first, last = (int(times * width) for times in BEYOND)
    step = (last - first) // count
    inside = generator.integers(min(step, 2**62), size=count)
    places = generator.permutation(count)
    return [
        high + first + int(place) * step + int(jitter)
        for place, jitter in zip(places, inside, strict=True)
    ]
