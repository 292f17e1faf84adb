"""Ray Data: stream a table through summary and encoding, and write its codes shuffled.

Both passes read the same units (`source`), so a row's id, and with it every random choice, is the
same whatever the number of workers, the order they finish in, and retries.

**Summary.** A task summarises its units batch by batch and gives one summary; the driver merges
them, many at once. Of a batch only rows that can be in the table's sample are kept: those whose
hash is below a bound that a little more than `SAMPLE` rows of the table stay under. So all tasks
together send little more than one sample, however many they are.

**Shuffle.** The order of the codes is that of a one-to-one hash of the row id (`shuffle`): a task
encodes its units and spills the codes by ranges of the hash; one task a range sorts its rows and
writes them, a piece of the published codes. A task that is repeated writes its own files anew.

**Memory.** A row of codes takes `K x index + 4 S` bytes: K the modes and categories of a row, an
index of 1, 2 or 4 bytes for at most 256, 32,768 or more of them, S the scalars. A worker holds,
beside what Python and its libraries take (about 400 MiB):

    summary   one batch, and its task's summary: 65,536 rows of the table at most
    encode    one batch, its codes, and the codes of a spilled file, 64 MiB, three times
    shuffle   the codes of a bucket, 32 MiB, three times

A batch is at most 131,072 rows and about 64 MiB of the table's columns, decoded. None of it grows
with the number of rows.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import ray

from raysynth import codecs, delimited, models, outline, shards
from raysynth.config import TrainConfig
from raysynth.errors import RunError, TableError
from raysynth.guess import check, settle
from raysynth.hashing import Ids, mix
from raysynth.listing import listing
from raysynth.progress import Phase, Show
from raysynth.schema import Schema
from raysynth.selection import Selection
from raysynth.source import Source, Unit, read
from raysynth.stages import shuffle
from raysynth.storage import Place, write, write_bytes
from raysynth.summary import SAMPLE, Summary, merge, summarise
from raysynth.table import TableCodec, check_rows, codec_of

CODES, CODECS, INPUT, SPILLED = "codes", "table.json", "table.parquet", "spilled"
TASKS, MERGED = 256, 64
MARGIN = 8.0  # standard deviations by which the rows below a bound exceed the sample
_SHUFFLE = 2**32  # the stream of the hash that orders rows, apart from those of the columns

Batch: TypeAlias = tuple[pa.Table, Ids]
Table: TypeAlias = str | Path | pd.DataFrame | pa.Table | ray.data.Dataset


def stage(config: TrainConfig, table: Table, work: Path) -> Path:
    """Where the table's Parquet is: where it lies, or a copy in `work` of what is no Parquet.

    Raises `TableError` and `ConfigError` for what cannot be trained on.
    """
    if isinstance(table, str | Path):
        found = listing(table)
        if found.format == "parquet":
            return Path(table)
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


def _stage_dataset(config: TrainConfig, table: ray.data.Dataset, path: Path) -> Path:
    """Write a Ray Dataset once, block by block in its order, by which its rows are numbered."""
    arrow = getattr(table.schema(), "base_schema", None)
    if isinstance(arrow, pa.Schema):
        Schema.infer(arrow, left_out(config, arrow), config.categories)
    else:
        arrow = pa.schema([(name, pa.null()) for name in table.columns() or []])
    cut = table.map_batches(
        _emptied, fn_args=(_needed(config, arrow),), batch_format="pyarrow", batch_size=None
    )
    options = cut.context.execution_options
    before, options.preserve_order = options.preserve_order, True
    try:
        write(_alike(cut.iter_batches(batch_size=None, batch_format="pyarrow")), path)
    finally:
        options.preserve_order = before
    return path


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


def examine(config: TrainConfig, path: Path) -> tuple[Schema, "Part"]:
    """The columns to model, and what is read of the table, from the files' footers alone.

    Raises `TableError` and `ConfigError` for what cannot be trained on.
    """
    source = Source.of(path)
    if source.rows == 0:
        raise TableError(f"{config.table}: the table is empty; expected rows")
    schema = Schema.infer(source.schema, left_out(config, source.schema), config.categories)
    chosen(config).condition(source.schema)
    check(config.columns, schema, config.subject)
    for column in config.columns.values():
        if column.codec is not None:
            codecs.get(column.codec)
    check_rows(source.rows, config.minimum_rows)
    return schema, Part(source, chosen(config), schema.names)


def has_codes(work: Path) -> bool:
    """Whether the table's codes are whole in `work`: from there on a training can resume."""
    return (work / CODES / shards.INDEX).is_file()


def encode(config: TrainConfig, source: Path, work: Path, show: Show) -> tuple[TableCodec, int]:
    """Summarise the table, fit its codecs, write its codes into `work`; gives codecs and rows.

    What is already there from an interrupted call is used as it is. Raises `TableError`.
    """
    if has_codes(work):
        table = _codecs(work)
        return table, shards.Share(work / CODES, table.layout, 0, 1, 1).total
    part, summary = settled(config, source, show)
    kinds = models.get(config.family).CODECS
    names = [codec_of(column, kinds) for column in summary.schema.columns]
    for line in outline.lines(summary, names):
        show.say(line)
    table = TableCodec.fit(
        summary, kinds, minimum=config.minimum_rows, least=config.least, modes=config.modes
    )
    write_bytes(work / CODECS, json.dumps(table.to_json()).encode())
    _encode(part, table, config.seed, work, summary.rows, show)
    return table, summary.rows


def settled(
    config: TrainConfig, source: Path, show: Show, placeholder: bool = False
) -> tuple["Part", Summary]:
    """What is read of the table, and its summary with the kind of every column settled.

    `placeholder` lets free text pass, as does that setting. Raises `TableError`, `ConfigError`.
    """
    schema, part = examine(config, source)
    summary = replace(summarised(part, schema, show), subject=config.subject)
    if not summary.rows:
        raise TableError(
            f"{config.table}: no row is left of {part.source.rows:,} by --where and --fraction; "
            "choose more of them"
        )
    placeholder = placeholder or config.text == "placeholder"
    final = settle(summary, config.columns, least=config.least, placeholder=placeholder)
    return part, replace(summary, schema=final)


@dataclass(frozen=True)
class Part:
    """What is read of a table in both passes: `columns` of the rows of a selection."""

    source: Source
    selection: Selection
    columns: tuple[str, ...]

    @property
    def rows(self) -> float:
        """The rows there will be, as well as is known before they are read."""
        return self.source.rows * self.selection.fraction

    def over(self, do: Callable[[Iterator[Batch]], Iterator[pa.Table]]) -> ray.data.Dataset:
        """Have `do` turn the batches of a task's units into rows of a dataset."""
        keys, selection, columns = self.source.keys, self.selection, self.columns
        arrow = self.source.schema

        def task(block: pa.Table) -> Iterator[pa.Table]:
            source = Source(arrow, keys, ())
            where = selection.condition(arrow)
            units = map(Unit.from_json, block.column("unit").to_pylist())
            read = (source.batches(unit, columns, selection, where) for unit in units)
            yield from do(chain.from_iterable(read))

        items = [{"unit": unit.to_json()} for unit in self.source.units]
        data = ray.data.from_items(items, override_num_blocks=min(len(items), TASKS))
        return data.map_batches(task, batch_format="pyarrow", batch_size=None)


def _codecs(work: Path) -> TableCodec:
    try:
        return TableCodec.from_json(json.loads((work / CODECS).read_text()))
    except (OSError, ValueError, KeyError):
        raise RunError(
            f"{work}: what an interrupted training left is damaged; delete this folder and repeat "
            "the command to start anew"
        ) from None


def summarised(part: Part, schema: Schema, show: Show, margin: float = MARGIN) -> Summary:
    """The summary of all that is read of a table, in one pass."""
    expected = SAMPLE + margin * SAMPLE**0.5
    known = part.selection.where is None and expected < part.rows
    bound = np.uint64(expected / part.rows * 2**64) if known else None

    def task(batches: Iterator[Batch]) -> Iterator[pa.Table]:
        parts = (_summary(table, ids, schema, bound) for table, ids in batches)
        yield pa.table({"summary": [folded(parts).to_bytes()]})

    def shown() -> Iterator[Summary]:
        done = 0
        for row in part.over(task).iter_rows():
            summary = Summary.from_bytes(row["summary"])
            done += summary.rows
            phase.at(done, f"{len(schema.columns)} columns")
            yield summary

    with show.phase("summarise", round(part.rows)) as phase:
        summary = folded(shown())
    if len(summary.hashes) < min(SAMPLE, summary.rows):
        # Fewer rows than were to be expected lie below the bound: their hashes are no accident.
        return summarised(part, schema, show, margin=np.inf)
    return summary


def _summary(table: pa.Table, ids: Ids, schema: Schema, bound: np.uint64 | None) -> Summary:
    """A batch's summary with no more of its rows than have a hash below `bound`."""
    size = SAMPLE if bound is None else min(SAMPLE, int((mix(ids, 0) < bound).sum()))
    return replace(summarise(table, ids, schema, size), size=SAMPLE)


def folded(summaries: Iterable[Summary]) -> Summary:
    """All of at least one summary, merged as they come, as many together as rows of one sample."""
    held: list[Summary] = []
    for summary in summaries:
        held.append(summary)
        if sum(len(part.hashes) for part in held) > 4 * SAMPLE or len(held) > MERGED:
            held = [merge(held)]
    return merge(held)


def _encode(part: Part, table: TableCodec, seed: int, work: Path, rows: int, show: Show) -> None:
    text = json.dumps(table.to_json())
    folder, spilled = work / CODES, work / SPILLED
    buckets = shuffle.buckets_of(rows, _row_bytes(table))

    def spill(batches: Iterator[Batch]) -> Iterator[pa.Table]:
        codec = _of_json(text)
        packed = (
            (ids, shards.pack(codec.encode(table, ids, seed), mix(ids, seed, _SHUFFLE)))
            for table, ids in batches
        )
        for name, count in shuffle.spill(packed, spilled, buckets):
            yield pa.table({"name": [name], "rows": [count]})

    def sort(block: pa.Table) -> Iterator[pa.Table]:
        for bucket in block.column("bucket").to_pylist():
            packed = shuffle.gather(spilled, names, bucket)
            if packed.num_rows:
                name, count = shards.write(packed, folder)
                yield pa.table({"name": [name], "rows": [count]})

    note = f"{_row_bytes(table)} bytes a row"
    with show.phase("encode", rows) as phase:
        names = [name for name, _ in _counted(part.over(spill), phase, note)]
    with show.phase("shuffle", rows) as phase:
        items = [{"bucket": bucket} for bucket in range(buckets)]
        data = ray.data.from_items(items, override_num_blocks=min(buckets, 10_000))
        sorted_ = data.map_batches(sort, batch_format="pyarrow", batch_size=None)
        pieces = _counted(sorted_, phase, note)
    done = sum(count for _, count in pieces)
    assert done == rows, f"{done} of {rows} rows were encoded"
    Place.of(spilled).remove()
    shards.publish(folder, pieces)


def _counted(data: ray.data.Dataset, phase: Phase, note: str) -> list[tuple[str, int]]:
    """The (name, rows) that tasks give, by name."""
    found, done = [], 0
    for row in data.iter_rows():
        found.append((row["name"], row["rows"]))
        done += row["rows"]
        phase.at(done, note)
    return sorted(found)


@lru_cache(maxsize=1)
def _of_json(text: str) -> TableCodec:
    """The codecs, once a worker process and not once a task."""
    return TableCodec.from_json(json.loads(text))


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
