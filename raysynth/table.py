"""All codecs side by side: a table to codes and back. A frozen value that goes to JSON and back.

What the relations of its columns leave of a table is what codecs see (`relate`): `reduced` are the
columns they are of, `schema` those of the table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from raysynth import codecs, relate
from raysynth.arrays import plain, restored
from raysynth.codecs import Codec, ColumnCodes
from raysynth.errors import TableError
from raysynth.hashing import Chance, Ids
from raysynth.layout import Codes, Layout
from raysynth.relations import Relation
from raysynth.schema import Column, Schema, select
from raysynth.summary import Summary
from raysynth.values import Mask

Ints = NDArray[np.int64]

MINIMUM_ROWS = 100
_DECODING = 1_000  # keeps the streams of decoding apart from those of encoding


def check_rows(rows: int, minimum: int = MINIMUM_ROWS) -> None:
    """Refuse, by `TableError`, a table of too few rows."""
    if rows < minimum:
        count = "1 row" if rows == 1 else f"{rows} rows"
        raise TableError(
            f"the table has {count}, and a synthetic copy of so few would show the people in it; "
            f"at least {minimum} rows are needed (minimum_rows in the settings)"
        )


def check(summary: Summary, minimum: int = MINIMUM_ROWS) -> None:
    """Refuse, by `TableError`, a table that no generator can be trained on."""
    check_rows(summary.rows, minimum)
    for column, counters in zip(summary.schema.columns, summary.counters, strict=True):
        leave = f"leave it out with --drop '{column.name}'"
        if counters.infinities:
            raise TableError(
                f"column '{column.name}' holds {counters.infinities} infinite values; make them "
                f"null or finite first, or {leave}"
            )
        if counters.nulls == summary.rows:
            raise TableError(f"column '{column.name}' is all null; {leave}")


def codec_of(column: Column, kinds: Mapping[str, str]) -> str:
    """The name of a column's codec: its own, or that of its kind; `kinds` are the family's."""
    return (
        column.codec
        or {
            "boolean": kinds["category"],
            "time": kinds["number"],
            "identifier": "identifier",
            "personal": "personal",
            "text": "personal",
            **kinds,
        }[column.kind]
    )


@dataclass(frozen=True)
class TableCodec:
    """The relations of a table, one fitted codec a reduced column, and where each writes.

    `rows` is how many the table has; None in runs written before that was kept.
    """

    schema: Schema
    names: tuple[str, ...]
    codecs: tuple[Codec, ...]
    relations: tuple[Relation, ...] = ()
    rows: int | None = None

    @classmethod
    def fit(
        cls,
        summary: Summary,
        kinds: Mapping[str, str],
        *,
        minimum: int = MINIMUM_ROWS,
        relations: tuple[Relation, ...] = (),
        **options: Any,
    ) -> Self:
        """Fit on a table's summary; `kinds` gives the family's codec of numbers and categories.

        `relations` are those of the table (`relate`). `options` go to every codec, which takes
        those it knows. Raises `TableError` for a table of fewer than `minimum` rows, for a column
        that cannot be modelled, and where none is left to learn from.
        """
        check(summary, minimum)
        reduced = relate.reduced(summary, relations)
        chosen = tuple(codec_of(column, kinds) for column in reduced.schema.columns)
        fitted = tuple(
            codecs.get(name).fit(reduced[column.name], **options)
            for name, column in zip(chosen, reduced.schema.columns, strict=True)
        )
        table = cls(summary.schema, chosen, fitted, relations, summary.rows)
        if not table.layout.spans:
            raise TableError(
                "the table has no column to learn from: each is constant, an identifier, personal "
                "data or text; add one, or say what a column is under [columns.NAME]"
            )
        return table

    @cached_property
    def reduced(self) -> Schema:
        """The columns that codecs are of, in order."""
        return relate.columns(self.schema, self.relations)

    @cached_property
    def layout(self) -> Layout:
        """Where each codec writes."""
        pairs = zip(self.reduced.names, self.codecs, strict=True)
        return Layout.of([(name, codec.parts) for name, codec in pairs], self.rows)

    @cached_property
    def shares(self) -> dict[str, tuple[float, ...]]:
        """By column: share of the table's rows in each of its modes or categories."""
        pairs = zip(self.reduced.names, self.codecs, strict=True)
        return {name: codec.shares for name, codec in pairs}

    def encode(self, table: pa.Table, ids: Ids, seed: int) -> Codes:
        """Codes of `table` (B rows) with stable row `ids` (B,), the same for the same seed.

        Raises `TableError` where a column is missing or its type does not convert.
        """
        return self.verify(table, ids, seed)[0]

    def verify(self, table: pa.Table, ids: Ids, seed: int) -> tuple[Codes, Ints]:
        """The codes, as `encode` gives them, and how many rows break each relation, (R,)."""
        table, broken = relate.reduce(select(table, self.schema, encoded=True), self.relations)
        return self._codes(table, ids, seed), broken

    def _codes(self, table: pa.Table, ids: Ids, seed: int) -> Codes:
        """Codes of a reduced table."""
        pieces = [
            codec.encode(table.column(name).combine_chunks(), Chance(ids, seed, place))
            for place, (name, codec) in enumerate(zip(self.reduced.names, self.codecs, strict=True))
        ]
        dtype = torch.empty(0, dtype=self.layout.index_dtype).numpy().dtype
        rows = table.num_rows
        indices = np.empty((rows, len(self.layout.choices)), dtype)
        scalars = np.empty((rows, len(self.layout.scalars)), np.float32)
        np.concatenate([piece.indices for piece in pieces], 1, out=indices, casting="unsafe")
        np.concatenate([piece.scalars for piece in pieces], 1, out=scalars)
        return Codes(torch.from_numpy(indices), torch.from_numpy(scalars))

    def decode(self, codes: Codes, ids: Ids, seed: int) -> pa.Table:
        """The table (B rows) of `codes`, in the schema's types; `ids` (B,) number its rows."""
        return self._restored(self._decoded(codes, ids, seed), ids, seed)

    def fill(
        self, table: pa.Table, unknown: Mapping[str, Mask], codes: Codes, ids: Ids, seed: int
    ) -> pa.Table:
        """`table` (B rows), as `select` gives it, with `codes` for what is unknown of it.

        `unknown` says where, by reduced column. A cell of the table that is known may come back
        another: as relations have it, which follow from what is known of other columns.
        """
        own, drawn = relate.reduce(table, self.relations)[0], self._decoded(codes, ids, seed)
        columns = []
        for column in self.reduced.columns:
            known, new = (plain(side.column(column.name)).combine_chunks() for side in (own, drawn))
            whole = pc.if_else(pa.array(unknown[column.name]), new.cast(known.type), known)
            columns.append(restored(whole, column.type))
        return self._restored(pa.table(columns, schema=self.reduced.arrow), ids, seed)

    def _restored(self, reduced: pa.Table, ids: Ids, seed: int) -> pa.Table:
        if not self.relations:
            return reduced
        return relate.restore(reduced, self.relations, self.schema, ids, seed)

    def _decoded(self, codes: Codes, ids: Ids, seed: int) -> pa.Table:
        """The reduced table of `codes`."""
        indices = codes.indices.cpu().numpy().astype(np.int32)
        scalars = codes.scalars.cpu().numpy()
        arrays, index, scalar = [], 0, 0
        for place, codec in enumerate(self.codecs):
            kinds = [part.kind == "scalar" for part in codec.parts]
            ends = index + kinds.count(False), scalar + kinds.count(True)
            piece = ColumnCodes(indices[:, index : ends[0]], scalars[:, scalar : ends[1]])
            index, scalar = ends
            arrays.append(codec.decode(piece, Chance(ids, seed, _DECODING + place)))
        return pa.table(arrays, schema=self.reduced.arrow)

    def to_json(self) -> dict[str, Any]:
        """A JSON value that `from_json` turns back into an equal codec."""
        columns = [
            {"codec": name, **codec.to_json()}
            for name, codec in zip(self.names, self.codecs, strict=True)
        ]
        return {
            "schema": self.schema.to_json(),
            "columns": columns,
            "relations": relate.to_json(self.relations),
            "rows": self.rows,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The codec that `to_json` described."""
        columns = [dict(column) for column in value["columns"]]
        names = tuple(column.pop("codec") for column in columns)
        fitted = tuple(
            codecs.get(name).from_json(column) for name, column in zip(names, columns, strict=True)
        )
        found = relate.from_json(value["relations"])
        schema = Schema.from_json(value["schema"])
        return cls(schema, names, fitted, found, value.get("rows"))
