"""Ray Data: stream a table through summary and encoding, and write its codes shuffled.

Both passes read the same numbered fragments (row groups), so a row's id, and with it every random
choice, is the same whatever the number of workers, the order they finish in, and retries. The
shuffle is a sort by a one-to-one hash of the row id: distributed, deterministic, each row once.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import ray

from raysynth import models, shards
from raysynth.config import TrainConfig
from raysynth.errors import RunError, TableError
from raysynth.hashing import Ids, mix
from raysynth.progress import Show
from raysynth.schema import Schema
from raysynth.source import Fragment, files_of, fragments, read
from raysynth.storage import write, write_bytes
from raysynth.summary import Summary, merge, summarise
from raysynth.table import TableCodec, check_rows

CODES, CODECS, INPUT = "codes", "table.json", "table.parquet"
_SHUFFLE = 2**32  # the stream of the hash that orders rows, apart from those of the columns

Table: TypeAlias = str | Path | pd.DataFrame | pa.Table | ray.data.Dataset


def stage(config: TrainConfig, table: Table, work: Path) -> Path:
    """Where the table's Parquet is: where it lies, or a copy in `work` of what is no Parquet.

    Raises `TableError` and `ConfigError` for what cannot be trained on.
    """
    if isinstance(table, str | Path) and Path(table).suffix.lower() != ".csv":
        return Path(table)
    if isinstance(table, ray.data.Dataset):
        arrow = getattr(table.schema(), "base_schema", None)
        if isinstance(arrow, pa.Schema):
            Schema.infer(arrow, config.drop, config.categories)
        cut = table.map_batches(_emptied, fn_args=(config.drop,), batch_format="pyarrow")
        cut.write_parquet(str(work / "table"))
        return work / "table"
    whole = collect(table)
    if whole.num_rows:  # without rows a column of a CSV file has no type
        Schema.infer(whole.schema, config.drop, config.categories)
    write([_emptied(whole, config.drop)], work / INPUT)
    return work / INPUT


def _emptied(table: pa.Table, drop: tuple[str, ...]) -> pa.Table:
    """The table without the cells of its dropped columns.

    What is not needed is not copied, and need not be of a type that Parquet has.
    """
    for place, name in enumerate(table.schema.names):
        if name in drop:
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
        for file in files_of(table):
            facts = file.stat()
            digest.update(f"{file.name}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
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


def examine(config: TrainConfig, source: Path) -> tuple[Schema, list[Fragment], int]:
    """The table's columns, fragments and rows, from the files' footers alone.

    Raises `TableError` and `ConfigError` for what cannot be trained on.
    """
    arrow, found = fragments(source)
    rows = sum(fragment.rows for fragment in found)
    if rows == 0:
        raise TableError(f"{config.table}: the table is empty; expected rows")
    schema = Schema.infer(arrow, config.drop, config.categories)
    check_rows(rows)
    return schema, found, rows


def has_codes(work: Path) -> bool:
    """Whether the table's codes are whole in `work`: from there on a training can resume."""
    return (work / CODES / shards.INDEX).is_file()


def encode(config: TrainConfig, source: Path, work: Path, show: Show) -> tuple[TableCodec, int]:
    """Summarise the table, fit its codecs, write its codes into `work`; gives codecs and rows.

    What is already there from an interrupted call is used as it is. Raises `TableError`.
    """
    schema, found, rows = examine(config, source)
    if has_codes(work):
        return _codecs(work), rows
    summary = _summarise(found, schema, rows, show)
    kinds = {**models.get(config.family).CODECS}
    table = TableCodec.fit(summary, kinds, least=config.least, modes=config.modes)
    write_bytes(work / CODECS, json.dumps(table.to_json()).encode())
    _encode(found, table, config.seed, work / CODES, rows, show)
    return table, rows


def _codecs(work: Path) -> TableCodec:
    try:
        return TableCodec.from_json(json.loads((work / CODECS).read_text()))
    except (OSError, ValueError, KeyError):
        raise RunError(
            f"{work}: what an interrupted training left is damaged; delete this folder and repeat "
            "the command to start anew"
        ) from None


def _summarise(found: list[Fragment], schema: Schema, rows: int, show: Show) -> Summary:
    def block(batch: pa.Table) -> pa.Table:
        piece, ids = _read(batch, schema)
        return pa.table({"summary": [summarise(piece, ids, schema).to_bytes()]})

    total = None
    with show.phase("summarise", rows) as phase:
        for row in _over(found).map_batches(block, **_ONE).iter_rows():
            part = Summary.from_bytes(row["summary"])
            total = part if total is None else merge([total, part])
            phase.at(total.rows, f"{len(schema.columns)} columns")
    assert total is not None, "a table with rows has fragments"
    return total


def _encode(
    found: list[Fragment], table: TableCodec, seed: int, folder: Path, rows: int, show: Show
) -> None:
    value = table.to_json()

    def block(batch: pa.Table) -> pa.Table:
        codec = TableCodec.from_json(value)
        piece, ids = _read(batch, codec.schema)
        return shards.pack(codec.encode(piece, ids, seed), mix(ids, seed, _SHUFFLE))

    def save(batch: pa.Table) -> pa.Table:
        kept = [shards.write(batch, folder)] if batch.num_rows else []
        names, counts = ([piece[place] for piece in kept] for place in (0, 1))
        return pa.table(
            {"name": pa.array(names, pa.string()), "rows": pa.array(counts, pa.int64())}
        )

    folder.mkdir(parents=True, exist_ok=True)
    pieces, done = [], 0
    with show.phase("encode", rows) as phase:
        encoded = _over(found).map_batches(block, **_ONE).sort(shards.KEY)
        written = encoded.map_batches(save, batch_format="pyarrow", batch_size=None)
        for row in written.iter_rows():
            pieces.append((row["name"], row["rows"]))
            done += row["rows"]
            phase.at(done, f"{_row_bytes(table)} bytes a row")
    assert done == rows, f"{done} of {rows} rows were encoded"
    shards.publish(folder, pieces)


_ONE: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": 1}


def _over(found: list[Fragment]) -> ray.data.Dataset:
    items = [asdict(fragment) for fragment in found if fragment.rows]
    return ray.data.from_items(items, override_num_blocks=min(len(items), 200))


def _read(batch: pa.Table, schema: Schema) -> tuple[pa.Table, Ids]:
    """The rows of the fragment that a batch of one names, and their ids."""
    fragment = Fragment(**batch.to_pylist()[0])
    ids = np.arange(fragment.start, fragment.start + fragment.rows, dtype=np.uint64)
    return fragment.read(list(schema.names)), ids


def _row_bytes(table: TableCodec) -> int:
    layout = table.layout
    return len(layout.choices) * layout.index_dtype.itemsize + 4 * len(layout.scalars)


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
