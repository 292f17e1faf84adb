"""Columns of a table as the user knows them: names, kinds, Arrow types, order."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc

from raysynth.errors import ConfigError, TableError, nearest

Kind = Literal["category", "number", "boolean", "time", "identifier", "personal", "text"]

# Arrow types that come back exactly as they went in. Everything else is refused by name.
TYPES = {
    str(kind): kind
    for kind in (
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.large_string()),
    )
}


_PLAIN = {
    str(kind): kind
    for kind in (
        *TYPES.values(),
        *(pa.float16(), pa.date32(), pa.date64(), pa.string_view()),
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
    if text in _PLAIN:
        return _PLAIN[text]
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
    """One column: its name, its kind, and the Arrow type that a sampled table restores."""

    name: str
    kind: Kind
    type: pa.DataType


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in order."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(column.name for column in self.columns)

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
        """Guess each column's kind from its Arrow type.

        `drop` leaves columns out; `categories` makes whole-number columns categories (codes).
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
                f"column names must be unique, but {_quoted(twice)} occurs more than once; "
                "rename one of them"
            )
        kept = [field for field in arrow if field.name not in set(drop)]
        if not kept:
            raise TableError("the table has no column left to model; drop fewer columns")
        return cls(tuple(_infer(field, field.name in set(categories)) for field in kept))

    def to_json(self) -> list[dict[str, str]]:
        """A JSON value that `from_json` turns back into an equal schema."""
        return [{"name": c.name, "kind": c.kind, "type": str(c.type)} for c in self.columns]

    @classmethod
    def from_json(cls, value: list[dict[str, Any]]) -> Self:
        """The schema that `to_json` described."""
        return cls(tuple(Column(v["name"], v["kind"], arrow_type(v["type"])) for v in value))


def select(table: pa.Table, schema: Schema) -> pa.Table:
    """The schema's columns of `table`, in its order and types; NaN becomes null.

    Dictionary-encoded columns are decoded. Raises `TableError` naming columns that are missing or
    that cannot be read as the expected type.
    """
    missing = [name for name in schema.names if name not in table.schema.names]
    if missing:
        raise TableError(
            f"the table lacks {_quoted(missing)}; expected the columns the run was trained on"
        )
    twice = [name for name in schema.names if table.schema.names.count(name) > 1]
    if twice:
        raise TableError(f"{_quoted(twice)} occurs more than once in the table; rename one of them")
    arrays = []
    for column in schema.columns:
        array = table.column(column.name)
        if array.type != column.type:
            try:
                array = array.cast(column.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                # Arrow's own message quotes the cell that does not fit, so it is not passed on.
                raise TableError(
                    f"column '{column.name}' should be {column.type} but is {array.type} and "
                    "does not convert without loss"
                ) from None
        if pa.types.is_floating(column.type):
            array = pc.if_else(pc.is_nan(array), pa.scalar(None, column.type), array)
        arrays.append(array)
    return pa.table(arrays, schema=schema.arrow)


def _infer(field: pa.Field, category: bool) -> Column:
    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return Column(field.name, "boolean", kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Column(field.name, "category", kind)
    if str(kind) in TYPES:
        if category and not pa.types.is_integer(kind):
            raise ConfigError(
                f"categories: column '{field.name}' is {kind}; only whole-number, text and "
                "boolean columns can be categories"
            )
        return Column(field.name, "category" if category else "number", kind)
    raise TableError(
        f"column '{field.name}' is {field.type}, a kind that is not supported yet; leave it out "
        f"with --drop '{field.name}' (drop=['{field.name}'] in Python)"
    )


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
