"""Relations that hold in every row of a table: a detector sees at once where one is broken.

A likelihood only comes near to `total = net + tax`; so a relation is taken out of what is modelled,
and put back by construction. Each **reduces** a table before its columns are encoded (a column that
follows from others is dropped, one that is never below another becomes the distance to it, flags of
which one is set become one category) and **restores** it after they are decoded, whatever the codes
say. Codecs and models never know. Relations are applied one after the other, and restored in the
reverse order; a column that one writes is touched by no other, but where a kind says how both hold.

One file a kind; the file name is the registry. `KINDS` is the order they are looked for in: what
drops columns comes first. Each holds a frozen dataclass `Kind` that goes to JSON and back.

**Tolerance.** Whole numbers, decimals, categories and orders hold exactly. What is computed in
floats is rounded to its column's decimals, where the sample has at most `numeric.DECIMALS`, and is
held to half a unit of the last; else to its significant digits, where the sample has few
(`values.DIGITS`), and is held to `values.NEAR` of the largest term.

**Privacy.** A relation is kept only if it would break in `EVIDENCE` times `least` rows or more,
were its columns of no relation, and where `least` holders have what it speaks of. It writes down
column names, factors that all rows share, values that `least` hold, edges midway between shares of
as many, and ends of a range that as many lie beyond.

Longer than other files: the protocol of all kinds, with the tolerances and rules that they share.

Shapes: B rows.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.arrays import plain_type, stored
from raysynth.errors import ConfigError, nearest
from raysynth.hashing import Chance, Floats
from raysynth.numeric import EXACT, distinct
from raysynth.schema import Column, Schema, quoted
from raysynth.summary import Counters, Summary
from raysynth.values import Mask, Number, column, floats, is_number

KINDS = (
    *("equal", "choice", "lookup", "distance", "product", "total", "shares"),
    *("together", "order", "rate", "gap"),
)
EVIDENCE = 2  # times `least`
MOST = 256  # columns of a table that one kind looks at, the first ones: pairs grow as the square
PROBED = 2_000  # rows that candidates are tried on before all of the sample


class Values(NamedTuple):
    """A wish: one of these values; or with `but`, any other."""

    values: tuple[Any, ...]
    but: bool = False


class Range(NamedTuple):
    """A wish: values from `low` to `high`, Arrow scalars of `stored` values; None is open."""

    low: pa.Scalar | None
    high: pa.Scalar | None


Wish: TypeAlias = Values | Range


class Follows(NamedTuple):
    """A column is null, or 0, wherever `source` is; with `exact` nowhere else."""

    what: str
    source: str
    exact: bool


@dataclass(frozen=True)
class View:
    """What relations are looked for in: a summary, reduced by those that were found before.

    `settled` are columns that a relation writes, `apart` those that the user speaks for. `masks`
    are relations by which a settled column may yet be in an order; `orders` are those found.
    """

    summary: Summary
    least: int
    settled: frozenset[str] = frozenset()
    apart: frozenset[str] = frozenset()
    masks: Mapping[str, Follows] = field(default_factory=dict)
    orders: tuple["Relation", ...] = ()
    _read: dict[str, Floats] = field(default_factory=dict, compare=False, repr=False)

    def array(self, name: str) -> pa.Array:
        """A column of the sample, `arrays.plain`."""
        return column(self.summary.sample, name)

    def floats(self, name: str) -> Floats:
        """A column of numbers in the sample, NaN for null."""
        if name not in self._read:
            self._read[name] = floats(self.summary.sample, name)
        return self._read[name]

    def numbers(self, *kinds: str, masked: bool = False, most: int = MOST) -> list[str]:
        """Columns of these kinds whose values floats tell apart, and that are not all one."""
        there = [one for one in self.open(masked) if one.kind in kinds and is_number(one.type)]
        units = {one.name: 10 ** getattr(plain_type(one.type), "scale", 0) for one in there}
        ends = {name: self.ends(name) for name in units}
        found = [n for n, two in ends.items() if two and max(map(abs, two)) * units[n] <= EXACT]
        return found[:most]

    def number(self, name: str) -> Number:
        """How a column of numbers in the sample is written."""
        return Number.of(self.summary.schema[name].type, self.floats(name))

    def open(self, masked: bool = False) -> list[Column]:
        """Modelled columns that a relation may be about; `masked`: that follow others, too."""
        masks = {*self.masks, *(order.written[0] for order in self.orders)} if masked else set()
        return [
            told
            for told in self.summary.schema.columns
            if told.modelled
            and told.codec is None
            and told.name not in self.apart
            and (told.name not in self.settled or told.name in masks)
        ]

    def ends(self, name: str) -> tuple[float, float] | None:
        """The lowest and the highest value of a column of numbers, None where there are not two."""
        counters = self.summary[name].counters
        if pa.types.is_boolean(plain_type(self.summary.schema[name].type)):
            return (0.0, 1.0) if counters.counts is not None and len(counters.counts) > 1 else None
        low, high = counters.minimum, counters.maximum
        return None if low is None or low == high else (float(low), float(high))

    def held(self, rows: Mask) -> bool:
        """Whether enough holders have the marked rows of the sample, (B,)."""
        return bool(distinct(self.summary.holders[rows]) >= self.least)

    def tells(self, breaks: float) -> bool:
        """Whether so many rows, broken if columns had no relation, are evidence."""
        return breaks >= EVIDENCE * self.least


class Relation(ABC):
    """One relation of a table: a frozen value that goes to JSON and back."""

    kind: ClassVar[str]
    late: ClassVar[int] = 0  # of what was found, what is later reduces after and is restored before

    @classmethod
    @abstractmethod
    def find(cls, view: View) -> "Sequence[Relation]":
        """Those that hold in the sample, in the order they are to reduce it."""

    @classmethod
    @abstractmethod
    def of(cls, names: Sequence[str], view: View) -> "Sequence[Relation]":
        """The relation that the user says these columns have. Raises `ConfigError`."""

    @property
    @abstractmethod
    def sources(self) -> tuple[str, ...]:
        """The columns that restoring reads and leaves."""

    @property
    @abstractmethod
    def written(self) -> tuple[str, ...]:
        """The columns that restoring writes."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The relation in a line, for people."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """Those of `written` that are not in a reduced table."""
        return self.written

    @property
    def made(self) -> tuple[str, ...]:
        """Columns of a reduced table that are not what they were in the table, or not in it."""
        return tuple(name for name in self.written if name not in self.dropped)

    @property
    def mask(self) -> "Follows | None":
        """What `written` must do where another column does it, for an order to know."""
        return None

    @abstractmethod
    def broken(self, table: pa.Table) -> Mask:
        """Which rows (B,) of a table, reduced by the relations before, break it."""

    def columns(self, schema: Schema) -> Schema:
        """The schema of a reduced table."""
        return Schema(tuple(told for told in schema.columns if told.name not in self.dropped))

    def reduce(self, table: pa.Table) -> pa.Table:
        """A table (B rows), as `schema.select` gives it, without what follows from the rest."""
        return table.drop_columns(list(self.dropped))

    @abstractmethod
    def restore(self, table: pa.Table, chance: Chance) -> pa.Table:
        """A reduced table (B rows) with what it had before, the columns in any order.

        `chance` (B rows) settles random choices.
        """

    def reduced(self, summary: Summary) -> Summary:
        """The summary of the reduced table: of columns that are new, from the sample."""
        schema = self.columns(summary.schema)
        sample = self.reduce(summary.sample)
        old = dict(zip(summary.schema.names, summary.counters, strict=True))
        counters = [
            old[name]
            if name in old and name not in self.written
            else _counters(column(sample, name), summary.rows)
            for name in schema.names
        ]
        return replace(summary, schema=schema, sample=sample, counters=tuple(counters))

    def asked(self, name: str, wish: "Wish") -> "Mapping[str, Wish] | None":
        """What to ask of columns of the reduced table, for `name` of `written` to be as wished.

        None where no wishes do.
        """
        return None

    def unknown(self, nulls: Mapping[str, Mask]) -> dict[str, Mask]:
        """Where columns of the reduced table are unknown, by where those of a table are."""
        return {name: rows for name, rows in nulls.items() if name not in self.dropped}

    @property
    def telling(self) -> tuple[str, ...]:
        """Columns of the reduced table whose null is not a null of the table's."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """A JSON value that `from_json` turns back into an equal relation."""
        return {"kind": self.kind, **asdict(cast("Any", self))}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The relation that `to_json` described."""
        return cls(**{name: _read(told) for name, told in value.items()})


class Mending(Relation):
    """One that leaves what is modelled as it was, and mends the rows that were drawn."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """None."""
        return ()

    def reduce(self, table: pa.Table) -> pa.Table:
        """See `Relation`: a table is as it was."""
        return table

    def reduced(self, summary: Summary) -> Summary:
        """See `Relation`: so is its summary."""
        return summary


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_read, value))
    return Number(**value) if isinstance(value, dict) else value


def _counters(values: pa.Array, rows: int) -> Counters:
    """What is known of a column of `rows` rows by those in the sample."""
    nulls = round(values.null_count * rows / max(1, len(values)))
    return Counters(nulls, 0, None, None, None)


def holds(wish: Wish, values: pa.Array) -> Mask:
    """Which of these plain values (B,) are as wished."""
    if isinstance(wish, Values):
        return np.array([(value in wish.values) != wish.but for value in values.to_pylist()], bool)
    found = pa.array(np.asarray(values.is_valid()))
    for end, compare in ((wish.low, pc.greater_equal), (wish.high, pc.less_equal)):
        if end is not None:
            found = pc.and_(found, compare(stored(values), end).fill_null(False))
    return np.asarray(found)


def told(
    kind: str, names: Sequence[str], least: int, most: int | None = None, view: View | None = None
) -> Sequence[str]:
    """The columns that the user names for a relation, or `ConfigError`; `view` where of numbers."""
    most = least if most is None else most
    if not least <= len(names) <= most or len(set(names)) < len(names):
        count = f"{least}" if least == most else f"{least} or more"
        raise ConfigError(f"relations: '{kind}' is of {count} columns, got {quoted(names)}")
    numbers = view.numbers("number", "category", "boolean", most=sys.maxsize) if view else names
    for name in names:
        if name not in numbers:
            raise ConfigError(
                f"relations: '{kind}' is of numbers, and '{name}' is no column of numbers, of "
                "two values or more that 64 bits hold exactly"
            )
    return names


def get(name: str) -> type[Relation]:
    """The kind called `name`; `ConfigError` naming the nearest where there is none."""
    if name not in KINDS:
        raise ConfigError(f"relations: no kind is called '{name}'; {nearest(name, KINDS)}")
    return cast("type[Relation]", import_module(f"{__name__}.{name}").Kind)
