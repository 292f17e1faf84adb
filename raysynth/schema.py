"""Columns of a table as the user knows them: names, kinds, Arrow types, order."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import pyarrow as pa
import pyarrow.compute as pc

from raysynth.arrays import is_encoded, is_text, is_time, plain, plain_type
from raysynth.errors import ConfigError, TableError, nearest

Kind = Literal["category", "number", "boolean", "time", "identifier", "personal", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Arrow types without a parameter that are modelled and come back exactly as they went in.
TYPES = {
    str(kind): kind
    for kind in (
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float16(), pa.float32(), pa.float64(), pa.bool_()),
        *(pa.string(), pa.large_string(), pa.string_view(), pa.date32(), pa.date64()),
        *(pa.time32(unit) for unit in ("s", "ms")),
        *(pa.time64(unit) for unit in ("us", "ns")),
        *(make(unit) for make in (pa.timestamp, pa.duration) for unit in ("s", "ms", "us", "ns")),
    )
}
_ZONED = re.compile(r"timestamp\[(s|ms|us|ns), tz=([^\]]+)\]")
_DECIMAL = re.compile(r"decimal(32|64|128|256)\((\d+), (-?\d+)\)")
_DICTIONARY = re.compile(r"dictionary<values=(.+), indices=(u?int\d+), ordered=([01])>")


def arrow_type(text: str) -> pa.DataType:
    """The Arrow type that `str` wrote as `text`; `ValueError` for one that is not modelled."""
    if text in TYPES:
        return TYPES[text]
    if found := _ZONED.fullmatch(text):
        return pa.timestamp(found[1], tz=found[2])
    if found := _DECIMAL.fullmatch(text):
        return getattr(pa, f"decimal{found[1]}")(int(found[2]), int(found[3]))
    if found := _DICTIONARY.fullmatch(text):
        ordered = found[3] == "1"
        return pa.dictionary(arrow_type(found[2]), arrow_type(found[1]), ordered=ordered)
    raise ValueError(f"no Arrow type that is modelled: {text}")


@dataclass(frozen=True)
class Column:
    """One column: its name, its kind, and the Arrow type that a sampled table restores.

    `codec` is None where the family's for the kind will do. `form` is what personal data or text is
    ("email"). `why` says in a phrase what the kind was guessed from.
    """

    name: str
    kind: Kind
    type: pa.DataType
    codec: str | None = None
    form: str | None = None
    why: str = ""

    @property
    def measured(self) -> bool:
        """Whether values are numbers or times, which lie nearer and further apart."""
        return self.kind in ("number", "time")

    @property
    def modelled(self) -> bool:
        """Whether values are learned from; those of other columns are invented."""
        return self.kind in ("number", "time", "category", "boolean")


_SETTLED = ("codec", "form", "why")


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def modelled(self) -> Self:
        """The columns that are learned from, and that a synthetic table is judged by."""
        return type(self)(tuple(column for column in self.columns if column.modelled))

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema of a decoded table."""
        return pa.schema([(column.name, column.type) for column in self.columns])

    def __getitem__(self, name: str) -> Column:
        """The column called `name`; `TableError` naming the nearest where there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise TableError(f"no column is called '{name}'; {nearest(name, self.names)}")

    @classmethod
    def infer(
        cls, arrow: pa.Schema, drop: Sequence[str] = (), categories: Sequence[str] = ()
    ) -> Self:
        """Each column's kind as far as its Arrow type tells; `guess.settle` goes on from there.

        `drop` leaves columns out; `categories` makes columns of whole numbers categories (codes).
        Raises `ConfigError` for an unknown name, `TableError` for a repeated name, a kind not
        supported, or no column left.
        """
        for option, names in (("drop", drop), ("categories", categories)):
            for name in names:
                if name not in arrow.names:
                    close = nearest(name, arrow.names)
                    raise ConfigError(f"{option}: no column is called '{name}'; {close}")
        twice = sorted({name for name in arrow.names if arrow.names.count(name) > 1})
        if twice:
            raise TableError(
                f"column names must be unique, but {quoted(twice)} occurs more than once; "
                "rename one of them"
            )
        kept = [field for field in arrow if field.name not in set(drop)]
        if not kept:
            raise TableError("the table has no column left to model; drop fewer columns")
        return cls(tuple(_infer(field, field.name in set(categories)) for field in kept))

    def to_json(self) -> list[dict[str, str]]:
        """A JSON value that `from_json` turns back into an equal schema."""
        return [
            {
                "name": column.name,
                "kind": column.kind,
                "type": str(column.type),
                **{key: getattr(column, key) for key in _SETTLED if getattr(column, key)},
            }
            for column in self.columns
        ]

    @classmethod
    def from_json(cls, value: list[dict[str, Any]]) -> Self:
        """The schema that `to_json` described."""
        return cls(
            tuple(
                Column(
                    *(v["name"], v["kind"], arrow_type(v["type"])),
                    **{key: v[key] for key in _SETTLED if key in v},
                )
                for v in value
            )
        )


def select(table: pa.Table, schema: Schema, encoded: bool = False) -> pa.Table:
    """The schema's columns of `table`, in its order, as `arrays.plain`; NaN becomes null.

    A column that is so already is not copied. With `encoded`, one of strings may stay a dictionary
    without nulls. Raises `TableError` naming columns that are missing
    or that cannot be read as the expected type.
    """
    missing = [name for name in schema.names if name not in table.schema.names]
    if missing:
        raise TableError(
            f"the table lacks {quoted(missing)}; expected the columns the run was trained on"
        )
    twice = [name for name in schema.names if table.schema.names.count(name) > 1]
    if twice:
        raise TableError(f"{quoted(twice)} occurs more than once in the table; rename one of them")
    arrays = [_plain(table.column(column.name), column, encoded) for column in schema.columns]
    return pa.table(arrays, list(schema.names))


def quoted(names: Iterable[str]) -> str:
    """Names for a message."""
    return ", ".join(f"'{name}'" for name in names)


def _plain(array: pa.ChunkedArray, column: Column, encoded: bool) -> pa.ChunkedArray:
    if encoded and column.type == pa.string() and is_encoded(array):
        return array
    array, kind = plain(array), plain_type(column.type)
    if array.type != kind:
        try:
            array = array.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            # Arrow's own message quotes the cell that does not fit, so it is not passed on.
            raise TableError(
                f"column '{column.name}' should be {column.type} but is {array.type} and "
                "does not convert without loss"
            ) from None
    if pa.types.is_floating(kind):
        nan = pc.is_nan(array)
        if pc.any(nan).as_py():
            array = pc.if_else(nan, pa.scalar(None, kind), array)
    return array


def _infer(field: pa.Field, category: bool) -> Column:
    kind = plain_type(field.type)
    try:
        arrow_type(str(field.type))
    except ValueError:
        raise TableError(
            f"column '{field.name}' is {field.type}, a kind that cannot be modelled; leave it out "
            f"with --drop '{field.name}' (drop=['{field.name}'] in Python)"
        ) from None
    if category and pa.types.is_floating(kind):
        raise ConfigError(
            f"categories: column '{field.name}' is {kind}; fractions are measures, so only columns "
            "of whole numbers, text, booleans and times can be categories"
        )
    if pa.types.is_boolean(field.type):
        return Column(field.name, "boolean", field.type)
    if category or is_text(kind) or pa.types.is_dictionary(field.type):
        return Column(field.name, "category", field.type)
    return Column(field.name, "time" if is_time(kind) else "number", field.type)
