"""A table of any size to what judging needs of it, in one pass: a sample, a count, a census.

The **sample** holds the rows whose hashed id is smallest (`summary` says why): it is uniform, and
the same for any partitioning, number of workers or retry. A row's id is its place in the table, so
a table gives the same rows as Parquet, as CSV, in memory or as a Ray Dataset. Every row goes
through `schema.select`, sampled or not: a cell that does not convert is told wherever it is.

The **census** counts in the same pass, over all rows and exactly, what rows of others have in
common with them (`raysynth.census`).

A large Parquet table is read on Ray, by the units of `source`; any other table in this process, a
block at a time, since Ray takes longer to start than a small one to be read, and CSV and Datasets
come as a stream.

**Memory.** R being the rows asked for: of the sample this process holds 2 R rows, and while it is
cut to size R more; the census, which grows with the others' rows; and one batch of the table
(131,072 rows and about 64 MiB at most, `source`; of CSV 8 MiB of text; of a Dataset a block, some
of which Ray holds, too). A worker of Ray holds its batch, a census and its share of the sample:
together little more than R rows, or R rows each where a condition chooses them, since nobody knows
how many will be. None of it grows with the rows of the table.
"""

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from raysynth import delimited
from raysynth.arrays import plain
from raysynth.census import Census
from raysynth.hashing import Ids, mix
from raysynth.listing import listing
from raysynth.progress import Phase, Show, Silent
from raysynth.schema import Schema, select
from raysynth.selection import WHOLE, Selection
from raysynth.source import ROWS, Source
from raysynth.stages import cluster
from raysynth.stages.data import MARGIN, Batch, Part
from raysynth.stages.staging import Table, collect, ordered

SAMPLE = 200_000  # rows: a share of so many has a standard error of 0.0011 at most
LOUD = 64 * 2**20  # bytes of a table past which reading it takes long enough to be shown
LARGE = 128  # batches of a Parquet table past which it is read on Ray unasked
_STREAM = 2**32 + 2  # of the hash that draws the sample, apart from those of shares and shuffles
_ALL = np.uint64(2**64 - 1)  # the bound of any sample
_ID = "\x00id"


@dataclass(frozen=True)
class Gathered:
    """What a pass over a table leaves.

    `table` is its sample, in the table's order; `rows` how many rows the selection leaves of the
    whole.
    """

    table: pa.Table
    rows: int

    @property
    def whole(self) -> bool:
        """Whether the sample is all of it."""
        return bool(self.table.num_rows == self.rows)


def gather(
    table: Table,
    schema: Schema,
    rows: int = SAMPLE,
    seed: int = 0,
    selection: Selection | None = None,
    show: Show | None = None,
    census: Census | None = None,
    workers: int | None = None,
) -> Gathered:
    """A uniform sample of at most `rows` rows of a table, the schema's columns as `select` gives.

    `census` counts all rows. The table is read on Ray where it is large, or as many `workers` are
    asked for and it is Parquet; the result is the same. Raises `TableError` for columns that are
    missing or of another type, and for what is no table; `ConfigError` for a selection of what is
    not there; `StorageError`.
    """
    asked = _Asked(schema, rows, seed, selection or WHOLE, census, workers)
    with cluster.own_errors():
        done = _passed(table, asked, show or Silent())
    return Gathered(done.table(), done.rows)


def arrow(table: Table) -> pa.Schema:
    """The columns of a table, and their types, reading no more of it than they take."""
    if isinstance(table, str | Path):
        found = listing(table)
        if found.format == "parquet":
            return Source.of(table).schema
        return delimited.settle(found.files)
    if isinstance(table, ray.data.Dataset):
        known = getattr(table.schema(), "base_schema", None)
        return known if isinstance(known, pa.Schema) else collect(table.limit(1)).schema
    return collect(table).schema


@dataclass(frozen=True)
class _Asked:
    """What is asked of the table."""

    schema: Schema
    size: int
    seed: int
    selection: Selection
    census: Census | None
    workers: int | None


@dataclass
class _Pass:
    """What rows of the table leave: how many they are, a sample; they are added to the census.

    The sample is of rows whose hash is `bound` at most: pieces of consecutive rows with their ids,
    in any order.
    """

    asked: _Asked
    bound: np.uint64 = _ALL
    rows: int = 0
    pieces: list[Batch] = field(default_factory=list)

    def add(self, table: pa.Table, ids: Ids) -> None:
        """Go over a batch: rows of the table, which may have other columns, and their ids."""
        table = select(table, self.asked.schema, encoded=True)
        self.rows += table.num_rows
        if self.asked.census:
            self.asked.census.add(table)
        low = self._hashes(ids) <= self.bound
        if self.asked.size and low.any():
            kept = table.filter(pa.array(low))
            kept = pa.table([plain(column) for column in kept.columns], kept.column_names)
            self.pieces.append((kept, ids[low]))
            self._cut(2 * self.asked.size)

    def join(self, told: dict[str, Any]) -> None:
        """Add what other rows left, as `packed` tells it."""
        self.rows += told["rows"]
        if self.asked.census:
            self.asked.census.merge(told["census"])
        sample = pa.ipc.open_stream(told["sample"]).read_all()
        if sample.num_rows:
            self.pieces.append((sample.drop_columns([_ID]), sample.column(_ID).to_numpy()))
            self._cut(2 * self.asked.size)

    def packed(self) -> pa.Table:
        """A row that tells all of it."""
        self._cut(self.asked.size)
        sink = pa.BufferOutputStream()
        tables = (table.append_column(_ID, pa.array(ids)) for table, ids in self.pieces)
        empty = _empty(self.asked.schema).append_column(_ID, pa.array([], pa.uint64()))
        with pa.ipc.new_stream(sink, empty.schema) as writer:
            for table in tables:
                writer.write_table(table)
        counted = b"" if self.asked.census is None else self.asked.census.to_bytes()
        both = {"sample": sink.getvalue().to_pybytes(), "census": counted}
        kept = {name: pa.array([data], pa.large_binary()) for name, data in both.items()}
        return pa.table({"rows": [self.rows], **kept})

    def table(self) -> pa.Table:
        """The sample, in the table's order."""
        self._cut(self.asked.size)
        self.pieces.sort(key=lambda piece: int(piece[1][0]))
        ids = np.concatenate([np.empty(0, np.uint64), *(ids for _, ids in self.pieces)])
        assert (ids[1:] > ids[:-1]).all(), "pieces of consecutive rows do not overlap"
        return pa.concat_tables([_empty(self.asked.schema), *(table for table, _ in self.pieces)])

    def _cut(self, most: int) -> None:
        """Where there are more than `most` rows, keep those that the sample is made of."""
        if sum(len(ids) for _, ids in self.pieces) <= most:
            return
        hashes = np.concatenate([self._hashes(ids) for _, ids in self.pieces])
        last = self.asked.size - 1  # ids differ, and so do hashes: as many are no more than this
        self.bound = np.partition(hashes, last)[last]
        held, self.pieces = self.pieces, []
        for table, ids in held:
            low = self._hashes(ids) <= self.bound
            if low.any():
                self.pieces.append((table.filter(pa.array(low)), ids[low]))

    def _hashes(self, ids: Ids) -> Ids:
        return mix(ids, self.asked.seed, _STREAM)


def _empty(schema: Schema) -> pa.Table:
    """No row of what `select` gives."""
    return select(schema.arrow.empty_table(), schema)


def _passed(table: Table, asked: _Asked, show: Show) -> _Pass:
    """Go over the whole table."""
    if isinstance(table, str | Path):
        found = listing(table)
        if found.format == "parquet":
            return _over_units(Source.of(table), asked, show)
        arrow = delimited.settle(found.files)
        quiet = sum(file.size for file in found.files) < LOUD
        blocks = delimited.tables(found.files, arrow)
        return _over_blocks(blocks, None, arrow, asked, Silent() if quiet else show)
    if isinstance(table, ray.data.Dataset):
        cut = table.map_batches(
            _needed,
            fn_args=(asked.schema.names, asked.selection),
            batch_format="pyarrow",
            batch_size=None,
        )
        blocks = (block for block in ordered(cut) if block.num_rows)  # others may lack columns
        return _over_blocks(blocks, None, None, asked, show)
    whole = collect(table)
    blocks = (whole.slice(start, ROWS) for start in range(0, whole.num_rows, ROWS))
    quiet = whole.nbytes < LOUD
    return _over_blocks(blocks, whole.num_rows, whole.schema, asked, Silent() if quiet else show)


def _over_blocks(
    blocks: Iterator[pa.Table],
    rows: int | None,
    arrow: pa.Schema | None,
    asked: _Asked,
    show: Show,
) -> _Pass:
    """Go over blocks that come in the table's order, of types that may be known before."""
    if arrow is not None:
        select(arrow.empty_table(), asked.schema)  # what types tell is told before any row is read

    def batches() -> Iterator[Batch]:
        start, where = 0, None if arrow is None else asked.selection.condition(arrow)
        for block in blocks:
            if arrow is None and not start:
                where = asked.selection.condition(block.schema)
            ids = np.arange(start, start + block.num_rows, dtype=np.uint64)
            start += block.num_rows
            yield asked.selection.rows(block, ids, where)

    with show.phase("read", rows) as phase:
        return _over(batches(), asked, phase)


def _over(batches: Iterator[Batch], asked: _Asked, phase: Phase | None = None) -> _Pass:
    done = _Pass(asked)
    for table, ids in batches:
        done.add(table, ids)
        if phase is not None:
            phase.at(done.rows)
    return done


def _over_units(source: Source, asked: _Asked, show: Show) -> _Pass:
    select(source.schema.empty_table(), asked.schema)
    where = asked.selection.condition(source.schema)
    part = Part(source, asked.selection, asked.schema.names)
    batches = sum(-(-unit.rows // unit.batch) for unit in source.units)
    if source.units and (batches > LARGE or asked.workers is not None):
        cluster.connect(asked.workers or os.cpu_count() or 1)
        return _on_ray(part, asked, show)
    quiet = batches < 8
    with (Silent() if quiet else show).phase("read", round(part.rows)) as phase:
        read = (
            batch
            for unit in source.units
            for batch in source.batches(unit, part.columns, part.selection, where, encoded=True)
        )
        return _over(read, asked, phase)


def _on_ray(part: Part, asked: _Asked, show: Show, margin: float = MARGIN) -> _Pass:
    """Go over the units of a table on Ray; of a batch rows are kept that can be in the sample."""
    expected = asked.size + margin * asked.size**0.5
    known = part.selection.where is None and expected < part.rows
    bound = np.uint64(expected / part.rows * 2**64) if known else _ALL
    shared = ray.put(asked)  # once, not with every task

    def task(batches: Iterator[Batch]) -> Iterator[pa.Table]:
        # As it was put, with nothing counted: each task counts its own rows.
        done = _Pass(copy.deepcopy(ray.get(shared)), bound)
        for table, ids in batches:
            done.add(table, ids)
        yield done.packed()

    done = _Pass(asked)
    with show.phase("read", round(part.rows)) as phase:
        for told in part.over(task).iter_rows():
            done.join(told)
            phase.at(done.rows)
    if sum(len(ids) for _, ids in done.pieces) < min(asked.size, done.rows):
        # Fewer rows than were to be expected lie below the bound: their hashes are no accident.
        # The census is whole: every row was counted.
        return _on_ray(part, replace(asked, census=None), show, margin=np.inf)
    return done


def _needed(block: pa.Table, columns: Sequence[str], selection: Selection) -> pa.Table:
    """The columns of a block that are looked at."""
    where = selection.condition(block.schema)
    wanted = (*columns, *(where.columns if where else ()))
    return block.select([name for name in block.column_names if name in wanted])
