"""Tables as they lie in files, read in units of bounded size, each row with a stable id.

A table is what `listing` finds. A row's id is its place in the table, by file name, row group and
row, so it is the same whatever reads it, in any order, at any try, and however the same rows are
cut into files and row groups.

A **unit** is what one task reads. Small files and row groups are bundled until they come to `ROWS`
rows or `BYTES` bytes; a larger row group is a unit of its own that is read as a stream of batches,
cut into at most `SLICES` units where the table has few (each slice decodes what lies before it, so
more would cost more than they bring). A batch is at most `ROWS` rows and about `BYTES` bytes,
whatever the layout: the memory of a worker does not depend on it.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysynth import delimited
from raysynth.errors import TableError
from raysynth.hashing import Ids
from raysynth.listing import File, Listing, check_names, listing
from raysynth.selection import WHOLE, Selection
from raysynth.storage import Place, reason
from raysynth.units import Piece, Unit
from raysynth.where import Where

ROWS, BYTES = 2**17, 64 * 2**20
FEW, SLICES, SLICE_ROWS = 8, 4, 2**18
THREADS = 16


@dataclass(frozen=True)
class Source:
    """A Parquet table as it was listed: its columns (`keys` last), units and rows."""

    schema: pa.Schema
    keys: pa.Schema
    units: tuple[Unit, ...]

    @property
    def rows(self) -> int:
        """Rows of the whole table."""
        return sum(unit.rows for unit in self.units)

    @classmethod
    def of(cls, path: str | Path | Place) -> Self:
        """The Parquet table at `path`, from its files' footers alone.

        Raises `TableError` where there is none, or its files differ in columns, types or keys.
        """
        found = listing(path)
        with ThreadPoolExecutor(THREADS) as pool:
            footers = list(pool.map(_footer, found.files))
        schema = footers[0].schema
        check_names(found.files[0].path, schema.names)
        for file, footer in zip(found.files, footers, strict=True):
            if apart := _apart(schema, footer.schema):
                raise TableError(
                    f"{file.path}: its columns differ from those of {found.files[0].path}: {apart}"
                )
        keys = found.keys
        if both := [name for name in keys.names if name in schema.names]:
            raise TableError(
                f"{found.files[0].path}: column '{both[0]}' is in the file and the key of its "
                "partition, too; rename one of them"
            )
        return cls(pa.schema([*schema, *keys]), keys, tuple(_units(found, footers, len(schema))))

    def batches(
        self,
        unit: Unit,
        columns: Sequence[str],
        selection: Selection,
        where: Where | None,
        encoded: bool = False,
    ) -> Iterator[tuple[pa.Table, Ids]]:
        """What `selection` keeps of a unit, in batches: `columns` of the rows, and their ids.

        With `encoded`, strings come as dictionaries, unless the condition looks at them: a text is
        then read once however many rows share it, in a third of the time on Adult.
        """
        tested = where.columns if where else ()
        asked = dict.fromkeys([*columns, *tested])
        text = [
            field.name
            for field in self.schema
            if encoded and field.type == pa.string() and field.name not in tested
        ]
        for table, ids in unit.batches(list(asked), self.keys, text):
            kept, left = selection.rows(table, ids, where)
            yield kept.select(list(columns)), left


@dataclass(frozen=True)
class _Footer:
    schema: pa.Schema
    groups: tuple[tuple[int, int], ...]  # rows and bytes, decoded but not decompressed strings


def _footer(file: File) -> _Footer:
    try:
        file.check()
        return file.place.read(_footer_of)
    except (OSError, pa.ArrowException) as error:
        raise TableError(
            f"{file.path}: not a Parquet table ({reason(error)}); expected a .parquet or .csv file"
        ) from None


def _footer_of(opened: pa.NativeFile) -> _Footer:
    with pq.ParquetFile(opened) as parquet:
        groups = map(parquet.metadata.row_group, range(parquet.num_row_groups))
        sizes = tuple((group.num_rows, group.total_byte_size) for group in groups)
        return _Footer(parquet.schema_arrow.remove_metadata(), sizes)


def _apart(first: pa.Schema, other: pa.Schema) -> str:
    """How the columns of a file differ from those of the first one; empty where they do not.

    Their order is no difference.
    """
    if first.equals(other):
        return ""
    mine, theirs = dict.fromkeys(first.names), dict.fromkeys(other.names)
    for name in mine:
        if name not in theirs:
            return f"it lacks column '{name}'"
    for name in theirs:
        if name not in mine:
            return f"it has column '{name}', too"
    for field in first:
        kind = other.field(field.name).type
        if kind != field.type:
            return f"column '{field.name}' is {kind}, not {field.type}"
    return ""


def _units(found: Listing, footers: Sequence[_Footer], columns: int) -> Iterator[Unit]:
    """Cut the files' row groups into units; see the module."""
    rows, size = (sum(g[n] for f in footers for g in f.groups) for n in (0, 1))
    row_bytes = max(size / max(rows, 1), 8 * columns)
    batch = int(min(ROWS, max(BYTES / row_bytes, 1)))
    large = sum(group[0] > batch for footer in footers for group in footer.groups)
    start, held, waiting = 0, list[Piece](), 0
    for file, footer in zip(found.files, footers, strict=True):
        for group, (count, _) in enumerate(footer.groups):
            if held and waiting + count > batch:
                yield Unit(start, batch, tuple(held))
                start, held, waiting = start + waiting, [], 0
            if count > batch:
                for skip, taken in _slices(count, large):
                    yield Unit(start, batch, (Piece(file, group, group + 1, skip, taken),), False)
                    start += taken
            elif count and held and held[-1].file is file:
                held[-1] = replace(held[-1], last=group + 1, rows=held[-1].rows + count)
                waiting += count
            elif count:
                held.append(Piece(file, group, group + 1, 0, count))
                waiting += count
    if held:
        yield Unit(start, batch, tuple(held))


def _slices(rows: int, large: int) -> Iterator[tuple[int, int]]:
    """Where a large row group is cut: (rows before, rows) of each slice."""
    count = max(1, min(SLICES, -(-FEW // large), rows // SLICE_ROWS))
    cuts = [rows * place // count for place in range(count + 1)]
    for place in range(count):
        yield cuts[place], cuts[place + 1] - cuts[place]


def read(path: str | Path | Place, selection: Selection = WHOLE) -> pa.Table:
    """A table, or what `selection` keeps of it, into memory.

    Raises `TableError` where it is absent or no table, `ConfigError` for a selection of what is not
    there.
    """
    found = listing(path)
    if found.format == "csv":
        schema = delimited.settle(found.files)
        where = selection.condition(schema)
        pieces = _numbered(delimited.tables(found.files, schema))
        batches = (selection.rows(*piece, where) for piece in pieces)
    else:
        source = Source.of(path)
        schema, where = source.schema, selection.condition(source.schema)
        batches = (
            batch
            for unit in source.units
            for batch in source.batches(unit, schema.names, selection, where)
        )
    left_out = selection.left_out(schema)
    names = [name for name in schema.names if name not in left_out]
    empty = schema.empty_table().select(names)
    return pa.concat_tables([empty, *(table.select(names) for table, _ in batches)])


def _numbered(tables: Iterator[pa.Table]) -> Iterator[tuple[pa.Table, Ids]]:
    start = 0
    for table in tables:
        yield table, np.arange(start, start + table.num_rows, dtype=np.uint64)
        start += table.num_rows
