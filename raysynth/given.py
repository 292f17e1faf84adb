"""What is asked of a sample, as bounds on codes.

A category is one value. A number or a time is one value or a range with both ends in it: a pair
(low, high) with None for an end that is open, or text as a command line has it: `30..40`, `30..`,
`..40`, `2020-01-01..2020-12-31`.

The bounds of a range are found on the codec itself: within each index it decodes a scalar to a
value that never falls as the scalar rises, so bisecting the scalars that a float32 tells apart, a
grid of 2 ** -24, finds the outermost ones that decode into the range. So whatever is drawn between
them does, rounding and all.

Where relations of the table write a column, what is asked of it is asked of those it follows from:
all products of a class for the class, one value of a category for a flag.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from raysynth import relate
from raysynth.arrays import is_text, plain, plain_type, stored
from raysynth.codecs import Codec, ColumnCodes
from raysynth.errors import GivenError, nearest
from raysynth.hashing import Chance
from raysynth.layout import Bounds, ColumnSpans
from raysynth.relations import Range, Relation, Values, Wish
from raysynth.schema import Column, quoted
from raysynth.table import TableCodec

FINEST = 2**24
BETWEEN = ".."

Ints = NDArray[np.int64]
Marks = NDArray[np.bool_]


def bounds_of(table: TableCodec, given: Mapping[str, Any]) -> dict[str, Bounds]:
    """`given` by column. Values may be text, as a command line has them.

    Raises `GivenError` for what no row can have, never repeating the value.
    """
    modelled = {spans.name: spans for spans in table.layout.columns}
    found: dict[str, Bounds] = {}
    for name, value in given.items():
        for one, what in _wishes(table, name, value):
            codec = table.codecs[table.reduced.names.index(one)]
            bounds = _bounds(what, name, codec, modelled[one])
            found[one] = found[one].both(bounds) if one in found else bounds
            if not len(found[one].allowed):
                raise GivenError(f"given: no row holds '{name}' as asked and the rest, too")
    return found


def _wishes(table: TableCodec, name: str, value: Any) -> list[tuple[str, Wish]]:
    """What to ask of reduced columns for the column `name` to hold `value`."""
    spans = {column.name: column for column in table.layout.columns}
    written = {one for relation in table.relations for one in relation.written}
    if name not in table.schema.names:
        known = [one for one in table.schema.names if one in spans or one in written]
        raise GivenError(f"given: no column is called '{name}'; {nearest(name, known)}")
    column = table.schema[name]
    if name not in spans and name not in written:
        raise GivenError(f"given: '{name}' is a {column.kind} column, and nothing is learned of it")
    choice = spans[name].choice if name in spans else None
    category = not column.measured if choice is None else choice.kind == "category"
    wish: Wish = Values((_typed(value, column),))
    if value is not None and not category:
        wish = Range(*_ends(value, column))
        if None not in wish and pc.less(wish.high, wish.low).as_py():
            raise GivenError(f"given: the range of '{name}' ends before it begins")
    wishes = relate.asked(table.relations, name, wish)
    if isinstance(wishes, Relation):
        others = quoted(one for one in (*wishes.sources, *wishes.written) if one != name)
        raise GivenError(
            f"given: '{name}' cannot be asked for, because {wishes.text}; ask for {others}, or "
            f"train with without_relations = ['{name}']"
        )
    return wishes


def not_null(codec: Codec, spans: ColumnSpans) -> Bounds:
    """Any value of a column but null."""
    return _bounds(Values((None,), but=True), spans.name, codec, spans)


def _bounds(wish: Wish, name: str, codec: Codec, spans: ColumnSpans) -> Bounds:
    """What is asked of the column of `spans` so that the column `name` holds what it should."""
    if isinstance(wish, Range):
        return _between(wish.low, wish.high, name, codec, spans)
    found = [codec.index_of(value) for value in wish.values]
    indices = [index for index in found if index is not None]
    if not wish.but and not indices:
        raise GivenError(
            f"given: column '{name}' has no such value, or fewer rows hold it than may be shown; "
            "the values it has are in the run's table.json"
        )
    lows = torch.full((spans.size,), -1.0 if wish.but else 1.0)
    lows[indices] *= -1.0
    return Bounds(lows, torch.where(lows > 0, -1.0, 1.0))


def _between(low: Any, high: Any, name: str, codec: Codec, spans: ColumnSpans) -> Bounds:
    """The scalars of each index that decode to `low` or more and `high` or less."""
    indices = np.arange(spans.size)

    def decoded(places: Ints) -> pa.Array:
        scalars = (places / FINEST - 1.0).astype(np.float32)
        codes = ColumnCodes(
            indices.astype(np.int32)[:, None][:, : spans.choice is not None],
            scalars[:, None][:, : spans.scalar is not None],
        )
        return stored(codec.decode(codes, Chance(indices.astype(np.uint64), 0, 0)))

    def at_least(places: Ints) -> Marks:
        return _true(pc.greater_equal, decoded(places), low)

    def at_most(places: Ints) -> Marks:
        return _true(pc.less_equal, decoded(places), high)

    # From the other end, so that both look for the first place that is.
    firsts = _first(at_least, spans.size)
    lasts = 2 * FINEST - _first(lambda places: at_most(2 * FINEST - places), spans.size)
    there = at_least(firsts) & at_most(lasts) & (firsts <= lasts)
    if not there.any():
        raise GivenError(
            f"given: column '{name}' holds nothing there, or fewer rows do than may be shown; the "
            "range it has is in the run's table.json"
        )
    lows = np.where(there, firsts / FINEST - 1.0, 1.0)
    highs = np.where(there, lasts / FINEST - 1.0, -1.0)
    bare = ~spans.says(torch.from_numpy(indices)).numpy() | (spans.scalar is None)
    lows[bare & there], highs[bare & there] = -1.0, 1.0
    return Bounds(torch.from_numpy(lows).float(), torch.from_numpy(highs).float())


def _first(holds: Callable[[Ints], Marks], size: int) -> Ints:
    """The first place of each index, of 0 to 2 `FINEST`, where `holds`; the last if none does."""
    left, right = np.zeros(size, np.int64), np.full(size, 2 * FINEST)
    while (left < right).any():
        middle = (left + right) // 2
        found = holds(middle)
        right, left = np.where(found, middle, right), np.where(found, left, middle + 1)
        left = np.minimum(left, right)
    return left


def _true(compare: Callable[..., pa.Array], values: pa.Array, end: pa.Scalar | None) -> Marks:
    """Where `compare` says yes of values (B,); null never is."""
    found = values.is_valid() if end is None else compare(values, end).fill_null(False)
    return np.asarray(found, np.bool_)


def _ends(value: Any, column: Column) -> tuple[Any, Any]:
    """Both ends of a range of the column's type, as Arrow compares them; None where open."""
    if isinstance(value, str) and BETWEEN in value:
        low, _, high = value.partition(BETWEEN)
        value = (low.strip() or None, high.strip() or None)
    if not isinstance(value, tuple | list):
        value = (value, value)
    if len(value) != 2 or value == (None, None):
        raise GivenError(f"given: a range of '{column.name}' has two ends, one of them may be open")
    return _scalar(value[0], column), _scalar(value[1], column)


def _scalar(value: Any, column: Column) -> Any:
    if value is None:
        return None
    kind = plain_type(column.type)
    with suppress(pa.ArrowException, TypeError, ValueError, OverflowError):
        array = pa.array([value]).cast(kind) if isinstance(value, str) else pa.array([value], kind)
        if not pa.types.is_floating(kind) or not np.isnan(array[0].as_py()):
            return stored(array)[0]
    raise GivenError(
        f"given: '{column.name}' is {column.type}; expected a value of that type, or a range of "
        f"them with '{BETWEEN}' between its ends"
    )


def _typed(value: Any, column: Column) -> Any:
    """A category's value, of what may be text."""
    if not isinstance(value, str) or is_text(column.type):
        return value
    if column.kind == "boolean":
        return {"true": True, "false": False}.get(value.lower(), value)
    with suppress(pa.ArrowException):
        return plain(pa.array([value]).cast(plain_type(column.type)))[0].as_py()
    return value
