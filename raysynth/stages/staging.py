"""Any table a user may have, as Parquet: where it lies, or a copy in the `work` folder.

A copy is made once, streaming: of CSV, a Ray Dataset, pandas and pyarrow. A row's id is its place.
"""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import pandas as pd
import pyarrow as pa
import ray

from raysynth import delimited
from raysynth.config import TrainConfig
from raysynth.errors import TableError
from raysynth.listing import listing
from raysynth.schema import Schema
from raysynth.selection import Selection
from raysynth.source import read
from raysynth.storage import Place, write

INPUT = "table.parquet"

Table: TypeAlias = str | Path | pd.DataFrame | pa.Table | ray.data.Dataset


def stage(config: TrainConfig, table: Table, work: Place) -> Place:
    """Where the table's Parquet is: where it lies, or a copy in `work` of what is no Parquet.

    Raises `TableError` and `ConfigError` for what cannot be trained on.
    """
    if isinstance(table, str | Path):
        found = listing(table)
        if found.format == "parquet":
            return Place.of(table)
        schema = delimited.settle(found.files)
        if any(not pa.types.is_null(kind) for kind in schema.types):  # without rows there is none
            Schema.infer(schema, left_out(config, schema), config.categories)
        kept = _needed(config, schema)
        rows = delimited.tables(found.files, schema, kept)
        write(chain([schema.empty_table()], rows), work / INPUT)
    elif isinstance(table, ray.data.Dataset):
        return _stage_dataset(config, table, work / INPUT)
    else:
        whole = collect(table)
        Schema.infer(whole.schema, left_out(config, whole.schema), config.categories)
        write([_emptied(whole, _needed(config, whole.schema))], work / INPUT)
    return work / INPUT


def _stage_dataset(config: TrainConfig, table: ray.data.Dataset, path: Place) -> Place:
    """Write a Ray Dataset once, block by block in its order, by which its rows are numbered."""
    arrow = getattr(table.schema(), "base_schema", None)
    if isinstance(arrow, pa.Schema):
        Schema.infer(arrow, left_out(config, arrow), config.categories)
    else:
        arrow = pa.schema([(name, pa.null()) for name in table.columns() or []])
    cut = table.map_batches(
        _emptied, fn_args=(_needed(config, arrow),), batch_format="pyarrow", batch_size=None
    )
    write(_alike(ordered(cut)), path)
    return path


def ordered(data: ray.data.Dataset) -> Iterator[pa.Table]:
    """The blocks of a Ray Dataset in its order, by which its rows are numbered."""
    options = data.context.execution_options
    before, options.preserve_order = options.preserve_order, True
    try:
        yield from data.iter_batches(batch_size=None, batch_format="pyarrow")
    finally:
        options.preserve_order = before


def _alike(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Tables of one schema. Raises `TableError` naming a column of which a block differs."""
    first: pa.Schema | None = None
    for table in tables:
        first = table.schema.remove_metadata() if first is None else first
        for field in first:
            kinds = [other.type for other in table.schema if other.name == field.name]
            if kinds != [field.type]:
                raise TableError(
                    f"column '{field.name}' of the Dataset is {field.type} in one block and "
                    f"{kinds[0] if kinds else 'absent'} in another; give it one type"
                )
        yield table.select(first.names).replace_schema_metadata(None)


def chosen(config: TrainConfig) -> Selection:
    """The part of the table that the settings choose."""
    return Selection(config.select, config.where, config.fraction)


def left_out(config: TrainConfig, arrow: pa.Schema) -> tuple[str, ...]:
    """Columns not modelled: dropped, or not among those selected."""
    return (*config.drop, *chosen(config).left_out(arrow))


def _needed(config: TrainConfig, arrow: pa.Schema) -> tuple[str, ...]:
    """The columns whose cells are read: those modelled, and those that choose the rows."""
    where = chosen(config).condition(arrow)
    out = left_out(config, arrow)
    kept = [name for name in arrow.names if name not in out]
    return (*kept, *(where.columns if where else ()))


def _emptied(table: pa.Table, needed: tuple[str, ...]) -> pa.Table:
    """The table with cells in its needed columns only.

    What is not needed is not copied, and need not be of a type that Parquet has.
    """
    for place, name in enumerate(table.schema.names):
        if name not in needed:
            table = table.set_column(place, name, pa.nulls(table.num_rows))
    return table


def fingerprint(table: Table) -> str:
    """What tells this table from another, so that nothing resumes on the wrong one.

    Of files, their names, sizes and times; of a table in memory, a hash of its cells; of a Ray
    Dataset, which must not be read for it, its rows and columns.
    """
    if isinstance(table, ray.data.Dataset):
        return f"{table.count()} rows of {table.schema()}"
    digest = hashlib.sha256()
    if isinstance(table, str | Path):
        for file in listing(table).files:
            digest.update(f"{file.path}\0{file.size}\0{file.time_ns}\0".encode())
    else:
        for batch in collect(table).to_batches():
            digest.update(batch.serialize())
    return digest.hexdigest()


def collect(table: Table) -> pa.Table:
    """The whole table in memory. Raises `TableError` for what is no table."""
    if isinstance(table, str | Path):
        return read(table)
    if isinstance(table, ray.data.Dataset):
        return pa.concat_tables(table.iter_batches(batch_size=None, batch_format="pyarrow"))
    if isinstance(table, pd.DataFrame):
        return _from_pandas(table)
    if not isinstance(table, pa.Table):
        raise TableError(
            "expected a path, a pandas DataFrame, a pyarrow Table or a Ray Dataset, got "
            f"{type(table).__name__}"
        )
    return table


def _from_pandas(frame: pd.DataFrame) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowException, ValueError, TypeError) as error:
        # pyarrow's message quotes cells; the column's name is all that may be said.
        columns = [name for name in frame.columns.astype(str) if f"column {name} " in str(error)]
        which = f"column '{columns[0]}'" if columns else "a column, or a repeated column name,"
        raise TableError(
            f"{which} of the DataFrame does not convert to one Arrow type; give each column one "
            "type and a name of its own"
        ) from None
